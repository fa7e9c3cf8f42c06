//! Clients that wait for a put to a topic: wakers by topic. Nothing here blocks. Part of the
//! broker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Instant;

use crate::error::{Code, Error};
use crate::limits;
use crate::ops::Topic;
use crate::sync::lock;

/// When a client that waits until `deadline` tries again after an error: it keeps waiting while the
/// store is unavailable.
pub fn look_again(error: &Error, deadline: Instant) -> Option<Instant> {
    let now = Instant::now();
    let waits = error.code == Code::Unavailable && now < deadline;
    waits.then(|| deadline.min(now + limits::RETRY))
}

#[derive(Default)]
pub struct Waiters {
    /// Number of waiting clients, so that a put without them takes no lock.
    count: AtomicUsize,
    by_topic: Mutex<HashMap<Topic, Vec<Waiter>>>,
}

struct Waiter {
    number: usize,
    waker: Waker,
}

impl Waiters {
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Wakes `waker` at every put to the topic until the watch is dropped.
    pub fn watch(self: &Arc<Self>, topic: Topic, waker: Waker) -> Watch {
        let mut by_topic = self.lock();
        let waiters = by_topic.entry(topic.clone()).or_default();
        let number = waiters.last().map_or(0, |last| last.number + 1);
        waiters.push(Waiter { number, waker });
        self.count.fetch_add(1, Ordering::SeqCst);
        Watch { waiters: self.clone(), topic, number }
    }

    pub fn wake(&self, topic: &Topic) {
        if let Some(waiters) = self.lock().get(topic) {
            waiters.iter().for_each(|waiter| waiter.waker.wake_by_ref());
        }
    }

    pub fn wake_all(&self) {
        self.lock().values().flatten().for_each(|waiter| waiter.waker.wake_by_ref());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Vec<Waiter>>> {
        lock(&self.by_topic)
    }
}

/// A registration, which ends when it is dropped.
pub struct Watch {
    waiters: Arc<Waiters>,
    topic: Topic,
    number: usize,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_topic = self.waiters.lock();
        if let Some(waiters) = by_topic.get_mut(&self.topic) {
            waiters.retain(|waiter| waiter.number != self.number);
            if waiters.is_empty() {
                by_topic.remove(&self.topic);
            }
        }
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
    }
}
