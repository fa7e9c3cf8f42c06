//! Frames in memory: of the messages that were published last, so that subscribers get them byte
//! for byte; and those that are on their way to one subscriber again. Both are bounded: what has no
//! room is read from the store in the one case, and comes once more in the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::limits;
use crate::ops::Id;
use crate::sync::lock;

#[derive(Default)]
pub struct Recent(Mutex<Frames>);

#[derive(Default)]
struct Frames {
    by_id: BTreeMap<Id, Arc<[u8]>>,
    bytes: usize,
}

impl Recent {
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
pub struct Outbox {
    waiting: Mutex<(VecDeque<Arc<[u8]>>, usize)>,
    waker: Waker,
}

impl Outbox {
    pub fn new(waker: Waker) -> Outbox {
        Outbox { waiting: Mutex::default(), waker }
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
