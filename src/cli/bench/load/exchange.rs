//! Requests and their replies, which are compared byte by byte with those that are due.
//!
//! A cycle sends rounds of different requests in turn. A request may name an id of the reply before it, as an
//! ack names a taken message.

use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Histogram, Outcome, READ_BYTES, histogram, on_threads, read};

/// How a reply is known to be the right one, and whole.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Every reply is exactly these bytes.
    Is(Vec<u8>),
    /// Every reply has these parts.
    Parts(Vec<Part>),
}

/// A part of a reply.
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

/// One step of a cycle: a round of requests, and then their replies.
#[derive(Clone, Debug)]
pub struct Step {
    /// One of the requests.
    pub request: Request,
    /// Its reply.
    pub reply: Reply,
}

/// A step's requests.
#[derive(Clone, Debug)]
pub enum Request {
    /// All are the same.
    Same(Vec<u8>),
    /// Each names an id of the step before, in the order of its replies.
    Naming {
        /// The bytes before the id.
        begin: Vec<u8>,
        /// The bytes after it.
        end: Vec<u8>,
    },
}

/// Repeats the steps on every connection, each connection on a thread of its own, with `pipeline`
/// requests in a round, until each connection has sent `each` requests a step, rounded up to
/// whole rounds. Requests are counted, in `done` too, as a cycle's first step has them; latency
/// is that of a whole cycle.
pub fn cycles(
    streams: &[TcpStream],
    steps: &[Step],
    pipeline: u32,
    each: u64,
    done: &AtomicU64,
) -> io::Result<Outcome> {
    let plans: Vec<Plan> = steps.iter().map(|step| Plan::new(step, pipeline as usize)).collect();
    on_threads(streams, 1, done, |streams| {
        let mut latency = histogram()?;
        for stream in streams {
            repeat(stream, &plans, (pipeline, each), done, &mut latency)?;
        }
        Ok(latency)
    })
}

fn repeat(
    stream: &TcpStream,
    plans: &[Plan],
    (pipeline, each): (u32, u64),
    done: &AtomicU64,
    latency: &mut Histogram<u64>,
) -> io::Result<()> {
    let (mut seen, mut out, mut buffer) = (Seen::default(), Vec::new(), vec![0; READ_BYTES]);
    for _ in 0..each.div_ceil(pipeline.into()) {
        let start = Instant::now();
        for plan in plans {
            plan.write(stream, &seen.ids, &mut out)?;
            seen.begin();
            while !plan.expected.is_whole_after(&mut seen, read(stream, &mut buffer)?)? {}
        }
        latency.saturating_record(start.elapsed().as_nanos() as u64);
        done.fetch_add(pipeline.into(), Ordering::Relaxed);
    }
    Ok(())
}

/// A step made ready.
struct Plan {
    request: Request,
    expected: Expected,
}

impl Plan {
    fn new(step: &Step, pipeline: usize) -> Plan {
        let request = match &step.request {
            Request::Same(one) => Request::Same(one.repeat(pipeline)),
            naming @ Request::Naming { .. } => naming.clone(),
        };
        Plan { request, expected: Expected::new(&step.reply, pipeline) }
    }

    fn write(&self, mut stream: &TcpStream, ids: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match &self.request {
            Request::Same(round) => stream.write_all(round),
            Request::Naming { begin, end } => {
                out.clear();
                for id in ids.split_inclusive(|byte| *byte == b'\n') {
                    out.extend_from_slice(begin);
                    out.extend_from_slice(id.strip_suffix(b"\n").unwrap_or(id));
                    out.extend_from_slice(end);
                }
                stream.write_all(out)
            }
        }
    }
}
