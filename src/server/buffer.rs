//! Bytes that were read from a connection and are not processed yet. The buffer grows with the
//! bytes that arrived, never with a length that a client claims.

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

    /// Removes the first `count` unread bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once; 0 is the end of the stream.
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
        // A client that fills the room at once may have more to send.
        if read == most && self.bytes.len() < limits::READ_BYTES {
            self.bytes.resize(2 * self.bytes.len(), 0);
        }
        Ok(read)
    }

    /// Makes room for at least one byte after the unread bytes, which move to the front. The buffer
    /// doubles, so that a request that arrives in pieces is moved seldom.
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

    /// Whether it holds memory that an idle connection does not need.
    pub fn is_bulky(&self) -> bool {
        self.bytes.len() > limits::BUFFER_BYTES
    }

    /// Frees that memory, except for the unread bytes and a little room.
    pub fn shrink(&mut self) {
        let unread = self.unread().len();
        let enough = (unread + 1).next_multiple_of(limits::BUFFER_BYTES);
        if self.bytes.len() > enough {
            let mut bytes = Vec::with_capacity(enough);
            bytes.extend_from_slice(self.unread());
            bytes.resize(enough, 0);
            *self = Buffer { bytes, start: 0, end: unread };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(from: &[u8]) -> Buffer {
        let mut buffer = Buffer::new();
        let mut from = from;
        while !from.is_empty() {
            buffer.read_from(&mut from).unwrap();
        }
        buffer
    }

    #[test]
    fn what_arrives_is_kept_in_order_and_what_is_done_with_is_not() {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let mut buffer = buffer(&bytes);
        assert_eq!(buffer.unread(), bytes);
        buffer.consume(123_456);
        let mut more = &b"more"[..];
        buffer.read_from(&mut more).unwrap();
        assert_eq!(buffer.unread(), [&bytes[123_456..], b"more"].concat());
        buffer.consume(usize::MAX / 2);
        assert!(buffer.unread().is_empty());
    }

    #[test]
    fn memory_follows_what_arrived_and_is_given_back() {
        for len in [1, 4_000, 4_096, 5_000, 70_000, 9 << 20] {
            let mut buffer = buffer(&vec![7; len]);
            assert!(buffer.bytes.len() <= 2 * len.max(limits::BUFFER_BYTES) + limits::READ_BYTES);
            buffer.shrink();
            assert_eq!(buffer.unread().len(), len);
            assert!(buffer.bytes.capacity() <= len + 2 * limits::BUFFER_BYTES, "{len}");
            buffer.consume(len);
            buffer.shrink();
            assert!(!buffer.is_bulky());
        }
    }
}
