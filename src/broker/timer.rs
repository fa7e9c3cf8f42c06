//! The clock of a server: one thread that has the store do what is due.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

use super::Broker;
use crate::error::Error;
use crate::message::Id;

/// However far the next event is: the store's clock may be set meanwhile.
const SLEEP: Duration = Duration::from_secs(10);

/// The longest pause between two ticks when there is more to do.
const PAUSE: Duration = Duration::from_millis(50);

/// From one line of the log about what is due to the next.
const LOGGED: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Timer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the timer sleeps for; 0 while it is awake.
    until: Id,
    stopped: bool,
    /// When it was logged last that what is due could not be done.
    logged: Option<Instant>,
}

impl Timer {
    /// Something is due at this time.
    pub fn set(&self, due: Id) {
        let mut state = self.lock();
        if due < state.until {
            state.until = due;
            self.changed.notify_one();
        }
    }

    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_one();
    }

    /// What is due could not be done: it is tried again and again, and logged now and then.
    pub fn failed(&self, error: &Error) {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.logged.is_none_or(|at| now - at >= LOGGED) {
            state.logged = Some(now);
            tracing::error!("what is due has to wait: {error}");
        }
    }

    /// Does what is due, when it is due, until it is stopped.
    pub fn run(&self, broker: &Broker) {
        loop {
            let began = Instant::now();
            broker.tick();
            // However much is due, half of the time is left to others.
            let pause = began.elapsed().min(PAUSE);
            let mut state = self.lock();
            // Under the lock: what becomes due from here on finds us asleep, and wakes us.
            state.until = broker.due();
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Timer {
    /// Others have done something in the store: that is due at once.
    fn wake(self: Arc<Self>) {
        self.set(0);
    }
}
