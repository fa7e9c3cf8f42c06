//! The state of a topic that any thread reads without the store's lock: counts, newest id, rates.
//!
//! Part of the store, which publishes it after each commit. It knows neither tables nor Redis.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::limits;
use crate::ops::{Id, Policy, Topic};
use crate::sync::lock;

/// The published state of one topic, shared by all threads.
#[derive(Debug)]
pub struct TopicState {
    topic: Topic,
    /// The store's internal number of the topic; a purge assigns a new one.
    number: AtomicI64,
    newest: AtomicU64,
    removals: AtomicU64,
    counts: Mutex<(Counts, Meter)>,
    /// Whether a take without a lease may have removed messages since the store was opened.
    is_taken_from: AtomicBool,
    /// How many messages were put back after such a take.
    put_backs: AtomicU64,
    /// The ids of the last of them, at most [`limits::PUT_BACKS`].
    put_back_ids: Mutex<VecDeque<Id>>,
}

/// The counts of a topic as of the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored messages without delayed ones, and the bytes of their JSON text.
    pub length: u64,
    pub bytes: u64,
    /// Messages under a lease, or returned by `nack` with a delay that has not passed.
    pub leased: u64,
    /// Messages put with a delay that has not passed.
    pub delayed: u64,
    /// Puts and takes since the store was opened.
    pub puts: u64,
    pub takes: u64,
    /// Oldest messages removed since then to stay within `--max-store` or `--keep`.
    pub dropped: u64,
    /// Messages in `ready`: those with a priority and returned ones.
    pub ready: u64,
    /// Messages to take in the order of their ids, and the id up to which they have been taken.
    pub in_line: u64,
    pub taken_to: Id,
    /// Messages with extra fields outside the log: the number of peeks, or the origin of a dead letter.
    pub noted: u64,
    pub stopped: bool,
    pub policy: Option<Policy>,
}

impl TopicState {
    pub fn new(topic: Topic, number: i64) -> TopicState {
        TopicState {
            topic,
            number: AtomicI64::new(number),
            newest: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            counts: Mutex::default(),
            is_taken_from: AtomicBool::new(false),
            put_backs: AtomicU64::new(0),
            put_back_ids: Mutex::default(),
        }
    }

    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    pub fn number(&self) -> i64 {
        self.number.load(Ordering::Acquire)
    }

    /// The id of the newest message ever put; 0 if there was none.
    pub fn newest(&self) -> Id {
        self.newest.load(Ordering::Acquire)
    }

    /// How many commits removed messages. A change makes cached chunks stale.
    pub fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    pub fn counts(&self) -> Counts {
        lock(&self.counts).0
    }

    /// Puts and takes per second, averaged over the last ten seconds.
    pub fn rates(&self, now: Id) -> (f64, f64) {
        lock(&self.counts).1.rates(now)
    }

    /// Publishes the state after a commit at `now` by the store's clock.
    pub fn publish(&self, number: i64, counts: Counts, newest: Id, removed: bool, now: Id) {
        self.number.store(number, Ordering::Release);
        let (before, meter) = &mut *lock(&self.counts);
        let puts = counts.puts.saturating_sub(before.puts);
        meter.add(now, puts, counts.takes.saturating_sub(before.takes));
        *before = counts;
        if removed {
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
        self.newest.fetch_max(newest, Ordering::AcqRel);
    }

    /// Records that takes without a lease remove messages. Called before the first removal is visible:
    /// otherwise a reader could pass the gap without knowing that the message may return.
    pub fn take_from(&self) {
        if !self.is_taken_from() {
            self.is_taken_from.store(true, Ordering::Release);
        }
    }

    /// Whether a removed message may return under its old id.
    pub fn is_taken_from(&self) -> bool {
        self.is_taken_from.load(Ordering::Acquire)
    }

    /// Records that a message has returned under its old id. Called once it is visible.
    pub fn put_back(&self, id: Id) {
        let mut ids = lock(&self.put_back_ids);
        if ids.len() == limits::PUT_BACKS {
            ids.pop_front();
        }
        ids.push_back(id);
        self.put_backs.fetch_add(1, Ordering::AcqRel);
    }

    /// Records that messages with unknown ids may have returned.
    #[cfg(feature = "redis")]
    pub fn miss_put_backs(&self) {
        let mut ids = lock(&self.put_back_ids);
        ids.clear();
        self.put_backs.fetch_add(1, Ordering::AcqRel);
    }

    /// How many messages were put back since the store was opened.
    pub fn put_backs(&self) -> u64 {
        self.put_backs.load(Ordering::Acquire)
    }

    /// The number of returned messages, and the ids of those after the first `known`; no ids if some
    /// are no longer remembered.
    pub fn put_backs_after(&self, known: u64) -> (u64, Option<Vec<Id>>) {
        let ids = lock(&self.put_back_ids);
        let count = self.put_backs();
        let new = usize::try_from(count.saturating_sub(known)).unwrap_or(usize::MAX);
        let first = ids.len().checked_sub(new);
        (count, first.map(|first| ids.range(first..).copied().collect()))
    }
}

/// Puts and takes in each of the last [`METER_SECONDS`].
#[derive(Debug, Default)]
struct Meter {
    /// The latest second with a count.
    second: u64,
    counts: [(u32, u32); METER_SECONDS],
}

const METER_SECONDS: usize = 10;

impl Meter {
    /// Clears the slots of the seconds that have passed.
    fn advance(&mut self, now: Id) {
        let second = now / 1_000_000;
        let passed = second.saturating_sub(self.second).min(METER_SECONDS as u64);
        for back in 0..passed {
            if let Some(count) = self.counts.get_mut((second - back) as usize % METER_SECONDS) {
                *count = (0, 0);
            }
        }
        self.second = self.second.max(second);
    }

    fn add(&mut self, now: Id, puts: u64, takes: u64) {
        self.advance(now);
        if let Some(count) = self.counts.get_mut(self.second as usize % METER_SECONDS) {
            count.0 = count.0.saturating_add(u32::try_from(puts).unwrap_or(u32::MAX));
            count.1 = count.1.saturating_add(u32::try_from(takes).unwrap_or(u32::MAX));
        }
    }

    fn rates(&mut self, now: Id) -> (f64, f64) {
        self.advance(now);
        let sum = |of: fn(&(u32, u32)) -> u32| {
            self.counts.iter().map(|count| f64::from(of(count))).sum::<f64>() / METER_SECONDS as f64
        };
        (sum(|count| count.0), sum(|count| count.1))
    }
}
