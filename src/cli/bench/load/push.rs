//! Pushes: one connection publishes, others receive. What they receive is counted by its bytes, so
//! that the generator costs the same whatever the server says.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use super::{BLAST_WRITE_BYTES, Outcome, READ_BYTES, Readable, histogram, read};

/// A publisher, and those to whom all goes that it publishes.
#[derive(Debug)]
pub struct Fan {
    publisher: TcpStream,
    subscribers: Vec<TcpStream>,
    request: Vec<u8>,
    /// The byte that is counted in what arrives; `None` counts every byte.
    mark: Option<u8>,
    /// How much of it the push of one request has.
    push_weight: u64,
    /// Bytes of a push that comes alone.
    push_bytes: usize,
}

impl Fan {
    /// Publishes once, and learns from the first subscriber what a push looks like: all are of the
    /// same length, hold `content`, and end with its last byte `end`. Nothing answers a request.
    /// Where pushes that come together are framed as one, they are counted by a byte `mark` that no
    /// frame has.
    pub fn new(
        publisher: TcpStream,
        subscribers: Vec<TcpStream>,
        request: Vec<u8>,
        (content, end): (&[u8], &[u8]),
        mark: Option<u8>,
    ) -> io::Result<Fan> {
        let mut fan = Fan { publisher, subscribers, request, mark, push_weight: 0, push_bytes: 0 };
        (&fan.publisher).write_all(&fan.request)?;
        let (first, rest) = fan.subscribers.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let push = read_push(first, content, end)?;
        (fan.push_bytes, fan.push_weight) = (push.len(), fan.weight(&push));
        for mut stream in rest {
            stream.read_exact(&mut vec![0; fan.push_bytes])?;
        }
        Ok(fan)
    }

    /// Publishes `count` times as fast as the socket takes it, and returns when every subscriber
    /// has had everything. The outcome counts deliveries.
    pub fn blast(&self, count: u64) -> io::Result<Outcome> {
        let start = Instant::now();
        thread::scope(|scope| {
            let publish = || write_times(&self.publisher, &self.request, count);
            let publisher = thread::Builder::new().spawn_scoped(scope, publish)?;
            self.receive(count)?;
            publisher.join().map_err(|_| io::Error::other("the publisher panicked"))?
        })?;
        Ok(Outcome {
            requests: count * self.subscribers.len() as u64,
            elapsed: start.elapsed(),
            latency: histogram()?,
        })
    }

    fn weight(&self, bytes: &[u8]) -> u64 {
        match self.mark {
            Some(mark) => bytes.iter().filter(|byte| **byte == mark).count() as u64,
            None => bytes.len() as u64,
        }
    }

    /// Reads, on one thread, until every subscriber has had `count` pushes and not a byte more.
    fn receive(&self, count: u64) -> io::Result<()> {
        let all = count * self.push_weight;
        let mut receivers: Vec<_> = self.subscribers.iter().map(|stream| (stream, all)).collect();
        let mut readable = Readable::new(&self.subscribers);
        let (mut unfinished, mut buffer) = (receivers.len(), vec![0; READ_BYTES]);
        while unfinished > 0 {
            for (stream, left) in readable.wait(&mut receivers)? {
                let more = self.weight(read(stream, &mut buffer)?);
                *left = left.checked_sub(more).ok_or_else(|| io::Error::other("pushed twice"))?;
                unfinished -= usize::from(*left == 0);
            }
        }
        Ok(())
    }

    /// Publishes one message at a time, `count` times: the outcome's latency is from writing the
    /// request until the first subscriber has read the push.
    pub fn one_by_one(&self, count: u64) -> io::Result<Outcome> {
        let mut subscriber = self.subscribers.first().ok_or(io::ErrorKind::InvalidInput)?;
        let (start, mut latency) = (Instant::now(), histogram()?);
        let mut push = vec![0; self.push_bytes];
        for _ in 0..count {
            let sent_at = Instant::now();
            (&self.publisher).write_all(&self.request)?;
            subscriber.read_exact(&mut push)?;
            latency.saturating_record(sent_at.elapsed().as_nanos() as u64);
        }
        Ok(Outcome { requests: count, elapsed: start.elapsed(), latency })
    }
}

fn read_push(mut stream: &TcpStream, content: &[u8], end: &[u8]) -> io::Result<Vec<u8>> {
    let (mut push, mut byte) = (Vec::new(), [0]);
    let holds = |push: &[u8]| push.windows(content.len()).any(|part| part == content);
    while !push.ends_with(end) || !holds(&push) {
        stream.read_exact(&mut byte)?;
        push.extend(byte);
    }
    Ok(push)
}

fn write_times(mut stream: &TcpStream, request: &[u8], count: u64) -> io::Result<()> {
    let per_write = (BLAST_WRITE_BYTES / request.len().max(1)).max(1);
    let bytes = request.repeat(per_write);
    let mut left = count as usize;
    while left > 0 {
        let now = left.min(per_write);
        stream.write_all(bytes.get(..now * request.len()).unwrap_or_default())?;
        left -= now;
    }
    Ok(())
}
