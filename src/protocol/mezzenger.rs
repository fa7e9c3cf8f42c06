//! Mezzenger: a message is a frame `name|pickle`, sent by requests that are answered `OK`, and
//! published to whoever subscribes to what its name begins with. A name is a topic. One that is to
//! be acknowledged is kept, and published again, until a subscriber says that it has it.

mod frame;
mod hub;
mod kept;
mod recent;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::Waker;

use self::frame::{Command, Publication};
pub use self::hub::Hub;
use self::recent::Outbox;
use super::zmtp::Dialect;
use crate::error::{Code, Error, Result};
use crate::message::{Id, Message, Topic};
use crate::store::{Batch, Op, Outcome};

/// One connection's part.
pub struct Mezzenger {
    hub: Arc<Hub>,
    /// Woken when there is something to be published again.
    waker: Waker,
    max_message: usize,
    /// What is published again to this connection, once it is a subscriber.
    outbox: Option<Arc<Outbox>>,
}

/// What a command has put into the batch, and whose checksum is to be remembered.
enum Asked<'m> {
    Nothing,
    Forget(String, Id),
    Publish(Publication<'m>, bool),
}

impl Mezzenger {
    /// `waker` is woken when there is something to be published again.
    pub fn new(hub: Arc<Hub>, waker: Waker, max_message: usize) -> Mezzenger {
        Mezzenger { hub, waker, max_message, outbox: None }
    }

    /// Finds out what a message asks for.
    fn ask<'m>(&self, message: &'m [u8]) -> Result<Asked<'m>> {
        Ok(match frame::parse(message, self.max_message)? {
            Command::Ping => Asked::Nothing,
            Command::Publish(publication) if publication.topic == *self.hub.topic() => {
                let text = "this name is the server's own: choose another";
                return Err(Error::new(Code::BadTopic, text));
            }
            Command::Publish(publication) => Asked::Publish(publication, false),
            Command::Ack(checksum) => match self.hub.forget(&checksum) {
                Some(id) => Asked::Forget(checksum, id),
                // Another subscriber was first, or it is not there any more.
                None => Asked::Nothing,
            },
        })
    }

    /// Adds what is asked for to the batch.
    fn add(&self, batch: &mut Batch, asked: &mut Asked<'_>) {
        match asked {
            Asked::Nothing => {}
            Asked::Forget(_, id) => {
                batch.ops.push(Op::Delete { topic: self.hub.topic().clone(), id: *id });
            }
            Asked::Publish(publication, keeps) => {
                batch.put(publication.topic.clone(), &publication.json, None);
                batch.confirm();
                if let Some(kept) = &publication.kept {
                    // One that is kept already was sent twice.
                    *keeps = self.hub.announce(&publication.checksum);
                    if *keeps {
                        batch.put(self.hub.topic().clone(), kept.as_bytes(), None);
                    }
                }
            }
        }
    }

    /// Remembers what became of it.
    fn settle(
        &self,
        asked: Asked<'_>,
        outcomes: &mut impl Iterator<Item = Result<Outcome>>,
    ) -> Result<()> {
        let mut next = || {
            let not_done = || Error::new(Code::StoreFailed, "the store did not answer: try again");
            outcomes.next().unwrap_or_else(|| Err(not_done()))
        };
        match asked {
            Asked::Nothing => Ok(()),
            Asked::Forget(checksum, id) => {
                let forgotten = next();
                if forgotten.is_err() {
                    self.hub.note(&checksum, Some(id));
                }
                forgotten.map(drop)
            }
            Asked::Publish(publication, keeps) => {
                let published = next();
                if let Ok(Outcome::Stored { id, .. }) = published {
                    self.hub.add_frame(id, &publication.frame);
                }
                let kept = if keeps { Some(next()) } else { None };
                if let Some(kept) = &kept {
                    let id = match kept {
                        Ok(Outcome::Stored { id, .. }) => Some(*id),
                        _ => None,
                    };
                    self.hub.note(&publication.checksum, id);
                }
                published.and_then(|_| kept.transpose()).map(drop)
            }
        }
    }
}

impl Dialect for Mezzenger {
    const SEPARATOR: u8 = b'|';

    fn receive(&mut self, messages: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut asked: Vec<_> = messages.iter().map(|message| self.ask(message)).collect();
        let _publishing = self.hub.publish();
        let mut batch = Batch::default();
        asked.iter_mut().flatten().for_each(|asked| self.add(&mut batch, asked));
        if !batch.is_empty() {
            self.hub.broker().apply(&mut batch);
        }
        let mut outcomes = std::mem::take(&mut batch.outcomes).into_iter();
        let answers = asked.into_iter().map(|asked| {
            match asked.and_then(|asked| self.settle(asked, &mut outcomes)) {
                Ok(()) => b"OK".to_vec(),
                Err(error) => format!("ERROR: {error}").into_bytes(),
            }
        });
        answers.collect()
    }

    fn write(&self, out: &mut Vec<u8>, topic: &Topic, message: Message<'_>) {
        // What is kept is no message to anyone here, and a name with a bar cannot be said.
        if topic == self.hub.topic() || topic.as_str().contains('|') {
            return;
        }
        match self.hub.frame(message.id) {
            Some(frame) => out.extend_from_slice(&frame),
            None => frame::write(out, topic, message),
        }
    }

    fn again(&mut self) -> Option<Arc<[u8]>> {
        let outbox = self.outbox.get_or_insert_with(|| self.hub.outbox(self.waker.clone()));
        outbox.next()
    }
}
