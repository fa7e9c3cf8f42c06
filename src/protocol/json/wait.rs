//! Waiting: requests for which there was nothing yet, and how each ends: with a message, with
//! nothing, with its peer, or with the server.

use std::time::{Duration, Instant};

use super::{Conversation, Step};
use crate::broker::{Waiting, Watch, look_again};
use crate::error::{Code, Error};
use crate::ops::Topic;

/// A request that waits for a message.
pub struct Wait {
    kind: WaitKind,
    tag: Option<Box<[u8]>>,
    deadline: Instant,
}

pub enum WaitKind {
    Get { topic: Topic, latest: bool, meta: bool, _watch: Watch },
    Take(Waiting),
}

impl Conversation {
    pub(super) fn wait(&mut self, kind: WaitKind, wait: Duration, tag: Option<&[u8]>) -> Step {
        let deadline = Instant::now() + wait;
        self.waits = Some(Wait { kind, tag: tag.map(Box::from), deadline });
        Step::Wait
    }

    /// While the step is [`Step::Wait`]: `None` once there is a reply, else when to call it again at the
    /// latest.
    pub fn retry(&mut self) -> Option<Instant> {
        let mut wait = self.waits.take()?;
        let tag = wait.tag.as_deref();
        let answered = match &mut wait.kind {
            WaitKind::Get { topic, latest, meta, .. } => {
                let tried = self.try_get(topic.as_str(), *latest, None, *meta, tag);
                if let Err(error) = &tried
                    && let Some(again) = look_again(error, wait.deadline)
                    && self.broker.check_open().is_ok()
                {
                    self.waits = Some(wait);
                    return Some(again);
                }
                tried
            }
            WaitKind::Take(waiting) => match waiting.handed() {
                Some(handed) => handed.map(|message| {
                    self.replies.hand_over(waiting.topic(), message, tag);
                    true
                }),
                None => Ok(false),
            },
        };
        match answered
            .and_then(|done| if done { Ok(true) } else { self.broker.check_open().map(|()| false) })
        {
            Ok(true) => None,
            Ok(false) if Instant::now() < wait.deadline => {
                let deadline = wait.deadline;
                self.waits = Some(wait);
                Some(deadline)
            }
            Ok(false) => {
                self.end_wait(wait, None);
                None
            }
            Err(error) => {
                self.end_wait(wait, Some(&error));
                None
            }
        }
    }

    /// Answers a wait that was in vain, unless its taker was handed something at the last moment.
    fn end_wait(&mut self, wait: Wait, error: Option<&Error>) {
        let tag = wait.tag.as_deref();
        let told = match wait.kind {
            WaitKind::Get { meta, .. } => meta,
            WaitKind::Take(waiting) => {
                let topic = waiting.topic().clone();
                if let Some(Ok(message)) = waiting.leave() {
                    self.replies.hand_over(&topic, message, tag);
                    return;
                }
                true
            }
        };
        self.replies.answer(tag, |reply| match error {
            Some(error) => reply.error(error),
            None => reply.nothing(told),
        });
    }

    /// The peer has ended its side while a request waits, or is gone altogether. A take ends
    /// empty, and its message goes to the next taker; a get goes on while somebody may listen: it
    /// takes nothing from anyone.
    pub fn peer_ended(&mut self, gone: bool) {
        match self.waits.take() {
            Some(Wait { kind: WaitKind::Take(waiting), tag, .. }) => {
                self.broker.give_up(waiting);
                self.replies.answer(tag.as_deref(), |reply| reply.nothing(true));
            }
            Some(Wait { tag, .. }) if gone => {
                self.replies.answer(tag.as_deref(), |reply| reply.nothing(true));
            }
            other => self.waits = other,
        }
    }

    /// The request that waits cannot: the server has no means left.
    pub fn refuse_wait(&mut self) {
        if let Some(wait) = self.waits.take() {
            let text = "the server has no descriptor left to wait with: ask again later";
            self.end_wait(wait, Some(&Error::new(Code::Busy, text)));
        }
    }
}

impl Drop for Conversation {
    /// A taker that leaves in the middle of its wait leaves what it was handed to the next.
    fn drop(&mut self) {
        if let Some(Wait { kind: WaitKind::Take(waiting), .. }) = self.waits.take() {
            self.broker.give_up(waiting);
        }
    }
}
