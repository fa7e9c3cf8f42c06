//! What was read of a connection and is not yet done with. It grows with what has arrived, never
//! with what is claimed to come.

use std::io::{self, Read};

use crate::limits;

pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn new() -> Buffer {
        Buffer { bytes: vec![0; limits::BUFFER_BYTES], start: 0, end: 0 }
    }

    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Forgets the first `count` unread bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once; 0 is the end.
    pub fn read_from(&mut self, mut from: impl Read) -> io::Result<usize> {
        self.make_room();
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let most = room.len().min(limits::READ_BYTES);
        let read = loop {
            match from.read(room.get_mut(..most).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        // Who fills the room at once has more: the next read may take as much as one may.
        if read == most && self.bytes.len() < limits::READ_BYTES {
            self.bytes.resize(limits::READ_BYTES, 0);
        }
        Ok(read)
    }

    /// At least one byte of room, behind an unread part that begins at the front: a request that
    /// arrives in pieces is moved once, and its buffer doubles.
    fn make_room(&mut self) {
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize((self.end * 2).max(limits::BUFFER_BYTES), 0);
        }
    }

    /// Whether memory is held that an idle connection does not need.
    pub fn is_bulky(&self) -> bool {
        self.bytes.len() > limits::BUFFER_BYTES
    }

    /// Gives that memory back, as far as nothing is unread in it.
    pub fn shrink(&mut self) {
        let unread = self.unread();
        if self.is_bulky() && unread.len() < limits::BUFFER_BYTES {
            let mut bytes = vec![0; limits::BUFFER_BYTES];
            let end = unread.len();
            if let Some(front) = bytes.get_mut(..end) {
                front.copy_from_slice(unread);
            }
            *self = Buffer { bytes, start: 0, end };
        }
    }
}
