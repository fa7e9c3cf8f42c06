//! ZMTP connections, shared by O3one and Mezzenger: a [`Dialect`] answers the requests in order,
//! the broker keeps the subscriptions, and one port serves every socket type. Must not know the
//! store.
//!
//! A subscriber is a session of the broker: a slow one reads later from the store, and holds no
//! queue here. It is disconnected when a write makes no progress for [`limits::WRITE_STALL`].

use std::sync::Arc;
use std::task::Waker;

use crate::broker::{Broker, Caller, From, Pattern, Session};
use crate::error::Result;
use crate::ops::Topic;
use crate::protocol::handler::{self, Next};
use crate::wire::zmtp::{Event, Message, Peer, ZmtpConnection, ZmtpError, write_frame};
use crate::{limits, ops};

/// The format of the messages in one system.
pub trait Dialect {
    /// The byte after the topic in a message.
    const SEPARATOR: u8;

    /// Carries out messages in order and returns one answer for each. The answers to some socket
    /// types are not sent.
    fn receive(&mut self, messages: &[&[u8]]) -> Vec<Vec<u8>>;

    /// Writes one message of a topic as subscribers read it. `message` is as it was put. Writes
    /// nothing if these subscribers cannot receive it.
    fn write(&self, out: &mut Vec<u8>, topic: &Topic, message: ops::Message<'_>);

    /// The next message for this subscriber that does not come from a topic.
    fn next_resend(&mut self) -> Option<Arc<[u8]>> {
        None
    }
}

pub struct ZmtpHandler<D> {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    session: Session,
    waker: Waker,
    connection: ZmtpConnection,
    dialect: D,
    /// Messages that wait to be carried out.
    received: Vec<Message>,
    /// Subscribed prefixes; a prefix subscribed twice occurs twice.
    prefixes: Vec<Vec<u8>>,
    /// Whether a refused subscription has been logged.
    has_warned: bool,
    /// Buffer for the message being written.
    scratch: Vec<u8>,
    ended: bool,
}

impl<D: Dialect> ZmtpHandler<D> {
    /// `session` started when the connection was accepted; `waker` is woken when there is something
    /// to push.
    pub fn new(
        broker: Arc<Broker>,
        caller: Arc<Caller>,
        session: Session,
        max_message: usize,
        waker: Waker,
        dialect: D,
    ) -> ZmtpHandler<D> {
        ZmtpHandler {
            broker,
            caller,
            session,
            waker,
            connection: ZmtpConnection::new(max_message),
            dialect,
            received: Vec::new(),
            prefixes: Vec::new(),
            has_warned: false,
            scratch: Vec::new(),
            ended: false,
        }
    }

    /// Reads all of `unread`, or until enough messages wait to be carried out or replies to be
    /// written.
    fn receive(&mut self, unread: &[u8]) -> (usize, std::result::Result<(), ZmtpError>) {
        let mut done = 0;
        while self.received.len() < limits::ZMTP_BATCH_MESSAGES {
            let (used, event) = self.connection.advance(unread.get(done..).unwrap_or_default());
            done += used;
            match event {
                Ok(Some(Event::Message(message))) => self.received.push(message),
                Ok(Some(Event::Subscribe(prefix))) => self.subscribe(prefix),
                Ok(Some(Event::Cancel(prefix))) => self.cancel(&prefix),
                Ok(None) => break,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Carries out the received messages and buffers the answers.
    fn carry_out(&mut self) {
        if self.received.is_empty() {
            return;
        }
        let received = std::mem::take(&mut self.received);
        let is_answered = self.connection.peer().is_some_and(Peer::is_answered);
        // Peers that expect no answer send no envelope.
        let envelope = |message: &Message| if is_answered { message.envelope() } else { 0 };
        let bodies: Vec<Option<&[u8]>> =
            received.iter().map(|message| message.only_part(envelope(message))).collect();
        let whole: Vec<&[u8]> = bodies.iter().flatten().copied().collect();
        let mut answers = self.dialect.receive(&whole).into_iter();
        for (message, body) in received.iter().zip(&bodies) {
            let answer = match body {
                Some(_) => answers.next().unwrap_or_default(),
                None => b"ERROR: a message has one part here".to_vec(),
            };
            if is_answered {
                let parts = message.parts().take(envelope(message));
                self.connection.send(parts.chain([answer.as_slice()]));
            }
        }
    }

    /// Whether a message begins with a subscribed prefix.
    fn matches(&self, message: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| message.starts_with(prefix))
    }

    fn subscribe(&mut self, prefix: Vec<u8>) {
        let subscribed = match self.prefixes.len() {
            limits::SUBSCRIPTIONS.. => {
                Err(format!("a connection may have {} subscriptions", limits::SUBSCRIPTIONS))
            }
            _ => self.follow(&prefix).map_err(|error| error.to_string()),
        };
        match subscribed {
            Ok(()) => self.prefixes.push(prefix),
            // ZMTP has no reply to a subscription, so the refusal goes to the log, once.
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                tracing::warn!("cannot subscribe a ZMTP peer, it will miss messages: {error}");
            }
            Err(_) => {}
        }
    }

    fn follow(&mut self, prefix: &[u8]) -> Result<()> {
        let pattern = pattern(prefix, D::SEPARATOR);
        self.broker
            .subscribe(&self.caller, &mut self.session, vec![pattern], From::Now, &self.waker)
            .map(drop)
    }

    fn cancel(&mut self, prefix: &[u8]) {
        let Some(at) = self.prefixes.iter().position(|other| other == prefix) else { return };
        self.prefixes.swap_remove(at);
        let cancelled = pattern(prefix, D::SEPARATOR);
        if !self.prefixes.iter().any(|other| pattern(other, D::SEPARATOR) == cancelled) {
            self.broker.unsubscribe(&self.caller, &mut self.session, &cancelled);
        }
    }
}

/// The topics whose messages can begin with this prefix. The complete prefix is compared with each
/// message.
fn pattern(prefix: &[u8], separator: u8) -> Pattern {
    let topic = prefix.split(|byte| *byte == separator).next().unwrap_or_default();
    let topic = topic.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Pattern::Prefix(topic.into())
}

impl<D: Dialect> handler::ProtocolHandler for ZmtpHandler<D> {
    fn advance(&mut self, unread: &[u8]) -> (usize, Next) {
        let (done, received) = self.receive(unread);
        let full = self.received.len() >= limits::ZMTP_BATCH_MESSAGES;
        self.carry_out();
        match received {
            Err(ZmtpError(text)) => {
                tracing::debug!("closing a ZMTP connection: {text}");
                (done, Next::Close)
            }
            Ok(()) if full || self.connection.replies().len() >= limits::REPLY_BYTES => {
                (done, Next::Write)
            }
            Ok(()) => (done, Next::Read),
        }
    }

    fn replies(&self) -> &[u8] {
        self.connection.replies()
    }

    fn written(&mut self, _: usize) {
        self.connection.written();
    }

    fn is_subscribed(&self) -> bool {
        !self.ended && self.session.is_subscribed()
    }

    fn push(&mut self) -> bool {
        while self.is_subscribed() && self.connection.replies().len() < limits::REPLY_BYTES {
            if let Some(message) = self.dialect.next_resend() {
                if self.matches(&message) {
                    write_frame(self.connection.out(), &message, false);
                }
                continue;
            }
            let pushes = match self.broker.pushes(&self.caller, &mut self.session) {
                Ok(Some(pushes)) => pushes,
                Ok(None) => return false,
                Err(error) => {
                    tracing::warn!("cannot read messages for a ZMTP subscriber: {error}");
                    return false;
                }
            };
            for message in pushes.range.clone().filter_map(|index| pushes.chunk.get(index)) {
                self.scratch.clear();
                self.dialect.write(&mut self.scratch, &pushes.topic, message);
                if !self.scratch.is_empty() && self.matches(&self.scratch) {
                    write_frame(self.connection.out(), &self.scratch, false);
                }
            }
        }
        self.is_subscribed()
    }

    /// ØMQ sockets do not read after they have ended their side.
    fn end(&mut self, _: &[u8]) {
        self.ended = true;
    }

    fn is_bulky(&self) -> bool {
        self.connection.is_bulky()
            || self.scratch.capacity() > limits::BUFFER_BYTES
            || self.session.is_bulky()
    }

    fn shrink(&mut self) {
        self.connection.shrink();
        self.scratch = Vec::new();
        self.session.shrink();
    }
}
