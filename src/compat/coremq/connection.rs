//! CoreMQ over TCP: frames in and out. The server speaks first.

use serde_json::json;

use super::CoreMqSession;
use super::frame::{FrameDecoder, can_name, parts, write};
use super::object::{RawObject, bad_field, error_response};
use crate::error::Result;
use crate::limits;
use crate::ops::{Chunk, Encoded, Encoding};
use crate::protocol::handler::{self, Next};
use crate::protocol::json;

pub struct CoreMqHandler {
    coremq: CoreMqSession,
    decoder: FrameDecoder,
    is_welcomed: bool,
    has_ended: bool,
    out: FrameBuffer,
}

/// Frames to be written, and the end of each.
#[derive(Default)]
struct FrameBuffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl FrameBuffer {
    fn add(&mut self, queue: &str, json: &str) {
        if write(&mut self.bytes, queue, json) {
            self.ends.push(self.bytes.len());
        } else {
            tracing::warn!(
                "cannot send a message of {queue}: it is larger than a CoreMQ frame can be"
            );
        }
    }
}

impl CoreMqHandler {
    pub fn new(coremq: CoreMqSession) -> CoreMqHandler {
        let decoder = FrameDecoder::new(coremq.max_request());
        CoreMqHandler {
            coremq,
            decoder,
            is_welcomed: false,
            has_ended: false,
            out: FrameBuffer::default(),
        }
    }

    /// Buffers a frame addressed to the connection itself.
    fn send_to_self(&mut self, json: &str) {
        self.out.add(&self.coremq.id, json);
    }

    fn welcome(&mut self) {
        if !std::mem::replace(&mut self.is_welcomed, true) {
            let welcome = "OK: Welcome to CoreMQ server";
            self.send_to_self(
                &json!({ "response": welcome, "server": self.coremq.hub.name }).to_string(),
            );
        }
    }

    /// Handles the text of one frame and returns the answer.
    fn receive(&mut self, text: &str) -> Result<String> {
        let (queue, json) = parts(text)?;
        let json = json::message(json.as_bytes(), self.coremq.max_request())?;
        let json = str::from_utf8(json).unwrap_or_default();
        match RawObject::new(json) {
            Some(object) => Ok(self.coremq.receive(queue, &object)),
            None if json.starts_with('[') => self.coremq.receive_list(queue, json),
            None => Err(bad_field("a message is an object or a list")),
        }
    }

    /// Buffers messages for this connection; true if there may be more.
    fn buffer_messages(&mut self) -> Result<bool> {
        while self.out.bytes.len() < limits::REPLY_BYTES {
            if let Some(direct) = self.coremq.next_direct() {
                self.out.add(&direct.queue, &direct.json);
                continue;
            }
            let Some(messages) = self.coremq.next()? else { return Ok(false) };
            // Other protocols allow topic names that a frame cannot hold.
            if can_name(messages.queue()) {
                let encoded = messages
                    .pushes
                    .chunk
                    .encoded(Encoding::Frame, |chunk| frames(messages.queue(), chunk));
                for index in messages.indices() {
                    self.out.bytes.extend_from_slice(encoded.part(&(index..index + 1)));
                    self.out.ends.push(self.out.bytes.len());
                }
            }
        }
        Ok(true)
    }
}

/// Encodes a chunk as frames. Messages of other protocols that are neither object nor list are
/// wrapped in an object.
fn frames(queue: &str, chunk: &Chunk) -> Encoded {
    let mut out = FrameBuffer::default();
    let mut ends = Vec::new();
    for message in (0..chunk.len()).filter_map(|index| chunk.get(index)) {
        let body = str::from_utf8(message.body).unwrap_or_default();
        if body.starts_with(['{', '[']) {
            out.add(queue, body);
        } else {
            out.add(queue, &format!("{{\"coremq_string\":{body}}}"));
        }
        // A message that is too large for a frame has an empty range, so that the indices still
        // match.
        ends.push(out.bytes.len());
    }
    Encoded { bytes: out.bytes, ends }
}

impl handler::ProtocolHandler for CoreMqHandler {
    fn advance(&mut self, unread: &[u8]) -> (usize, Next) {
        self.welcome();
        let mut done = 0;
        while self.out.bytes.len() < limits::REPLY_BYTES {
            let rest = unread.get(done..).unwrap_or_default();
            match self.decoder.decode(rest) {
                Ok(Some((text, len))) => {
                    done += len;
                    let answer = self.receive(text).unwrap_or_else(|error| error_response(&error));
                    self.send_to_self(&answer);
                }
                Ok(None) => return (done, Next::Read),
                Err(error) => {
                    self.send_to_self(&error_response(&error));
                    return (unread.len(), Next::Close);
                }
            }
        }
        (done, Next::Write)
    }

    fn replies(&self) -> &[u8] {
        &self.out.bytes
    }

    /// CoreMQ's clients take the beginning of each read for the beginning of a frame, so each frame
    /// is a write of its own.
    fn write_end(&self, start: usize) -> usize {
        let next = self.out.ends.partition_point(|end| *end <= start);
        self.out.ends.get(next).copied().unwrap_or(self.out.bytes.len())
    }

    fn written(&mut self, _bytes: usize) {
        self.out.bytes.clear();
        self.out.ends.clear();
        if self.out.bytes.capacity() > 2 * limits::REPLY_BYTES {
            self.out = FrameBuffer::default();
        }
    }

    fn is_subscribed(&self) -> bool {
        !self.has_ended && self.coremq.session.is_subscribed()
    }

    fn push(&mut self) -> bool {
        self.buffer_messages().unwrap_or_else(|error| {
            self.send_to_self(&error_response(&error));
            false
        })
    }

    /// CoreMQ's clients close both directions at once: nothing is pushed after this.
    fn end(&mut self, unread: &[u8]) {
        self.has_ended = true;
        if self.coremq.broker.check_open(&self.coremq.caller).is_err() {
            self.send_to_self(&json!({ "response": "BYE" }).to_string());
        } else if !unread.is_empty() {
            self.send_to_self(&error_response(&bad_field("the connection ended inside a frame")));
        }
    }

    fn is_bulky(&self) -> bool {
        self.out.bytes.capacity() > limits::BUFFER_BYTES || self.coremq.session.is_bulky()
    }

    fn shrink(&mut self) {
        self.out = FrameBuffer::default();
        self.coremq.session.shrink();
    }
}
