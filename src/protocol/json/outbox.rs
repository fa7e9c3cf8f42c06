//! The way out of a conversation: requests that change the store gather here until they are
//! carried out together; their replies, and pushes, gather until they are written. A message that
//! was taken for good and could not be written goes back from here.

use std::sync::Arc;

use super::reply::{self, Reply};
use crate::broker::{Broker, Pushes};
use crate::error::{Code, Error};
use crate::limits;
use crate::ops::{Batch, Form, Op, Outcome, Policy, PutOptions, Returned, Taken, Topic};

pub struct Outbox {
    broker: Arc<Broker>,
    batch: Batch,
    /// One for each operation of the batch.
    asked: Vec<Asked>,
    bytes: Vec<u8>,
    /// Where each reply and push ends, if anyone asks for them one by one.
    ends: Option<Vec<usize>>,
    /// Messages in `bytes` that go back if they cannot be written.
    handed: Vec<Handed>,
    /// The error of the unconfirmed put before this request, said already.
    said: Option<Code>,
}

/// A request that is carried out with the batch.
struct Asked {
    answer: Answer,
    tag: Option<Box<[u8]>>,
}

/// How an operation that went well is answered, where its outcome does not tell.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A put that asked for no reply, and one that did.
    Silence,
    Confirm,
    Take,
    Ok,
    State(bool),
    Policy(Policy),
}

impl Answer {
    pub fn write(self, reply: Reply<'_>, batch: &Batch, outcome: &Outcome) {
        match (outcome, self) {
            // What is done later has no outcome yet.
            (_, Answer::Silence) | (Outcome::Later, _) => {}
            (Outcome::Stored { id, duplicate, .. }, _) => reply.stored(*id, *duplicate),
            (Outcome::Due { at, duplicate }, _) => reply.due(*at, *duplicate),
            (Outcome::Taken(None) | Outcome::Peeked(None), _) => reply.nothing(true),
            (Outcome::Taken(Some(taken)), _) => reply.taken(taken, batch.taken_body(taken)),
            (Outcome::Peeked(Some((peeked, looks))), _) => {
                reply.peeked(peeked, batch.taken_body(peeked), *looks);
            }
            (Outcome::Deleted(deleted), _) => reply.deleted(*deleted),
            (Outcome::Purged(purged), _) => reply.purged(*purged),
            (Outcome::Done, Answer::State(stopped)) => reply.state(stopped),
            (Outcome::Done, Answer::Policy(policy)) => reply.policy(Some(policy)),
            (Outcome::Done, _) => reply.ok(),
        }
    }
}

/// A taken message on its way.
struct Handed {
    topic: Topic,
    message: Returned,
    /// Where its reply ends in the bytes to be written.
    end: usize,
}

impl Outbox {
    pub fn new(broker: Arc<Broker>) -> Outbox {
        Outbox {
            broker,
            batch: Batch::default(),
            asked: Vec::new(),
            bytes: Vec::new(),
            ends: None,
            handed: Vec::new(),
            said: None,
        }
    }

    /// Keeps them apart from now on.
    #[cfg(feature = "http")]
    pub fn keep_apart(&mut self) {
        self.ends = Some(Vec::new());
    }

    /// The replies and pushes one by one, if they are kept apart.
    #[cfg(feature = "http")]
    pub fn apart(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.as_deref().unwrap_or_default();
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }

    /// A reply ends here, if one was written.
    fn mark(&mut self) {
        if let Some(ends) = &mut self.ends
            && ends.last().copied().unwrap_or(0) < self.bytes.len()
        {
            ends.push(self.bytes.len());
        }
    }

    pub fn put(
        &mut self,
        topic: Topic,
        message: &[u8],
        options: Option<Box<PutOptions>>,
        confirm: bool,
        tag: Option<&[u8]>,
    ) {
        self.batch.put(topic, message, options);
        if confirm {
            self.batch.confirm();
        }
        let answer = if confirm { Answer::Confirm } else { Answer::Silence };
        self.asked.push(Asked { answer, tag: tag.map(Box::from) });
    }

    /// Adds an operation to those that are carried out together.
    pub fn add(&mut self, op: Op, answer: Answer, tag: Option<&[u8]>) {
        self.batch.ops.push(op);
        self.asked.push(Asked { answer, tag: tag.map(Box::from) });
    }

    /// Carries out what has gathered, and writes the replies; false if it took so much that the
    /// replies must be on their way first. Then it is called again.
    pub fn commit(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        self.broker.apply(&mut self.batch);
        let mut batch = std::mem::take(&mut self.batch);
        let mut asked = std::mem::take(&mut self.asked);
        let done = batch.done();
        let ops = batch.ops.iter().zip(&batch.outcomes);
        for (asked, (op, outcome)) in asked.drain(..done.min(asked.len())).zip(ops) {
            let tag = asked.tag.as_deref();
            match outcome {
                Ok(outcome) => self.reply(&batch, op, outcome, asked.answer, tag),
                Err(error) => self.say(error, matches!(asked.answer, Answer::Silence), tag),
            }
            self.mark();
        }
        if asked.is_empty() {
            batch.clear(limits::READ_BYTES);
        } else {
            batch.go_on();
        }
        (self.batch, self.asked) = (batch, asked);
        self.asked.is_empty()
    }

    fn reply(
        &mut self,
        batch: &Batch,
        op: &Op,
        outcome: &Outcome,
        answer: Answer,
        tag: Option<&[u8]>,
    ) {
        self.said = None;
        answer.write(Reply::new(&mut self.bytes, tag), batch, outcome);
        if let (Op::Take { topic, lease: None }, Outcome::Taken(Some(taken))) = (op, outcome) {
            self.remember(topic, taken, batch.taken_body(taken));
        }
    }

    fn remember(&mut self, topic: &Topic, taken: &Taken, body: &[u8]) {
        let message = Returned { taken: taken.clone(), body: body.into(), lease: None };
        self.handed.push(Handed { topic: topic.clone(), message, end: self.bytes.len() });
    }

    /// Answers a taker who waited. A leased message, too, goes back if it cannot be written.
    pub fn hand_over(&mut self, topic: &Topic, message: Returned, tag: Option<&[u8]>) {
        self.answer(tag, |reply| reply.taken(&message.taken, &message.body));
        self.handed.push(Handed { topic: topic.clone(), message, end: self.bytes.len() });
    }

    /// Answers a request, after all before it.
    pub fn answer(&mut self, tag: Option<&[u8]>, write: impl FnOnce(Reply<'_>)) {
        self.commit();
        self.said = None;
        write(Reply::new(&mut self.bytes, tag));
        self.mark();
    }

    /// Refuses a request, after all before it.
    pub fn refuse(&mut self, error: &Error, unconfirmed_put: bool, tag: Option<&[u8]>) {
        self.commit();
        self.say(error, unconfirmed_put, tag);
        self.mark();
    }

    /// A run of unconfirmed puts that fail for one reason gets one error.
    fn say(&mut self, error: &Error, unconfirmed_put: bool, tag: Option<&[u8]>) {
        let said = unconfirmed_put.then_some(error.code);
        if said.is_none() || said != self.said {
            Reply::new(&mut self.bytes, tag).error(error);
        }
        self.said = said;
    }

    /// Adds pushes; nothing waits to be carried out when they are added.
    pub fn push(&mut self, pushes: &Pushes) {
        let encoded = pushes.run.encoded(Form::Push, |run| reply::pushes(&pushes.topic, run));
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

    /// So many bytes were written, and if that is not all, no more will be.
    pub fn written(&mut self, bytes: usize) {
        let all = bytes >= self.bytes.len();
        for handed in self.handed.drain(..).filter(|handed| !all && handed.end > bytes) {
            self.broker.put_back(handed.topic, handed.message);
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
        self.bytes.capacity() > limits::BUFFER_BYTES || self.batch.capacity() > limits::BUFFER_BYTES
    }

    pub fn shrink(&mut self) {
        self.bytes = Vec::new();
        self.ends = self.ends.take().map(|_| Vec::new());
        self.batch = Batch::default();
        self.asked = Vec::new();
    }
}

impl Drop for Outbox {
    /// What was never written goes back.
    fn drop(&mut self) {
        self.written(0);
    }
}
