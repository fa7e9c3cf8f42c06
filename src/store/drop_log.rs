//! What a full store drops and refuses, for the log.

use std::time::Instant;

use crate::limits;

/// What a bound has cost: logged now and then, however much it is, and at the end.
#[derive(Default)]
pub struct DropLog {
    logged: Option<Instant>,
    dropped: u64,
    refused: u64,
}

impl DropLog {
    /// These too.
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
            tracing::warn!("{dropped} of the oldest messages were dropped (--max-store, --keep)");
        }
        if self.refused > 0 {
            let refused = std::mem::take(&mut self.refused);
            tracing::warn!(
                "the store is full: {refused} requests were refused (--max-store, or what it is on)"
            );
        }
    }
}

impl Drop for DropLog {
    fn drop(&mut self) {
        self.log();
    }
}
