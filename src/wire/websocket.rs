//! WebSocket (RFC 6455) as a server needs it: the opening key, messages from bytes, and frames from
//! messages. No extensions.

#[cfg(test)]
mod tests;

use base64::alphabet;
use base64::engine::{Engine, GeneralPurpose, GeneralPurposeConfig};

/// The status code of a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The server stops.
    pub const AWAY: CloseCode = CloseCode(1001);
    /// The peer violated the framing, or sent a frame that is not allowed now.
    pub const PROTOCOL: CloseCode = CloseCode(1002);
    /// Answers a close without a code.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// A binary message where only text is allowed.
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// Text that is not UTF-8, or not valid in this protocol.
    pub const INVALID: CloseCode = CloseCode(1007);
    pub const TOO_LARGE: CloseCode = CloseCode(1009);
    /// An internal error of the server.
    pub const FAILED: CloseCode = CloseCode(1011);

    /// Whether a peer may send this code.
    fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// A complete message from the peer.
#[derive(Debug, PartialEq)]
pub enum WebSocketMessage {
    Text(String),
    Binary(Vec<u8>),
    /// The answer is a pong with the same bytes.
    Ping(Vec<u8>),
    /// The answer is a close with the same code.
    Close(CloseCode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn new(number: u8) -> Option<Opcode> {
        let all = [
            Opcode::Continuation,
            Opcode::Text,
            Opcode::Binary,
            Opcode::Close,
            Opcode::Ping,
            Opcode::Pong,
        ];
        all.into_iter().find(|opcode| *opcode as u8 == number)
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The largest payload of a Close, Ping or Pong frame, in bytes.
const CONTROL_BYTES: u64 = 125;

/// Decodes frames and joins fragmented messages. Memory grows with the bytes received, never with
/// the length that a header claims.
pub struct WebSocketDecoder {
    max_message: usize,
    /// The frame whose payload is being received.
    frame: Option<Frame>,
    /// The message received so far and its kind. Control frames may interrupt a message, so they
    /// have a buffer of their own.
    message: Vec<u8>,
    kind: Option<Opcode>,
    control: Vec<u8>,
}

/// A frame's header, and the part of its payload that is still missing.
struct Frame {
    opcode: Opcode,
    last: bool,
    mask: [u8; 4],
    left: u64,
}

impl WebSocketDecoder {
    pub fn new(max_message: usize) -> WebSocketDecoder {
        WebSocketDecoder {
            max_message,
            frame: None,
            message: Vec::new(),
            kind: None,
            control: Vec::new(),
        }
    }

    /// Reads `unread`; returns the number of bytes consumed, and the first complete message. `None`
    /// means that all of `unread` is used and more bytes are needed.
    ///
    /// # Errors
    ///
    /// The code with which the connection must be closed.
    pub fn advance(
        &mut self,
        unread: &[u8],
    ) -> (usize, Result<Option<WebSocketMessage>, CloseCode>) {
        let mut done = 0;
        loop {
            let rest = unread.get(done..).unwrap_or_default();
            let Some(frame) = &mut self.frame else {
                match header(rest) {
                    Ok(Some((frame, len))) => {
                        done += len;
                        if let Err(code) = self.begin(frame) {
                            return (done, Err(code));
                        }
                        continue;
                    }
                    Ok(None) => return (done, self.check_claim(rest).map(|()| None)),
                    Err(code) => return (done, Err(code)),
                }
            };
            let here = usize::try_from(frame.left).unwrap_or(usize::MAX).min(rest.len());
            let payload =
                if frame.opcode.is_control() { &mut self.control } else { &mut self.message };
            append_unmasked(payload, rest.get(..here).unwrap_or_default(), &mut frame.mask);
            frame.left -= here as u64;
            done += here;
            if frame.left > 0 {
                return (done, Ok(None));
            }
            let (opcode, last) = (frame.opcode, frame.last);
            self.frame = None;
            match self.complete(opcode, last) {
                Ok(None) => {}
                came => return (done, came),
            }
        }
    }

    /// Refuses an incomplete header whose length is already known to be too large.
    fn check_claim(&self, header: &[u8]) -> Result<(), CloseCode> {
        let Some((length, _)) = length(header) else { return Ok(()) };
        let is_control = header.first().is_some_and(|first| first & 0x08 != 0);
        if !is_control && length > self.room() { Err(CloseCode::TOO_LARGE) } else { Ok(()) }
    }

    fn room(&self) -> u64 {
        self.max_message.saturating_sub(self.message.len()) as u64
    }

    /// Starts a frame.
    ///
    /// # Errors
    ///
    /// The frame is not allowed now, or the message becomes too large.
    fn begin(&mut self, frame: Frame) -> Result<(), CloseCode> {
        match frame.opcode {
            opcode if opcode.is_control() => {
                if !frame.last || frame.left > CONTROL_BYTES {
                    return Err(CloseCode::PROTOCOL);
                }
            }
            Opcode::Continuation if self.kind.is_none() => return Err(CloseCode::PROTOCOL),
            Opcode::Continuation => {}
            _ if self.kind.is_some() => return Err(CloseCode::PROTOCOL),
            first => self.kind = Some(first),
        }
        if !frame.opcode.is_control() && frame.left > self.room() {
            return Err(CloseCode::TOO_LARGE);
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// Ends a frame; returns the message that it completes.
    fn complete(
        &mut self,
        opcode: Opcode,
        last: bool,
    ) -> Result<Option<WebSocketMessage>, CloseCode> {
        match opcode {
            Opcode::Ping => Ok(Some(WebSocketMessage::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong => {
                self.control.clear();
                Ok(None)
            }
            Opcode::Close => {
                close_code(&self.control).map(|code| Some(WebSocketMessage::Close(code)))
            }
            _ if !last => Ok(None),
            _ => {
                let message = std::mem::take(&mut self.message);
                match self.kind.take() {
                    Some(Opcode::Binary) => Ok(Some(WebSocketMessage::Binary(message))),
                    _ => String::from_utf8(message)
                        .map(|text| Some(WebSocketMessage::Text(text)))
                        .map_err(|_| CloseCode::INVALID),
                }
            }
        }
    }
}

/// A frame's header and the header's length; `None` if it is incomplete.
fn header(bytes: &[u8]) -> Result<Option<(Frame, usize)>, CloseCode> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let opcode = Opcode::new(first & 0x0f).ok_or(CloseCode::PROTOCOL)?;
    let (reserved, masked) = (first & 0x70, second & 0x80 != 0);
    if reserved != 0 || !masked {
        return Err(CloseCode::PROTOCOL);
    }
    let Some((left, at)) = length(bytes) else { return Ok(None) };
    let mask = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let frame = |mask: &[u8; 4]| Frame { opcode, last: first & 0x80 != 0, mask: *mask, left };
    Ok(mask.map(|mask| (frame(mask), at + mask.len())))
}

/// The payload's length, and the number of bytes up to the mask.
fn length(header: &[u8]) -> Option<(u64, usize)> {
    let (_, rest) = header.split_first()?;
    let (length, rest) = rest.split_first()?;
    match length & 0x7f {
        126 => rest.first_chunk().map(|length| (u64::from(u16::from_be_bytes(*length)), 4)),
        127 => rest.first_chunk().map(|length| (u64::from_be_bytes(*length), 10)),
        short => Some((u64::from(short), 2)),
    }
}

/// Appends the unmasked bytes, and rotates the mask to the position of the next byte.
fn append_unmasked(to: &mut Vec<u8>, masked: &[u8], mask: &mut [u8; 4]) {
    let start = to.len();
    to.extend_from_slice(masked);
    let (words, rest) = to.get_mut(start..).unwrap_or_default().as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(*mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter()) {
        *byte ^= mask;
    }
    mask.rotate_left(masked.len() % 4);
}

/// Reads the payload of a close frame.
fn close_code(payload: &[u8]) -> Result<CloseCode, CloseCode> {
    match payload {
        [] => Ok(CloseCode::NORMAL),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            match str::from_utf8(reason) {
                Ok(_) if code.is_sendable() => Ok(code),
                Ok(_) => Err(CloseCode::PROTOCOL),
                Err(_) => Err(CloseCode::INVALID),
            }
        }
        [_] => Err(CloseCode::PROTOCOL),
    }
}

/// Writes a message as one frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.push(0x80 | opcode as u8);
    match payload.len() {
        short @ 0..126 => out.push(short as u8),
        len => match u16::try_from(len) {
            Ok(len) => {
                out.push(126);
                out.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => {
                out.push(127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        },
    }
    out.extend_from_slice(payload);
}

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The size of a decoded key. The unused bits of its last Base64 digit may have any value.
const KEY_BYTES: usize = 16;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The `Sec-WebSocket-Accept` header for a key; `None` if the key is invalid.
pub fn accept(key: &str) -> Option<String> {
    BASE64.decode(key).ok().filter(|bytes| bytes.len() == KEY_BYTES)?;
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    Some(BASE64.encode(hash.digest().bytes()))
}
