//! Waiting takers: a queue for each topic, served in order, one message each. The thread that makes
//! messages available serves the queue. Part of the broker.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::error::{Code, Error, Result};
use crate::ops::{Batch, Op, Outcome, Requeue, Topic};
use crate::store::Store;
use crate::sync::lock;

/// Maximum number of takers that one batch serves.
const SERVED_AT_ONCE: usize = 64;

#[derive(Default)]
pub struct Takers {
    /// Number of waiting takers, so that a put without them takes no lock.
    count: AtomicUsize,
    /// Lock order: this map is never locked while waiting for a `WaitQueue`, whose owner may be
    /// blocked on the store.
    queues: Mutex<HashMap<Topic, Arc<WaitQueue>>>,
}

/// The takers that wait for one topic. The lock is held while a taker is served, so that none
/// leaves half-way. The store never calls back into the broker, so it cannot wait for this lock.
#[derive(Default)]
struct WaitQueue(Mutex<QueuedTakers>);

#[derive(Default)]
struct QueuedTakers {
    takers: VecDeque<Arc<Taker>>,
    /// The last taker has left: the next one creates another queue.
    over: bool,
}

struct Taker {
    lease: Option<u64>,
    waker: Waker,
    /// Whether it waits because the topic had no message. A taker that has just joined does not
    /// know yet.
    waits: AtomicBool,
    /// The message or error for the taker.
    hand: Mutex<Option<Result<Requeue>>>,
}

impl Takers {
    pub fn any(&self) -> bool {
        self.count() > 0
    }

    /// Number of waiting takers, for any topic.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Joins the end of the queue. The caller must serve it once: a message may have arrived
    /// before.
    pub fn join(self: &Arc<Self>, topic: &Topic, lease: Option<u64>, waker: Waker) -> TakeWaiter {
        let taker =
            Arc::new(Taker { lease, waker, waits: AtomicBool::new(false), hand: Mutex::default() });
        let queue = loop {
            let queue = lock(&self.queues).entry(topic.clone()).or_default().clone();
            let mut queued = lock(&queue.0);
            if !queued.over {
                queued.takers.push_back(taker.clone());
                break queue.clone();
            }
        };
        self.count.fetch_add(1, Ordering::SeqCst);
        TakeWaiter { takers: self.clone(), topic: topic.clone(), queue, taker, done: false }
    }

    /// Gives the topic's messages to waiting takers. False if the store is unavailable and the
    /// topic must be served again.
    #[must_use]
    pub fn serve(&self, store: &dyn Store, topic: &Topic) -> bool {
        let queue = lock(&self.queues).get(topic).cloned();
        let Some(queue) = queue else { return true };
        let takers = &mut lock(&queue.0).takers;
        while !takers.is_empty() {
            let mut batch = Batch::default();
            let takes = takers.iter().take(SERVED_AT_ONCE);
            batch.ops = takes.map(|t| Op::Take { topic: topic.clone(), lease: t.lease }).collect();
            store.apply(&mut batch);
            for outcome in std::mem::take(&mut batch.outcomes) {
                let lease = takers.front().and_then(|taker| taker.lease);
                let handed = match outcome {
                    Ok(Outcome::Taken(Some(taken))) => {
                        let body = batch.taken_body(&taken).into();
                        Ok(Requeue { taken, body, lease })
                    }
                    // The batch is full: the next one serves the other takers.
                    Ok(Outcome::Later) => break,
                    // There are no more messages: the other takers keep waiting.
                    Ok(_) => {
                        wait_on(takers);
                        return true;
                    }
                    Err(error) if error.code == Code::Unavailable => {
                        refuse(takers, &error);
                        return false;
                    }
                    Err(error) => Err(error),
                };
                if let Some(taker) = takers.pop_front() {
                    *lock(&taker.hand) = Some(handed);
                    taker.waker.wake_by_ref();
                }
            }
        }
        true
    }

    /// Wakes all takers, which then find the server closing.
    pub fn wake_all(&self) {
        let queues: Vec<Arc<WaitQueue>> = lock(&self.queues).values().cloned().collect();
        for queue in queues {
            lock(&queue.0).takers.iter().for_each(|taker| taker.waker.wake_by_ref());
        }
    }
}

/// Marks the takers as waiting.
fn wait_on(takers: &VecDeque<Arc<Taker>>) {
    // The takers before a waiting one joined earlier, so they are marked already.
    let waits = |taker: &&Arc<Taker>| !taker.waits.swap(true, Ordering::Relaxed);
    takers.iter().rev().take_while(waits).for_each(drop);
}

/// The store is unavailable: takers that have just joined receive the error, the others keep
/// waiting.
fn refuse(takers: &mut VecDeque<Arc<Taker>>, error: &Error) {
    let has_come = |taker: &Arc<Taker>| !taker.waits.load(Ordering::Relaxed);
    while takers.back().is_some_and(has_come)
        && let Some(taker) = takers.pop_back()
    {
        *lock(&taker.hand) = Some(Err(error.clone()));
        taker.waker.wake_by_ref();
    }
}

/// One waiting taker. Its holder must end the wait with [`TakeWaiter::leave`], because it may have
/// received a message.
pub struct TakeWaiter {
    takers: Arc<Takers>,
    topic: Topic,
    queue: Arc<WaitQueue>,
    taker: Arc<Taker>,
    done: bool,
}

impl TakeWaiter {
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The message or error that it received, if any.
    pub fn handed(&mut self) -> Option<Result<Requeue>> {
        lock(&self.taker.hand).take()
    }

    /// Leaves the queue. Returns the message or error that it received before.
    pub fn leave(mut self) -> Option<Result<Requeue>> {
        self.end();
        self.handed()
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let mut queued = lock(&self.queue.0);
        queued.takers.retain(|taker| !Arc::ptr_eq(taker, &self.taker));
        if queued.takers.is_empty() && !std::mem::replace(&mut queued.over, true) {
            lock(&self.takers.queues).remove(&self.topic);
        }
        drop(queued);
        self.takers.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for TakeWaiter {
    fn drop(&mut self) {
        self.end();
    }
}
