//! Replies and pushes of one connection until they are written. A message that was taken for good
//! and whose reply was not written goes back to its topic from here.

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
    /// Where each reply and push ends, for a carrier that sends each in a frame of its own.
    ends: Option<Vec<usize>>,
    /// Messages in `bytes` that go back if they are not written.
    deliveries: Vec<Delivery>,
    /// The code of the last error, if the last request was an unconfirmed put that failed.
    repeated: Option<Code>,
}

/// A taken message in the buffer.
struct Delivery {
    topic: Topic,
    message: Requeue,
    /// Where its reply ends in the buffer.
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

    /// Notes from now on where each reply and push ends.
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

    /// Notes the end of a reply, if one was written.
    fn mark(&mut self) {
        if let Some(ends) = &mut self.ends
            && ends.last().copied().unwrap_or(0) < self.bytes.len()
        {
            ends.push(self.bytes.len());
        }
    }

    /// Adds the reply to a request with this tag.
    pub fn answer<T>(&mut self, tag: Option<&[u8]>, write: impl FnOnce(Reply<'_>) -> T) -> T {
        self.repeated = None;
        let written = write(Reply::new(&mut self.bytes, tag));
        self.mark();
        written
    }

    /// Adds an error. Unconfirmed puts in a row that fail with the same code get one error.
    pub fn refuse(&mut self, error: &Error, unconfirmed_put: bool, tag: Option<&[u8]>) {
        let code = unconfirmed_put.then_some(error.code);
        if code.is_none() || code != self.repeated {
            Reply::new(&mut self.bytes, tag).error(error);
        }
        self.repeated = code;
        self.mark();
    }

    /// Puts a taken message back if the last reply, which holds it, is not written.
    pub fn requeue_unless_written(&mut self, topic: &Topic, taken: &Taken, body: &[u8]) {
        let message = Requeue { taken: taken.clone(), body: body.into(), lease: None };
        self.deliveries.push(Delivery { topic: topic.clone(), message, end: self.bytes.len() });
    }

    /// Answers a take that waited. The message goes back if it is not written, leased or not.
    pub fn reply_taken(&mut self, topic: &Topic, message: Requeue, tag: Option<&[u8]>) {
        self.answer(tag, |reply| reply.taken(&message.taken, &message.body));
        self.deliveries.push(Delivery { topic: topic.clone(), message, end: self.bytes.len() });
    }

    /// Adds pushes.
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

    /// Forgets all bytes, after this many of them were written. The rest is never written.
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
    /// Messages whose replies were never written go back.
    fn drop(&mut self) {
        self.written(0);
    }
}
