//! ZMTP frames, and the messages and commands that they form.

use super::ZmtpError;
use crate::limits;

/// The bits of a frame's first byte.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A complete message or command from the peer.
#[derive(Debug, PartialEq)]
pub enum Traffic {
    Message(Message),
    Command(Vec<u8>),
}

/// A message of one or more parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    /// The end of each part.
    ends: Vec<usize>,
}

impl Message {
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }

    /// The number of parts that a reply returns in front of its own: those up to an empty one.
    pub fn envelope(&self) -> usize {
        let envelope = self.parts().position(<[u8]>::is_empty);
        // A single empty part is an empty message, not an envelope.
        envelope.filter(|_| self.ends.len() > 1).map_or(0, |empty| empty + 1)
    }

    /// The part after the envelope; `None` unless there is exactly one.
    pub fn only_part(&self, envelope: usize) -> Option<&[u8]> {
        let mut parts = self.parts().skip(envelope);
        parts.next().filter(|_| parts.next().is_none())
    }
}

/// Decodes frames and joins the parts of messages. Memory grows with the bytes received, never with
/// the length that a header claims.
pub struct ZmtpDecoder {
    max_message: usize,
    /// The frame whose body is being received.
    frame: Option<Frame>,
    /// The message and the command received so far.
    message: Message,
    command: Vec<u8>,
}

/// A frame's header, and the part of its body that is still missing.
struct Frame {
    more: bool,
    command: bool,
    left: usize,
}

impl ZmtpDecoder {
    pub fn new(max_message: usize) -> ZmtpDecoder {
        ZmtpDecoder { max_message, frame: None, message: Message::default(), command: Vec::new() }
    }

    /// Reads `unread`; returns the number of bytes consumed, and the first message or command.
    /// `None` means that all of `unread` is used and more bytes are needed.
    pub fn advance(&mut self, unread: &[u8]) -> (usize, Result<Option<Traffic>, ZmtpError>) {
        let mut done = 0;
        loop {
            let rest = unread.get(done..).unwrap_or_default();
            let Some(frame) = &mut self.frame else {
                match self.header(rest) {
                    Ok(Some((frame, len))) => {
                        done += len;
                        self.frame = Some(frame);
                        continue;
                    }
                    Ok(None) => return (done, Ok(None)),
                    Err(fault) => return (done, Err(fault)),
                }
            };
            let here = frame.left.min(rest.len());
            let body = if frame.command { &mut self.command } else { &mut self.message.bytes };
            body.extend_from_slice(rest.get(..here).unwrap_or_default());
            frame.left -= here;
            done += here;
            if frame.left > 0 {
                return (done, Ok(None));
            }
            let (command, more) = (frame.command, frame.more);
            self.frame = None;
            if command {
                return (done, Ok(Some(Traffic::Command(std::mem::take(&mut self.command)))));
            }
            self.message.ends.push(self.message.bytes.len());
            if !more {
                return (done, Ok(Some(Traffic::Message(std::mem::take(&mut self.message)))));
            }
        }
    }

    /// A frame's header and the header's length; `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// The frame is invalid or too large, as soon as the bytes show it.
    fn header(&self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, ZmtpError> {
        let Some((&flags, rest)) = bytes.split_first() else { return Ok(None) };
        let (command, more) = (flags & COMMAND != 0, flags & MORE != 0);
        if flags & !(MORE | LONG | COMMAND) != 0 || (command && more) {
            return Err(ZmtpError("not a frame of ZMTP 3"));
        }
        if !command && self.message.ends.len() >= limits::ZMTP_PARTS {
            return Err(ZmtpError("the message has too many parts"));
        }
        let length = match flags & LONG {
            0 => rest.first().map(|length| (u64::from(*length), 2)),
            _ => rest.first_chunk().map(|length| (u64::from_be_bytes(*length), 9)),
        };
        let Some((length, header)) = length else { return Ok(None) };
        let room = match command {
            true => limits::ZMTP_COMMAND_BYTES,
            false => self.max_message.saturating_sub(self.message.bytes.len()),
        };
        match usize::try_from(length).ok().filter(|length| *length <= room) {
            Some(left) => Ok(Some((Frame { more, command, left }, header))),
            None => Err(ZmtpError("the frame is too large")),
        }
    }

    /// Sets the limit from the next message on.
    pub fn set_max(&mut self, max_message: usize) {
        self.max_message = max_message;
    }

    /// The allocated memory in bytes.
    pub fn capacity(&self) -> usize {
        self.message.bytes.capacity() + self.command.capacity()
    }
}

/// Writes one part of a message; `more` parts follow.
pub fn write_frame(out: &mut Vec<u8>, body: &[u8], more: bool) {
    write(out, if more { MORE } else { 0 }, body);
}

/// Writes a message with these parts.
pub fn write_message<'p>(out: &mut Vec<u8>, parts: impl IntoIterator<Item = &'p [u8]>) {
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        write_frame(out, part, parts.peek().is_some());
    }
}

pub fn write_command(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    let name_len = [name.len() as u8];
    write(out, COMMAND, &[&name_len, name.as_bytes(), data].concat());
}

fn write(out: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(len) => out.extend_from_slice(&[flags, len]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}
