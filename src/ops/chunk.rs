//! Runs: messages as they leave the store, several at a time.

use std::ops::Range;
use std::sync::OnceLock;

use super::{Id, Message, Topic};

/// A few messages of one topic that follow one another, as they were read: nothing of the topic
/// lies between them, nor between `after` and the first.
#[derive(Debug, Default)]
pub struct Chunk {
    after: Id,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    /// The topic's removals when it was read.
    removals: u64,
    /// When the first of its messages expires.
    expires: Option<Id>,
    /// Where dead letters came from, by their index in the run.
    origins: Vec<(usize, Topic, Id)>,
    /// The messages as a protocol writes them, each made once for all who stand in this run.
    pushes: OnceLock<Encoded>,
    events: OnceLock<Encoded>,
    frames: OnceLock<Encoded>,
}

#[derive(Debug)]
struct Entry {
    id: Id,
    /// Where the message ends in the run's bytes; it begins where the one before it ends.
    end: usize,
}

/// How a protocol writes messages that it pushes.
#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    /// As objects of the JSON protocol.
    Push,
    /// As server-sent events.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone writes them"))]
    Event,
    /// As CoreMQ's frames.
    Frame,
}

/// A run's messages on their way out, and where each ends.
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
        self.entries.push(Entry { id, end: self.bytes.len() });
        self.expires = self.expires.into_iter().chain(expires).min();
    }

    /// The last message that was pushed is a dead letter of this topic and id.
    pub fn set_origin(&mut self, topic: Topic, id: Id) {
        if let Some(last) = self.entries.len().checked_sub(1) {
            self.origins.push((last, topic, id));
        }
    }

    /// Turns a run that was read backwards, newest first, round.
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

    /// The message at `index`, if the run goes so far.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        let entry = self.entries.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.entries.get(before)?.end,
            None => 0,
        };
        Some(Message { id: entry.id, body: self.bytes.get(start..entry.end)? })
    }

    /// Where the dead letter at `index` came from.
    pub fn origin(&self, index: usize) -> Option<(&Topic, Id)> {
        let origin = self.origins.iter().find(|(at, ..)| *at == index);
        origin.map(|(_, topic, id)| (topic, *id))
    }

    /// Bytes of messages.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The index of the first message after `after`, if the run is sure to hold it.
    pub fn position(&self, after: Id) -> Option<usize> {
        let within = self.after <= after && after < self.last_id();
        within.then(|| self.entries.partition_point(|entry| entry.id <= after))
    }

    /// The id of the last message; where there is none, the id that the run was to begin after.
    pub fn last_id(&self) -> Id {
        self.entries.last().map_or(self.after, |entry| entry.id)
    }

    /// The id after which it begins: nothing of the topic lies between this id and the first message.
    pub fn after(&self) -> Id {
        self.after
    }

    pub fn removals(&self) -> u64 {
        self.removals
    }

    pub fn expires(&self) -> Option<Id> {
        self.expires
    }

    /// The messages as `encode` writes them in this form; it is asked once.
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
    /// The messages with these indices, as they stand behind one another.
    pub fn part(&self, range: &Range<usize>) -> &[u8] {
        let start = self.end_before(range.start);
        self.bytes.get(start..self.end_before(range.end).max(start)).unwrap_or_default()
    }

    /// Where in that part each of them ends.
    pub fn ends_in(&self, range: &Range<usize>) -> impl Iterator<Item = usize> {
        let start = self.end_before(range.start);
        self.ends.get(range.clone()).unwrap_or_default().iter().map(move |end| end - start)
    }

    fn end_before(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0)
    }
}
