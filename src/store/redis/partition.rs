//! One part of the store in Redis, which is all of it unless there is a cluster: its calls of scripts,
//! and what is learnt of their answers.
//!
//! It imports `change_feed` and `watermarks`, which import it: a shard owns what their threads keep, and the threads call
//! the shard.

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

/// What all parts have in common.
pub struct SharedState {
    pub nodes: Nodes,
    pub change_feed: ChangeFeed,
    pub watermarks: Arc<QuerySlot>,
    /// A name that no other server has.
    pub server: String,
    pub rules: Rules,
    /// Requests that were refused since it was full.
    pub refused: AtomicU64,
    pub drop_log: Mutex<DropLog>,
    pub replicas: u32,
    /// In place of Redis' own, for tests.
    pub clock: Option<fn() -> Id>,
    /// How large all of them are.
    pub total: Arc<StoreSize>,
}

pub struct Partition {
    pub shared: Arc<SharedState>,
    pub route: Arc<Route>,
    pub topic_cache: TopicCache,
    /// The key that names this part to every script.
    pub key: String,
    /// Where scripts publish what they did.
    pub channel: String,
    leader: Leader,
    pub pending_changes: PendingChanges,
    /// Something may have been done of which no answer told.
    pub needs_resync: AtomicBool,
    /// Nothing is heard, or not all that was missed is known.
    pub feed_lost: AtomicBool,
}

/// What became of some batches.
struct Applied {
    outcomes: Vec<Value>,
    put: Due,
    /// How many replicas have it, if that was asked.
    replicas: Option<u32>,
}

impl Partition {
    /// `keys` is what its keys begin with.
    pub fn new(shared: Arc<SharedState>, route: Arc<Route>, keys: &str) -> Partition {
        let (key, channel) = (format!("{keys}store"), format!("{keys}news"));
        let topic_cache = TopicCache::new(route.index(), shared.total.clone());
        let (leader, pending_changes) = (Leader::default(), PendingChanges::default());
        let (needs_resync, feed_lost) = (AtomicBool::default(), AtomicBool::default());
        Partition {
            shared,
            route,
            topic_cache,
            key,
            channel,
            leader,
            pending_changes,
            needs_resync,
            feed_lost,
        }
    }

    /// Carries out a batch together with others that are submitted at the same time.
    pub fn submit(&self, batch: Batch, completion: Box<dyn Completion>) {
        self.leader.submit(batch, completion, self);
    }

    /// Calls the script that does some of what is due, before the queued batches are carried out.
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
            Ok(Applied { outcomes, put, replicas }) => {
                let few = replicas.is_some_and(|replicas| replicas < wanted);
                for (batch, outcomes) in batches.iter_mut().zip(outcomes) {
                    request::read(batch, outcomes, rules);
                    if few {
                        request::mark_unconfirmed(batch, wanted);
                    }
                }
                if few {
                    // Who asked does not tell those who wait of what is not confirmed.
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

    fn call_apply(&self, batches: &[&mut Batch]) -> Result<Applied> {
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
                Ok(Applied { outcomes, put, replicas })
            }
            _ => Err(scripts::bad_reply()),
        }
    }

    /// A call of a script, with what all of them are told.
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

    /// How large it may become. Where the oldest make room each part has its share, since they are of
    /// the same part; else it has what others do not need.
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

    /// What is read of a topic.
    pub fn read(&self, how: &str, topic: &Topic, args: &[u64]) -> Result<Value> {
        let mut call = self.script(Script::Read);
        call.arg(how).arg(topic.as_str());
        for arg in args {
            call.arg(*arg);
        }
        self.call(&call)
    }

    /// Makes a call that may be made twice.
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

    /// The node was away and is back: what is due is done, and whoever waits may have asked in vain.
    pub fn on_reconnect(&self) {
        self.topic_cache.due_at(0);
        self.needs_resync.store(true, Ordering::Release);
        self.pending_changes.wake();
    }

    /// Learns what a script of this server told.
    pub fn apply_update(&self, told: Option<Value>, from: UpdateSource) -> Result<Due> {
        let Some(Value::BulkString(told)) = told else { return Err(scripts::bad_reply()) };
        let told = std::str::from_utf8(&told).ok();
        let learnt =
            told.and_then(|told| self.topic_cache.apply_update(told, from, system_clock()));
        learnt.ok_or_else(scripts::bad_reply)
    }

    /// Learns of every topic, and that what is not there any more is gone.
    pub fn load_topics(&self, from: UpdateSource) -> Result<Due> {
        self.topic_cache.begin_listing();
        let mut all = Due::default();
        let mut cursor = b"0".to_vec();
        loop {
            let mut call = self.script(Script::Read);
            call.arg("topics").arg("").arg(&cursor);
            let Value::Array(answer) = self.call(&call)? else { return Err(scripts::bad_reply()) };
            let mut answer = answer.into_iter();
            all.add(self.apply_update(answer.next(), from)?);
            match answer.next() {
                Some(Value::BulkString(next)) if next != b"0" => cursor = next,
                _ => break,
            }
        }
        self.topic_cache.end_listing();
        Ok(all)
    }
}

impl Works for Partition {
    /// Carries out the batches, as many at a time as one call of the script takes.
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
