//! The pipeline: requests that change the store, gathered into a batch and carried out in order.

use std::sync::Arc;

use super::reply::Reply;
use super::reply_buffer::ReplyBuffer;
use crate::broker::{Broker, Caller};
use crate::limits;
use crate::ops::{Batch, Op, Outcome, Policy, PutOptions, Topic};

/// The requests of one connection that are not carried out yet.
pub struct Pipeline {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    batch: Batch,
    /// One entry for each operation of the batch.
    requests: Vec<PendingReply>,
}

/// A request of the batch that has no reply yet.
struct PendingReply {
    answer: ReplyKind,
    tag: Option<Box<[u8]>>,
}

/// The kind of reply to a successful operation, where the outcome alone does not decide.
#[derive(Clone, Copy, Debug)]
pub enum ReplyKind {
    /// A put without `confirm`, and one with it.
    Unconfirmed,
    Confirm,
    Take,
    Ok,
    State(bool),
    Policy(Policy),
}

impl ReplyKind {
    pub fn write(self, reply: Reply<'_>, batch: &Batch, outcome: &Outcome) {
        match (outcome, self) {
            // A deferred operation has no outcome yet.
            (_, ReplyKind::Unconfirmed) | (Outcome::Later, _) => {}
            (Outcome::Stored { id, duplicate, .. }, _) => reply.stored(*id, *duplicate),
            (Outcome::Due { at, duplicate }, _) => reply.due(*at, *duplicate),
            (Outcome::Taken(None) | Outcome::Peeked(None), _) => reply.nothing(true),
            (Outcome::Taken(Some(taken)), _) => reply.taken(taken, batch.taken_body(taken)),
            (Outcome::Peeked(Some((peeked, looks))), _) => {
                reply.peeked(peeked, batch.taken_body(peeked), *looks);
            }
            (Outcome::Deleted(deleted), _) => reply.deleted(*deleted),
            (Outcome::Purged(purged), _) => reply.purged(*purged),
            (Outcome::Done, ReplyKind::State(stopped)) => reply.state(stopped),
            (Outcome::Done, ReplyKind::Policy(policy)) => reply.policy(Some(policy)),
            (Outcome::Done, _) => reply.ok(),
        }
    }
}

impl Pipeline {
    pub fn new(broker: Arc<Broker>, caller: Arc<Caller>) -> Pipeline {
        Pipeline { broker, caller, batch: Batch::default(), requests: Vec::new() }
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
        let answer = if confirm { ReplyKind::Confirm } else { ReplyKind::Unconfirmed };
        self.requests.push(PendingReply { answer, tag: tag.map(Box::from) });
    }

    /// Appends an operation to the batch.
    pub fn add(&mut self, op: Op, answer: ReplyKind, tag: Option<&[u8]>) {
        self.batch.ops.push(op);
        self.requests.push(PendingReply { answer, tag: tag.map(Box::from) });
    }

    /// Carries out the batch and appends the replies. Returns false if the batch reached its limit
    /// of taken bytes: write the replies, then call it again for the rest.
    pub fn commit(&mut self, replies: &mut ReplyBuffer) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        self.broker.apply(&self.caller, &mut self.batch);
        let done = self.batch.done().min(self.requests.len());
        let ops = self.batch.ops.iter().zip(&self.batch.outcomes);
        for (request, (op, outcome)) in self.requests.drain(..done).zip(ops) {
            let tag = request.tag.as_deref();
            match outcome {
                Ok(outcome) => {
                    let write =
                        |reply: Reply<'_>| request.answer.write(reply, &self.batch, outcome);
                    replies.answer(tag, write);
                    if let (Op::Take { topic, lease: None }, Outcome::Taken(Some(taken))) =
                        (op, outcome)
                    {
                        replies.requeue_unless_written(topic, taken, self.batch.taken_body(taken));
                    }
                }
                Err(error) => {
                    replies.refuse(error, matches!(request.answer, ReplyKind::Unconfirmed), tag);
                }
            }
        }
        if self.requests.is_empty() {
            self.batch.clear(limits::READ_BYTES);
        } else {
            self.batch.go_on();
        }
        self.requests.is_empty()
    }

    pub fn is_bulky(&self) -> bool {
        self.batch.capacity() > limits::BUFFER_BYTES
    }

    pub fn shrink(&mut self) {
        self.batch = Batch::default();
        self.requests = Vec::new();
    }
}
