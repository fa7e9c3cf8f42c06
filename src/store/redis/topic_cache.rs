//! What this server knows of the store without asking: topics, the last id, when something is due.
//! Every answer of a script tells what it changed; what other servers' scripts changed comes as news.
//! Each topic's changes are counted, so that what comes late changes nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::ops::{Id, Policy, Topic};
use crate::store::{Counts, Due, TopicState};
use crate::sync::lock;

/// A topic's numbers, in the order in which scripts tell them.
const FIELDS: usize = 19;

/// Which of them is the number of messages that were put back and are there.
const PUT_BACKS: usize = 16;

/// A head's number is the topic's place in its part, above these bits the part and, above those, how
/// often it was purged.
const PARTITION_BITS: u32 = 20;
const PLACE_BITS: u32 = 32;

/// What a script flags a topic with: messages were put, or can be taken again.
const PUT: u64 = 1;
const RETURNED: u64 = 2;

pub struct TopicCache {
    /// Which part of the store this is.
    index: usize,
    total: Arc<StoreSize>,
    /// Those that are gone too: whoever holds a head goes on with it when its topic is there again.
    topics: RwLock<HashMap<Topic, Arc<Entry>>>,
    /// How many of them are there.
    count: AtomicU64,
    last_id: AtomicU64,
    due: AtomicU64,
    bytes: AtomicU64,
    /// When the store was made: another one, if what was there is lost.
    created: AtomicU64,
    /// What the store's clock is ahead of this machine's.
    clock_offset: AtomicI64,
}

/// How large all parts of the store are together.
#[derive(Default)]
pub struct StoreSize {
    bytes: AtomicU64,
    topics: AtomicU64,
}

impl StoreSize {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub fn topics(&self) -> u64 {
        self.topics.load(Ordering::Acquire)
    }
}

struct Entry {
    topic_state: Arc<TopicState>,
    place: i64,
    exists: AtomicBool,
    state: Mutex<EntryState>,
}

#[derive(Default)]
struct EntryState {
    version: u64,
    removals: u64,
    /// Puts, takes and drops from before the store was opened.
    before: [u64; 3],
    /// The version that was known when all topics began to be asked for, and whether this one was named
    /// since then.
    listing_version: u64,
    seen: bool,
}

/// What is learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateSource {
    /// All that there is, as a store is opened.
    Startup,
    /// All that there is, when something may have been missed.
    Resync,
    /// What a script of this server answers: who waits for what it did is told by who asked.
    Local,
    /// What a script of another server did.
    Remote,
}

impl TopicCache {
    pub fn new(index: usize, total: Arc<StoreSize>) -> TopicCache {
        TopicCache {
            index,
            total,
            topics: RwLock::default(),
            count: AtomicU64::new(0),
            last_id: AtomicU64::new(0),
            due: AtomicU64::new(Id::MAX),
            bytes: AtomicU64::new(0),
            created: AtomicU64::new(0),
            clock_offset: AtomicI64::new(0),
        }
    }

    pub fn last_id(&self) -> Id {
        self.last_id.load(Ordering::Acquire)
    }

    pub fn due(&self) -> Id {
        self.due.load(Ordering::Acquire)
    }

    /// What is due is being found out anew.
    pub fn forget_due(&self) {
        self.due.store(Id::MAX, Ordering::Release);
    }

    pub fn due_at(&self, at: Id) {
        self.due.fetch_min(at, Ordering::AcqRel);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub fn topics(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The store's clock, by this machine's.
    pub fn clock(&self, local: Id) -> Id {
        local.saturating_add_signed(self.clock_offset.load(Ordering::Acquire))
    }

    pub fn state(&self, topic: &str) -> Option<Arc<TopicState>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic).filter(|entry| entry.exists()).map(|entry| entry.topic_state.clone())
    }

    pub fn states(&self) -> Vec<Arc<TopicState>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let exists = topics.values().filter(|entry| entry.exists());
        exists.map(|entry| entry.topic_state.clone()).collect()
    }

    /// Learns what a script tells, at `local` by this machine's clock; returns what those who wait
    /// must hear of, if it is news. `None` if it makes no sense.
    pub fn apply_update(&self, update_text: &str, from: UpdateSource, local: Id) -> Option<Due> {
        let mut lines = update_text.split('\n');
        let mut topic_state = lines.next()?.split(' ').skip(1).map(str::parse::<u64>);
        let [created, now, last, due, bytes] = std::array::from_fn(|_| topic_state.next());
        let (created, now) = (created?.ok()?, now?.ok()?);
        let known = self.created.load(Ordering::Acquire);
        // Late news of one that was lost says nothing of the one that took its place.
        if created > 0 && created != known && (from != UpdateSource::Remote || created > known) {
            self.created.store(created, Ordering::Release);
            self.forget(now);
        }
        self.clock_offset.store(now.cast_signed() - local.cast_signed(), Ordering::Release);
        let bytes = bytes?.ok()?;
        let before = self.bytes.swap(bytes, Ordering::AcqRel);
        self.total.bytes.fetch_add(bytes.wrapping_sub(before), Ordering::AcqRel);
        let mut done = Due::default();
        while let (Some(name), Some(numbers)) = (lines.next(), lines.next()) {
            let mut numbers = numbers.split(' ').map(str::parse::<u64>);
            let flags = numbers.next()?.ok()?;
            let mut fields = [0; FIELDS];
            for field in &mut fields {
                *field = numbers.next()?.ok()?;
            }
            let put_backs = numbers.collect::<Result<Vec<Id>, _>>().ok()?;
            let entry = self.entry(name, from, &fields)?;
            let mut state = lock(&entry.state);
            if entry.update(&mut state, &fields, from, now) {
                self.count.fetch_add(1, Ordering::AcqRel);
                self.total.topics.fetch_add(1, Ordering::AcqRel);
            }
            drop(state);
            // Who waits may have asked in vain meanwhile.
            let anew = from == UpdateSource::Resync;
            put_backs.iter().for_each(|id| entry.topic_state.put_back(*id));
            if anew && fields.get(PUT_BACKS).is_some_and(|back| *back > 0) {
                entry.topic_state.miss_put_backs();
            }
            if anew || flags & PUT > 0 || !put_backs.is_empty() {
                done.put.push(entry.topic_state.topic().clone());
            }
            if anew || flags & RETURNED > 0 {
                done.returned.push(entry.topic_state.topic().clone());
            }
        }
        // Who is given this id finds what was put up to it.
        self.last_id.fetch_max(last?.ok()?, Ordering::AcqRel);
        self.due_at(due?.ok()?);
        Some(done)
    }

    /// The store is another one: nothing is known of its topics.
    fn forget(&self, now: Id) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().for_each(|entry| self.remove(entry, &mut lock(&entry.state), now));
    }

    /// The topic is gone, and begins anew when it is there again.
    fn remove(&self, entry: &Entry, state: &mut EntryState, now: Id) {
        if entry.forget(state, now) {
            self.count.fetch_sub(1, Ordering::AcqRel);
            self.total.topics.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// From here on all topics are asked for.
    pub fn begin_listing(&self) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        for entry in topics.values() {
            let mut state = lock(&entry.state);
            (state.listing_version, state.seen) = (state.version, false);
        }
    }

    /// All that there are have been named: the others are gone, unless something came of them meanwhile.
    pub fn end_listing(&self) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        for entry in topics.values() {
            let mut state = lock(&entry.state);
            if !state.seen && state.version == state.listing_version && state.version > 0 {
                self.remove(entry, &mut state, 0);
            }
        }
    }

    fn entry(&self, name: &str, from: UpdateSource, numbers: &[u64; FIELDS]) -> Option<Arc<Entry>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = topics.get(name) {
            return Some(entry.clone());
        }
        drop(topics);
        // One that nobody can have put to: it is not ours.
        let topic = Topic::new(name).ok()?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let place = (topics.len() as i64 + 1) | ((self.index as i64) << PARTITION_BITS);
        let entry = topics.entry(topic.clone()).or_insert_with(|| {
            let before = match (from, numbers) {
                (UpdateSource::Startup, [.., puts, takes, dropped, _, _, _, _]) => {
                    [*puts, *takes, *dropped]
                }
                _ => [0; 3],
            };
            let state = Mutex::new(EntryState { before, ..EntryState::default() });
            let (topic_state, exists) =
                (Arc::new(TopicState::new(topic, place)), AtomicBool::new(false));
            // Another server may take from it at any time.
            topic_state.take_from();
            Arc::new(Entry { topic_state, place, exists, state })
        });
        Some(entry.clone())
    }
}

impl Entry {
    fn exists(&self) -> bool {
        self.exists.load(Ordering::Acquire)
    }

    /// It is gone; false if it was so before.
    fn forget(&self, state: &mut EntryState, now: Id) -> bool {
        *state = EntryState::default();
        self.topic_state.publish(self.topic_state.number(), Counts::default(), 0, true, now);
        self.exists.swap(false, Ordering::AcqRel)
    }

    /// Learns the topic's numbers, unless they are old; says whether the topic was not there before.
    fn update(
        &self,
        state: &mut EntryState,
        numbers: &[u64; FIELDS],
        from: UpdateSource,
        now: Id,
    ) -> bool {
        let &[
            version,
            purges,
            removals,
            newest,
            taken_to,
            length,
            bytes,
            in_line,
            ready,
            leased,
            delayed,
            _,
            puts,
            takes,
            dropped,
            looks,
            _,
            stopped,
            policy,
        ] = numbers;
        let is_old = match from {
            UpdateSource::Local | UpdateSource::Remote => version <= state.version,
            // A Redis that lost its last moments counts them again. But what was asked for may have been
            // overtaken by what was heard meanwhile.
            UpdateSource::Startup | UpdateSource::Resync => {
                state.seen = true;
                version <= state.version && state.version != state.listing_version
            }
        };
        if is_old {
            return false;
        }
        let [puts_before, takes_before, dropped_before] = state.before;
        let counts = Counts {
            length,
            bytes,
            leased,
            delayed,
            puts: puts.saturating_sub(puts_before),
            takes: takes.saturating_sub(takes_before),
            dropped: dropped.saturating_sub(dropped_before),
            ready,
            in_line,
            taken_to,
            noted: looks,
            stopped: stopped > 0,
            policy: policy_of(policy),
        };
        let number = self.place | (purges.cast_signed() << PLACE_BITS);
        self.topic_state.publish(number, counts, newest, removals != state.removals, now);
        (state.version, state.removals) = (version, removals);
        !self.exists.swap(true, Ordering::AcqRel)
    }
}

/// A policy as scripts keep it; 0 is none.
pub fn policy_number(policy: Policy) -> u64 {
    match policy {
        Policy::Broadcast => 1,
        Policy::RoundRobin => 2,
    }
}

fn policy_of(number: u64) -> Option<Policy> {
    [Policy::Broadcast, Policy::RoundRobin].into_iter().find(|p| policy_number(*p) == number)
}

#[cfg(test)]
mod tests;
