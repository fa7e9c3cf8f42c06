//! Log lines about messages that a full store drops and requests that it refuses.

use std::time::Instant;

use crate::limits;

/// Counts dropped messages and refused requests, and logs them at most once in
/// [`limits::DROPS_LOGGED`], and at the end.
#[derive(Default)]
pub struct DropLog {
    logged: Option<Instant>,
    dropped: u64,
    refused: u64,
}

impl DropLog {
    /// Adds to the counts, and logs them if the last line is old enough.
    pub fn add(&mut self, dropped: u64, refused: u64) {
        self.dropped += dropped;
        self.refused += refused;
        let now = Instant::now();
        if self.logged.is_none_or(|at| now - at >= limits::DROPS_LOGGED) {
            self.log();
            self.logged = Some(now);
        }
    }

    fn log(&mut self) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            tracing::warn!(
                "dropped the {dropped} oldest messages to stay within --max-store or --keep"
            );
        }
        if self.refused > 0 {
            let refused = std::mem::take(&mut self.refused);
            tracing::warn!(
                "the store is full: refused {refused} requests (raise --max-store or free disk space)"
            );
        }
    }
}

impl Drop for DropLog {
    fn drop(&mut self) {
        self.log();
    }
}
