//! Deliveries: taken messages on their way to a client. A message is requeued if its connection
//! ends before the socket has accepted the last byte of the response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use crate::broker::{Broker, Caller};
use crate::ops::{Requeue, Taken, Topic};
use crate::sync::lock;

/// A taken message. Dropped before it is written to the connection, it is requeued.
pub struct Delivery {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    message: Option<(Topic, Requeue)>,
}

impl Delivery {
    pub fn new(
        broker: Arc<Broker>,
        caller: Arc<Caller>,
        topic: Topic,
        taken: Taken,
        body: Box<[u8]>,
        lease: Option<u64>,
    ) -> Delivery {
        Delivery { broker, caller, message: Some((topic, Requeue { taken, body, lease })) }
    }

    pub fn taken(&self) -> Option<&Taken> {
        self.message.as_ref().map(|(_, message)| &message.taken)
    }

    /// The message's JSON text.
    pub fn text(&self) -> &[u8] {
        self.message.as_ref().map_or(&[], |(_, message)| &message.body)
    }

    /// Creates the response that carries the message.
    pub fn respond(self, body: Vec<u8>) -> DeliveryResponse {
        DeliveryResponse { delivery: self, body }
    }

    /// Marks the message as written, as far as the server can know.
    fn complete(&mut self) {
        self.message = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some((topic, message)) = self.message.take() {
            // Rare enough to wait for the disk here. While the server stops, no other thread is
            // left for it.
            self.broker.put_back(&self.caller, topic, message);
        }
    }
}

/// A response that carries a taken message.
pub struct DeliveryResponse {
    delivery: Delivery,
    body: Vec<u8>,
}

impl IntoResponse for DeliveryResponse {
    fn into_response(self) -> Response {
        let sent = Arc::new(AtomicBool::new(false));
        let body = TrackedBody { body: Some(self.body.into()), sent: sent.clone() };
        let mut response = Response::new(Body::new(body));
        let delivery = Arc::new(Mutex::new(Some(self.delivery)));
        response.extensions_mut().insert(PendingDelivery { delivery, sent });
        response
    }
}

/// The message of a response. It is requeued when the last clone is dropped, unless it was written.
#[derive(Clone)]
struct PendingDelivery {
    delivery: Arc<Mutex<Option<Delivery>>>,
    /// Whether hyper has received its bytes.
    sent: Arc<AtomicBool>,
}

/// The deliveries of one connection that are not flushed yet.
#[derive(Clone, Default)]
pub struct DeliveryTracker(Arc<Unflushed>);

#[derive(Default)]
struct Unflushed {
    messages: Mutex<Vec<PendingDelivery>>,
    flushes: watch::Sender<u64>,
}

impl DeliveryTracker {
    /// Holds the message of a response, if it carries one, until it is written.
    pub fn track(&self, response: &mut Response) {
        if let Some(message) = response.extensions_mut().remove::<PendingDelivery>() {
            lock(&self.0.messages).push(message);
        }
    }

    /// Records that the socket has accepted all bytes handed to hyper.
    pub fn flushed(&self) {
        lock(&self.0.messages).retain(|message| {
            let sent = message.sent.load(Ordering::Relaxed);
            if sent && let Some(delivery) = &mut *lock(&message.delivery) {
                delivery.complete();
            }
            !sent
        });
        self.0.flushes.send_modify(|flushes| *flushes += 1);
    }

    /// A counter that increases with each flush.
    pub fn flushes(&self) -> watch::Receiver<u64> {
        self.0.flushes.subscribe()
    }
}

struct TrackedBody {
    body: Option<Bytes>,
    sent: Arc<AtomicBool>,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.store(true, Ordering::Relaxed);
        Poll::Ready(self.body.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
