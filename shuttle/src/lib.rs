//! The standard library, but for what waits and wakes: that is shuttle's, which decides who runs
//! next. The program beside this file calls it `std`, so that dsmq's own files compile on it as
//! they are.

pub use ::std::*;

pub mod sync {
    pub use ::std::sync::*;
    pub use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

    pub use super::condvar::Condvar;

    pub mod atomic {
        pub use ::std::sync::atomic::*;
        pub use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
    }
}

pub mod thread {
    pub use ::std::thread::*;
    pub use shuttle::thread::{JoinHandle, Thread, current, park, spawn, yield_now};
}

/// How long the thread that waits with a time-out sleeps; `None` while there is none.
pub fn sleeps_for() -> Option<time::Duration> {
    condvar::SLEEPS.get()
}

mod condvar {
    //! shuttle's condition variables never time out. This one says for how long its waiter would
    //! sleep, so that a test can tell whether that is too long.

    use std::cell::Cell;
    use std::sync::LockResult;
    use std::time::Duration;

    use shuttle::sync::{Condvar as Inner, MutexGuard, WaitTimeoutResult};

    thread_local! {
        // All threads of a schedule run on one of the system's.
        pub static SLEEPS: Cell<Option<Duration>> = const { Cell::new(None) };
    }

    #[derive(Debug, Default)]
    pub struct Condvar(Inner);

    impl Condvar {
        pub fn notify_one(&self) {
            // Who is notified sleeps no more, though it may not have run yet.
            SLEEPS.set(None);
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            SLEEPS.set(None);
            self.0.notify_all();
        }

        pub fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            duration: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
            SLEEPS.set(Some(duration));
            let woken = self.0.wait_timeout(guard, duration);
            SLEEPS.set(None);
            woken
        }
    }
}
