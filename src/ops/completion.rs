//! Completions: callbacks that receive a batch once the store has carried it out, and the threads that
//! wait for one. They know neither the store nor the broker.

use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, Thread};

use super::Batch;
use crate::sync::lock;

/// Receives a batch once the store has carried it out.
pub trait Completion: Send {
    /// Takes the batch with its outcomes. It may store them and wake a thread or a task. It must not
    /// block, submit a batch or take a lock of the broker: it runs on the thread of any connection.
    fn complete(self: Box<Self>, batch: Batch);

    /// The thread that waits for this batch and may lead meanwhile; `None` if no thread waits.
    fn waiter(&self) -> Option<&Arc<ThreadWaiter<Batch>>> {
        None
    }
}

/// Number of times that a waiting thread yields its core before it parks; 0 on a machine with one core.
/// The leader never yields.
///
/// A commit in memory can take less time than the wake-up of a parked thread. After a yield the answer
/// is often there, and neither the waiting thread nor the leader pays for a futex call. Confirmed puts
/// into memory, one at a time, medians of runs in turn on 2 cores with other work: 44,500 to 54,600 a
/// second for 8 connections, 42,100 to 51,100 for 50, 30,900 to 50,400 for 200. Beside a busy loop
/// per core and 200 connections, p50 fell from 3.6 to 0.6 ms and p99.9 from 263 to 77 ms, but p99 rose
/// from 30 to 40 ms. `cargo bench --bench compare -- put-confirmed` shows the rates against Redis.
static YIELDS: LazyLock<u32> =
    LazyLock::new(
        || if thread::available_parallelism().is_ok_and(|n| n.get() > 1) { 3 } else { 0 },
    );

/// A thread that waits for a result.
pub struct ThreadWaiter<T> {
    thread: Thread,
    state: Mutex<WaiterState<T>>,
}

struct WaiterState<T> {
    result: Option<T>,
    /// Whether another thread has asked this one to lead.
    leads: bool,
    /// Whether the thread is parked, or about to be.
    sleeps: bool,
}

impl<T> ThreadWaiter<T> {
    /// Must be called by the thread that will wait.
    pub fn new() -> Arc<ThreadWaiter<T>> {
        let state = WaiterState { result: None, leads: false, sleeps: false };
        Arc::new(ThreadWaiter { thread: thread::current(), state: Mutex::new(state) })
    }

    pub fn give(&self, result: T) {
        self.update(|state| state.result = Some(result));
    }

    /// Asks the thread to lead.
    pub fn ask_to_lead(&self) {
        self.update(|state| state.leads = true);
    }

    /// Changes the state and wakes the thread if it is parked.
    fn update(&self, change: impl FnOnce(&mut WaiterState<T>)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let sleeps = std::mem::take(&mut state.sleeps);
        drop(state);
        if sleeps {
            self.thread.unpark();
        }
    }

    /// Whether the result has arrived.
    pub fn is_done(&self) -> bool {
        lock(&self.state).result.is_some()
    }

    pub fn take(&self) -> Option<T> {
        lock(&self.state).result.take()
    }

    /// Waits for the result. Calls `lead` whenever another thread asks this one to lead.
    pub fn wait(&self, lead: impl Fn()) {
        let mut yields = *YIELDS;
        loop {
            let mut state = lock(&self.state);
            if state.result.is_some() {
                return;
            }
            if std::mem::take(&mut state.leads) {
                drop(state);
                lead();
                continue;
            }
            state.sleeps = yields == 0;
            drop(state);
            if yields > 0 {
                yields -= 1;
                thread::yield_now();
            } else {
                thread::park();
            }
        }
    }
}

impl Completion for Arc<ThreadWaiter<Batch>> {
    fn complete(self: Box<Self>, batch: Batch) {
        self.give(batch);
    }

    fn waiter(&self) -> Option<&Arc<ThreadWaiter<Batch>>> {
        Some(self)
    }
}

/// Submits a batch with `submit` and blocks until it is complete.
pub fn apply(batch: &mut Batch, submit: impl FnOnce(Batch, Box<dyn Completion>)) {
    let waiter = ThreadWaiter::new();
    submit(std::mem::take(batch), Box::new(waiter.clone()));
    *batch = waiter.take().unwrap_or_default();
}
