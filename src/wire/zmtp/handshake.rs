//! The ZMTP handshake: both greetings, then the command READY, which names the socket types. A peer
//! may send 10 or 11 bytes of its greeting and wait, so a greeting is checked while it arrives.

use super::ZmtpError;
use super::frame::write_command;

const GREETING_BYTES: usize = 64;

/// The fields of a greeting; the rest matters only to other security mechanisms.
const SIGNATURE_BYTES: usize = 10;
const MAJOR: usize = SIGNATURE_BYTES;
const MECHANISM: std::ops::Range<usize> = 12..32;

/// The server's greeting. A peer with a later version falls back to this one.
pub fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    for (to, from) in greeting.iter_mut().zip(*b"\xFF\0\0\0\0\0\0\0\x01\x7F\x03\0NULL") {
        *to = from;
    }
    greeting
}

/// Checks the bytes of a greeting so far; returns its length when it is complete.
pub fn read_greeting(bytes: &[u8]) -> Result<Option<usize>, ZmtpError> {
    // The bytes between are padding for older versions.
    let signed = |at: usize, expected: u8| bytes.get(at).is_none_or(|byte| *byte == expected);
    if !signed(0, 0xFF) || !signed(SIGNATURE_BYTES - 1, 0x7F) {
        return Err(ZmtpError("not a greeting of ZMTP 3"));
    }
    if bytes.get(MAJOR).is_some_and(|major| *major < 3) {
        return Err(ZmtpError("the peer's version of ZMTP is older than 3"));
    }
    let ours = greeting();
    let mechanism = bytes.get(MECHANISM.start..).unwrap_or_default();
    let expected = ours.get(MECHANISM).unwrap_or_default();
    if mechanism.iter().zip(expected).any(|(byte, expected)| byte != expected) {
        return Err(ZmtpError(
            "the peer asks for a security mechanism, but only NULL is supported",
        ));
    }
    Ok((bytes.len() >= GREETING_BYTES).then_some(GREETING_BYTES))
}

/// The peer's kind, by its socket type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// REQ: sends a request and waits for the reply.
    Requester,
    /// DEALER: sends requests without waiting; replies come in order.
    Dealer,
    /// SUB and XSUB: receive the messages that they subscribe to.
    Subscriber,
    /// PUB and XPUB: send the messages that the server subscribes to, which are all.
    Publisher,
    /// PUSH: sends messages without replies.
    Pusher,
}

impl Peer {
    fn new(socket: &[u8]) -> Option<Peer> {
        Some(match socket {
            b"REQ" => Peer::Requester,
            b"DEALER" => Peer::Dealer,
            b"SUB" | b"XSUB" => Peer::Subscriber,
            b"PUB" | b"XPUB" => Peer::Publisher,
            b"PUSH" => Peer::Pusher,
            _ => return None,
        })
    }

    /// The socket type of the server towards this peer.
    fn counterpart(self) -> &'static str {
        match self {
            Peer::Requester => "REP",
            Peer::Dealer => "ROUTER",
            Peer::Subscriber => "PUB",
            Peer::Publisher => "SUB",
            Peer::Pusher => "PULL",
        }
    }

    /// Whether the peer expects replies.
    pub fn is_answered(self) -> bool {
        matches!(self, Peer::Requester | Peer::Dealer)
    }
}

/// Splits a command into name and data.
pub fn command(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Reads the data of READY and writes the answer.
pub fn shake_hands(out: &mut Vec<u8>, data: &[u8]) -> Result<Peer, ZmtpError> {
    let mut socket = None;
    let mut rest = data;
    while !rest.is_empty() {
        let property = property(rest).ok_or(ZmtpError("READY is malformed"))?;
        let (name, value);
        (name, value, rest) = property;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            socket = Some(value);
        }
    }
    let Some(peer) = socket.and_then(Peer::new) else {
        let reason = "this server supports REQ, DEALER, PUSH, PUB and SUB";
        let data = [&[reason.len() as u8], reason.as_bytes()].concat();
        write_command(out, "ERROR", &data);
        return Err(ZmtpError("the peer's socket type is not supported"));
    };
    let own = peer.counterpart();
    let mut data = b"\x0bSocket-Type".to_vec();
    data.extend_from_slice(&(own.len() as u32).to_be_bytes());
    data.extend_from_slice(own.as_bytes());
    write_command(out, "READY", &data);
    Ok(peer)
}

/// Splits a property into name, value and the remaining bytes.
fn property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = command(bytes)?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((name, value, rest))
}
