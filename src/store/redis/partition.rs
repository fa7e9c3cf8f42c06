//! One partition of the store in Redis: its script calls, and the cache that their replies update.
//! A store without a cluster has exactly one.
//!
//! This module and `change_feed` and `watermarks` import each other: a partition owns the state
//! that their threads share, and the threads call the partition.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use redis::{Cmd, Value, cmd};

use super::change_feed::{ChangeFeed, PendingChanges};
use super::node_pool::CallError;
use super::nodes::{Nodes, Route};
use super::request;
use super::scripts::{self, Script, optional};
use super::topic_cache::{StoreSize, TopicCache, UpdateSource};
use super::watermarks::QuerySlot;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Batch, Completion, Id, Topic};
use crate::store::drop_log::DropLog;
use crate::store::leader::{Leader, Works};
use crate::store::{Due, Rules, WhenFull, system_clock};
use crate::sync::lock;

/// What all partitions share.
pub struct SharedState {
    pub nodes: Nodes,
    pub change_feed: ChangeFeed,
    pub watermarks: Arc<QuerySlot>,
    /// Random name of this server; tells its own changes from those of others.
    pub server: String,
    pub rules: Rules,
    /// Requests refused because the store was full.
    pub refused: AtomicU64,
    pub drop_log: Mutex<DropLog>,
    pub replicas: u32,
    /// Replaces the clock of Redis in tests.
    pub clock: Option<fn() -> Id>,
    /// Size of all partitions together.
    pub total: Arc<StoreSize>,
}

pub struct Partition {
    pub shared: Arc<SharedState>,
    pub route: Arc<Route>,
    pub topic_cache: TopicCache,
    /// The key `…store`, the only key that scripts receive: they derive the others from it.
    pub key: String,
    /// The channel on which scripts publish their changes.
    pub channel: String,
    leader: Leader,
    pub pending_changes: PendingChanges,
    /// Changes may have been missed: a call ended without a reply, or the change feed was
    /// interrupted.
    pub needs_resync: AtomicBool,
    /// The change feed is disconnected, or not resynchronised yet.
    pub feed_lost: AtomicBool,
}

impl Partition {
    /// `keys` is the prefix of the partition's keys.
    pub fn new(shared: Arc<SharedState>, route: Arc<Route>, keys: &str) -> Partition {
        Partition {
            key: format!("{keys}store"),
            channel: format!("{keys}news"),
            topic_cache: TopicCache::new(route.index(), shared.total.clone()),
            leader: Leader::default(),
            pending_changes: PendingChanges::default(),
            needs_resync: AtomicBool::default(),
            feed_lost: AtomicBool::default(),
            shared,
            route,
        }
    }

    /// Carries out a batch, together with others submitted at the same time.
    pub fn submit(&self, batch: Batch, completion: Box<dyn Completion>) {
        self.leader.submit(batch, completion, self);
    }

    /// Calls the `tick` script, before the queued batches.
    pub fn call_tick(&self) -> Result<Due> {
        self.leader.tick(self)
    }

    fn commit_some(&self, batches: &mut [&mut Batch]) {
        for batch in batches.iter_mut() {
            batch.outcomes.clear();
            batch.taken.clear();
        }
        let (rules, wanted) = (&self.shared.rules, self.shared.replicas);
        match self.call_apply(batches) {
            Ok((outcomes, put, replicas)) => {
                let unconfirmed = replicas.is_some_and(|replicas| replicas < wanted);
                for (batch, outcomes) in batches.iter_mut().zip(outcomes) {
                    request::read(batch, outcomes, rules);
                    if unconfirmed {
                        request::mark_unconfirmed(batch, wanted);
                    }
                }
                if unconfirmed {
                    // The caller does not notify waiters of unconfirmed puts; this does.
                    self.pending_changes.add(put);
                }
            }
            Err(error) => batches.iter_mut().for_each(|batch| request::fail(batch, &error)),
        }
        self.count_refused(batches);
    }

    fn count_refused(&self, batches: &[&mut Batch]) {
        let outcomes = batches.iter().flat_map(|batch| &batch.outcomes);
        let full = |outcome: &&Result<_>| outcome.as_ref().is_err_and(|e| e.code == Code::Full);
        let refused = outcomes.filter(full).count() as u64;
        if refused > 0 {
            self.shared.refused.fetch_add(refused, Ordering::Relaxed);
            lock(&self.shared.drop_log).add(0, refused);
        }
    }

    /// Calls the `apply` script; returns the outcomes of each batch, the changes, and the number of
    /// replicas that confirmed, if confirmation was requested.
    fn call_apply(&self, batches: &[&mut Batch]) -> Result<(Vec<Value>, Due, Option<u32>)> {
        let mut call = self.script(Script::Apply);
        request::write(&mut call, batches);
        let confirms = batches.iter().any(|batch| request::wants_replicas(batch));
        let wanted = if confirms { self.shared.replicas } else { 0 };
        let called = self.shared.nodes.call(&self.route, &call, wanted);
        let (answer, replicas) = called.map_err(|failed| self.failed(failed))?;
        let Value::Array(answer) = answer else { return Err(scripts::bad_reply()) };
        let mut answer = answer.into_iter();
        let put = self.apply_update(answer.next(), UpdateSource::Local)?;
        match answer.next() {
            Some(Value::Array(outcomes)) if outcomes.len() == batches.len() => {
                Ok((outcomes, put, replicas))
            }
            _ => Err(scripts::bad_reply()),
        }
    }

    /// A call of a script with the arguments common to all scripts.
    pub fn script(&self, script: Script) -> Cmd {
        let Rules { dead_letter_after, when_full, keep, .. } = self.shared.rules;
        let mut call = cmd("EVALSHA");
        call.arg(scripts::digest(script)).arg(1).arg(&self.key);
        call.arg(&self.shared.server);
        optional(&mut call, self.shared.clock.map(|clock| clock()));
        optional(&mut call, self.max_bytes());
        optional(&mut call, (when_full == WhenFull::DropOldest).then_some(1));
        optional(&mut call, keep);
        call.arg(dead_letter_after).arg(self.max_topics());
        call.arg(u8::from(self.shared.nodes.is_cluster()));
        call
    }

    /// Bytes that this partition may hold. With drop-oldest each partition has an equal share,
    /// because it can only drop messages of its own; otherwise it has whatever the others leave
    /// free.
    fn max_bytes(&self) -> Option<u64> {
        let max_bytes = self.shared.rules.max_bytes?;
        Some(match self.shared.rules.when_full {
            WhenFull::DropOldest => max_bytes / self.shared.nodes.routes().len().max(1) as u64,
            WhenFull::Refuse => {
                let others = self.shared.total.bytes().saturating_sub(self.topic_cache.bytes());
                max_bytes.saturating_sub(others)
            }
        })
    }

    fn max_topics(&self) -> u64 {
        let others = self.shared.total.topics().saturating_sub(self.topic_cache.topics());
        (limits::TOPICS as u64).saturating_sub(others)
    }

    /// Calls the `read` script for a topic.
    pub fn read(&self, mode: &str, topic: &Topic, args: &[u64]) -> Result<Value> {
        let mut call = self.script(Script::Read);
        call.arg(mode).arg(topic.as_str());
        for arg in args {
            call.arg(*arg);
        }
        self.call(&call)
    }

    /// Makes an idempotent call; repeats it if this process was suspended meanwhile.
    pub fn call(&self, call: &Cmd) -> Result<Value> {
        loop {
            let failed = match self.shared.nodes.call(&self.route, call, 0) {
                Ok((answer, _)) => return Ok(answer),
                Err(failed) => failed,
            };
            let again = failed.interrupted;
            let error = self.failed(failed);
            if !again {
                return Err(error);
            }
        }
    }

    fn failed(&self, failed: CallError) -> Error {
        if failed.may_be_done {
            self.needs_resync.store(true, Ordering::Release);
        }
        failed.error
    }

    /// The node is reachable again: runs due work and resynchronises, since waiting clients may
    /// have missed changes.
    pub fn on_reconnect(&self) {
        self.topic_cache.due_at(0);
        self.needs_resync.store(true, Ordering::Release);
        self.pending_changes.wake();
    }

    /// Applies the reply of a script that this server called.
    pub fn apply_update(&self, reply: Option<Value>, from: UpdateSource) -> Result<Due> {
        let Some(Value::BulkString(reply)) = reply else { return Err(scripts::bad_reply()) };
        let reply = std::str::from_utf8(&reply).ok();
        let update =
            reply.and_then(|reply| self.topic_cache.apply_update(reply, from, system_clock()));
        update.ok_or_else(scripts::bad_reply)
    }

    /// Loads all topics, and removes those from the cache that no longer exist.
    pub fn load_topics(&self, from: UpdateSource) -> Result<Due> {
        self.topic_cache.begin_listing();
        let mut changes = Due::default();
        let mut cursor = b"0".to_vec();
        loop {
            let mut call = self.script(Script::Read);
            call.arg("topics").arg("").arg(&cursor);
            let Value::Array(answer) = self.call(&call)? else { return Err(scripts::bad_reply()) };
            let mut answer = answer.into_iter();
            changes.add(self.apply_update(answer.next(), from)?);
            match answer.next() {
                Some(Value::BulkString(next)) if next != b"0" => cursor = next,
                _ => break,
            }
        }
        self.topic_cache.end_listing();
        Ok(changes)
    }
}

impl Works for Partition {
    /// Carries out the batches, with as many in each script call as it accepts.
    fn commit(&self, batches: &mut [&mut Batch]) {
        let mut rest = batches;
        while !rest.is_empty() {
            let (some, more) = rest.split_at_mut(request::batches_per_call(rest));
            self.commit_some(some);
            rest = more;
        }
    }

    fn tick_now(&self) -> Result<Due> {
        let Value::Array(answer) = self.call(&self.script(Script::Tick))? else {
            return Err(scripts::bad_reply());
        };
        self.apply_update(answer.into_iter().next(), UpdateSource::Local)
    }
}
