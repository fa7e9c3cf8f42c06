//! Gets and takes, and how they wait when there is no message yet. A wait ends with a message, with
//! nothing, with its peer, or with the server.

use std::time::{Duration, Instant};

use super::super::pipeline::ReplyKind;
use super::JsonHandler;
use crate::broker::{TakeWaiter, Watch};
use crate::error::{Error, Result};
use crate::ops::{Id, Op, Topic};
use crate::protocol::handler::Next;

/// A request that waits for a message.
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

    /// Answers with the next message, if there is one.
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
                // What was put before this goes to those who have waited.
                self.commit();
            }
            self.pipeline.add(Op::Take { topic, lease }, ReplyKind::Take, tag);
            return Ok(None);
        }
        let waiting = self.broker.wait_to_take(&self.caller, &topic, lease, self.waker.clone());
        Ok(Some(self.wait(WaitKind::Take(waiting), wait, tag)))
    }

    fn wait(&mut self, kind: WaitKind, wait: Duration, tag: Option<&[u8]>) -> Next {
        let deadline = Instant::now() + wait;
        self.waiting = Some(Wait { kind, tag: tag.map(Box::from), deadline });
        Next::Wait
    }

    /// Answers a wait that was in vain, unless its taker was handed something at the last moment.
    pub(super) fn end_wait(&mut self, wait: Wait, error: Option<&Error>) {
        let tag = wait.tag.as_deref();
        let empty_field = match wait.kind {
            WaitKind::Get { meta, .. } => meta,
            WaitKind::Take(waiting) => {
                let topic = waiting.topic().clone();
                if let Some(Ok(message)) = waiting.leave() {
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
    /// A taker that leaves in the middle of its wait leaves what it was handed to the next.
    fn drop(&mut self) {
        if let Some(Wait { kind: WaitKind::Take(waiting), .. }) = self.waiting.take() {
            self.broker.give_up(&self.caller, waiting);
        }
    }
}
