//! How long to wait before what failed is tried again.

use std::time::Duration;

/// Behind the first failure; it doubles with each.
pub const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(RETRY)
    }
}

impl Backoff {
    /// It failed again: how long to wait now.
    pub fn failed(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(RETRY_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_second() {
        let mut backoff = Backoff::default();
        let millis = [(); 7].map(|()| backoff.failed().as_millis());
        assert_eq!(millis, [50, 100, 200, 400, 800, 1_000, 1_000]);
    }
}
