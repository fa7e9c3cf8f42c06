//! Batches: the operations that a connection submits to the store together, and their outcomes.

use std::ops::Range;

use super::{Id, StoredMessage, Topic};
use crate::error::{Code, Error, Result};

/// Operations that the store carries out together, in order. [`Batch::clear`] keeps the memory for reuse.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    pub ops: Vec<Op>,
    /// One for each operation, once the batch is complete.
    pub outcomes: Vec<Result<Outcome>>,
    /// The bodies of taken and peeked messages.
    pub taken: Vec<u8>,
    confirms: bool,
}

/// One operation. Times are microseconds.
#[derive(Clone, Debug)]
pub enum Op {
    Put(Put),
    /// Takes the next message of the topic: leases it, or removes it if there is no lease.
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
    /// Returns a taken message that did not reach its client.
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
    /// Appends a message of another store with all its fields. Its id must be above the topic's ids.
    Import {
        topic: Topic,
        message: Box<StoredMessage>,
    },
    /// Raises the highest id of the topic to that in another store.
    Advance {
        topic: Topic,
        to: Id,
    },
}

/// A message to store.
#[derive(Clone, Debug)]
pub struct Put {
    pub topic: Topic,
    /// The position of its JSON text in the batch.
    pub body: Range<usize>,
    pub options: Option<Box<PutOptions>>,
    /// Whether the client receives a confirmation.
    pub confirms: bool,
}

/// The options of a put. Boxed, because few puts have any.
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

/// How the messages of a topic are distributed among its consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Broadcast,
    RoundRobin,
}

/// The outcome of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A put: stored now, or earlier if it is a duplicate. `after` is the id of the topic's previous
    /// message; a duplicate has none.
    Stored { id: Id, after: Id, duplicate: bool },
    /// A put with a delay, which becomes due at this time.
    Due { at: Id, duplicate: bool },
    /// A take.
    Taken(Option<Taken>),
    /// A peek: the message and its number of peeks.
    Peeked(Option<(Taken, u64)>),
    /// An ack, nack, put-back, import or setting.
    Done,
    /// A delete: whether the message existed.
    Deleted(bool),
    /// A purge: the number of removed messages.
    Purged(u64),
    /// This operation and all later ones were not carried out: the batch has reached its limit of taken
    /// bytes. [`Batch::go_on`] prepares the rest.
    Later,
}

/// A message that a client has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub id: Id,
    /// The position of its JSON text in [`Batch::taken`].
    pub body: Range<usize>,
    pub deliveries: u32,
    pub priority: u8,
    pub expires: Option<Id>,
    /// The original topic and id of a dead letter.
    pub origin: Option<Box<(Topic, Id)>>,
}

/// A message that returns to its topic as if it had not been taken.
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

/// The error for an operation without an outcome from the store.
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
    /// The outcome of the only operation of a complete batch.
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

    /// A batch of the operations with these indices.
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

    /// Marks the last put as to be confirmed.
    pub fn confirm(&mut self) {
        if let Some(Op::Put(put)) = self.ops.last_mut() {
            put.confirms = true;
        }
        self.confirms = true;
    }

    /// Whether a reply promises that a change is durable, so that the store must sync before it completes
    /// the batch. Unconfirmed puts and peeks promise nothing; the last batch of a copy syncs its imports.
    pub fn needs_sync(&self) -> bool {
        let promises = |op: &Op| !matches!(op, Op::Put(_) | Op::Peek { .. } | Op::Import { .. });
        self.confirms || self.ops.iter().any(promises)
    }

    /// The messages taken without a lease, which the store has removed.
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

    /// Bytes of the bodies to put.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Allocated bytes for bodies.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.taken.capacity()
    }

    /// Removes all operations and outcomes. Frees the memory if it exceeds `keep_bytes`.
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

    /// The highest id assigned to a put of the batch; 0 if none was stored.
    pub fn last_id(&self) -> Id {
        let ids = self.outcomes.iter().map(|outcome| match outcome {
            Ok(Outcome::Stored { id, duplicate: false, .. }) => *id,
            _ => 0,
        });
        ids.max().unwrap_or(0)
    }

    /// The topics of stored messages in order, without consecutive repetitions.
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

    /// The number of operations before the first [`Outcome::Later`].
    pub fn done(&self) -> usize {
        let later = |outcome: &Result<Outcome>| matches!(outcome, Ok(Outcome::Later));
        self.outcomes.iter().position(later).unwrap_or(self.outcomes.len())
    }

    /// Removes the completed operations and prepares the batch to submit the others.
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
