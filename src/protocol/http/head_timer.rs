//! How long a connection may take to say what it wants: from the first byte of a request to the end
//! of its header, and from one request to the next.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::rt::{Sleep, Timer};

use crate::limits;

/// How often something has arrived on a connection.
pub type Arrivals = Arc<AtomicU64>;

/// A connection's timer, which hyper asks for one thing: how long to wait for a header.
///
/// hyper knows one duration for that, and counts it from the end of the request before. Here it is
/// [`limits::HTTP_IDLE`], until something has arrived, and [`limits::HTTP_HEADER`] from then on.
pub struct HeadTimer(pub Arrivals);

impl Timer for HeadTimer {
    fn sleep(&self, _: std::time::Duration) -> Pin<Box<dyn Sleep>> {
        let seen = self.0.load(Ordering::Relaxed);
        let sleep = Box::pin(tokio::time::sleep(limits::HTTP_IDLE));
        Box::pin(HeadSleep { arrivals: self.0.clone(), seen: Some(seen), sleep })
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(limits::HTTP_IDLE)
    }
}

struct HeadSleep {
    arrivals: Arrivals,
    /// How much had arrived when it began; `None` once there was more.
    seen: Option<u64>,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    /// hyper polls it whenever it has read and has no whole header.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.seen.is_some_and(|seen| seen != self.arrivals.load(Ordering::Relaxed)) {
            self.seen = None;
            self.sleep.as_mut().reset(tokio::time::Instant::now() + limits::HTTP_HEADER);
        }
        self.sleep.as_mut().poll(cx)
    }
}
