//! Gets and takes, and their waits. A wait ends with a message, at its deadline, when the peer
//! leaves, or when the server stops.

use std::time::{Duration, Instant};

use super::JsonHandler;
use crate::broker::{TakeWaiter, Watch};
use crate::error::{Error, Result};
use crate::ops::{Id, Op, Topic};
use crate::protocol::handler::Next;

pub struct Wait {
    pub kind: WaitKind,
    pub tag: Option<Box<[u8]>>,
    pub deadline: Instant,
}

pub enum WaitKind {
    Get { topic: Topic, latest: bool, meta: bool, _watch: Watch },
    Take(TakeWaiter),
}

impl JsonHandler {
    pub(super) fn get(
        &mut self,
        topic: &str,
        latest: bool,
        since: Option<Id>,
        wait: Duration,
        meta: bool,
        tag: Option<&[u8]>,
    ) -> Result<Option<Next>> {
        if self.try_get(topic, latest, since, meta, tag)? {
            return Ok(None);
        }
        if wait.is_zero() {
            self.replies.answer(tag, |reply| reply.nothing(meta));
            return Ok(None);
        }
        let topic = Topic::new(topic)?;
        let watch = self.broker.watch(&self.caller, topic.clone(), self.waker.clone());
        Ok(Some(self.wait(WaitKind::Get { topic, latest, meta, _watch: watch }, wait, tag)))
    }

    /// Replies with the next message; returns false if there is none.
    pub(super) fn try_get(
        &mut self,
        topic: &str,
        latest: bool,
        since: Option<Id>,
        meta: bool,
        tag: Option<&[u8]>,
    ) -> Result<bool> {
        let message = if latest {
            self.broker.get_latest(&self.caller, &mut self.session, topic, since)?
        } else {
            self.broker.get(&self.caller, &mut self.session, topic, since)?
        };
        let Some(message) = message else { return Ok(false) };
        self.replies.answer(tag, |reply| reply.message(message, meta));
        Ok(true)
    }

    pub(super) fn take(
        &mut self,
        topic: &str,
        lease: Option<u64>,
        wait: Duration,
        tag: Option<&[u8]>,
    ) -> Result<Option<Next>> {
        let topic = self.topic(topic)?;
        if wait.is_zero() {
            if self.broker.takers_wait(&self.caller) {
                // Earlier puts of this batch go to the waiting takers first.
                self.commit();
            }
            self.pipeline.add(Op::Take { topic, lease }, tag);
            return Ok(None);
        }
        let taker = self.broker.wait_to_take(&self.caller, &topic, lease, self.waker.clone());
        Ok(Some(self.wait(WaitKind::Take(taker), wait, tag)))
    }

    fn wait(&mut self, kind: WaitKind, wait: Duration, tag: Option<&[u8]>) -> Next {
        let deadline = Instant::now() + wait;
        self.waiting = Some(Wait { kind, tag: tag.map(Box::from), deadline });
        Next::Wait
    }

    /// Ends a wait without a message, unless the take received one at the last moment.
    pub(super) fn end_wait(&mut self, wait: Wait, error: Option<&Error>) {
        let tag = wait.tag.as_deref();
        let empty_field = match wait.kind {
            WaitKind::Get { meta, .. } => meta,
            WaitKind::Take(taker) => {
                let topic = taker.topic().clone();
                if let Some(Ok(message)) = taker.leave() {
                    self.replies.reply_taken(&topic, message, tag);
                    return;
                }
                true
            }
        };
        self.replies.answer(tag, |reply| match error {
            Some(error) => reply.error(error),
            None => reply.nothing(empty_field),
        });
    }
}

impl Drop for JsonHandler {
    /// Returns the message of a take whose connection ends, so that the next taker receives it.
    fn drop(&mut self) {
        if let Some(Wait { kind: WaitKind::Take(taker), .. }) = self.waiting.take() {
            self.broker.give_up(&self.caller, taker);
        }
    }
}
