//! ZMTP 3.0 (ØMQ's protocol, RFC 23) as a server needs it, with the NULL mechanism: one connection
//! without its socket. Handshake and pings are answered here; messages and subscriptions are
//! returned as events.

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

/// Why a connection is closed. After the handshake ZMTP has no message to tell the peer, so the
/// text is only logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZmtpError(pub &'static str);

/// A request of the peer.
#[derive(Debug, PartialEq)]
pub enum Event {
    Message(Message),
    /// Subscribe to messages with this prefix.
    Subscribe(Vec<u8>),
    Cancel(Vec<u8>),
}

pub struct ZmtpConnection {
    max_message: usize,
    greeted: bool,
    /// Known after the handshake.
    peer: Option<Peer>,
    decoder: ZmtpDecoder,
    out: Vec<u8>,
}

impl ZmtpConnection {
    /// `max_message` limits a message in bytes. The buffer starts with the server's greeting.
    pub fn new(max_message: usize) -> ZmtpConnection {
        let out = greeting().to_vec();
        // No messages are allowed before the handshake.
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

    /// Reads `unread`; returns the number of bytes consumed, and the first event. `None` means that
    /// more bytes are needed, or that the output must be written first.
    ///
    /// # Errors
    ///
    /// Why the connection must be closed.
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
            // Before ZMTP 3.1 a subscription is a message.
            Some(Peer::Subscriber) => match message.parts().next().and_then(<[u8]>::split_first) {
                Some((1, prefix)) => subscription(prefix).map(Event::Subscribe).map(Some),
                Some((0, prefix)) => subscription(prefix).map(Event::Cancel).map(Some),
                _ => Ok(None),
            },
            Some(_) => Ok(Some(Event::Message(message))),
        }
    }

    fn command(&mut self, body: &[u8]) -> Result<Option<Event>, ZmtpError> {
        let (name, data) = command(body).ok_or(ZmtpError("a command has no name"))?;
        match (name, self.peer) {
            (b"READY", None) => {
                let peer = shake_hands(&mut self.out, data)?;
                self.peer = Some(peer);
                self.decoder.set_max(match peer {
                    Peer::Subscriber => 1 + limits::ZMTP_PREFIX_BYTES,
                    _ => self.max_message,
                });
                if peer == Peer::Publisher {
                    // Subscribe to everything that it publishes.
                    write_frame(&mut self.out, &[1], false);
                }
                Ok(None)
            }
            (_, None) => Err(ZmtpError("READY must come first")),
            (b"ERROR", _) => Err(ZmtpError("the peer reported an error")),
            (b"PING", _) => {
                // After the peer's timeout, which this server does not need: it detects dead peers
                // at the socket.
                let context = data.get(2..).filter(|context| context.len() <= PING_BYTES);
                let context = context.ok_or(ZmtpError("a ping is malformed"))?;
                write_command(&mut self.out, "PONG", context);
                Ok(None)
            }
            (b"SUBSCRIBE", Some(Peer::Subscriber)) => {
                subscription(data).map(Event::Subscribe).map(Some)
            }
            (b"CANCEL", Some(Peer::Subscriber)) => subscription(data).map(Event::Cancel).map(Some),
            // Ignore commands of later versions.
            _ => Ok(None),
        }
    }

    /// Writes a message with these parts.
    pub fn send<'p>(&mut self, parts: impl IntoIterator<Item = &'p [u8]>) {
        write_message(&mut self.out, parts);
    }

    /// The output buffer, to which frames can be appended.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub fn replies(&self) -> &[u8] {
        &self.out
    }

    /// Clears the output, which was written or never will be.
    pub fn written(&mut self) {
        self.out.clear();
        if self.out.capacity() > 2 * limits::REPLY_BYTES {
            self.out.shrink_to(limits::REPLY_BYTES);
        }
    }

    /// Whether the connection holds memory that an idle one does not need.
    pub fn is_bulky(&self) -> bool {
        self.out.capacity().max(self.decoder.capacity()) > limits::BUFFER_BYTES
    }

    pub fn shrink(&mut self) {
        self.out = Vec::new();
    }
}

/// The largest context of a ping, in bytes.
const PING_BYTES: usize = 16;

/// Checks the length of a prefix.
fn subscription(prefix: &[u8]) -> Result<Vec<u8>, ZmtpError> {
    if prefix.len() > limits::ZMTP_PREFIX_BYTES {
        return Err(ZmtpError("a subscription is too long"));
    }
    Ok(prefix.to_vec())
}
