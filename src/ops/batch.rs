//! Batches: what a connection asks of the store at a time, and what became of it.

use std::ops::Range;

use super::{Id, StoredMessage, Topic};
use crate::error::{Code, Error, Result};

/// Operations that are carried out together, in order. It is reused: `clear` keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    pub ops: Vec<Op>,
    /// One for each operation, once the store has had the batch.
    pub outcomes: Vec<Result<Outcome>>,
    /// The messages that were taken.
    pub taken: Vec<u8>,
    confirms: bool,
}

/// One operation. Times are microseconds.
#[derive(Clone, Debug)]
pub enum Op {
    Put(Put),
    /// The next message of the topic for the caller alone; gone at once unless there is a lease.
    Take {
        topic: Topic,
        lease: Option<u64>,
    },
    Ack {
        topic: Topic,
        id: Id,
        deliveries: u32,
    },
    Nack {
        topic: Topic,
        id: Id,
        deliveries: u32,
        delay: u64,
    },
    /// A message that was taken, and did not reach its taker.
    PutBack {
        topic: Topic,
        message: Box<Requeue>,
    },
    Peek {
        topic: Topic,
    },
    Delete {
        topic: Topic,
        id: Id,
    },
    Purge {
        topic: Topic,
    },
    SetStopped {
        topic: Topic,
        stopped: bool,
    },
    SetPolicy {
        topic: Topic,
        policy: Policy,
    },
    /// A message of another store, with all that is known of it, which is put behind the topic's.
    Import {
        topic: Topic,
        message: Box<StoredMessage>,
    },
    /// The topic has given out ids up to this one, in another store.
    Advance {
        topic: Topic,
        to: Id,
    },
}

/// A message to store.
#[derive(Clone, Debug)]
pub struct Put {
    pub topic: Topic,
    /// Where its JSON text stands in the batch.
    pub body: Range<usize>,
    pub options: Option<Box<PutOptions>>,
    /// Whether somebody is told that it is done.
    pub confirms: bool,
}

/// What few puts have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOptions {
    pub priority: u8,
    pub ttl: Option<u64>,
    pub delay: Option<u64>,
    pub dedupe: Option<Box<str>>,
}

impl Default for PutOptions {
    fn default() -> PutOptions {
        PutOptions { priority: super::PRIORITY_DEFAULT, ttl: None, delay: None, dedupe: None }
    }
}

/// How consumers share a topic's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Broadcast,
    RoundRobin,
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A put, stored now or, if it is a duplicate, before; behind the topic's message with the id
    /// `after`, which is not known of a duplicate.
    Stored { id: Id, after: Id, duplicate: bool },
    /// A put that is due at this time.
    Due { at: Id, duplicate: bool },
    /// A take.
    Taken(Option<Taken>),
    /// A peek: the message, and how often it was looked at.
    Peeked(Option<(Taken, u64)>),
    /// An ack, a nack, a message put back or brought in, a setting.
    Done,
    /// A delete: whether there was such a message.
    Deleted(bool),
    /// A purge: how many messages it removed.
    Purged(u64),
    /// Not done, nor is any operation behind it: the batch has taken as much as it may.
    Later,
}

/// A message in a taker's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub id: Id,
    /// Where its JSON text stands in the batch's `taken`.
    pub body: Range<usize>,
    pub deliveries: u32,
    pub priority: u8,
    pub expires: Option<Id>,
    /// The topic and id that a dead letter had.
    pub origin: Option<Box<(Topic, Id)>>,
}

/// A message that goes back as if it had not been taken.
#[derive(Clone, Debug)]
pub struct Requeue {
    pub taken: Taken,
    pub body: Box<[u8]>,
    /// The lease under which it was taken.
    pub lease: Option<u64>,
}

impl Policy {
    pub fn new(text: &str) -> Option<Policy> {
        [Policy::Broadcast, Policy::RoundRobin].into_iter().find(|policy| policy.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Broadcast => "broadcast",
            Policy::RoundRobin => "roundrobin",
        }
    }
}

/// What stands for an outcome that a store does not give.
pub fn not_done() -> Result<Outcome> {
    Err(Error::new(Code::StoreFailed, "the store did not answer: try again"))
}

impl Op {
    pub fn topic(&self) -> &Topic {
        match self {
            Op::Put(Put { topic, .. })
            | Op::Take { topic, .. }
            | Op::Ack { topic, .. }
            | Op::Nack { topic, .. }
            | Op::PutBack { topic, .. }
            | Op::Peek { topic }
            | Op::Delete { topic, .. }
            | Op::Purge { topic }
            | Op::SetStopped { topic, .. }
            | Op::SetPolicy { topic, .. }
            | Op::Import { topic, .. }
            | Op::Advance { topic, .. } => topic,
        }
    }
}

impl Batch {
    /// What its only operation came to, once the store has had it.
    pub fn only(&mut self) -> Result<Outcome> {
        self.outcomes.pop().unwrap_or_else(not_done)
    }

    /// Adds a put; `body` is JSON text.
    pub fn put(&mut self, topic: Topic, body: &[u8], options: Option<Box<PutOptions>>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(body);
        let body = start..self.bytes.len();
        self.ops.push(Op::Put(Put { topic, body, options, confirms: false }));
    }

    /// A batch of some of its operations, in their order.
    #[cfg(feature = "redis")]
    pub fn some(&self, indexes: &[usize]) -> Batch {
        let mut some = Batch::default();
        for op in indexes.iter().filter_map(|index| self.ops.get(*index)) {
            match op {
                Op::Put(put) => {
                    some.put(put.topic.clone(), self.body(put), put.options.clone());
                    if put.confirms {
                        some.confirm();
                    }
                }
                op => some.ops.push(op.clone()),
            }
        }
        some
    }

    /// The put that was added last is to be confirmed.
    pub fn confirm(&mut self) {
        if let Some(Op::Put(put)) = self.ops.last_mut() {
            put.confirms = true;
        }
        self.confirms = true;
    }

    /// Whether a reply promises that something of it was done. An unconfirmed put promises nothing, nor
    /// does a peek; an import is synced by the end of its copy.
    pub fn needs_sync(&self) -> bool {
        let promises = |op: &Op| !matches!(op, Op::Put(_) | Op::Peek { .. } | Op::Import { .. });
        self.confirms || self.ops.iter().any(promises)
    }

    /// The messages that were taken without a lease: the store does not have them any more.
    pub fn taken_for_good(&self) -> impl Iterator<Item = (Topic, Requeue)> {
        self.ops.iter().zip(&self.outcomes).filter_map(|(op, outcome)| match (op, outcome) {
            (Op::Take { topic, lease: None }, Ok(Outcome::Taken(Some(taken)))) => {
                let body = self.taken_body(taken).into();
                Some((topic.clone(), Requeue { taken: taken.clone(), body, lease: None }))
            }
            _ => None,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of messages to put.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of messages that it has memory for.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.taken.capacity()
    }

    /// Forgets the operations; what memory a large batch took beyond `keep_bytes` is given back.
    pub fn clear(&mut self, keep_bytes: usize) {
        if self.capacity() > keep_bytes {
            *self = Batch::default();
            return;
        }
        self.bytes.clear();
        self.ops.clear();
        self.outcomes.clear();
        self.taken.clear();
        self.confirms = false;
    }

    /// The largest id that a put of the batch was given; 0 if there was none.
    pub fn last_id(&self) -> Id {
        let ids = self.outcomes.iter().map(|outcome| match outcome {
            Ok(Outcome::Stored { id, duplicate: false, .. }) => *id,
            _ => 0,
        });
        ids.max().unwrap_or(0)
    }

    /// The topics in which messages were stored, in order, a run of the same one once.
    pub fn topics_put(&self) -> impl Iterator<Item = &Topic> {
        let mut before: Option<&Topic> = None;
        self.ops.iter().zip(&self.outcomes).filter_map(move |(op, outcome)| match (op, outcome) {
            (Op::Put(put), Ok(Outcome::Stored { duplicate: false, .. }))
                if before != Some(&put.topic) =>
            {
                before = Some(&put.topic);
                before
            }
            _ => None,
        })
    }

    /// How many operations were done.
    pub fn done(&self) -> usize {
        let later = |outcome: &Result<Outcome>| matches!(outcome, Ok(Outcome::Later));
        self.outcomes.iter().position(later).unwrap_or(self.outcomes.len())
    }

    /// Forgets the operations that were done, and gets ready for the others.
    pub fn go_on(&mut self) {
        self.ops.drain(..self.done().min(self.ops.len()));
        self.outcomes.clear();
        self.taken.clear();
    }

    /// A put's JSON text.
    pub fn body(&self, put: &Put) -> &[u8] {
        self.bytes.get(put.body.clone()).unwrap_or_default()
    }

    /// A taken message's JSON text.
    pub fn taken_body(&self, taken: &Taken) -> &[u8] {
        self.taken.get(taken.body.clone()).unwrap_or_default()
    }
}
