//! Chunks: consecutive messages of one topic, as the store returns them and all readers share them.

use std::ops::Range;
use std::sync::OnceLock;

use super::{Id, Message, Topic};

/// Consecutive messages of one topic. When the chunk was read, the topic had no other message between
/// them, nor between the id `after` and the first.
#[derive(Debug, Default)]
pub struct Chunk {
    after: Id,
    entries: Vec<MessageEnd>,
    bytes: Vec<u8>,
    /// The topic's number of removals when the chunk was read.
    removals: u64,
    /// The earliest expiry of its messages.
    expires: Option<Id>,
    /// Index, original topic and original id of each dead letter.
    origins: Vec<(usize, Topic, Id)>,
    /// The encoded forms, each produced once for all readers.
    pushes: OnceLock<Encoded>,
    events: OnceLock<Encoded>,
    frames: OnceLock<Encoded>,
}

#[derive(Debug)]
struct MessageEnd {
    id: Id,
    /// The end of the body in the chunk's bytes; it starts at the end of the previous one.
    end: usize,
}

/// A wire form of pushed messages.
#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    /// Objects of the JSON protocol.
    Push,
    /// Server-sent events.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone writes them"))]
    Event,
    /// CoreMQ frames.
    Frame,
}

/// The messages of a chunk in one wire form, and the end of each.
#[derive(Debug, Default)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub ends: Vec<usize>,
}

impl Chunk {
    pub fn new(after: Id, removals: u64) -> Chunk {
        Chunk { after, removals, ..Chunk::default() }
    }

    pub fn push(&mut self, id: Id, body: &[u8], expires: Option<Id>) {
        self.bytes.extend_from_slice(body);
        self.entries.push(MessageEnd { id, end: self.bytes.len() });
        self.expires = self.expires.into_iter().chain(expires).min();
    }

    /// Records the origin of the last message, which is a dead letter.
    pub fn set_origin(&mut self, topic: Topic, id: Id) {
        if let Some(last) = self.entries.len().checked_sub(1) {
            self.origins.push((last, topic, id));
        }
    }

    /// Reverses a chunk that was read newest first.
    pub fn reversed(self) -> Chunk {
        let mut chunk = Chunk::new(self.entries.last().map_or(self.after, |first| first.id - 1), 0);
        chunk.removals = self.removals;
        chunk.expires = self.expires;
        for index in (0..self.entries.len()).rev() {
            if let Some(message) = self.get(index) {
                chunk.push(message.id, message.body, None);
                if let Some((topic, id)) = self.origin(index) {
                    chunk.set_origin(topic.clone(), id);
                }
            }
        }
        chunk
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The message at `index`; `None` at or after the end.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        let entry = self.entries.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.entries.get(before)?.end,
            None => 0,
        };
        Some(Message { id: entry.id, body: self.bytes.get(start..entry.end)? })
    }

    /// The original topic and id of the dead letter at `index`.
    pub fn origin(&self, index: usize) -> Option<(&Topic, Id)> {
        let origin = self.origins.iter().find(|(at, ..)| *at == index);
        origin.map(|(_, topic, id)| (topic, *id))
    }

    /// Bytes of all bodies.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The index of the first message after `after`; `None` if the chunk does not cover this id.
    pub fn position(&self, after: Id) -> Option<usize> {
        let within = self.after <= after && after < self.last_id();
        within.then(|| self.entries.partition_point(|entry| entry.id <= after))
    }

    /// The id of the last message; if the chunk is empty, the id after which it begins.
    pub fn last_id(&self) -> Id {
        self.entries.last().map_or(self.after, |entry| entry.id)
    }

    /// The id after which the chunk begins. The topic has no message between it and the first one.
    pub fn after(&self) -> Id {
        self.after
    }

    pub fn removals(&self) -> u64 {
        self.removals
    }

    pub fn expires(&self) -> Option<Id> {
        self.expires
    }

    /// The messages in this form. Calls `encode` the first time.
    pub fn encoded(&self, form: Encoding, encode: impl FnOnce(&Chunk) -> Encoded) -> &Encoded {
        let encoded = match form {
            Encoding::Push => &self.pushes,
            Encoding::Event => &self.events,
            Encoding::Frame => &self.frames,
        };
        encoded.get_or_init(|| encode(self))
    }
}

impl Encoded {
    /// The bytes of the messages with these indices.
    pub fn part(&self, range: &Range<usize>) -> &[u8] {
        let start = self.end_before(range.start);
        self.bytes.get(start..self.end_before(range.end).max(start)).unwrap_or_default()
    }

    /// The end of each of these messages, relative to the start of [`Encoded::part`].
    pub fn ends_in(&self, range: &Range<usize>) -> impl Iterator<Item = usize> {
        let start = self.end_before(range.start);
        self.ends.get(range.clone()).unwrap_or_default().iter().map(move |end| end - start)
    }

    fn end_before(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0)
    }
}
