//! What the server keeps in memory of Mezzenger's messages: the ids of unacknowledged messages, the
//! latest frames, and the frames to be sent again. All three are bounded.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::limits;
use crate::ops::Id;
use crate::sync::lock;

/// A checksum can be any text; its MD5 has a fixed size.
type ChecksumKey = [u8; 16];

/// The smallest number of entries that is compared with the store.
const PRUNE_FROM: usize = 1024;

#[derive(Default)]
pub struct UnackedIndex(Mutex<Index>);

#[derive(Default)]
struct Index {
    /// `None` while the message is being stored.
    ids: HashMap<ChecksumKey, Option<Id>>,
    /// When the index reaches this size, it is compared with the store, which may have dropped
    /// messages.
    prune_at: usize,
}

impl UnackedIndex {
    /// Registers a message that is about to be stored; returns false if it is registered already.
    pub fn announce(&self, checksum: &str) -> bool {
        let mut index = lock(&self.0);
        let key = key(checksum);
        let fresh = !index.ids.contains_key(&key);
        if fresh {
            index.ids.insert(key, None);
        }
        fresh
    }

    /// Records the id under which a message is stored; `None` if it was not stored.
    pub fn note(&self, checksum: &str, id: Option<Id>) {
        let mut index = lock(&self.0);
        match id {
            Some(_) => index.ids.insert(key(checksum), id),
            None => index.ids.remove(&key(checksum)),
        };
    }

    /// The id of a stored message.
    pub fn id(&self, checksum: &str) -> Option<Id> {
        lock(&self.0).ids.get(&key(checksum)).copied().flatten()
    }

    /// Removes a stored message from the index and returns its id.
    pub fn forget(&self, checksum: &str) -> Option<Id> {
        let mut index = lock(&self.0);
        let key = key(checksum);
        let id = index.ids.get(&key).copied().flatten()?;
        index.ids.remove(&key);
        Some(id)
    }

    /// Whether the index is due to be compared with the store. Returns true only once for a size.
    pub fn is_crowded(&self) -> bool {
        let mut index = lock(&self.0);
        let crowded = index.ids.len() >= index.prune_at.max(PRUNE_FROM);
        if crowded {
            // The caller prunes now; other connections must not.
            index.prune_at = 2 * index.ids.len();
        }
        crowded
    }

    /// Removes entries with ids up to `last` that are not in the store.
    pub fn prune(&self, in_store: &HashSet<Id>, last: Id) {
        let mut index = lock(&self.0);
        index.ids.retain(|_, id| id.is_none_or(|id| id > last || in_store.contains(&id)));
        index.prune_at = 2 * index.ids.len();
    }
}

fn key(checksum: &str) -> ChecksumKey {
    md5::compute(checksum).0
}

#[derive(Default)]
pub struct FrameCache(Mutex<CachedFrames>);

#[derive(Default)]
struct CachedFrames {
    by_id: BTreeMap<Id, Arc<[u8]>>,
    bytes: usize,
}

impl FrameCache {
    pub fn add(&self, id: Id, frame: &[u8]) {
        let mut frames = lock(&self.0);
        frames.bytes += frame.len();
        frames.by_id.insert(id, frame.into());
        while frames.bytes > limits::MEZZENGER_RECENT_BYTES
            && frames.by_id.len() > 1
            && let Some((_, oldest)) = frames.by_id.pop_first()
        {
            frames.bytes -= oldest.len();
        }
    }

    pub fn get(&self, id: Id) -> Option<Arc<[u8]>> {
        lock(&self.0).by_id.get(&id).cloned()
    }
}

/// Frames to be sent again to one subscriber.
pub struct ResendQueue {
    waiting: Mutex<(VecDeque<Arc<[u8]>>, usize)>,
    waker: Waker,
}

impl ResendQueue {
    pub fn new(waker: Waker) -> ResendQueue {
        ResendQueue { waiting: Mutex::default(), waker }
    }

    /// Appends a frame and wakes the subscriber. Drops the frame if the queue is full: it is sent
    /// again after the next interval.
    pub fn add(&self, frame: &Arc<[u8]>) {
        let mut waiting = lock(&self.waiting);
        let (frames, bytes) = &mut *waiting;
        if *bytes + frame.len() > limits::OUTBOX_BYTES && !frames.is_empty() {
            return;
        }
        *bytes += frame.len();
        frames.push_back(frame.clone());
        drop(waiting);
        self.waker.wake_by_ref();
    }

    pub fn next(&self) -> Option<Arc<[u8]>> {
        let mut waiting = lock(&self.waiting);
        let (frames, bytes) = &mut *waiting;
        let frame = frames.pop_front()?;
        *bytes -= frame.len();
        if frames.is_empty() {
            *frames = VecDeque::new();
        }
        Some(frame)
    }
}
