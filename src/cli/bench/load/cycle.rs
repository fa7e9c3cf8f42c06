//! Cycles: rounds of different requests in turn, where a request may name what a reply before it
//! told, as an ack names what was taken.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::reply::{Expected, Seen};
use super::{Histogram, Outcome, READ_BYTES, Reply, histogram, on_threads, read};

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
        /// What stands before the id.
        begin: Vec<u8>,
        /// What stands behind it.
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
