//! Replies: how the load generator knows that they are the right ones, and that all have come.

use std::io::{self, BufRead};

/// How a reply is known to be the right one, and whole.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Every reply is exactly these bytes.
    Is(Vec<u8>),
    /// Every reply has these parts.
    Parts(Vec<Part>),
}

/// What stands in a reply.
#[derive(Clone, Debug)]
pub enum Part {
    /// These bytes: what tells a good reply from an error.
    Exactly(Vec<u8>),
    /// All up to the first byte like this, which is the last.
    Until(u8),
    /// The same; what stands before that byte is the id that a request of the next step names.
    Id(u8),
}

impl Reply {
    /// A reply that begins with `begin`, and ends with the first `end` behind that.
    pub fn between(begin: &[u8], end: u8) -> Reply {
        Reply::Parts(vec![Part::Exactly(begin.to_vec()), Part::Until(end)])
    }
}

/// The replies of one round.
pub(super) enum Expected {
    Bytes(Vec<u8>),
    Replies { parts: Vec<Part>, count: usize },
}

/// How much of a round's replies has come.
#[derive(Default)]
pub(super) struct Seen {
    /// Bytes of the whole, or of the part that is still coming.
    bytes: usize,
    part: usize,
    replies: usize,
    /// The replies' ids, a newline behind each.
    pub(super) ids: Vec<u8>,
}

impl Seen {
    /// Nothing has come of the next round.
    pub(super) fn begin(&mut self) {
        (self.bytes, self.part, self.replies) = (0, 0, 0);
        self.ids.clear();
    }
}

impl Expected {
    pub(super) fn new(reply: &Reply, count: usize) -> Expected {
        match reply {
            Reply::Is(reply) => Expected::Bytes(reply.repeat(count)),
            Reply::Parts(parts) => Expected::Replies { parts: parts.clone(), count },
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
            Expected::Replies { parts, count } => {
                while !read.is_empty() {
                    let part = parts.get(seen.part).filter(|_| seen.replies < *count);
                    let Some((used, ended)) = part.and_then(|part| part.in_front_of(read, seen))
                    else {
                        return Err(unexpected(read));
                    };
                    read = read.get(used..).unwrap_or_default();
                    seen.bytes += used;
                    if ended {
                        (seen.bytes, seen.part) = (0, seen.part + 1);
                    }
                    if seen.part == parts.len() {
                        (seen.part, seen.replies) = (0, seen.replies + 1);
                    }
                }
                Ok(seen.replies == *count)
            }
        }
    }
}

impl Part {
    /// How many bytes of what was read belong to this part, `seen.bytes` of which came before, and
    /// whether that is the rest of it. `None` if they do not fit.
    fn in_front_of(&self, read: &[u8], seen: &mut Seen) -> Option<(usize, bool)> {
        match self {
            Part::Exactly(bytes) => {
                let missing = bytes.get(seen.bytes..)?;
                let used = missing.len().min(read.len());
                let fits = missing.get(..used) == read.get(..used);
                fits.then_some((used, used == missing.len()))
            }
            Part::Until(end) => Some(up_to(*end, read)),
            Part::Id(end) => {
                let (used, ended) = up_to(*end, read);
                seen.ids.extend_from_slice(read.get(..used - usize::from(ended))?);
                seen.ids.extend(ended.then_some(b'\n'));
                Some((used, ended))
            }
        }
    }
}

/// How many bytes there are up to the first `end`, itself included, and whether it is there.
fn up_to(end: u8, read: &[u8]) -> (usize, bool) {
    let mut rest = read;
    // Skipping in a slice does not fail.
    let used = rest.skip_until(end).unwrap_or_default();
    (used, used > 0 && read.get(used - 1) == Some(&end))
}

fn unexpected(read: &[u8]) -> io::Error {
    let some = read.get(..200).unwrap_or(read);
    io::Error::other(format!("not the reply that was due: {}", String::from_utf8_lossy(some)))
}
