//! Timers: one thread for each partition of the store has it carry out scheduled work: lease ends,
//! due messages, expiries. A silent node of a cluster delays only its own partitions. Part of the
//! broker.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

use super::Broker;
use crate::error::Error;
use crate::limits;
use crate::ops::{Batch, Id, Topic, partition};
use crate::store::Store;
use crate::sync::lock;

/// Maximum sleep, because the store clock may be set meanwhile.
const SLEEP: Duration = Duration::from_secs(10);

/// Maximum pause between two ticks when there is more to do.
const PAUSE: Duration = Duration::from_millis(50);

/// Minimum time between two log lines about failed scheduled work.
const LOGGED: Duration = Duration::from_secs(60);

/// A timer for each partition of the store.
pub struct Timers {
    partitions: Box<[Arc<Timer>]>,
    /// When failed scheduled work was logged last.
    logged: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Timer {
    state: Mutex<State>,
    changed: Condvar,
    /// Topics whose waiting clients could not be served because the store was unavailable.
    unserved: Mutex<HashSet<Topic>>,
}

#[derive(Default)]
struct State {
    /// When the timer wakes up; 0 while it is awake.
    until: Id,
    stopped: bool,
}

impl Timers {
    /// Registers with the store for changes by other servers.
    pub fn new(store: &dyn Store) -> Timers {
        let partitions: Box<[_]> =
            (0..store.partitions()).map(|_| Arc::<Timer>::default()).collect();
        for (partition, timer) in partitions.iter().enumerate() {
            if let Some(shared) = store.shared() {
                shared.on_change(partition, timer.clone().into());
            }
        }
        Timers { partitions, logged: Mutex::default() }
    }

    /// The partition of the topic.
    fn partition(&self, topic: &Topic) -> usize {
        partition(topic.as_str(), self.partitions.len())
    }

    pub fn stop(&self) {
        self.partitions.iter().for_each(|timer| timer.stop());
    }

    /// Logs failed scheduled work now and then. It is retried.
    fn failed(&self, error: &Error) {
        let (mut logged, now) = (lock(&self.logged), Instant::now());
        if logged.is_none_or(|at| now - at >= LOGGED) {
            *logged = Some(now);
            tracing::error!("scheduled work failed, retrying: {error}");
        }
    }
}

impl Timer {
    /// Announces work at this time.
    fn set(&self, due: Id) {
        let mut state = lock(&self.state);
        if due < state.until {
            state.until = due;
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_one();
    }

    /// Carries out the scheduled work of this partition until the broker stops.
    fn run(&self, broker: &Broker, partition: usize) {
        loop {
            let began = Instant::now();
            broker.tick(partition);
            // Leaves half of the time to other requests, however much work is due.
            let pause = began.elapsed().min(PAUSE);
            let mut state = lock(&self.state);
            // Under the lock, so that work announced from here on finds the timer asleep and wakes
            // it.
            state.until = broker.due(partition);
            let left = Duration::from_micros(state.until.saturating_sub(broker.now())).max(pause);
            if !state.stopped {
                let slept = self.changed.wait_timeout(state, left.min(SLEEP));
                state = slept.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.until = 0;
            if state.stopped {
                return;
            }
        }
    }
}

impl Wake for Timer {
    /// Another server has changed the store: there may be work now.
    fn wake(self: Arc<Self>) {
        self.set(0);
    }
}

impl Broker {
    /// Number of timers to run.
    pub fn timers(&self) -> usize {
        self.timers.partitions.len()
    }

    /// Carries out the scheduled work of this partition on the calling thread, until the broker
    /// closes.
    pub fn run_timer(&self, partition: usize) {
        if let Some(timer) = self.timers.partitions.get(partition) {
            timer.run(self, partition);
        }
    }

    /// Looks at the schedules of the partitions that the batch touched.
    pub(super) fn set_timers(&self, batch: &Batch) {
        if self.timers() == 1 {
            return self.set_timer(0);
        }
        let partitions = batch.ops.iter().map(|op| self.timers.partition(op.topic()));
        let mut partitions: Vec<usize> = partitions.collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.into_iter().for_each(|partition| self.set_timer(partition));
    }

    /// Looks at the schedule of the topic's partition.
    pub(super) fn set_timer_of(&self, topic: &Topic) {
        self.set_timer(self.timers.partition(topic));
    }

    fn set_timer(&self, partition: usize) {
        if let Some(timer) = self.timers.partitions.get(partition) {
            timer.set(self.store.due(partition));
        }
    }

    /// Serves the topic again later, because the store is unavailable.
    pub(super) fn serve_later(&self, topic: &Topic) {
        let partition = self.timers.partition(topic);
        if let Some(timer) = self.timers.partitions.get(partition) {
            lock(&timer.unserved).insert(topic.clone());
            timer.set(self.due(partition));
        }
    }

    /// When a partition has work next, by the store clock.
    fn due(&self, partition: usize) -> Id {
        let due = self.store.due(partition);
        let unserved = |timer: &Arc<Timer>| !lock(&timer.unserved).is_empty();
        match self.timers.partitions.get(partition).is_some_and(unserved) {
            true => due.min(self.now() + limits::RETRY.as_micros() as u64),
            false => due,
        }
    }

    fn now(&self) -> Id {
        self.store.now()
    }

    /// Carries out some of the work that is due in a partition.
    fn tick(&self, partition: usize) {
        let Some(timer) = self.timers.partitions.get(partition) else { return };
        let unserved = std::mem::take(&mut *lock(&timer.unserved));
        unserved.iter().for_each(|topic| self.serve(topic));
        match self.store.tick(partition) {
            Ok(done) => {
                if !done.put.is_empty() {
                    let put: Vec<&Topic> = done.put.iter().collect();
                    self.put_to(&put, self.store.last_id());
                }
                done.returned.iter().for_each(|topic| self.serve(topic));
            }
            Err(error) => self.timers.failed(&error),
        }
    }

    /// Carries out all work that is due, in all partitions.
    #[cfg(test)]
    pub fn catch_up(&self) {
        for partition in 0..self.timers() {
            self.tick(partition);
            while self.due(partition) <= self.now() {
                self.tick(partition);
            }
        }
    }
}
