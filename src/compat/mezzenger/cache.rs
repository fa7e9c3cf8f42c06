//! What a server remembers of Mezzenger's messages: the ids of those that wait for an
//! acknowledgement, the latest frames, and the frames to be sent again. All three are bounded.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::limits;
use crate::ops::Id;
use crate::sync::lock;

/// A checksum is any text: this is one of its own, and of one size.
type ChecksumKey = [u8; 16];

/// Below so many it is not asked whether they are all still there.
const PRUNE_FROM: usize = 1024;

#[derive(Default)]
pub struct UnackedIndex(Mutex<Index>);

#[derive(Default)]
struct Index {
    /// `None` while a message is on its way into the store.
    ids: HashMap<ChecksumKey, Option<Id>>,
    /// The next time that it is this large it is compared with what is in the store, which may
    /// have dropped messages.
    prune_at: usize,
}

impl UnackedIndex {
    /// A message is about to be kept; false if it is already.
    pub fn announce(&self, checksum: &str) -> bool {
        let mut index = lock(&self.0);
        let key = key(checksum);
        let fresh = !index.ids.contains_key(&key);
        if fresh {
            index.ids.insert(key, None);
        }
        fresh
    }

    /// A message is kept under this id, or, without one, is not.
    pub fn note(&self, checksum: &str, id: Option<Id>) {
        let mut index = lock(&self.0);
        match id {
            Some(_) => index.ids.insert(key(checksum), id),
            None => index.ids.remove(&key(checksum)),
        };
    }

    /// The id of a message that is kept.
    pub fn id(&self, checksum: &str) -> Option<Id> {
        lock(&self.0).ids.get(&key(checksum)).copied().flatten()
    }

    /// Takes away the id of a message that is kept.
    pub fn forget(&self, checksum: &str) -> Option<Id> {
        let mut index = lock(&self.0);
        let key = key(checksum);
        let id = index.ids.get(&key).copied().flatten()?;
        index.ids.remove(&key);
        Some(id)
    }

    /// Whether it is time to compare it with the store.
    pub fn is_crowded(&self) -> bool {
        let mut index = lock(&self.0);
        let crowded = index.ids.len() >= index.prune_at.max(PRUNE_FROM);
        if crowded {
            // Whoever asks now does it.
            index.prune_at = 2 * index.ids.len();
        }
        crowded
    }

    /// Forgets those up to the id `last` that the store has no more.
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

/// What is published again to one subscriber, which is woken for it.
pub struct ResendQueue {
    waiting: Mutex<(VecDeque<Arc<[u8]>>, usize)>,
    waker: Waker,
}

impl ResendQueue {
    pub fn new(waker: Waker) -> ResendQueue {
        ResendQueue { waiting: Mutex::default(), waker }
    }

    /// Adds a frame, unless there is no room: then it comes again when it is published the next time.
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
