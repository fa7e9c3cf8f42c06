//! When sessions begin: the last ids that nodes had given out when a connection was accepted. What is
//! heard of other servers is behind by the time that news takes, so nodes are asked: by one thread, once
//! for all who came meanwhile, and nobody waits for the answer but who reads.
//!
//! When a node is asked more may have been put than when the connection was accepted. But no id is below
//! its node's clock: with what that shows, and how long ago the connection was accepted, an id is known
//! that all later ones are above.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use redis::{Value, pipe};

use super::link::{ANSWER, Link};
use super::shard::{Common, Shard};
use crate::message::Id;
use crate::store::moment::Inquiry;
use crate::store::lock;

/// So long others are waited for, who are asked for too, unless somebody needs the answer.
const GATHER: Duration = Duration::from_millis(10);

/// Its thread does little.
const STACK_BYTES: usize = 256 * 1024;

/// The question that is put next, if somebody wants to know.
#[derive(Default)]
pub struct Moments {
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    next: Option<Arc<Question>>,
    ended: bool,
}

/// What the last ids are: a question to all nodes.
#[derive(Debug)]
pub struct Question {
    state: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug)]
struct Asked {
    /// Somebody waits for an answer.
    hurries: bool,
    /// One for each part, in time.
    answers: Box<[Option<Answer>]>,
}

/// What a part's node says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// Nothing, or nothing that makes sense.
    Unknown,
    /// The last id, and behind that the clock, which arrived at this time.
    Known { last: Id, clock: Id, at: Instant },
}

impl Moments {
    /// A question of so many parts that will be put later than this is called.
    pub fn ask(&self, parts: usize) -> Arc<Question> {
        let mut state = lock(&self.state);
        if let Some(next) = &state.next {
            return next.clone();
        }
        let question = Arc::new(Question::new(parts));
        state.next = Some(question.clone());
        drop(state);
        self.wanted.notify_one();
        question
    }

    pub fn end(&self) {
        lock(&self.state).ended = true;
        self.wanted.notify_one();
    }

    /// Waits for a question, and then for more who want to know the same; `None` at the end.
    fn next(&self) -> Option<Arc<Question>> {
        let state = lock(&self.state);
        let idle = |state: &mut State| state.next.is_none() && !state.ended;
        let state = self.wanted.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        let question = state.next.clone().filter(|_| !state.ended)?;
        drop(state);
        question.gather();
        lock(&self.state).next = None;
        Some(question)
    }
}

impl Question {
    fn new(parts: usize) -> Question {
        let asked = Asked { hurries: false, answers: vec![None; parts].into() };
        Question { state: Mutex::new(asked), changed: Condvar::new() }
    }

    fn gather(&self) {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, GATHER, |state| !state.hurries);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, parts: &[usize], answers: impl Iterator<Item = Answer>) {
        let mut state = lock(&self.state);
        for (part, answer) in parts.iter().zip(answers) {
            if let Some(place) = state.answers.get_mut(*part) {
                *place = Some(answer);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for what a part's node says, no longer than a call would.
    fn answer(&self, part: usize) -> Answer {
        let mut state = lock(&self.state);
        let pending = |state: &mut Asked| state.answers.get(part).is_some_and(Option::is_none);
        if pending(&mut state) {
            state.hurries = true;
            self.changed.notify_all();
            let waited = self.changed.wait_timeout_while(state, ANSWER, pending);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.answers.get(part).copied().flatten().unwrap_or(Answer::Unknown)
    }

    /// The last id of the part at some time while it was asked; `None` if it cannot be known.
    pub fn last_id(&self, part: usize) -> Option<Id> {
        match self.answer(part) {
            Answer::Known { last, .. } => Some(last),
            Answer::Unknown => None,
        }
    }
}

impl Inquiry for Question {
    fn last_id(&self, part: usize, at: Instant) -> Option<Id> {
        self.answer(part).by(at)
    }
}

impl Answer {
    /// An id that all are above that were given out after this time, as good as the way back from
    /// the node was short.
    fn by(self, at: Instant) -> Option<Id> {
        match self {
            Answer::Known { last, clock, at: arrived } if last <= clock => {
                let since = arrived.saturating_duration_since(at).as_micros();
                let clock = clock.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX));
                Some(last.min(clock))
            }
            // Where the clock was set back it tells nothing.
            _ => None,
        }
    }
}

/// Asks on a thread of its own until the store is dropped.
pub fn begin(common: &Arc<Common>, shards: &[Arc<Shard>]) -> std::io::Result<()> {
    let (moments, common) = (common.moments.clone(), Arc::downgrade(common));
    let keys: Vec<String> = shards.iter().map(|shard| shard.key.clone()).collect();
    let thread = std::thread::Builder::new().name("moments".into()).stack_size(STACK_BYTES);
    thread.spawn(move || run(&moments, &common, &keys)).map(drop)
}

fn run(moments: &Moments, common: &Weak<Common>, keys: &[String]) {
    while let Some(question) = moments.next() {
        // Those who wanted to know may be gone by now.
        if Arc::strong_count(&question) == 1 {
            continue;
        }
        let Some(common) = common.upgrade() else { return };
        for (link, parts) in common.nodes.links() {
            let keys = parts.iter().filter_map(|part| keys.get(*part));
            let answers = ask(&link, keys, common.clock).unwrap_or_default();
            let unknown = std::iter::repeat(Answer::Unknown);
            question.tell(&parts, answers.into_iter().chain(unknown));
        }
    }
}

/// What the node says of the parts with these keys, if it answers.
fn ask<'a>(
    link: &Link,
    keys: impl Iterator<Item = &'a String>,
    clock: Option<fn() -> Id>,
) -> Option<Vec<Answer>> {
    let mut calls = pipe();
    for key in keys {
        calls.cmd("HGET").arg(key).arg("last");
    }
    // Behind them: so no id that follows the clock is above it.
    calls.cmd("TIME");
    let mut answers = link.call_all(&calls).ok()?;
    let at = Instant::now();
    let clock = match clock {
        Some(clock) => clock(),
        None => time(answers.pop()?)?,
    };
    let answer = |last| last_of(last).map_or(Answer::Unknown, |last| Answer::Known { last, clock, at });
    Some(answers.into_iter().map(answer).collect())
}

fn last_of(answer: Value) -> Option<Id> {
    redis::from_redis_value(answer).ok()
}

/// What TIME answers, in microseconds.
fn time(answer: Value) -> Option<Id> {
    let (seconds, microseconds): (u64, u64) = redis::from_redis_value(answer).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(microseconds)
}
