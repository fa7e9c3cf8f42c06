//! Replies: how the load generator knows that they are the right ones, and that all have come.

use std::io::{self, BufRead};

/// How a reply is known to be the right one, and whole.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Every reply is exactly these bytes.
    Is(Vec<u8>),
    /// Every reply begins with `begin`, and the first `end` after that is its last byte.
    Between {
        /// What tells a good reply from an error.
        begin: Vec<u8>,
        /// A byte that occurs nowhere else behind `begin`.
        end: u8,
    },
}

/// The replies of one round.
pub(super) enum Expected {
    Bytes(Vec<u8>),
    Replies { begin: Vec<u8>, end: u8, count: usize },
}

/// How much of a round's replies has come.
#[derive(Default)]
pub(super) struct Seen {
    /// Bytes of the whole, or of the reply that is still coming.
    bytes: usize,
    replies: usize,
}

impl Expected {
    pub(super) fn new(reply: &Reply, count: usize) -> Expected {
        match reply {
            Reply::Is(reply) => Expected::Bytes(reply.repeat(count)),
            Reply::Between { begin, end } => {
                Expected::Replies { begin: begin.clone(), end: *end, count }
            }
        }
    }

    /// Compares what was read with what was to come; true when the round is complete.
    pub(super) fn is_whole_after(&self, seen: &mut Seen, mut read: &[u8]) -> io::Result<bool> {
        match self {
            Expected::Bytes(all) => {
                let end = seen.bytes + read.len();
                if all.get(seen.bytes..end) != Some(read) {
                    return Err(unexpected(read));
                }
                seen.bytes = end;
                Ok(end == all.len())
            }
            Expected::Replies { begin, end, count } => {
                while !read.is_empty() {
                    if seen.replies == *count {
                        return Err(unexpected(read));
                    }
                    let missing = begin.get(seen.bytes..).unwrap_or_default();
                    let (head, rest) = read.split_at(missing.len().min(read.len()));
                    if !missing.starts_with(head) {
                        return Err(unexpected(read));
                    }
                    read = rest;
                    let skipped =
                        if head.len() < missing.len() { 0 } else { read.skip_until(*end)? };
                    seen.bytes += head.len() + skipped;
                    if skipped > 0 && rest.get(skipped - 1) == Some(end) {
                        *seen = Seen { bytes: 0, replies: seen.replies + 1 };
                    }
                }
                Ok(seen.replies == *count)
            }
        }
    }
}

fn unexpected(read: &[u8]) -> io::Error {
    let some = read.get(..200).unwrap_or(read);
    io::Error::other(format!("not the reply that was due: {}", String::from_utf8_lossy(some)))
}
