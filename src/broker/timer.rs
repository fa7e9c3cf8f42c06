//! The clock of a server: a thread for each part of the store, which has it do what is due there. A part
//! whose node is silent so holds up no other.

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

/// However far the next event is: the store's clock may be set meanwhile.
const SLEEP: Duration = Duration::from_secs(10);

/// The longest pause between two ticks when there is more to do.
const PAUSE: Duration = Duration::from_millis(50);

/// From one line of the log about what is due to the next.
const LOGGED: Duration = Duration::from_secs(60);

/// A timer for each part of the store.
pub struct Timers {
    partitions: Box<[Arc<Timer>]>,
    /// When it was logged last that what is due could not be done.
    logged: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Timer {
    state: Mutex<State>,
    changed: Condvar,
    /// Topics that could not be served, because the store was away.
    unserved: Mutex<HashSet<Topic>>,
}

#[derive(Default)]
struct State {
    /// What the timer sleeps for; 0 while it is awake.
    until: Id,
    stopped: bool,
}

impl Timers {
    /// The store tells them what others do.
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

    /// The part in which the topic stands.
    fn partition(&self, topic: &Topic) -> usize {
        partition(topic.as_str(), self.partitions.len())
    }

    pub fn stop(&self) {
        self.partitions.iter().for_each(|timer| timer.stop());
    }

    /// What is due could not be done: it is tried again and again, and logged now and then.
    fn failed(&self, error: &Error) {
        let (mut logged, now) = (lock(&self.logged), Instant::now());
        if logged.is_none_or(|at| now - at >= LOGGED) {
            *logged = Some(now);
            tracing::error!("what is due has to wait: {error}");
        }
    }
}

impl Timer {
    /// Something is due at this time.
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

    /// Does what is due in this part, when it is due, until it is stopped.
    fn run(&self, broker: &Broker, partition: usize) {
        loop {
            let began = Instant::now();
            broker.tick(partition);
            // However much is due, half of the time is left to others.
            let pause = began.elapsed().min(PAUSE);
            let mut state = lock(&self.state);
            // Under the lock: what becomes due from here on finds us asleep, and wakes us.
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
    /// Others have done something in the store: that is due at once.
    fn wake(self: Arc<Self>) {
        self.set(0);
    }
}

impl Broker {
    /// How many timers are to be run.
    pub fn timers(&self) -> usize {
        self.timers.partitions.len()
    }

    /// Does what is due in this part of the store when it is due, on the calling thread, until the
    /// broker closes.
    pub fn run_timer(&self, partition: usize) {
        if let Some(timer) = self.timers.partitions.get(partition) {
            timer.run(self, partition);
        }
    }

    /// The batch may have made something due in the parts that it touched.
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

    /// Something may have become due where the topic stands.
    pub(super) fn set_timer_of(&self, topic: &Topic) {
        self.set_timer(self.timers.partition(topic));
    }

    fn set_timer(&self, partition: usize) {
        if let Some(timer) = self.timers.partitions.get(partition) {
            timer.set(self.store.due(partition));
        }
    }

    /// The store was away: the topic is to be served again in a while.
    pub(super) fn serve_later(&self, topic: &Topic) {
        let partition = self.timers.partition(topic);
        if let Some(timer) = self.timers.partitions.get(partition) {
            lock(&timer.unserved).insert(topic.clone());
            timer.set(self.due(partition));
        }
    }

    /// When something is due next in a part, and what time it is, by the store's clock.
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

    /// Does some of what is due by now in a part.
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

    /// Does all that is due by now, in all parts.
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
