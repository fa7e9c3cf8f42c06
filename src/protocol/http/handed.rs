//! A message that was taken and is on its way to its taker.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::broker::Broker;
use crate::message::Topic;
use crate::store::{Returned, Taken};

/// A message in the hands of a taker. Dropped before it is written to the connection, it goes back:
/// whoever asked for it is gone.
pub struct Handed {
    broker: Arc<Broker>,
    message: Option<(Topic, Returned)>,
}

impl Handed {
    pub fn new(
        broker: Arc<Broker>,
        topic: Topic,
        taken: Taken,
        body: Box<[u8]>,
        lease: Option<u64>,
    ) -> Handed {
        Handed { broker, message: Some((topic, Returned { taken, body, lease })) }
    }

    pub fn taken(&self) -> Option<&Taken> {
        self.message.as_ref().map(|(_, message)| &message.taken)
    }

    /// The message's JSON text.
    pub fn text(&self) -> &[u8] {
        self.message.as_ref().map_or(&[], |(_, message)| &message.body)
    }

    /// A response's body, with which the message reaches its taker.
    pub fn deliver(self, body: Vec<u8>) -> Body {
        Body::new(Delivery { handed: self, body: Some(body.into()) })
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some((topic, message)) = self.message.take() {
            // Seldom enough to wait for a disk here; and when the server stops, no other thread would.
            self.broker.put_back(topic, message);
        }
    }
}

struct Delivery {
    handed: Handed,
    body: Option<Bytes>,
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.handed.message = None;
        Poll::Ready(self.body.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
