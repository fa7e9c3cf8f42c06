//! Who waits to take: for each topic a line, served in the order in which its takers began, one
//! message each. Whoever makes messages available serves the line, on its own thread.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::error::{Code, Error, Result};
use crate::ops::{Batch, Op, Outcome, Requeue, Topic};
use crate::store::Store;
use crate::sync::lock;

/// Takers that are served by one batch.
const SERVED_AT_ONCE: usize = 64;

#[derive(Default)]
pub struct Takers {
    /// How many there are, so that a put that nobody waits for takes no lock.
    count: AtomicUsize,
    /// Whoever has this lock waits for no line: one may be waiting for the store.
    queues: Mutex<HashMap<Topic, Arc<WaitQueue>>>,
}

/// The takers who wait for one topic. Its lock is held while one is served, so that nobody can
/// leave it half-way; the store never comes back to us, and so cannot wait for it.
#[derive(Default)]
struct WaitQueue(Mutex<QueuedTakers>);

#[derive(Default)]
struct QueuedTakers {
    takers: VecDeque<Arc<Taker>>,
    /// The last has left: who comes now makes another line.
    over: bool,
}

struct Taker {
    lease: Option<u64>,
    waker: Waker,
    /// It stands in line since there was nothing for it. One that has just come knows nothing yet.
    waits: AtomicBool,
    /// What it was handed.
    hand: Mutex<Option<Result<Requeue>>>,
}

impl Takers {
    pub fn any(&self) -> bool {
        self.count() > 0
    }

    /// How many wait, for any topic.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Joins the end of the line. The caller serves it once more: a message may have come before.
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

    /// Hands the topic's messages to those who wait for it, as long as there are both; false if the
    /// store is away, and it is to be served again.
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
                    // These are a lot already: the others are served by the next batch.
                    Ok(Outcome::Later) => break,
                    // There is nothing more: the others go on waiting.
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

    /// Wakes everyone, to see that the server closes.
    pub fn wake_all(&self) {
        let queues: Vec<Arc<WaitQueue>> = lock(&self.queues).values().cloned().collect();
        for queue in queues {
            lock(&queue.0).takers.iter().for_each(|taker| taker.waker.wake_by_ref());
        }
    }
}

/// There is nothing for those in line.
fn wait_on(takers: &VecDeque<Arc<Taker>>) {
    // Whoever stands before one that waits came before it.
    let waits = |taker: &&Arc<Taker>| !taker.waits.swap(true, Ordering::Relaxed);
    takers.iter().rev().take_while(waits).for_each(drop);
}

/// The store is away: who has just come is told so, and who waits already is served when it is back.
fn refuse(takers: &mut VecDeque<Arc<Taker>>, error: &Error) {
    let has_come = |taker: &Arc<Taker>| !taker.waits.load(Ordering::Relaxed);
    while takers.back().is_some_and(has_come)
        && let Some(taker) = takers.pop_back()
    {
        *lock(&taker.hand) = Some(Err(error.clone()));
        taker.waker.wake_by_ref();
    }
}

/// One taker's wait. Whoever has it must end it with [`TakeWaiter::leave`]: it may have been handed a
/// message.
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

    /// What this taker was handed, if anything.
    pub fn handed(&mut self) -> Option<Result<Requeue>> {
        lock(&self.taker.hand).take()
    }

    /// Leaves the line, with what was handed over before that.
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
