//! What the store in Redis shares with the thread that listens: calls of scripts, and what is learnt
//! of their answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, Value};

use super::known::{From, Known};
use super::link::{Failed, Link};
use super::news::News;
use super::request;
use super::scripts::Script;
use crate::error::{Code, Error, Result};
use crate::message::Id;
use crate::store::losses::Losses;
use crate::store::{Batch, Due, Rules, WhenFull, lock, system_clock};

/// What the store shares with the thread that listens.
pub struct Shared {
    pub link: Link,
    pub known: Known,
    pub news: News,
    /// Where scripts publish what they did.
    pub channel: String,
    /// A name that no other server has.
    pub server: String,
    pub rules: Rules,
    /// Requests that were refused since it was full.
    pub refused: AtomicU64,
    pub losses: Mutex<Losses>,
    pub replicas: u32,
    /// In place of Redis' own, for tests.
    pub clock: Option<fn() -> Id>,
}

/// What became of some batches.
struct Applied {
    outcomes: Vec<Value>,
    put: Due,
    /// How many replicas have it, if that was asked.
    replicas: Option<u32>,
}

impl Shared {
    /// Carries out the batches of those who met, a few at a time.
    pub fn commit(&self, batches: &mut [&mut Batch]) {
        let mut rest = batches;
        while !rest.is_empty() {
            let (some, more) = rest.split_at_mut(request::together(rest));
            self.commit_some(some);
            rest = more;
        }
    }

    fn commit_some(&self, batches: &mut [&mut Batch]) {
        for batch in batches.iter_mut() {
            batch.outcomes.clear();
            batch.taken.clear();
        }
        match self.apply(batches) {
            Ok(Applied { outcomes, put, replicas }) => {
                let few = replicas.is_some_and(|replicas| replicas < self.replicas);
                for (batch, outcomes) in batches.iter_mut().zip(outcomes) {
                    request::read(batch, outcomes, &self.rules);
                    if few && batch.is_promised() {
                        request::doubt(batch, self.replicas);
                    }
                }
                if few {
                    // Who asked does not tell those who wait of what is not confirmed.
                    self.news.tell(put);
                }
            }
            // Redis has no memory for all of it: a batch that fails fails alone.
            Err(error) if error.code == Code::Full && batches.len() > 1 => {
                return batches.chunks_mut(1).for_each(|alone| self.commit_some(alone));
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
            self.refused.fetch_add(refused, Ordering::Relaxed);
            lock(&self.losses).add(0, refused);
        }
    }

    fn apply(&self, batches: &[&mut Batch]) -> Result<Applied> {
        let mut call = self.script(Script::Apply);
        request::write(&mut call, batches);
        let promised = batches.iter().any(|batch| batch.is_promised());
        let wanted = if promised { self.replicas } else { 0 };
        let called = self.link.call_with(&call, wanted);
        let (answer, replicas) = called.map_err(|failed| self.failed(failed))?;
        let Value::Array(answer) = answer else { return Err(request::senseless()) };
        let mut answer = answer.into_iter();
        let put = self.learn(answer.next(), From::Own)?;
        match answer.next() {
            Some(Value::Array(outcomes)) if outcomes.len() == batches.len() => {
                Ok(Applied { outcomes, put, replicas })
            }
            _ => Err(request::senseless()),
        }
    }

    /// A call of a script, with what all of them are told.
    pub fn script(&self, script: Script) -> Cmd {
        let Rules { dead_letter_after, max_bytes, when_full, keep } = self.rules;
        let mut call = self.link.script(script);
        call.arg(&self.server);
        let mut optional = |number: Option<u64>| {
            match number {
                Some(number) => call.arg(number),
                None => call.arg(""),
            };
        };
        optional(self.clock.map(|clock| clock()));
        optional(max_bytes);
        optional((when_full == WhenFull::DropOldest).then_some(1));
        optional(keep);
        call.arg(dead_letter_after);
        call
    }

    pub fn call(&self, call: &Cmd) -> Result<Value> {
        self.link.call(call).map_err(|failed| self.failed(failed))
    }

    fn failed(&self, failed: Failed) -> Error {
        if failed.doubtful {
            self.news.doubt();
        }
        failed.error
    }

    /// Redis was away and is back: what is due is done, and whoever waits may have asked in vain.
    pub fn come_back(&self) {
        self.known.due_at(0);
        self.news.doubt();
        self.news.wake();
    }

    /// Learns what a script of this server told.
    pub fn learn(&self, told: Option<Value>, from: From) -> Result<Due> {
        let Some(Value::BulkString(told)) = told else { return Err(request::senseless()) };
        let told = std::str::from_utf8(&told).ok();
        let learnt = told.and_then(|told| self.known.learn(told, from, system_clock()));
        learnt.ok_or_else(request::senseless)
    }

    /// Learns of every topic.
    pub fn learn_all(&self, from: From) -> Result<Due> {
        let mut all = Due::default();
        let mut cursor = b"0".to_vec();
        loop {
            let mut call = self.script(Script::Read);
            call.arg("topics").arg("").arg(&cursor);
            let Value::Array(answer) = self.call(&call)? else { return Err(request::senseless()) };
            let mut answer = answer.into_iter();
            let Due { put, returned } = self.learn(answer.next(), from)?;
            all.put.extend(put);
            all.returned.extend(returned);
            match answer.next() {
                Some(Value::BulkString(next)) if next != b"0" => cursor = next,
                _ => return Ok(all),
            }
        }
    }

    pub fn tick(&self) -> Result<Due> {
        let Value::Array(answer) = self.call(&self.script(Script::Tick))? else {
            return Err(request::senseless());
        };
        self.learn(answer.into_iter().next(), From::Own)
    }
}
