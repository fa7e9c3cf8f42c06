//! The rows on a file of millions of messages against one of thousands: whether reading it, taking
//! from it and starting with it cost more, and what is resident.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use dsmq::cli::bench::load::{Amount, Laps, Pattern, Reply, Work, cycles, json, rounds};

use crate::contenders::{Contender, HOST, OneCore};
use crate::files::{Folder, forget};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target, Target::AtLeast, Target::AtMost, Unit, thousands};

const SHALLOW: u64 = 10_000;
const PIPELINE: u32 = 64;
/// Gets and takes of one run: one at a time, and pipelined.
const GETS: [(u32, u64); 2] = [(1, 48_000), (PIPELINE, 640_000)];
const TAKES: [(u32, u64); 2] = [(1, 4_000), (PIPELINE, 128_000)];
/// Runs of at most so many takes, before each of which the topic is filled up again.
const TAKEN: u64 = 128 * PIPELINE as u64;
const READY_SECONDS: f64 = 2.0;
const MIB: f64 = 1024.0 * 1024.0;

/// A file with messages in it, and a server of it.
struct Full {
    folder: Folder,
    messages: u64,
    server: Option<Contender>,
}

impl Full {
    fn new(messages: u64) -> Result<Full> {
        let mut full = Full { folder: Folder::new()?, messages, server: None };
        full.start()?;
        let stream = full.session()?;
        json::fill(&stream, TOPIC, SIZE, messages)?;
        full.stop()?;
        Ok(full)
    }

    /// Seconds until it listens.
    fn start(&mut self) -> Result<f64> {
        let server = Contender::dsmq_in(Some(&self.folder), &["--max-store", "64GiB"])?;
        let ready = server.ready.as_secs_f64();
        self.server = Some(server);
        Ok(ready)
    }

    fn stop(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), Contender::stop)
    }

    fn server(&self) -> Result<&Contender> {
        self.server.as_ref().ok_or_else(|| "no server runs".into())
    }

    fn session(&self) -> Result<TcpStream> {
        Ok(json::session(HOST, self.server()?.port)?)
    }

    fn resident_mib(&self) -> Result<f64> {
        Ok(self.server()?.resident_bytes()? as f64 / MIB)
    }

    fn file(&self) -> PathBuf {
        self.folder.store()
    }

    /// Gets from the oldest message on, again and again if the topic is shorter.
    fn gets(&self, pipeline: u32, count: u64) -> Result<f64> {
        let first = json::get_since(TOPIC, 0);
        let reply = Reply::Is(json::reply_to_get(&self.session()?, &first, SIZE)?);
        let laps = Some(Laps { length: self.messages, first: vec![first] });
        let work = Work { request: json::get(TOPIC), reply, laps };
        let pattern = Pattern::new(pipeline, Amount::Requests(count));
        Ok(rounds(&[self.session()?], &work, pattern, &AtomicU64::new(0))?.rate())
    }

    /// Takes, in runs, before each of which as many are put, so that the topic stays as long.
    fn takes(&self, pipeline: u32, count: u64) -> Result<f64> {
        let (streams, take) = ([self.session()?], [json::take(TOPIC, SIZE, None)]);
        let (mut seconds, mut taken) = (0.0, 0);
        while taken < count {
            let run = TAKEN.min(count - taken);
            json::fill(&streams[0], TOPIC, SIZE, run)?;
            let outcome = cycles(&streams, &take, pipeline, run, &AtomicU64::new(0))?;
            seconds += outcome.elapsed.as_secs_f64();
            taken += outcome.requests;
        }
        Ok(taken as f64 / seconds)
    }
}

pub fn deep(effort: &Effort) -> Result<Vec<Row>> {
    let effort = Effort { pairs: effort.pairs.max(5), ..*effort };
    let (mut deep, mut shallow) = (Full::new(effort.deep)?, Full::new(SHALLOW)?);
    let mut rows = ready(&effort, &mut deep)?;

    let _one_core = OneCore::new()?;
    deep.start()?;
    shallow.start()?;
    rows.push(resident("resident once it listens", &deep, &shallow)?);
    let messages = thousands(effort.deep as f64);
    for (verb, shapes, rate) in
        [("get", GETS, Full::gets as Rate), ("take", TAKES, Full::takes as Rate)]
    {
        for (pipeline, count) in shapes {
            let how = if pipeline == 1 { "one at a time" } else { "pipelined by 64" };
            let count = count / effort.shorter;
            let rate = |full: &Full| rate(full, pipeline, count);
            let pairs = effort.alternate(|| rate(&deep), || rate(&shallow))?;
            let work = format!("{verb} from a file of {messages} messages, 1 connection, {how}");
            rows.push(row(work, Unit::PerSecond, pairs, Some(AtLeast(0.9))).on_one_core());
        }
    }
    let pair = (deep.gets(PIPELINE, effort.deep)?, shallow.gets(PIPELINE, effort.deep)?);
    let work = format!("get all {messages} messages, 1 connection, pipelined by 64");
    rows.push(row(work, Unit::PerSecond, vec![pair], None).on_one_core());
    rows.push(resident("resident when all of it was read", &deep, &shallow)?);
    Ok(rows)
}

type Rate = fn(&Full, u32, u64) -> Result<f64>;

fn row(work: String, unit: Unit, pairs: Vec<(f64, f64)>, target: Option<Target>) -> Row {
    let against = "of 10,000, the same";
    Row { work, against, unit, pairs, target, cross_check: None }
}

fn resident(when: &str, deep: &Full, shallow: &Full) -> Result<Row> {
    let work = format!("{when}, a file of {} messages", thousands(deep.messages as f64));
    let pair = (deep.resident_mib()?, shallow.resident_mib()?);
    Ok(row(work, Unit::MiB, vec![pair], None))
}

/// From the start to the line that says where it listens: after an orderly end, with the file in the
/// system's memory and without; and after a kill, when the log is still to be gone through.
fn ready(effort: &Effort, deep: &mut Full) -> Result<Vec<Row>> {
    let messages = thousands(deep.messages as f64);
    let (mut ended, mut cold, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        ended.push(deep.start()?);
        deep.stop()?;
        forget(&deep.file())?;
        cold.push(deep.start()?);
        json::fill(&deep.session()?, TOPIC, SIZE, SHALLOW)?;
        // Dropped, it is killed.
        deep.server = None;
        killed.push(deep.start()?);
        deep.stop()?;
    }
    let row = |how: &str, seconds: Vec<f64>| Row {
        work: format!("start with a file of {messages} messages, {how}"),
        against: "what is allowed",
        unit: Unit::Seconds,
        pairs: seconds.into_iter().map(|seconds| (seconds, READY_SECONDS)).collect(),
        target: Some(AtMost(1.0)),
        cross_check: None,
    };
    Ok(vec![
        row("which the system has in memory", ended),
        row("which the system has forgotten", cold),
        row("after kill -9 behind 10,000 more puts", killed),
    ])
}
