//! The rows of the table. A row alternates between dsmq and the other server; where a server
//! grows with what it is told, every run has a fresh one, on both sides.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicU64;

use dsmq::cli::bench::load::{
    Amount, Laps, Pattern, Reply, Work, ask, blast, connect, json, rounds,
};

use crate::contenders::{Contender, HOST, OneCore, redis_benchmark};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target, Target::AtLeast, Unit};
use crate::{
    coremq, deep, durable, events, http, redis, redis_cluster, resident, resp, vocabulary,
};

type Measure = fn(&Effort) -> Result<Vec<Row>>;

/// What can be asked for by name.
pub const ROWS: [(&str, Measure); 24] = [
    ("put", put),
    ("put-confirmed", put_confirmed),
    ("get-1", get_1),
    ("get-50", get_50),
    ("get-50-pipelined", get_50_pipelined),
    ("get-1-pipelined", get_1_pipelined),
    ("depth", depth),
    ("python", python),
    ("memory", resident::memory),
    ("silent", resident::silent),
    ("take", vocabulary::take),
    ("lease", vocabulary::lease),
    ("push-100", vocabulary::push_100),
    ("push-1", vocabulary::push_1),
    ("push-latency", vocabulary::push_latency),
    ("events-1000", events::events_1000),
    ("file-put", durable::put_1),
    ("file-put-50", durable::put_50),
    ("file-put-unconfirmed", durable::put_unconfirmed),
    ("file-deep", deep::deep),
    ("http", http::put_and_take),
    ("coremq", coremq::stress),
    ("redis", redis::put_and_take),
    ("redis-cluster", redis_cluster::put_and_take),
];

/// Names for several rows together.
pub const GROUPS: [(&str, &[&str]); 2] = [
    ("vocabulary", &["take", "lease", "push-100", "push-1", "push-latency"]),
    ("file", &["file-put", "file-put-50", "file-put-unconfirmed", "file-deep"]),
];

/// Number of connections, requests of each, and requests in flight at a time.
#[derive(Clone, Copy)]
struct Shape {
    connections: u64,
    pipeline: u32,
    each: u64,
    /// One thread of the load generator has all connections, instead of each having its own.
    polled: bool,
}

const PUT: Shape = Shape { connections: 1, pipeline: 64, each: 500_000, polled: false };
const GET_1: Shape = Shape { connections: 1, pipeline: 1, each: 12_000, polled: false };
const GET_50: Shape = Shape { connections: 50, pipeline: 1, each: 2_400, polled: false };
const GET_50_POLLED: Shape = Shape { polled: true, ..GET_50 };
const GET_50_PIPELINED: Shape =
    Shape { connections: 50, pipeline: 64, each: 24_000, polled: false };
const GET_1_PIPELINED: Shape = Shape { connections: 1, pipeline: 64, each: 400_000, polled: false };

impl Shape {
    /// The same, done sooner. Rounds are whole: as many requests are answered as are asked for.
    fn shortened(self, effort: &Effort) -> Shape {
        let rounds = self.each / effort.shorter / u64::from(self.pipeline);
        Shape { each: rounds * u64::from(self.pipeline), ..self }
    }

    fn run(self, server: &Contender, work: &Work) -> Result<f64> {
        let streams = self.connect(server)?;
        self.run_on(&streams, work)
    }

    fn connect(self, server: &Contender) -> Result<Vec<TcpStream>> {
        Ok((0..self.connections).map(|_| connect(HOST, server.port)).collect::<io::Result<_>>()?)
    }

    fn run_on(self, streams: &[TcpStream], work: &Work) -> Result<f64> {
        let mut pattern = Pattern::new(self.pipeline, Amount::Requests(self.each));
        if self.polled {
            pattern.connections_a_thread = streams.len();
        }
        Ok(rounds(streams, work, pattern, &AtomicU64::new(0))?.rate())
    }

    fn name(self) -> String {
        let how = match self.pipeline {
            1 => "one at a time".to_owned(),
            depth => format!("pipelined by {depth}"),
        };
        let plural = if self.connections == 1 { "" } else { "s" };
        let who = if self.polled { " (one client thread polls them)" } else { "" };
        format!("{} connection{plural}{who}, {how}", self.connections)
    }
}

fn put(effort: &Effort) -> Result<Vec<Row>> {
    let shape = PUT.shortened(effort);
    let dsmq = || {
        let server = Contender::dsmq()?;
        let streams = [json::session(HOST, server.port)?];
        let amount = Amount::Requests(shape.each);
        let put = json::put(TOPIC, SIZE);
        Ok(blast(&streams, &put, (json::PING, json::OK), amount, &AtomicU64::new(0))?.rate())
    };
    let redis = || shape.run(&Contender::redis()?, &resp::rpush(SIZE));
    let judge = ["-t", "rpush", "-d", &SIZE.to_string()];
    Ok(vec![Row {
        work: "put without confirm, 1 connection".to_owned(),
        against: "Redis RPUSH, 1 connection, pipelined by 64",
        unit: Unit::PerSecond,
        pairs: effort.alternate(dsmq, redis)?,
        target: Some(AtLeast(1.5)),
        cross_check: Some(judged(&Contender::redis()?, shape, &judge)?),
    }])
}

/// Connections that put at the same time share commits, so most of them wait for another one.
fn put_confirmed(effort: &Effort) -> Result<Vec<Row>> {
    const PUTS: u64 = 120_000;
    [8, 50, 200]
        .map(|connections| {
            let each = PUTS / connections;
            let shape = Shape { connections, pipeline: 1, each, polled: false }.shortened(effort);
            let put = json::put_confirmed(TOPIC, SIZE);
            let dsmq = || shape.run(&Contender::dsmq()?, &put);
            let redis = || shape.run(&Contender::redis()?, &resp::rpush(SIZE));
            Ok(Row {
                work: format!("put confirmed, {}", shape.name()),
                against: "Redis RPUSH, the same",
                unit: Unit::PerSecond,
                pairs: effort.alternate(dsmq, redis)?,
                target: None,
                cross_check: None,
            })
        })
        .into_iter()
        .collect()
}

/// What `redis-benchmark` measures for the same shape.
fn judged(server: &Contender, shape: Shape, test: &[&str]) -> Result<f64> {
    let connections = shape.connections.to_string();
    let (pipeline, all) =
        (shape.pipeline.to_string(), (shape.each * shape.connections).to_string());
    let args = ["-c", &connections, "-P", &pipeline, "-n", &all];
    redis_benchmark(server, &[&args, test].concat())
}

/// A fresh server, a topic with as many messages as each connection gets, and all of them read.
fn dsmq_gets(shape: Shape) -> Result<f64> {
    let server = Contender::dsmq()?;
    let sessions: Vec<TcpStream> = (0..shape.connections)
        .map(|_| json::session(HOST, server.port))
        .collect::<io::Result<_>>()?;
    let filler = json::session(HOST, server.port)?;
    json::mark(&filler, TOPIC, SIZE)?;
    json::fill(&filler, TOPIC, SIZE, shape.each - 1)?;
    let request = json::get(TOPIC);
    let reply = Reply::Is(json::reply_to_get(&filler, &request, SIZE)?);
    shape.run_on(&sessions, &Work { request, reply, laps: None })
}

fn get_1(effort: &Effort) -> Result<Vec<Row>> {
    let target = Some(AtLeast(0.9));
    let anywhere = get_against_echo(effort, GET_1, target)?;
    let _one_core = OneCore::new()?;
    let each = 4 * GET_1.each;
    Ok(vec![anywhere, get_against_echo(effort, Shape { each, ..GET_1 }, target)?.on_one_core()])
}

/// A single client thread suits Redis, and holds back a server of many threads, the echo's too:
/// that is shown beside, without a target.
fn get_50(effort: &Effort) -> Result<Vec<Row>> {
    Ok(vec![
        get_against_redis(effort, GET_50, Some(AtLeast(1.0)))?,
        get_against_echo(effort, GET_50, Some(AtLeast(0.8)))?,
        get_against_redis(effort, GET_50_POLLED, None)?,
        get_against_echo(effort, GET_50_POLLED, None)?,
    ])
}

fn get_50_pipelined(effort: &Effort) -> Result<Vec<Row>> {
    Ok(vec![get_against_redis(effort, GET_50_PIPELINED, Some(AtLeast(1.0)))?])
}

fn get_1_pipelined(effort: &Effort) -> Result<Vec<Row>> {
    Ok(vec![get_against_redis(effort, GET_1_PIPELINED, Some(AtLeast(1.0)))?])
}

fn get_against_redis(effort: &Effort, shape: Shape, target: Option<Target>) -> Result<Row> {
    let shape = shape.shortened(effort);
    let filled = || -> Result<Contender> {
        let server = Contender::redis()?;
        resp::fill(&connect(HOST, server.port)?, SIZE, shape.each * shape.connections)?;
        Ok(server)
    };
    let redis = || shape.run(&filled()?, &resp::lpop(SIZE));
    Ok(Row {
        work: format!("get, {}", shape.name()),
        against: "Redis LPOP, the same",
        unit: Unit::PerSecond,
        pairs: effort.alternate(|| dsmq_gets(shape), redis)?,
        target,
        cross_check: Some(judged(&filled()?, shape, &resp::LPOP)?),
    })
}

fn get_against_echo(effort: &Effort, shape: Shape, target: Option<Target>) -> Result<Row> {
    let shape = shape.shortened(effort);
    let request = json::get(TOPIC);
    let reply = vec![b'x'; format!(r#"{{"message":"{}"}}"#, json::message(SIZE)).len()];
    let echo = || {
        let server = Contender::echo(request.len(), reply.len())?;
        let (request, reply) = (request.clone(), Reply::Is(reply.clone()));
        shape.run(&server, &Work { request, reply, laps: None })
    };
    Ok(Row {
        work: format!("get, {}", shape.name()),
        against: "raw echo, the same bytes",
        unit: Unit::PerSecond,
        pairs: effort.alternate(|| dsmq_gets(shape), echo)?,
        target,
        cross_check: None,
    })
}

/// Both topics are read in laps of equal length, each of which begins with a `since`: always the
/// same one in the small topic, places all over the large one.
fn depth(effort: &Effort) -> Result<Vec<Row>> {
    const LAP: u64 = 1_000;
    let _one_core = OneCore::new()?;
    let server = Contender::dsmq()?;
    let filler = json::session(HOST, server.port)?;
    let gets = |topic: &str, laps: u64| -> Result<Work> {
        let mut first = Vec::new();
        for _ in 0..laps {
            first.push(json::get_since(topic, json::mark(&filler, topic, SIZE)?));
            json::fill(&filler, topic, SIZE, LAP - 1)?;
        }
        let one = first.first().ok_or("no lap")?;
        let reply = Reply::Is(json::reply_to_get(&filler, one, SIZE)?);
        // One message of a lap is its mark, which is not behind itself.
        let laps = Some(Laps { length: LAP - 1, first });
        Ok(Work { request: json::get(topic), reply, laps })
    };
    let (small, large) = (gets("small", 1)?, gets("large", 1_000_000 / LAP)?);
    [GET_1, GET_1_PIPELINED]
        .map(|shape| {
            let shape = shape.shortened(effort);
            let streams = shape.connect(&server)?;
            Ok(Row {
                work: format!("get from 1,000,000 messages, {}", shape.name()),
                against: "get from 1,000, the same",
                unit: Unit::PerSecond,
                pairs: effort.alternate(
                    || shape.run_on(&streams, &large),
                    || shape.run_on(&streams, &small),
                )?,
                target: Some(AtLeast(0.95)),
                cross_check: None,
            }
            .on_one_core())
        })
        .into_iter()
        .collect()
}

/// On one core, and, for information, wherever the kernel puts them: what is left of the ratio
/// when the time that a core takes to wake up is added on both sides.
fn python(effort: &Effort) -> Result<Vec<Row>> {
    let anywhere = get_against_python(effort, None)?;
    let _one_core = OneCore::new()?;
    Ok(vec![get_against_python(effort, Some(AtLeast(50.0)))?.on_one_core(), anywhere])
}

/// The Python server takes what one read gives it for one request, so it is asked one at a time.
fn get_against_python(effort: &Effort, target: Option<Target>) -> Result<Row> {
    const MESSAGES: u64 = 10_000;
    let shape = Shape { connections: 1, pipeline: 1, each: MESSAGES / 2, polled: false };
    let dsmq = Contender::dsmq()?;
    let gets = json::filled_gets(&json::session(HOST, dsmq.port)?, TOPIC, SIZE, MESSAGES)?;
    let session = shape.connect(&dsmq)?;

    let python = Contender::python()?;
    let reader = shape.connect(&python)?;
    // Its session has begun when it has answered: nothing is there yet.
    ask(&reader[0], &json::get(TOPIC), br#"{"message": ""}"#)?;
    python_fill(&python, MESSAGES)?;
    let reply = format!(r#"{{"message": "{}"}}"#, json::message(SIZE)).into_bytes();
    let python_gets = Work { request: json::get(TOPIC), reply: Reply::Is(reply), laps: None };
    let fewer = Shape { each: 200 / effort.shorter, ..shape };
    Ok(Row {
        work: "one get, 10,000 messages in the topic".to_owned(),
        against: "Python dsmq 0.2.0, the same",
        unit: Unit::PerSecond,
        pairs: effort
            .alternate(|| shape.run_on(&session, &gets), || fewer.run_on(&reader, &python_gets))?,
        target,
        cross_check: None,
    })
}

/// Puts on connections of their own, as that server's README does it. It lets go of a connection
/// only when it accepts the next one: then its end shows that its put is done.
fn python_fill(server: &Contender, messages: u64) -> Result<()> {
    let put = json::put(TOPIC, SIZE);
    let mut stream = connect(HOST, server.port)?;
    for _ in 0..messages {
        stream.write_all(&put)?;
        stream.shutdown(Shutdown::Write)?;
        let next = connect(HOST, server.port)?;
        if stream.read(&mut [0])? != 0 {
            return Err("the Python server answered a put".into());
        }
        stream = next;
    }
    Ok(())
}
