//! Topics, the last id and the next due time, as known without asking Redis.
//!
//! Each script reply contains the topics it changed, and the change feed those changed by other
//! servers. Every topic has a version, so updates that arrive out of order change nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use crate::ops::{Id, Policy, Topic};
use crate::store::{Counts, Due, TopicState};
use crate::sync::lock;

/// Number of fields of a topic, in the order of `FIELDS` in store.lua.
const FIELDS: usize = 19;

/// Index of the field `back`, the number of messages put back and present.
const PUT_BACKS: usize = 16;

/// Layout of a topic's number: the place in its partition, above these bits the partition's index,
/// and above those the number of purges.
const PARTITION_BITS: u32 = 20;
const PLACE_BITS: u32 = 32;

/// Flags of a topic in an update: messages were put, or can be taken again.
const PUT: u64 = 1;
const RETURNED: u64 = 2;

#[derive(Default)]
pub struct TopicCache {
    /// Index of the partition.
    index: usize,
    total: Arc<StoreSize>,
    /// Includes topics that no longer exist: a `TopicState` stays valid, and is used again if its
    /// topic comes back.
    topics: RwLock<HashMap<Topic, Arc<Entry>>>,
    /// Number of existing topics.
    count: AtomicU64,
    last_id: AtomicU64,
    due: AtomicU64,
    bytes: AtomicU64,
    /// Creation time of the store; a different one means that the store was lost and created anew.
    created: AtomicU64,
    /// Offset of the store's clock from this machine's clock, in microseconds.
    clock_offset: AtomicI64,
}

/// Size of all partitions together.
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
    /// Puts, takes and drops before this server opened the store.
    before: [u64; 3],
    /// The version when the current listing began, and whether the listing contained the topic.
    listing_version: u64,
    seen: bool,
}

/// The origin of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateSource {
    /// The full listing when the store is opened.
    Startup,
    /// The full listing after changes may have been missed.
    Resync,
    /// A reply to this server's own script; the caller notifies waiting clients.
    Local,
    /// A script of another server.
    Remote,
}

impl TopicCache {
    pub fn new(index: usize, total: Arc<StoreSize>) -> TopicCache {
        let due = AtomicU64::new(Id::MAX);
        TopicCache { index, total, due, ..TopicCache::default() }
    }

    pub fn last_id(&self) -> Id {
        self.last_id.load(Ordering::Acquire)
    }

    pub fn due(&self) -> Id {
        self.due.load(Ordering::Acquire)
    }

    /// Forgets the due time before the script reports it anew.
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

    /// The store's clock for a time of the local clock.
    pub fn clock(&self, local: Id) -> Id {
        local.saturating_add_signed(self.clock_offset.load(Ordering::Acquire))
    }

    fn entries(&self) -> RwLockReadGuard<'_, HashMap<Topic, Arc<Entry>>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self, topic: &str) -> Option<Arc<TopicState>> {
        let entries = self.entries();
        entries.get(topic).filter(|entry| entry.exists()).map(|entry| entry.topic_state.clone())
    }

    pub fn states(&self) -> Vec<Arc<TopicState>> {
        let entries = self.entries();
        let existing = entries.values().filter(|entry| entry.exists());
        existing.map(|entry| entry.topic_state.clone()).collect()
    }

    /// Applies an update received at `local` by this machine's clock; returns the changes that
    /// waiting clients must hear of. `None` if the text is malformed.
    pub fn apply_update(&self, update_text: &str, from: UpdateSource, local: Id) -> Option<Due> {
        let mut lines = update_text.split('\n');
        let mut topic_state = lines.next()?.split(' ').skip(1).map(str::parse::<u64>);
        let [created, now, last, due, bytes] = std::array::from_fn(|_| topic_state.next());
        let (created, now) = (created?.ok()?, now?.ok()?);
        let current = self.created.load(Ordering::Acquire);
        // A late update from a lost store must not affect its successor.
        if created > 0 && created != current && (from != UpdateSource::Remote || created > current)
        {
            self.created.store(created, Ordering::Release);
            self.forget(now);
        }
        self.clock_offset.store(now.cast_signed() - local.cast_signed(), Ordering::Release);
        let bytes = bytes?.ok()?;
        let before = self.bytes.swap(bytes, Ordering::AcqRel);
        self.total.bytes.fetch_add(bytes.wrapping_sub(before), Ordering::AcqRel);
        let mut changes = Due::default();
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
            // Waiting clients may have missed changes.
            let anew = from == UpdateSource::Resync;
            put_backs.iter().for_each(|id| entry.topic_state.put_back(*id));
            if anew && fields.get(PUT_BACKS).is_some_and(|back| *back > 0) {
                entry.topic_state.miss_put_backs();
            }
            if anew || flags & PUT > 0 || !put_backs.is_empty() {
                changes.put.push(entry.topic_state.topic().clone());
            }
            if anew || flags & RETURNED > 0 {
                changes.returned.push(entry.topic_state.topic().clone());
            }
        }
        // Last: a reader of this id must find every message up to it.
        self.last_id.fetch_max(last?.ok()?, Ordering::AcqRel);
        self.due_at(due?.ok()?);
        Some(changes)
    }

    /// The store was created anew: drops all topics.
    fn forget(&self, now: Id) {
        self.entries().values().for_each(|entry| self.remove(entry, &mut lock(&entry.state), now));
    }

    /// Marks a topic as not existing.
    fn remove(&self, entry: &Entry, state: &mut EntryState, now: Id) {
        if entry.forget(state, now) {
            self.count.fetch_sub(1, Ordering::AcqRel);
            self.total.topics.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Begins a full listing.
    pub fn begin_listing(&self) {
        for entry in self.entries().values() {
            let mut state = lock(&entry.state);
            (state.listing_version, state.seen) = (state.version, false);
        }
    }

    /// Ends a full listing: topics missing from it are gone, unless an update changed them
    /// meanwhile.
    pub fn end_listing(&self) {
        for entry in self.entries().values() {
            let mut state = lock(&entry.state);
            if !state.seen && state.version == state.listing_version && state.version > 0 {
                self.remove(entry, &mut state, 0);
            }
        }
    }

    fn entry(&self, name: &str, from: UpdateSource, numbers: &[u64; FIELDS]) -> Option<Arc<Entry>> {
        if let Some(entry) = self.entries().get(name) {
            return Some(entry.clone());
        }
        // An invalid name cannot be ours.
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

    /// Resets the topic; false if it did not exist before.
    fn forget(&self, state: &mut EntryState, now: Id) -> bool {
        *state = EntryState::default();
        self.topic_state.publish(self.topic_state.number(), Counts::default(), 0, true, now);
        self.exists.swap(false, Ordering::AcqRel)
    }

    /// Applies a topic's fields unless they are outdated; true if the topic did not exist before.
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
            // A Redis that lost its latest changes counts these versions again, so a listing may
            // lower the version. But an update during the listing is newer than the listing.
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

/// The number of a policy in scripts; 0 means none.
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
