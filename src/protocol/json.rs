//! The JSON protocol, the reference: docs/protocol.md is its contract.
//!
//! A [`Conversation`] is one connection's talk without its socket: unread bytes in, replies out,
//! and a word to the caller on how to go on.

mod reply;
mod request;
mod scanner;
mod string;

#[cfg(any(test, fuzzing))]
pub mod check;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use self::request::{Request, Text};
use self::scanner::{Fault, Scan, Scanner};
use crate::broker::{Broker, Session, Watch};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::{Id, Topic};
use crate::store::PutBatch;

/// What the caller is to do next, after it has written what [`Conversation::replies`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read more, and come back with it behind what is still unread.
    Read,
    /// Come back at once: there was enough to write.
    Write,
    /// Sleep until a message may be there, then [`Conversation::retry`].
    Wait,
    /// Close the connection.
    Close,
}

/// One connection's talk.
pub struct Conversation {
    broker: Arc<Broker>,
    session: Session,
    max_message: usize,
    scanner: Scanner,
    batch: PutBatch,
    /// One for each put of the batch.
    batched: Vec<Batched>,
    last_topic: Option<Topic>,
    out: Vec<u8>,
    waiting: Option<Waiting>,
    /// The error of the unconfirmed put before this request, said already.
    said: Option<Code>,
}

/// How a put of the batch is answered.
struct Batched {
    confirm: bool,
    tag: Option<Box<[u8]>>,
}

/// A get for which there was nothing yet.
struct Waiting {
    topic: Topic,
    latest: bool,
    meta: bool,
    tag: Option<Box<[u8]>>,
    deadline: Instant,
}

impl Conversation {
    /// `session` began when the connection was accepted.
    pub fn new(broker: Arc<Broker>, session: Session, max_message: usize) -> Conversation {
        Conversation {
            broker,
            session,
            max_message,
            scanner: Scanner::new(max_message),
            batch: PutBatch::default(),
            batched: Vec::new(),
            last_topic: None,
            out: Vec::new(),
            waiting: None,
            said: None,
        }
    }

    /// Carries out the requests in `unread`, and returns how many of its bytes are done with.
    pub fn advance(&mut self, unread: &[u8]) -> (usize, Step) {
        let mut done = 0;
        loop {
            let rest = unread.get(done..).unwrap_or_default();
            let (used, step) = self.advance_one(rest);
            done += used;
            match step {
                None if self.out.len() < limits::REPLY_BYTES => {}
                None => {
                    self.commit();
                    return (done, Step::Write);
                }
                Some(step) => {
                    self.commit();
                    return (done, step);
                }
            }
        }
    }

    /// Carries out one request. The step is given where the next cannot be begun.
    fn advance_one(&mut self, unread: &[u8]) -> (usize, Option<Step>) {
        let blank = if self.scanner.is_idle() { white_space(unread) } else { 0 };
        let text = unread.get(blank..).unwrap_or_default();
        match self.scanner.scan(text) {
            Ok(Scan::More) if self.scanner.is_skipping() => (unread.len(), Some(Step::Read)),
            Ok(Scan::More) => (blank, Some(Step::Read)),
            Ok(Scan::Done(len)) => {
                let step = self.request(text.get(..len).unwrap_or_default());
                self.scanner.reset();
                (blank + len, step)
            }
            Err(fault) => self.fault(&fault, blank, text),
        }
    }

    fn request(&mut self, text: &[u8]) -> Option<Step> {
        if self.scanner.is_skipping() {
            return None;
        }
        // The fields are copied: the request borrows them while it changes the rest of us.
        let fields = self.scanner.fields().clone();
        let text = Text::new(text, &fields);
        let tag = text.tag().unwrap_or_default();
        let request = text.tag().and_then(|_| text.decode(self.max_message));
        match request.and_then(|request| self.carry_out(request, tag)) {
            Ok(step) => step,
            Err(error) => {
                self.commit();
                self.refuse(&error, text.is_unconfirmed_put(), tag);
                None
            }
        }
    }

    fn carry_out(&mut self, request: Request<'_>, tag: Option<&[u8]>) -> Result<Option<Step>> {
        match request {
            Request::Put { topic, message, confirm } => {
                let topic = self.topic(&topic)?;
                self.batch.push(topic, message);
                self.batched.push(Batched { confirm, tag: tag.map(Box::from) });
                Ok(None)
            }
            Request::Get { topic, latest, since, wait, meta } => {
                self.commit();
                if self.get(&topic, latest, since, meta, tag)? {
                    return Ok(None);
                }
                if wait.is_zero() {
                    self.answer(|out| reply::no_message(out, meta, tag));
                    return Ok(None);
                }
                self.wait_for(&topic, latest, meta, tag, wait)?;
                Ok(Some(Step::Wait))
            }
            Request::Ping { meta } => {
                self.commit();
                let since = meta.then(|| self.session.start());
                self.answer(|out| reply::pong(out, since, tag));
                Ok(None)
            }
        }
    }

    /// The topic, without making it again for each of a row of puts.
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

    /// Answers with the next message, if there is one.
    fn get(
        &mut self,
        topic: &str,
        latest: bool,
        since: Option<Id>,
        meta: bool,
        tag: Option<&[u8]>,
    ) -> Result<bool> {
        let message = if latest {
            self.broker.get_latest(&mut self.session, topic, since)?
        } else {
            self.broker.get(&mut self.session, topic, since)?
        };
        let Some(message) = message else { return Ok(false) };
        self.said = None;
        reply::message(&mut self.out, message, meta, tag);
        Ok(true)
    }

    fn wait_for(
        &mut self,
        topic: &str,
        latest: bool,
        meta: bool,
        tag: Option<&[u8]>,
        wait: Duration,
    ) -> Result<()> {
        let topic = Topic::new(topic)?;
        let tag = tag.map(Box::from);
        let deadline = Instant::now() + wait;
        self.waiting = Some(Waiting { topic, latest, meta, tag, deadline });
        Ok(())
    }

    /// While the step is [`Step::Wait`]: has `waker` woken whenever a retry may succeed.
    pub fn watch<'a>(&self, broker: &'a Broker, waker: Waker) -> Option<Watch<'a>> {
        let waiting = self.waiting.as_ref()?;
        Some(broker.watch(waiting.topic.clone(), waker))
    }

    /// While the step is [`Step::Wait`]: `None` once there is a reply, else when to give up.
    pub fn retry(&mut self) -> Option<Instant> {
        let waiting = self.waiting.take()?;
        let tag = waiting.tag.as_deref();
        let got = self.get(waiting.topic.as_str(), waiting.latest, None, waiting.meta, tag);
        match got
            .and_then(|got| if got { Ok(true) } else { self.broker.check_open().map(|()| false) })
        {
            Ok(true) => None,
            Ok(false) if Instant::now() >= waiting.deadline => {
                self.answer(|out| reply::no_message(out, waiting.meta, tag));
                None
            }
            Ok(false) => {
                let deadline = waiting.deadline;
                self.waiting = Some(waiting);
                Some(deadline)
            }
            Err(error) => {
                self.answer(|out| reply::error(out, &error, tag));
                None
            }
        }
    }

    /// Stores the puts that have gathered, and writes their replies.
    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.broker.put(&mut self.batch);
        for (put, outcome) in self.batched.drain(..).zip(self.batch.outcomes()) {
            let tag = put.tag.as_deref();
            match outcome {
                Ok(id) => {
                    self.said = None;
                    if put.confirm {
                        reply::stored(&mut self.out, *id, tag);
                    }
                }
                Err(error) if put.confirm => reply::error(&mut self.out, error, tag),
                Err(error) => say_once(&mut self.said, &mut self.out, error, tag),
            }
        }
        self.batch.clear(limits::READ_BYTES);
    }

    fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.said = None;
        write(&mut self.out);
    }

    fn refuse(&mut self, error: &Error, unconfirmed_put: bool, tag: Option<&[u8]>) {
        if unconfirmed_put {
            say_once(&mut self.said, &mut self.out, error, tag);
        } else {
            self.answer(|out| reply::error(out, error, tag));
        }
    }

    /// Answers text that cannot become a request, or not one that is within the limits.
    fn fault(&mut self, fault: &Fault, blank: usize, text: &[u8]) -> (usize, Option<Step>) {
        self.commit();
        let error = fault_error(fault, self.max_message);
        let tag = match self.scanner.is_skipping() {
            true => None,
            false => Text::new(text, self.scanner.fields()).tag().unwrap_or_default(),
        };
        reply::error(&mut self.out, &error, tag);
        self.said = None;
        if matches!(fault, Fault::NotJson { .. } | Fault::NotUtf8 { .. }) {
            return (blank + text.len(), Some(Step::Close));
        }
        (blank + self.scanner.skip(), None)
    }

    /// The peer has ended its side: nothing more will come behind what was left unread.
    pub fn end(&mut self) {
        if self.scanner.is_idle() {
            return;
        }
        let error = self.broker.check_open().err().unwrap_or_else(|| {
            Error::new(Code::BadJson, "the connection ended inside a request: send all of it")
        });
        self.answer(|out| reply::error(out, &error, None));
    }

    /// What is to be written. The caller clears it.
    pub fn replies(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether memory is held that an idle connection does not need.
    pub fn is_bulky(&self) -> bool {
        self.out.capacity() > limits::BUFFER_BYTES
            || self.batch.capacity() > limits::BUFFER_BYTES
            || self.session.is_bulky()
    }

    /// Gives back the memory that an idle connection does not need.
    pub fn shrink(&mut self) {
        self.out = Vec::new();
        self.batch = PutBatch::default();
        self.batched = Vec::new();
        self.session.shrink();
    }
}

/// An error as a reply by itself, for a connection that has no conversation.
pub fn error_reply(error: &Error) -> Vec<u8> {
    let mut out = Vec::new();
    reply::error(&mut out, error, None);
    out
}

/// A run of unconfirmed puts that fail for one reason gets one error.
fn say_once(said: &mut Option<Code>, out: &mut Vec<u8>, error: &Error, tag: Option<&[u8]>) {
    if *said != Some(error.code) {
        *said = Some(error.code);
        reply::error(out, error, tag);
    }
}

fn fault_error(fault: &Fault, max_message: usize) -> Error {
    match fault {
        Fault::NotJson { at, expected } => {
            let text = format!(
                "this is no JSON request: at its byte {at} there must be {expected}; \
                 the connection is closed"
            );
            Error::new(Code::BadJson, text)
        }
        Fault::NotUtf8 { at } => {
            let text = format!(
                "this is no UTF-8: byte {at} of the request is part of no character; \
                 the connection is closed"
            );
            Error::new(Code::BadUtf8, text)
        }
        Fault::TooDeep => {
            let text =
                format!("nested too deep: a message has at most {} levels", limits::DEPTH_LEVELS);
            Error::new(Code::TooDeep, text)
        }
        Fault::FieldTooLarge => request::message_too_large(max_message),
        Fault::RequestTooLarge => {
            let text = format!(
                "the request is too large: beside its message it has at most {} bytes",
                limits::REQUEST_OVERHEAD_BYTES
            );
            Error::new(Code::RequestTooLarge, text)
        }
    }
}

fn white_space(text: &[u8]) -> usize {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    text.iter().position(|byte| !blank(byte)).unwrap_or(text.len())
}
