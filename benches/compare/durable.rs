//! The rows on puts into a file: confirmed ones, which every contender answers only once they are on
//! disk, and puts without confirm, which are only to keep up with the store in memory.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dsmq::cli::bench::load::{Amount, Pattern, Work, blast, connect, json, rounds};

use crate::contenders::{Contender, HOST};
use crate::files::Folder;
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target, Target::AtLeast, Unit};
use crate::{beanstalk, nats, resp};

const PIPELINE: u32 = 64;

/// A disk has its moods: a run takes so long, however many puts that is, and there are this many
/// runs at least.
const RUN: Duration = Duration::from_secs(3);
const PAIRS_MIN: u32 = 5;

/// Unconfirmed puts of one run: enough for several checkpoints of the log.
const UNCONFIRMED: u64 = 2_000_000;

/// Connections that confirmed puts come from, and how.
#[derive(Clone, Copy)]
struct Putters {
    connections: u64,
    pipeline: u32,
    time: Duration,
}

impl Putters {
    fn rate(self, streams: &[TcpStream], put: &Work) -> Result<f64> {
        let pattern = Pattern::new(self.pipeline, Amount::Time(self.time));
        Ok(rounds(streams, put, pattern, &AtomicU64::new(0))?.rate())
    }

    fn run(self, server: &Contender, put: &Work) -> Result<f64> {
        let streams = (0..self.connections).map(|_| connect(HOST, server.port));
        self.rate(&streams.collect::<io::Result<Vec<_>>>()?, put)
    }

    fn dsmq(self) -> Result<f64> {
        let folder = Folder::new()?;
        let server = Contender::dsmq_in(Some(&folder), &["--sync", "full"])?;
        self.run(&server, &json::put_confirmed(TOPIC, SIZE))
    }

    fn redis(self) -> Result<f64> {
        let folder = Folder::new()?;
        self.run(&Contender::redis_in(&folder)?, &resp::rpush(SIZE))
    }

    fn beanstalkd(self) -> Result<f64> {
        let folder = Folder::new()?;
        self.run(&Contender::beanstalkd_in(&folder)?, &beanstalk::put(SIZE))
    }

    /// And whether it synced.
    fn nats(self) -> Result<(f64, bool)> {
        let folder = Folder::new()?;
        let (server, syncs) = Contender::nats_in(&folder)?;
        let stream = nats::session(server.port)?;
        nats::make_stream(&stream)?;
        Ok((self.rate(&[stream], &nats::publish(SIZE))?, syncs))
    }
}

fn at_least_five(effort: &Effort) -> (Effort, Duration) {
    let pairs = effort.pairs.max(PAIRS_MIN);
    (Effort { pairs, ..*effort }, RUN / effort.shorter as u32)
}

fn row(work: &str, against: &'static str, pairs: Vec<(f64, f64)>, target: Target) -> Row {
    let work = work.to_owned();
    Row { work, against, unit: Unit::PerSecond, pairs, target: Some(target), cross_check: None }
}

pub fn put_1(effort: &Effort) -> Result<Vec<Row>> {
    let (effort, time) = at_least_five(effort);
    let one = Putters { connections: 1, pipeline: PIPELINE, time };
    let work = "put confirmed, on disk, 1 connection, pipelined by 64";
    let redis = effort.alternate(|| one.dsmq(), || one.redis())?;
    let mut syncs = false;
    let theirs = || -> Result<f64> {
        let (rate, synced) = one.nats()?;
        syncs = synced;
        Ok(rate)
    };
    let nats = effort.alternate(|| one.dsmq(), theirs)?;
    let name = if syncs {
        "NATS JetStream, `sync_interval: always`, the same"
    } else {
        "NATS JetStream, which answers without a sync (this version has no other way), the same"
    };
    Ok(vec![
        row(work, "Redis RPUSH, `appendfsync always`, the same", redis, AtLeast(1.5)),
        row(work, name, nats, AtLeast(5.0)),
    ])
}

pub fn put_50(effort: &Effort) -> Result<Vec<Row>> {
    let (effort, time) = at_least_five(effort);
    let fifty = Putters { connections: 50, pipeline: 1, time };
    let work = "put confirmed, on disk, 50 connections, one at a time";
    let redis = effort.alternate(|| fifty.dsmq(), || fifty.redis())?;
    let beanstalkd = effort.alternate(|| fifty.dsmq(), || fifty.beanstalkd())?;
    Ok(vec![
        row(work, "Redis RPUSH, `appendfsync always`, the same", redis, AtLeast(1.0)),
        row(work, "beanstalkd put, `-b` and `-f0`, the same", beanstalkd, AtLeast(3.0)),
    ])
}

/// Into a file, and, as the other contender, into memory.
pub fn put_unconfirmed(effort: &Effort) -> Result<Vec<Row>> {
    let (effort, _) = at_least_five(effort);
    let count = UNCONFIRMED / effort.shorter;
    let rate = |folder: Option<&Folder>| -> Result<f64> {
        let server = Contender::dsmq_in(folder, &[])?;
        let streams = [json::session(HOST, server.port)?];
        let (put, amount) = (json::put(TOPIC, SIZE), Amount::Requests(count));
        Ok(blast(&streams, &put, (json::PING, json::OK), amount, &AtomicU64::new(0))?.rate())
    };
    let file = || rate(Some(&Folder::new()?));
    let pairs = effort.alternate(file, || rate(None))?;
    let work = "put without confirm into a file, 1 connection";
    Ok(vec![row(work, "into memory, the same", pairs, AtLeast(0.6))])
}
