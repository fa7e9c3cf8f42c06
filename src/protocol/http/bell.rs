//! What a handler waits for: the broker rings, and it looks again.

use std::sync::Arc;
use std::task::{Wake, Waker};

use tokio::sync::Notify;

/// Rung before anybody waits, it is not forgotten; rung twice, it counts once.
#[derive(Default)]
pub struct Bell(Notify);

impl Bell {
    pub fn new() -> Arc<Bell> {
        Arc::default()
    }

    pub fn waker(self: &Arc<Bell>) -> Waker {
        Waker::from(self.clone())
    }

    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        self.0.notify_one();
    }
}
