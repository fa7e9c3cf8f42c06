//! The core of the load generator. It drives connections over real sockets and knows no protocol:
//! `dsmq bench` and `benches/compare` describe requests and replies. Its own cost is therefore the
//! same for every server.

mod exchange;
pub mod json;
mod push;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use hdrhistogram::Histogram;

use exchange::{Expected, Seen};
pub use exchange::{Part, Reply, Request, Step, cycles};
pub use push::Fan;

/// A server that is silent for this long counts as dead.
pub const SILENCE_SECONDS_MAX: u64 = 30;

/// Requests in flight on one connection. A round of them is written before its replies are read, so
/// they must fit into the buffers of the sockets.
pub const PIPELINE_MAX: u32 = 1024;

const READ_BYTES: usize = 64 * 1024;
const BLAST_WRITE_BYTES: usize = 64 * 1024;
const LATENCY_NANOS_MAX: u64 = SILENCE_SECONDS_MAX * 1_000_000_000;

/// Requests that are answered one by one.
#[derive(Clone, Debug)]
pub struct Work {
    pub request: Vec<u8>,
    pub reply: Reply,
    /// When and how a reader starts again from the beginning.
    pub laps: Option<Laps>,
}

/// A lap begins with another request, which is answered like the rest.
#[derive(Clone, Debug)]
pub struct Laps {
    /// Requests in a lap, including the first; rounded down to whole rounds, but at least one.
    pub length: u64,
    /// The first request of the first lap, of the second, and so on, in turn.
    pub first: Vec<Vec<u8>>,
}

/// How much to do on each connection.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// This many requests, rounded up to whole rounds.
    Requests(u64),
    /// As many as this time allows.
    Time(Duration),
}

impl Amount {
    /// How many of the next `most` requests to send, after `sent` since `start`.
    fn next(self, most: u64, sent: u64, start: Instant) -> u64 {
        match self {
            Amount::Requests(all) => most.min(all.saturating_sub(sent)),
            Amount::Time(time) if start.elapsed() < time => most,
            Amount::Time(_) => 0,
        }
    }
}

/// How connections are kept busy.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Requests in a round.
    pub pipeline: u32,
    /// Connections that share a thread, which polls them.
    pub connections_a_thread: usize,
    /// When to stop.
    pub amount: Amount,
}

impl Pattern {
    /// A thread for each connection, so that they behave like independent clients. A single thread
    /// for all costs less, but waits for its turn after all threads of a server that has many.
    pub fn new(pipeline: u32, amount: Amount) -> Pattern {
        Pattern { pipeline: pipeline.clamp(1, PIPELINE_MAX), connections_a_thread: 1, amount }
    }
}

/// The result of a measurement.
#[derive(Debug)]
pub struct Outcome {
    /// Requests with a reply; for [`blast`], requests that were carried out.
    pub requests: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Nanoseconds from writing a round of requests to the last of its replies.
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// Connects without delay of small packets; a silent server is an error.
pub fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port))?;
    let silence = Some(Duration::from_secs(SILENCE_SECONDS_MAX));
    stream.set_nodelay(true)?;
    stream.set_read_timeout(silence)?;
    stream.set_write_timeout(silence)?;
    Ok(stream)
}

/// Sends `request` and waits for exactly `reply`.
pub fn ask(mut stream: &TcpStream, request: &[u8], reply: &[u8]) -> io::Result<()> {
    stream.write_all(request)?;
    let (mut seen, mut buffer) = (Seen::default(), vec![0; READ_BYTES]);
    let expected = Expected::Bytes(reply.to_vec());
    while !expected.is_whole_after(&mut seen, read(stream, &mut buffer)?)? {}
    Ok(())
}

/// Sends rounds of requests on every connection, each when the previous one is answered. Adds every
/// reply to `done`.
pub fn rounds(
    streams: &[TcpStream],
    work: &Work,
    pattern: Pattern,
    done: &AtomicU64,
) -> io::Result<Outcome> {
    let plan = Plan::new(work, pattern);
    on_threads(streams, pattern.connections_a_thread.max(1), done, |streams| {
        drive(streams, &plan, done)
    })
}

/// Writes `request` without pause on every connection, without replies, and then sends the question
/// whose answer shows that all of them are carried out. The outcome has no latencies, because single
/// requests have no replies.
pub fn blast(
    streams: &[TcpStream],
    request: &[u8],
    (question, answer): (&[u8], &[u8]),
    amount: Amount,
    done: &AtomicU64,
) -> io::Result<Outcome> {
    let per_write = (BLAST_WRITE_BYTES / request.len().max(1)).max(1);
    let bytes = request.repeat(per_write);
    on_threads(streams, 1, done, |streams| {
        let start = Instant::now();
        for mut stream in streams {
            let mut sent = 0;
            loop {
                let now = amount.next(per_write as u64, sent, start);
                let Some(bytes @ [_, ..]) = bytes.get(..now as usize * request.len()) else {
                    break;
                };
                stream.write_all(bytes)?;
                sent += now;
                done.fetch_add(now, Ordering::Relaxed);
            }
            ask(stream, question, answer)?;
        }
        histogram()
    })
}

/// An empty histogram of nanoseconds, exact to three digits.
fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).map_err(io::Error::other)
}

/// Runs `job` on threads that get `share` connections each.
fn on_threads(
    streams: &[TcpStream],
    share: usize,
    done: &AtomicU64,
    job: impl Fn(&[TcpStream]) -> io::Result<Histogram<u64>> + Sync,
) -> io::Result<Outcome> {
    let before = done.load(Ordering::Relaxed);
    let (start, job) = (Instant::now(), &job);
    let latency = thread::scope(|scope| {
        let threads: io::Result<Vec<_>> = streams
            .chunks(share)
            .map(|streams| thread::Builder::new().spawn_scoped(scope, move || job(streams)))
            .collect();
        let mut all = histogram()?;
        for thread in threads? {
            let one = thread.join().map_err(|_| io::Error::other("a load thread panicked"))??;
            all.add(one).map_err(io::Error::other)?;
        }
        Ok::<_, io::Error>(all)
    })?;
    Ok(Outcome {
        requests: done.load(Ordering::Relaxed) - before,
        elapsed: start.elapsed(),
        latency,
    })
}

/// The bytes of a round and of its replies.
struct Plan {
    pipeline: u64,
    amount: Amount,
    round: Vec<u8>,
    lap_rounds: u64,
    lap_starts: Vec<Vec<u8>>,
    expected: Expected,
}

impl Plan {
    fn new(work: &Work, pattern: Pattern) -> Plan {
        let depth = pattern.pipeline as usize;
        let round = work.request.repeat(depth);
        let lap_start = |first: &Vec<u8>| {
            let rest = round.get(work.request.len()..).unwrap_or_default();
            [first.as_slice(), rest].concat()
        };
        let laps = work.laps.as_ref();
        Plan {
            pipeline: depth as u64,
            amount: pattern.amount,
            lap_rounds: laps.map_or(u64::MAX, |laps| (laps.length / depth as u64).max(1)),
            lap_starts: laps.iter().flat_map(|laps| &laps.first).map(lap_start).collect(),
            round,
            expected: Expected::new(&work.reply, depth),
        }
    }

    fn bytes(&self, round: u64) -> &[u8] {
        let starts = self.lap_starts.len() as u64;
        if starts == 0 || !round.is_multiple_of(self.lap_rounds) {
            return &self.round;
        }
        let lap = (round / self.lap_rounds) % starts;
        self.lap_starts.get(lap as usize).unwrap_or(&self.round)
    }
}

/// The progress of one connection.
struct Runner<'a> {
    stream: &'a TcpStream,
    sent: u64,
    seen: Seen,
    sent_at: Instant,
}

impl Runner<'_> {
    /// Sends the next round; false when there is none left.
    fn send(&mut self, plan: &Plan, start: Instant) -> io::Result<bool> {
        if plan.amount.next(plan.pipeline, self.sent, start) == 0 {
            return Ok(false);
        }
        self.seen.begin();
        self.sent_at = Instant::now();
        self.stream.write_all(plan.bytes(self.sent / plan.pipeline))?;
        self.sent += plan.pipeline;
        Ok(true)
    }
}

/// Keeps every connection busy until all have done their share.
fn drive(streams: &[TcpStream], plan: &Plan, done: &AtomicU64) -> io::Result<Histogram<u64>> {
    let (start, mut latency, mut buffer) = (Instant::now(), histogram()?, vec![0; READ_BYTES]);
    let mut runners: Vec<_> = streams
        .iter()
        .map(|stream| Runner { stream, sent: 0, seen: Seen::default(), sent_at: start })
        .collect();
    let mut busy = 0;
    for runner in &mut runners {
        busy += usize::from(runner.send(plan, start)?);
    }
    let mut readable = Readable::new(streams);
    while busy > 0 {
        for runner in readable.wait(&mut runners)? {
            let read = read(runner.stream, &mut buffer)?;
            if plan.expected.is_whole_after(&mut runner.seen, read)? {
                latency.saturating_record(runner.sent_at.elapsed().as_nanos() as u64);
                done.fetch_add(plan.pipeline, Ordering::Relaxed);
                busy -= usize::from(!runner.send(plan, start)?);
            }
        }
    }
    Ok(latency)
}

fn read<'b>(mut stream: &TcpStream, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    match stream.read(buffer) {
        Ok(0) => Err(io::Error::other("the server closed the connection")),
        Ok(count) => Ok(buffer.get(..count).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(silent()),
        Err(error) => Err(error),
    }
}

fn silent() -> io::Error {
    let text = format!("the server said nothing for {SILENCE_SECONDS_MAX} s");
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Waits for replies on any of several connections. A single one is simply read.
struct Readable<'a> {
    polled: Vec<rustix::event::PollFd<'a>>,
}

impl<'a> Readable<'a> {
    fn new(streams: &'a [TcpStream]) -> Readable<'a> {
        use rustix::event::{PollFd, PollFlags};
        Readable { polled: streams.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect() }
    }

    /// Those of `owners`, one for each connection, that have something to read.
    fn wait<'r, T>(
        &'r mut self,
        owners: &'r mut [T],
    ) -> io::Result<impl Iterator<Item = &'r mut T>> {
        let single = self.polled.len() == 1;
        if !single {
            let timeout =
                rustix::event::Timespec { tv_sec: SILENCE_SECONDS_MAX as i64, tv_nsec: 0 };
            if rustix::event::poll(&mut self.polled, Some(&timeout))? == 0 {
                return Err(silent());
            }
        }
        let ready = self.polled.iter().zip(owners);
        Ok(ready.filter(move |(fd, _)| single || !fd.revents().is_empty()).map(|(_, owner)| owner))
    }
}
