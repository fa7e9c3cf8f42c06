//! Heads: what is known of a topic without a lock on the store.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::limits;
use crate::ops::{Id, Policy, Topic};
use crate::sync::lock;

/// What a topic shows without asking the tables. One for each topic, shared by all who use it.
#[derive(Debug)]
pub struct TopicState {
    topic: Topic,
    /// The store's own number for the topic, another one after a purge.
    number: AtomicI64,
    newest: AtomicU64,
    removals: AtomicU64,
    counts: Mutex<(Counts, Meter)>,
    /// Whether a take without a lease may have removed messages since the store was opened.
    is_taken_from: AtomicBool,
    /// How many messages were put back after such a take, and the ids of the last of them.
    put_backs: AtomicU64,
    put_back_ids: Mutex<VecDeque<Id>>,
}

/// A topic's numbers, as of the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that are kept, and bytes of their JSON text.
    pub length: u64,
    pub bytes: u64,
    /// Messages under a lease, or returned with a delay that has not passed.
    pub leased: u64,
    /// Messages that are not due yet.
    pub delayed: u64,
    /// Puts and takes since the store was opened.
    pub puts: u64,
    pub takes: u64,
    /// Messages that were removed since then because they were the oldest, by a bound.
    pub dropped: u64,
    /// Messages that wait in `ready`: prioritised ones and returned ones.
    pub ready: u64,
    /// Messages that are taken in the order of the log, and the id up to which that was done.
    pub in_line: u64,
    pub taken_to: Id,
    /// Messages of which more is known than stands in the log: looks, or where they came from.
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

    /// The id of the newest message that was put; 0 if there was none.
    pub fn newest(&self) -> Id {
        self.newest.load(Ordering::Acquire)
    }

    /// How often messages were removed.
    pub fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    pub fn counts(&self) -> Counts {
        lock(&self.counts).0
    }

    /// Puts and takes a second, over the last ten seconds.
    pub fn rates(&self, now: Id) -> (f64, f64) {
        lock(&self.counts).1.rates(now)
    }

    /// Called after a commit, at `now` by the store's clock.
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

    /// Notes that takes without a lease remove messages. Called before the first removal is visible.
    pub fn take_from(&self) {
        if !self.is_taken_from() {
            self.is_taken_from.store(true, Ordering::Release);
        }
    }

    /// Whether a message may be missing that comes back under its id.
    pub fn is_taken_from(&self) -> bool {
        self.is_taken_from.load(Ordering::Acquire)
    }

    /// Notes that a message is back under its id. Called when it is visible.
    pub fn put_back(&self, id: Id) {
        let mut ids = lock(&self.put_back_ids);
        if ids.len() == limits::PUT_BACKS {
            ids.pop_front();
        }
        ids.push_back(id);
        self.put_backs.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that messages may be back whose ids are not known.
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

    /// The same, and the ids of all after the first `known`; no ids if not all are remembered.
    pub fn put_backs_after(&self, known: u64) -> (u64, Option<Vec<Id>>) {
        let ids = lock(&self.put_back_ids);
        let count = self.put_backs();
        let new = usize::try_from(count.saturating_sub(known)).unwrap_or(usize::MAX);
        let first = ids.len().checked_sub(new);
        (count, first.map(|first| ids.range(first..).copied().collect()))
    }
}

/// Puts and takes of each of the last seconds.
#[derive(Debug, Default)]
struct Meter {
    /// The last second that was counted.
    second: u64,
    counts: [(u32, u32); METER_SECONDS],
}

const METER_SECONDS: usize = 10;

impl Meter {
    /// Forgets what is older than the seconds that are kept.
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
