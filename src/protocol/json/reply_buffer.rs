//! The unwritten replies and pushes of one connection. A taken message without a lease whose reply
//! is not written returns to its topic from here.

use std::sync::Arc;

use super::reply::{self, Reply};
use crate::broker::{Broker, Caller, Pushes};
use crate::error::{Code, Error};
use crate::limits;
use crate::ops::{Encoding, Requeue, Taken, Topic};

pub struct ReplyBuffer {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    bytes: Vec<u8>,
    /// The end of each reply and push, for a transport that sends each in its own frame.
    ends: Option<Vec<usize>>,
    /// Taken messages in `bytes`, which are requeued if they are not written.
    deliveries: Vec<Delivery>,
    /// The code of the last error if the last request was a failed unconfirmed put.
    repeated: Option<Code>,
}

/// A taken message whose reply is in the buffer.
struct Delivery {
    topic: Topic,
    message: Requeue,
    /// The end of its reply in the buffer.
    end: usize,
}

impl ReplyBuffer {
    pub fn new(broker: Arc<Broker>, caller: Arc<Caller>) -> ReplyBuffer {
        ReplyBuffer {
            broker,
            caller,
            bytes: Vec::new(),
            ends: None,
            deliveries: Vec::new(),
            repeated: None,
        }
    }

    /// Records the end of each reply and push from now on.
    #[cfg(feature = "http")]
    pub fn split_frames(&mut self) {
        self.ends = Some(Vec::new());
    }

    /// The replies and pushes one by one, after [`ReplyBuffer::split_frames`].
    #[cfg(feature = "http")]
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.as_deref().unwrap_or_default();
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }

    /// Records the end of a reply if one was written.
    fn mark(&mut self) {
        if let Some(ends) = &mut self.ends
            && ends.last().copied().unwrap_or(0) < self.bytes.len()
        {
            ends.push(self.bytes.len());
        }
    }

    /// Appends the reply to a request with this tag.
    pub fn answer<T>(&mut self, tag: Option<&[u8]>, write: impl FnOnce(Reply<'_>) -> T) -> T {
        self.repeated = None;
        let written = write(Reply::new(&mut self.bytes, tag));
        self.mark();
        written
    }

    /// Appends an error. Consecutive unconfirmed puts that fail with the same code share one error.
    pub fn refuse(&mut self, error: &Error, unconfirmed_put: bool, tag: Option<&[u8]>) {
        let code = unconfirmed_put.then_some(error.code);
        if code.is_none() || code != self.repeated {
            Reply::new(&mut self.bytes, tag).error(error);
        }
        self.repeated = code;
        self.mark();
    }

    /// Requeues the taken message if the last reply, which holds it, is not written.
    pub fn requeue_unless_written(&mut self, topic: &Topic, taken: &Taken, body: &[u8]) {
        let message = Requeue { taken: taken.clone(), body: body.into(), lease: None };
        self.deliveries.push(Delivery { topic: topic.clone(), message, end: self.bytes.len() });
    }

    /// Appends the reply to a take that waited. The message is requeued if it is not written, with
    /// or without a lease.
    pub fn reply_taken(&mut self, topic: &Topic, message: Requeue, tag: Option<&[u8]>) {
        self.answer(tag, |reply| reply.taken(&message.taken, &message.body));
        self.deliveries.push(Delivery { topic: topic.clone(), message, end: self.bytes.len() });
    }

    pub fn push(&mut self, pushes: &Pushes) {
        let encoded =
            pushes.chunk.encoded(Encoding::Push, |chunk| reply::pushes(&pushes.topic, chunk));
        if let Some(ends) = &mut self.ends {
            let before = self.bytes.len();
            ends.extend(encoded.ends_in(&pushes.range).map(|end| before + end));
        }
        self.bytes.extend_from_slice(encoded.part(&pushes.range));
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Clears the buffer after its first `bytes` bytes were written; the rest is never written.
    pub fn written(&mut self, bytes: usize) {
        let all = bytes >= self.bytes.len();
        for deliveries in
            self.deliveries.drain(..).filter(|deliveries| !all && deliveries.end > bytes)
        {
            self.broker.put_back(&self.caller, deliveries.topic, deliveries.message);
        }
        self.bytes.clear();
        if let Some(ends) = &mut self.ends {
            ends.clear();
            ends.shrink_to(limits::REPLY_BYTES / size_of::<usize>());
        }
        if self.bytes.capacity() > 2 * limits::REPLY_BYTES {
            self.bytes.shrink_to(limits::REPLY_BYTES);
        }
    }

    pub fn is_bulky(&self) -> bool {
        self.bytes.capacity() > limits::BUFFER_BYTES
    }

    pub fn shrink(&mut self) {
        self.bytes = Vec::new();
        self.ends = self.ends.take().map(|_| Vec::new());
    }
}

impl Drop for ReplyBuffer {
    /// Requeues messages whose replies were not written.
    fn drop(&mut self) {
        self.written(0);
    }
}
