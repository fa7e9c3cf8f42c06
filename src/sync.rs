//! The one way to take a lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock's content, also after a thread panicked with it: what it guards is consistent between
/// any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
