//! The pipeline: requests that change the store, gathered into a batch and carried out in order.

use std::sync::Arc;

use super::reply::Reply;
use super::reply_buffer::ReplyBuffer;
use crate::broker::{Broker, Caller};
use crate::limits;
use crate::ops::{Batch, Op, Outcome, PutOptions, Topic};

/// The requests of one connection that are not carried out yet.
pub struct Pipeline {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    batch: Batch,
    /// The tag of each operation's request.
    tags: Vec<Option<Box<[u8]>>>,
}

/// Writes the reply to an operation that succeeded.
pub fn write_outcome(reply: Reply<'_>, batch: &Batch, op: &Op, outcome: &Outcome) {
    match (outcome, op) {
        // A deferred operation has no outcome yet.
        (Outcome::Later, _) => {}
        (Outcome::Stored { id, duplicate, .. }, _) => reply.stored(*id, *duplicate),
        (Outcome::Due { at, duplicate }, _) => reply.due(*at, *duplicate),
        (Outcome::Taken(None) | Outcome::Peeked(None), _) => reply.nothing(true),
        (Outcome::Taken(Some(taken)), _) => reply.taken(taken, batch.taken_body(taken)),
        (Outcome::Peeked(Some((peeked, looks))), _) => {
            reply.peeked(peeked, batch.taken_body(peeked), *looks);
        }
        (Outcome::Deleted(deleted), _) => reply.deleted(*deleted),
        (Outcome::Purged(purged), _) => reply.purged(*purged),
        (Outcome::Done, Op::SetStopped { stopped, .. }) => reply.state(*stopped),
        (Outcome::Done, Op::SetPolicy { policy, .. }) => reply.policy(Some(*policy)),
        (Outcome::Done, _) => reply.ok(),
    }
}

impl Pipeline {
    pub fn new(broker: Arc<Broker>, caller: Arc<Caller>) -> Pipeline {
        Pipeline { broker, caller, batch: Batch::default(), tags: Vec::new() }
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
        self.tags.push(tag.map(Box::from));
    }

    /// Appends an operation to the batch.
    pub fn add(&mut self, op: Op, tag: Option<&[u8]>) {
        self.batch.ops.push(op);
        self.tags.push(tag.map(Box::from));
    }

    /// Carries out the batch and appends the replies. Returns false if the batch reached its limit
    /// of taken bytes: write the replies, then call it again for the rest.
    pub fn commit(&mut self, replies: &mut ReplyBuffer) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        self.broker.apply(&self.caller, &mut self.batch);
        let done = self.batch.done().min(self.tags.len());
        let ops = self.batch.ops.iter().zip(&self.batch.outcomes);
        for (tag, (op, outcome)) in self.tags.drain(..done).zip(ops) {
            let tag = tag.as_deref();
            let unconfirmed_put = matches!(op, Op::Put(put) if !put.confirms);
            match outcome {
                Ok(outcome) => {
                    replies.answer(tag, |reply| {
                        if !unconfirmed_put {
                            write_outcome(reply, &self.batch, op, outcome);
                        }
                    });
                    if let (Op::Take { topic, lease: None }, Outcome::Taken(Some(taken))) =
                        (op, outcome)
                    {
                        replies.requeue_unless_written(topic, taken, self.batch.taken_body(taken));
                    }
                }
                Err(error) => replies.refuse(error, unconfirmed_put, tag),
            }
        }
        if self.tags.is_empty() {
            self.batch.clear(limits::READ_BYTES);
        } else {
            self.batch.go_on();
        }
        self.tags.is_empty()
    }

    pub fn is_bulky(&self) -> bool {
        self.batch.capacity() > limits::BUFFER_BYTES
    }

    pub fn shrink(&mut self) {
        self.batch = Batch::default();
        self.tags = Vec::new();
    }
}
