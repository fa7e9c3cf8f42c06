//! Frames, and the messages that they make up.

use super::ZmtpError;
use crate::limits;

/// The bits of a frame's first byte.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What came from the peer.
#[derive(Debug, PartialEq)]
pub enum Traffic {
    Message(Message),
    Command(Vec<u8>),
}

/// A message: one part, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    /// Where each part ends.
    ends: Vec<usize>,
}

impl Message {
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }

    /// How many parts of a request go back in front of its reply: those up to an empty one.
    pub fn envelope(&self) -> usize {
        let envelope = self.parts().position(<[u8]>::is_empty);
        // A single empty part is no envelope of nothing, but an empty message.
        envelope.filter(|_| self.ends.len() > 1).map_or(0, |empty| empty + 1)
    }

    /// The part behind the envelope, if that is one.
    pub fn only_part(&self, envelope: usize) -> Option<&[u8]> {
        let mut parts = self.parts().skip(envelope);
        parts.next().filter(|_| parts.next().is_none())
    }
}

/// Reads frames, and puts the messages together that came in several. What it holds grows with
/// what has arrived, never with what is claimed to come.
pub struct ZmtpDecoder {
    max_message: usize,
    /// The frame whose body is arriving.
    frame: Option<Frame>,
    /// What has arrived of a message, and of a command.
    message: Message,
    command: Vec<u8>,
}

/// A frame's header.
struct Frame {
    more: bool,
    command: bool,
    left: usize,
}

impl ZmtpDecoder {
    pub fn new(max_message: usize) -> ZmtpDecoder {
        ZmtpDecoder { max_message, frame: None, message: Message::default(), command: Vec::new() }
    }

    /// Reads on; returns how many bytes are done with, and what came, if that is whole. Without it
    /// there is nothing to be done before more bytes are there.
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

    /// A frame's header and its length, if that is whole; one that may not come is refused as soon
    /// as that can be seen.
    fn header(&self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, ZmtpError> {
        let Some((&flags, rest)) = bytes.split_first() else { return Ok(None) };
        let (command, more) = (flags & COMMAND != 0, flags & MORE != 0);
        if flags & !(MORE | LONG | COMMAND) != 0 || (command && more) {
            return Err(ZmtpError("this is no frame of ZMTP 3"));
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

    /// From the next message on, this is the most.
    pub fn set_max(&mut self, max_message: usize) {
        self.max_message = max_message;
    }

    /// Bytes that it has memory for.
    pub fn capacity(&self) -> usize {
        self.message.bytes.capacity() + self.command.capacity()
    }
}

/// Writes a frame that is a message, or a part of one that has more.
pub fn write_frame(out: &mut Vec<u8>, body: &[u8], more: bool) {
    write(out, if more { MORE } else { 0 }, body);
}

/// Writes a message of these parts.
pub fn write_message<'p>(out: &mut Vec<u8>, parts: impl IntoIterator<Item = &'p [u8]>) {
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        write_frame(out, part, parts.peek().is_some());
    }
}

/// Writes a command.
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
