//! The JSON protocol's [`ProtocolHandler`]: scans requests, carries them out in order, and collects
//! replies and pushes.

mod wait;

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use self::wait::{Wait, WaitKind};
use super::fault::{Fault, fault_error};
use super::pipeline::Pipeline;
use super::reply_buffer::ReplyBuffer;
use super::request::{self, Request, RequestText};
use super::scanner::{Scan, Scanner};
use crate::broker::{Broker, Caller, Session, look_again};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::Topic;
use crate::protocol::handler::{Next, ProtocolHandler};

/// The handler of one connection.
pub struct JsonHandler {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    session: Session,
    /// Woken when the broker has a message for this connection.
    waker: Waker,
    max_message: usize,
    scanner: Scanner,
    last_topic: Option<Topic>,
    pipeline: Pipeline,
    replies: ReplyBuffer,
    waiting: Option<Wait>,
}

impl JsonHandler {
    pub fn new(
        broker: Arc<Broker>,
        caller: Arc<Caller>,
        session: Session,
        max_message: usize,
        waker: Waker,
    ) -> JsonHandler {
        JsonHandler {
            pipeline: Pipeline::new(broker.clone(), caller.clone()),
            replies: ReplyBuffer::new(broker.clone(), caller.clone()),
            broker,
            caller,
            session,
            waker,
            max_message,
            scanner: Scanner::new(max_message),
            last_topic: None,
            waiting: None,
        }
    }

    /// Prepares the handler for a transport of frames; see [`JsonHandler::frames`] and
    /// [`JsonHandler::end_frame`].
    #[cfg(feature = "http")]
    pub fn in_frames(mut self) -> JsonHandler {
        self.replies.split_frames();
        self
    }

    /// Carries out the batch; returns false if its replies must be written before the rest.
    fn commit(&mut self) -> bool {
        self.pipeline.commit(&mut self.replies)
    }

    /// Carries out one request. Returns a `Next` if the following request cannot start now.
    fn advance_one(&mut self, unread: &[u8]) -> (usize, Option<Next>) {
        let blank = if self.scanner.is_idle() { blank_len(unread) } else { 0 };
        let text = unread.get(blank..).unwrap_or_default();
        match self.scanner.scan(text) {
            Ok(Scan::More) if self.scanner.is_skipping() => (unread.len(), Some(Next::Read)),
            Ok(Scan::More) => (blank, Some(Next::Read)),
            Ok(Scan::Done(len)) => {
                let done = self.request(text.get(..len).unwrap_or_default());
                self.scanner.reset();
                // A request that cannot start before the batch is committed is scanned again.
                done.map_or((blank, Some(Next::Write)), |next| (blank + len, next))
            }
            Err(_) if !self.commit() => (blank, Some(Next::Write)),
            Err(fault) => self.fault(&fault, blank, text),
        }
    }

    /// Carries out a request; `None` if pending replies must be written first.
    fn request(&mut self, text: &[u8]) -> Option<Option<Next>> {
        if self.scanner.is_skipping() {
            return Some(None);
        }
        // The copy ends the borrow of `self.scanner`, so that the request can change `self`.
        let fields = self.scanner.fields().clone();
        let text = RequestText::new(text, &fields);
        let tag = text.tag().unwrap_or_default();
        let request = text
            .tag()
            .and_then(|_| text.check_size(self.max_message))
            .and_then(|()| Request::decode(text));
        if !request.as_ref().is_ok_and(Request::is_batched) && !self.commit() {
            return None;
        }
        match request.and_then(|request| self.carry_out(request, tag)) {
            Ok(next) => Some(next),
            Err(_) if !self.commit() => None,
            Err(error) => {
                self.replies.refuse(&error, text.is_unconfirmed_put(), tag);
                Some(None)
            }
        }
    }

    fn carry_out(&mut self, request: Request<'_>, tag: Option<&[u8]>) -> Result<Option<Next>> {
        match request {
            Request::Put { topic, message, options, confirm } => {
                let topic = self.topic(&topic)?;
                self.pipeline.put(topic, message, options, confirm, tag);
            }
            Request::Take { topic, lease, wait } => return self.take(&topic, lease, wait, tag),
            Request::Get { topic, latest, since, wait, meta } => {
                return self.get(&topic, latest, since, wait, meta, tag);
            }
            Request::Op(op) => self.pipeline.add(op, tag),
            other => self.answer_alone(other, tag)?,
        }
        Ok(None)
    }

    /// Carries out a request outside the pipeline. The batch before it has been committed.
    fn answer_alone(&mut self, request: Request<'_>, tag: Option<&[u8]>) -> Result<()> {
        match request {
            Request::Subscribe { patterns, from, meta } => {
                let now = self.broker.subscribe(
                    &self.caller,
                    &mut self.session,
                    patterns,
                    from,
                    &self.waker,
                )?;
                self.replies.answer(tag, |reply| if meta { reply.since(now) } else { reply.ok() });
            }
            Request::Unsubscribe { patterns } => {
                for pattern in &patterns {
                    self.broker.unsubscribe(&self.caller, &mut self.session, pattern);
                }
                self.replies.answer(tag, |reply| reply.ok());
            }
            Request::Ping { meta: true } => {
                let since = self.session.since();
                self.replies.answer(tag, |reply| reply.since(since));
            }
            Request::Shutdown => {
                self.broker.shutdown(&self.caller)?;
                self.replies.answer(tag, |reply| reply.ok());
            }
            other => {
                let (broker, caller) = (&self.broker, &self.caller);
                self.replies.answer(tag, |reply| request::query(broker, caller, &other, reply))?;
            }
        }
        Ok(())
    }

    /// Returns the topic, reusing the last one for consecutive requests.
    fn topic(&mut self, name: &str) -> Result<Topic> {
        match &self.last_topic {
            Some(last) if last.as_str() == name => Ok(last.clone()),
            _ => {
                let topic = Topic::new(name)?;
                self.last_topic = Some(topic.clone());
                Ok(topic)
            }
        }
    }

    /// Replies to text that is not a valid request; skips the rest of the request or closes the
    /// connection.
    fn fault(&mut self, fault: &Fault, blank: usize, text: &[u8]) -> (usize, Option<Next>) {
        let error = fault_error(fault, self.max_message);
        let tag = self.partial_tag(text);
        self.replies.refuse(&error, false, tag.as_deref());
        if matches!(fault, Fault::NotJson { .. } | Fault::NotUtf8 { .. }) {
            return (blank + text.len(), Some(Next::Close));
        }
        (blank + self.scanner.skip(), None)
    }

    /// The tag of an unfinished request, if the scanner has passed it.
    fn partial_tag(&self, text: &[u8]) -> Option<Box<[u8]>> {
        if self.scanner.is_skipping() {
            return None;
        }
        let tag = RequestText::new(text, self.scanner.fields()).tag();
        tag.unwrap_or_default().map(Box::from)
    }

    /// Ends a frame after `unread`: the next frame must start a new request.
    #[cfg(feature = "http")]
    pub fn end_frame(&mut self, unread: &[u8]) -> Next {
        if self.scanner.is_idle() {
            return Next::Read;
        }
        if self.scanner.is_skipping() {
            // The skipped request already has its error reply.
            self.scanner.reset();
            return Next::Read;
        }
        let text = "the frame ends inside a request: send each request in one frame; the connection is closed";
        let tag = self.partial_tag(unread);
        self.replies.refuse(&Error::new(Code::BadJson, text), false, tag.as_deref());
        self.scanner.reset();
        Next::Close
    }

    /// The replies to write, one per frame.
    #[cfg(feature = "http")]
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.replies.frames()
    }
}

impl ProtocolHandler for JsonHandler {
    fn advance(&mut self, unread: &[u8]) -> (usize, Next) {
        let mut done = 0;
        if !self.commit() {
            return (done, Next::Write);
        }
        loop {
            let rest = unread.get(done..).unwrap_or_default();
            let (used, next) = self.advance_one(rest);
            done += used;
            let next = match next {
                None if self.replies.len() < limits::REPLY_BYTES => continue,
                None => Next::Write,
                Some(next) => next,
            };
            return (done, if self.commit() { next } else { Next::Write });
        }
    }

    fn is_subscribed(&self) -> bool {
        self.session.is_subscribed()
    }

    fn push(&mut self) -> bool {
        while self.is_subscribed() && self.replies.len() < limits::REPLY_BYTES {
            match self.broker.pushes(&self.caller, &mut self.session) {
                Ok(Some(pushes)) => self.replies.push(&pushes),
                Ok(None) => return false,
                Err(error) => {
                    self.replies.answer(None, |reply| reply.error(&error));
                    return false;
                }
            }
        }
        self.is_subscribed()
    }

    fn end(&mut self, unread: &[u8]) {
        if self.scanner.is_idle() {
            return;
        }
        let error = self.broker.check_open(&self.caller).err().unwrap_or_else(|| {
            Error::new(Code::BadJson, "the connection ended inside a request: send it completely")
        });
        let tag = self.partial_tag(unread);
        self.replies.refuse(&error, false, tag.as_deref());
        self.scanner.reset();
    }

    fn replies(&self) -> &[u8] {
        self.replies.bytes()
    }

    fn written(&mut self, bytes: usize) {
        self.replies.written(bytes);
    }

    fn is_bulky(&self) -> bool {
        self.pipeline.is_bulky() || self.replies.is_bulky() || self.session.is_bulky()
    }

    fn shrink(&mut self) {
        self.pipeline.shrink();
        self.replies.shrink();
        self.session.shrink();
    }

    fn retry(&mut self) -> Option<Instant> {
        let mut wait = self.waiting.take()?;
        let tag = wait.tag.as_deref();
        let answered = match &mut wait.kind {
            WaitKind::Get { topic, latest, meta, .. } => {
                let result = self.try_get(topic.as_str(), *latest, None, *meta, tag);
                if let Err(error) = &result
                    && let Some(retry_at) = look_again(error, wait.deadline)
                    && self.broker.check_open(&self.caller).is_ok()
                {
                    self.waiting = Some(wait);
                    return Some(retry_at);
                }
                result
            }
            WaitKind::Take(taker) => match taker.handed() {
                Some(message) => message.map(|message| {
                    self.replies.reply_taken(taker.topic(), message, tag);
                    true
                }),
                None => Ok(false),
            },
        };
        let answered = answered.and_then(|done| {
            if done { Ok(true) } else { self.broker.check_open(&self.caller).map(|()| false) }
        });
        let error = match answered {
            Ok(true) => return None,
            Ok(false) if Instant::now() < wait.deadline => {
                return Some(self.waiting.insert(wait).deadline);
            }
            Ok(false) => None,
            Err(error) => Some(error),
        };
        self.end_wait(wait, error.as_ref());
        None
    }

    /// Ends a waiting take with an empty reply, so that its message goes to the next taker. A get
    /// takes nothing from others and keeps waiting unless the peer is gone.
    fn peer_ended(&mut self, gone: bool) {
        match self.waiting.take() {
            Some(Wait { kind: WaitKind::Take(taker), tag, .. }) => {
                self.broker.give_up(&self.caller, taker);
                self.replies.answer(tag.as_deref(), |reply| reply.nothing(true));
            }
            Some(Wait { tag, .. }) if gone => {
                self.replies.answer(tag.as_deref(), |reply| reply.nothing(true));
            }
            other => self.waiting = other,
        }
    }

    fn refuse_wait(&mut self) {
        if let Some(wait) = self.waiting.take() {
            let text = "the server has no file descriptor left to wait with: try again later";
            self.end_wait(wait, Some(&Error::new(Code::Busy, text)));
        }
    }
}

fn blank_len(text: &[u8]) -> usize {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    text.iter().position(|byte| !blank(byte)).unwrap_or(text.len())
}
