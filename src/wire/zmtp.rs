//! ZMTP 3.0 (ØMQ's wire, RFC 23) as a server speaks it, without security (NULL): bytes in, messages
//! out, and messages into frames. What is in the messages is a [`Dialect`]'s.

#[cfg(any(test, fuzzing))]
pub mod check;
mod frame;
mod handshake;
#[cfg(test)]
mod tests;

pub use self::frame::{Message, write_frame, write_message};
use self::frame::{Traffic, ZmtpDecoder, write_command};
pub use self::handshake::Peer;
use self::handshake::{command, greeting, read_greeting, shake_hands};
use crate::limits;

/// Why a connection is closed: ZMTP has no words for it once the handshake is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZmtpError(pub &'static str);

/// What a peer wants.
#[derive(Debug, PartialEq)]
pub enum Event {
    Message(Message),
    /// To be sent what begins so, and no more of it.
    Subscribe(Vec<u8>),
    Cancel(Vec<u8>),
}

pub struct ZmtpConnection {
    max_message: usize,
    greeted: bool,
    /// Known once hands are shaken.
    peer: Option<Peer>,
    decoder: ZmtpDecoder,
    out: Vec<u8>,
}

impl ZmtpConnection {
    /// A message has at most `max_message` bytes. Our greeting is to be written already.
    pub fn new(max_message: usize) -> ZmtpConnection {
        let out = greeting().to_vec();
        // Before the handshake there are no messages.
        ZmtpConnection {
            max_message,
            greeted: false,
            peer: None,
            decoder: ZmtpDecoder::new(0),
            out,
        }
    }

    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Reads on; returns how many bytes are done with, and what came. Without that there is nothing
    /// to be done before more bytes are there, or before what has gathered is written.
    pub fn advance(&mut self, unread: &[u8]) -> (usize, Result<Option<Event>, ZmtpError>) {
        let mut done = 0;
        if !self.greeted {
            match read_greeting(unread) {
                Ok(Some(len)) => done = len,
                Ok(None) => return (0, Ok(None)),
                Err(fault) => return (0, Err(fault)),
            }
            self.greeted = true;
        }
        while self.out.len() < limits::REPLY_BYTES {
            let (len, received) = self.decoder.advance(unread.get(done..).unwrap_or_default());
            done += len;
            let event = match received {
                Ok(Some(Traffic::Message(message))) => self.message(message),
                Ok(Some(Traffic::Command(body))) => self.command(&body),
                Ok(None) => return (done, Ok(None)),
                Err(fault) => Err(fault),
            };
            match event {
                Ok(None) => {}
                event => return (done, event),
            }
        }
        (done, Ok(None))
    }

    fn message(&mut self, message: Message) -> Result<Option<Event>, ZmtpError> {
        match self.peer {
            None => Err(ZmtpError("a message came before READY")),
            // Before 3.1 a subscription is a message.
            Some(Peer::Subscriber) => match message.parts().next().and_then(<[u8]>::split_first) {
                Some((1, prefix)) => subscription(prefix).map(Event::Subscribe).map(Some),
                Some((0, prefix)) => subscription(prefix).map(Event::Cancel).map(Some),
                _ => Ok(None),
            },
            Some(_) => Ok(Some(Event::Message(message))),
        }
    }

    fn command(&mut self, body: &[u8]) -> Result<Option<Event>, ZmtpError> {
        let (name, data) = command(body).ok_or(ZmtpError("a command without its name"))?;
        match (name, self.peer) {
            (b"READY", None) => {
                let peer = shake_hands(&mut self.out, data)?;
                self.peer = Some(peer);
                self.decoder.set_max(match peer {
                    Peer::Subscriber => 1 + limits::ZMTP_PREFIX_BYTES,
                    _ => self.max_message,
                });
                if peer == Peer::Publisher {
                    // To all that it has.
                    write_frame(&mut self.out, &[1], false);
                }
                Ok(None)
            }
            (_, None) => Err(ZmtpError("READY must come first")),
            (b"ERROR", _) => Err(ZmtpError("the peer says that something is wrong")),
            (b"PING", _) => {
                // Behind the time after which the peer would be taken for dead, which is ours to
                // judge by the socket.
                let context = data.get(2..).filter(|context| context.len() <= PING_BYTES);
                let context = context.ok_or(ZmtpError("a ping is not as it must be"))?;
                write_command(&mut self.out, "PONG", context);
                Ok(None)
            }
            (b"SUBSCRIBE", Some(Peer::Subscriber)) => {
                subscription(data).map(Event::Subscribe).map(Some)
            }
            (b"CANCEL", Some(Peer::Subscriber)) => subscription(data).map(Event::Cancel).map(Some),
            // What a later version may add.
            _ => Ok(None),
        }
    }

    /// Writes a message of these parts.
    pub fn send<'p>(&mut self, parts: impl IntoIterator<Item = &'p [u8]>) {
        write_message(&mut self.out, parts);
    }

    /// What is to be written, behind which more may be put.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub fn replies(&self) -> &[u8] {
        &self.out
    }

    /// What was to be written is, or never will be.
    pub fn written(&mut self) {
        self.out.clear();
        if self.out.capacity() > 2 * limits::REPLY_BYTES {
            self.out.shrink_to(limits::REPLY_BYTES);
        }
    }

    /// Whether memory is held that an idle connection does not need.
    pub fn is_bulky(&self) -> bool {
        self.out.capacity().max(self.decoder.capacity()) > limits::BUFFER_BYTES
    }

    pub fn shrink(&mut self) {
        self.out = Vec::new();
    }
}

/// The most that a ping brings to be sent back.
const PING_BYTES: usize = 16;

/// A prefix, if it is one that somebody may mean.
fn subscription(prefix: &[u8]) -> Result<Vec<u8>, ZmtpError> {
    if prefix.len() > limits::ZMTP_PREFIX_BYTES {
        return Err(ZmtpError("a subscription is too long"));
    }
    Ok(prefix.to_vec())
}
