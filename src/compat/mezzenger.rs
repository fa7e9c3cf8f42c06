//! Mezzenger: ØMQ on ports of its own (`--mezzenger`, 7201 and 7202), documented in
//! docs/reference/mezzenger.md. A message is a frame `name|pickle`; the name is a topic. A message
//! that asks for an acknowledgement is stored and sent again until a subscriber acknowledges it.
//! May use `compat::zmq`, `wire` and `config`, must not know the store.

mod cache;
mod frame;
mod hub;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::Waker;

use self::cache::ResendQueue;
use self::frame::Command;
pub use self::hub::MezzengerHub;
use super::zmq::{self, Dialect};
use crate::broker::{Broker, Caller};
use crate::compat::{Endpoint, ListenerKind, ProtocolKind};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Batch, Id, Message, Op, Outcome, Topic, not_done};

/// The dialect of one connection.
pub struct Mezzenger {
    hub: Arc<MezzengerHub>,
    caller: Arc<Caller>,
    waker: Waker,
    max_message: usize,
    /// Frames to be sent again to this connection; created when it first subscribes.
    resend_queue: Option<Arc<ResendQueue>>,
}

impl Mezzenger {
    /// `waker` is woken when a frame is to be sent again.
    pub fn new(
        hub: Arc<MezzengerHub>,
        caller: Arc<Caller>,
        waker: Waker,
        max_message: usize,
    ) -> Mezzenger {
        Mezzenger { hub, caller, waker, max_message, resend_queue: None }
    }

    /// Parses a frame. An `ack` also makes the hub forget its message, which can wait for a publisher:
    /// do not call this while publishing.
    fn parse<'m>(&self, message: &'m [u8]) -> Result<Command<'m>> {
        let mut command = frame::parse(message, self.max_message)?;
        match &mut command {
            Command::Publish(publication) if publication.topic == *self.hub.topic() => {
                let text = "this name is reserved for the server: choose another";
                return Err(Error::new(Code::BadTopic, text));
            }
            // `None` if another subscriber has acknowledged it, or the store has dropped it.
            Command::Ack(checksum, id) => *id = self.hub.forget(checksum),
            _ => {}
        }
        Ok(command)
    }

    /// Deletes a message that was stored alone: a message that needs an acknowledgement is both
    /// stored as unacknowledged and published, or neither.
    fn remove(&self, topic: &Topic, id: Id) {
        let mut batch = Batch::default();
        batch.ops.push(Op::Delete { topic: topic.clone(), id });
        self.hub.broker().apply(&self.caller, &mut batch);
    }

    /// Appends the operations of a command to the batch.
    fn add(&self, batch: &mut Batch, command: &mut Command<'_>) {
        match command {
            Command::Ping | Command::Ack(_, None) => {}
            Command::Ack(_, Some(id)) => {
                batch.ops.push(Op::Delete { topic: self.hub.topic().clone(), id: *id });
            }
            Command::Publish(publication) => {
                if let Some(unacked) = &publication.unacked {
                    // False if the sender repeats a message that is still unacknowledged.
                    publication.is_stored_here = self.hub.announce(&publication.checksum);
                    if publication.is_stored_here {
                        batch.put(self.hub.topic().clone(), unacked.as_bytes(), None);
                        batch.confirm();
                    }
                }
                batch.put(publication.topic.clone(), &publication.json, None);
                batch.confirm();
            }
        }
    }

    /// Records the outcomes of a command.
    fn settle(
        &self,
        command: Command<'_>,
        outcomes: &mut impl Iterator<Item = Result<Outcome>>,
    ) -> Result<()> {
        let mut next = || outcomes.next().unwrap_or_else(not_done);
        match command {
            Command::Ping | Command::Ack(_, None) => Ok(()),
            Command::Ack(checksum, Some(id)) => {
                let deleted = next();
                if deleted.is_err() {
                    self.hub.unacked.note(&checksum, Some(id));
                }
                deleted.map(drop)
            }
            Command::Publish(publication) => {
                let id = |outcome: &Result<Outcome>| match outcome {
                    Ok(Outcome::Stored { id, .. }) => Some(*id),
                    _ => None,
                };
                let unacked = publication.is_stored_here.then(&mut next);
                let published = next();
                let (unacked_id, published_id) = (unacked.as_ref().and_then(id), id(&published));
                if publication.is_stored_here {
                    let whole = published_id.and(unacked_id);
                    self.hub.unacked.note(&publication.checksum, whole);
                    match (unacked_id, published_id) {
                        (Some(id), None) => self.remove(self.hub.topic(), id),
                        (None, Some(id)) => self.remove(&publication.topic, id),
                        _ => {}
                    }
                }
                unacked.transpose()?;
                if let Some(id) = published_id {
                    self.hub.recent.add(id, &publication.frame);
                }
                published.map(drop)
            }
        }
    }

    fn carry_out(&self, mut commands: Vec<Result<Command<'_>>>) -> Vec<Vec<u8>> {
        let _publishing = self.hub.publish();
        let mut batch = Batch::default();
        commands.iter_mut().flatten().for_each(|command| self.add(&mut batch, command));
        if !batch.is_empty() {
            self.hub.broker().apply(&self.caller, &mut batch);
        }
        let mut outcomes = std::mem::take(&mut batch.outcomes).into_iter();
        let answers = commands.into_iter().map(|command| {
            match command.and_then(|command| self.settle(command, &mut outcomes)) {
                Ok(()) => b"OK".to_vec(),
                Err(error) => format!("ERROR: {error}").into_bytes(),
            }
        });
        answers.collect()
    }
}

impl Dialect for Mezzenger {
    const SEPARATOR: u8 = b'|';

    fn receive(&mut self, messages: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut answers = Vec::with_capacity(messages.len());
        let mut messages = messages.iter().peekable();
        while messages.peek().is_some() {
            // A small pickle can expand to a large message: this bounds the size of a batch.
            let (mut commands, mut bytes) = (Vec::new(), 0);
            while bytes < limits::READ_BYTES
                && let Some(message) = messages.next()
            {
                let command = self.parse(message);
                if let Ok(Command::Publish(publication)) = &command {
                    bytes += publication.json.len();
                }
                commands.push(command);
            }
            answers.extend(self.carry_out(commands));
        }
        answers
    }

    fn write(&self, out: &mut Vec<u8>, topic: &Topic, message: Message<'_>) {
        // Stored unacknowledged messages are internal, and a name with a bar cannot be put in a
        // frame.
        if topic == self.hub.topic() || topic.as_str().contains('|') {
            return;
        }
        match self.hub.frame(message.id) {
            Some(frame) => out.extend_from_slice(&frame),
            None => frame::write(out, topic, message),
        }
    }

    fn next_resend(&mut self) -> Option<Arc<[u8]>> {
        let resend_queue =
            self.resend_queue.get_or_insert_with(|| self.hub.resend_queue(self.waker.clone()));
        resend_queue.next()
    }
}

/// Creates the hub; `None` without `--mezzenger`.
pub fn hub(config: &Config, broker: &Arc<Broker>) -> Result<Option<Arc<MezzengerHub>>> {
    let hub = config.mezzenger.map(|_| MezzengerHub::new(broker.clone(), config.mezzenger_resend));
    Ok(hub.transpose()?.map(Arc::new))
}

/// The listeners: one for subscribers, one for publishers.
pub fn endpoints(config: &Config, hub: Option<&Arc<MezzengerHub>>) -> Vec<Endpoint> {
    let (Some([to_subscribers, from_publishers]), Some(hub)) = (config.mezzenger, hub) else {
        return Vec::new();
    };
    let (hub, max) = (hub.clone(), config.max_message);
    let begin = Arc::new(move |session, caller: Arc<Caller>, waker: Waker| {
        let dialect = Mezzenger::new(hub.clone(), caller.clone(), waker.clone(), max);
        let broker = hub.broker().clone();
        Ok(Box::new(zmq::ZmtpHandler::new(broker, caller, session, max, waker, dialect)) as _)
    });
    let handler = ProtocolKind { gauge: "mezzenger", begin };
    let ports = [("mezzenger pub", to_subscribers), ("mezzenger recv", from_publishers)];
    let endpoints = ports.map(|(name, port)| Endpoint {
        name,
        host: config.host.clone(),
        port,
        advice: "choose other ports with --mezzenger=PUB,RECV",
        kind: ListenerKind::Protocol(handler.clone()),
    });
    endpoints.into()
}
