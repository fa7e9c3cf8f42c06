//! A message that was taken and is on its way to its taker. Until the socket has had its last byte, it
//! goes back if the connection ends.

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

/// A message in the hands of a taker. Dropped before it is written to the connection, it goes back:
/// whoever asked for it is gone.
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

    /// A response with which the message reaches its taker.
    pub fn respond(self, body: Vec<u8>) -> DeliveryResponse {
        DeliveryResponse { delivery: self, body }
    }

    /// It has reached its taker, as far as that can be known here.
    fn complete(&mut self) {
        self.message = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some((topic, message)) = self.message.take() {
            // Seldom enough to wait for a disk here; and when the server stops, no other thread would.
            self.broker.put_back(&self.caller, topic, message);
        }
    }
}

/// A response with a message in it.
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

/// The message of a response: whoever holds the last of these decides what becomes of it.
#[derive(Clone)]
struct PendingDelivery {
    delivery: Arc<Mutex<Option<Delivery>>>,
    /// Whether its bytes have gone towards the socket.
    sent: Arc<AtomicBool>,
}

/// What is on its way over one connection.
#[derive(Clone, Default)]
pub struct DeliveryTracker(Arc<Unflushed>);

#[derive(Default)]
struct Unflushed {
    messages: Mutex<Vec<PendingDelivery>>,
    flushes: watch::Sender<u64>,
}

impl DeliveryTracker {
    /// Keeps the message of a response, if there is one, until it is written.
    pub fn track(&self, response: &mut Response) {
        if let Some(message) = response.extensions_mut().remove::<PendingDelivery>() {
            lock(&self.0.messages).push(message);
        }
    }

    /// The socket has had all that went towards it.
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

    /// Counts up whenever the socket has had all that was given to be written.
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
