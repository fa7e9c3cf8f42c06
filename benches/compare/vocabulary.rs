//! The rows on take, lease and push.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;

use dsmq::cli::bench::load::{Fan, Request, Step, Work, ask, connect, cycles, json};

use crate::contenders::{Contender, HOST, OneCore};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target, Target::AtLeast, Target::AtMost, Unit};
use crate::{beanstalk, resp};

const PIPELINE: u32 = 64;
const LEASE_SECONDS: u32 = 60;

/// Requests of each connection, and of one that is alone.
const EACH_OF_50: u64 = 100 * PIPELINE as u64;
const ALONE: u64 = 2_000 * PIPELINE as u64;

/// Steps as a cycle repeats them on connections to a fresh server.
fn cycle_rate(server: &Contender, steps: &[Step], connections: u64, each: u64) -> Result<f64> {
    let streams = (0..connections).map(|_| connect(HOST, server.port));
    let streams: Vec<TcpStream> = streams.collect::<io::Result<_>>()?;
    Ok(cycles(&streams, steps, PIPELINE, each, &AtomicU64::new(0))?.rate())
}

fn step(work: Work) -> Step {
    Step { request: Request::Same(work.request), reply: work.reply }
}

/// Every connection puts a round and takes a round, and so on, so that there is always a message
/// to take, and never many.
pub fn take(effort: &Effort) -> Result<Vec<Row>> {
    let each = EACH_OF_50 / effort.shorter;
    let dsmq = || {
        let steps = [step(json::put_confirmed(TOPIC, SIZE)), json::take(TOPIC, SIZE, None)];
        cycle_rate(&Contender::dsmq()?, &steps, 50, each)
    };
    let redis = || {
        let steps = [step(resp::rpush(SIZE)), step(resp::lpop(SIZE))];
        cycle_rate(&Contender::redis()?, &steps, 50, each)
    };
    let beanstalkd = || {
        let steps = [step(beanstalk::put(SIZE)), beanstalk::reserve(SIZE), beanstalk::delete()];
        cycle_rate(&Contender::beanstalkd()?, &steps, 50, each)
    };
    let row = |against, pairs, target| Row {
        work: "put (confirmed) and take, 50 connections, pipelined by 64".to_owned(),
        against,
        unit: Unit::PerSecond,
        pairs,
        target: Some(AtLeast(target)),
        cross_check: None,
    };
    Ok(vec![
        row("Redis RPUSH and LPOP, the same", effort.alternate(dsmq, redis)?, 0.6),
        row(
            "beanstalkd put, reserve and delete, the same",
            effort.alternate(dsmq, beanstalkd)?,
            3.0,
        ),
    ])
}

/// Every connection takes a round under a lease and acknowledges it, until all is done that there
/// was at the beginning.
pub fn lease(effort: &Effort) -> Result<Vec<Row>> {
    [("50 connections", 50, EACH_OF_50), ("1 connection", 1, ALONE)]
        .map(|(who, connections, each)| {
            let each = each / effort.shorter;
            let dsmq = || {
                let server = Contender::dsmq()?;
                let filler = json::session(HOST, server.port)?;
                json::fill(&filler, TOPIC, SIZE, connections * each)?;
                let steps = [json::take(TOPIC, SIZE, Some(LEASE_SECONDS)), json::ack(TOPIC)];
                cycle_rate(&server, &steps, connections, each)
            };
            let redis = || {
                let server = Contender::redis()?;
                resp::fill_stream(&connect(HOST, server.port)?, SIZE, connections * each)?;
                cycle_rate(&server, &[resp::xreadgroup(SIZE), resp::xack()], connections, each)
            };
            Ok(Row {
                work: format!("take (lease) and ack, {who}, pipelined by 64"),
                against: "Redis XREADGROUP and XACK, the same",
                unit: Unit::PerSecond,
                pairs: effort.alternate(dsmq, redis)?,
                target: Some(AtLeast(1.0)),
                cross_check: None,
            })
        })
        .into_iter()
        .collect()
}

pub fn push_100(effort: &Effort) -> Result<Vec<Row>> {
    push(effort, "push, 1 publisher to 100 subscribers, deliveries", 100, 40_000)
}

pub fn push_1(effort: &Effort) -> Result<Vec<Row>> {
    push(effort, "push, 1 publisher to 1 subscriber, deliveries", 1, 1_000_000)
}

/// Until every subscriber has all. Neither publisher is answered.
fn push(effort: &Effort, work: &str, subscribers: usize, count: u64) -> Result<Vec<Row>> {
    let count = count / effort.shorter;
    let rate = |fan: Fan| -> Result<f64> { Ok(fan.blast(count)?.rate()) };
    let dsmq = || {
        let server = Contender::dsmq()?;
        rate(dsmq_fan(&server, subscribers)?)
    };
    let redis = || {
        let server = Contender::redis()?;
        rate(redis_fan(&server, subscribers)?)
    };
    Ok(vec![Row {
        work: work.to_owned(),
        against: "Redis PUBLISH, the same",
        unit: Unit::PerSecond,
        pairs: effort.alternate(dsmq, redis)?,
        target: Some(AtLeast(0.5)),
        cross_check: None,
    }])
}

fn dsmq_fan(server: &Contender, subscribers: usize) -> Result<Fan> {
    let begin = (json::subscribe(TOPIC), json::OK);
    let streams = subscribed(server, subscribers, (&begin.0, begin.1))?;
    let publisher = json::session(HOST, server.port)?;
    let content = json::message(SIZE);
    Ok(Fan::new(publisher, streams, json::put(TOPIC, SIZE), (content.as_bytes(), b"}"), None)?)
}

fn redis_fan(server: &Contender, subscribers: usize) -> Result<Fan> {
    let (subscribe, subscribed_to) = resp::subscribe();
    let streams = subscribed(server, subscribers, (&subscribe, &subscribed_to))?;
    let publisher = resp::unanswered(server.port)?;
    let content = json::message(SIZE);
    Ok(Fan::new(publisher, streams, resp::publish(SIZE), (content.as_bytes(), b"\r\n"), None)?)
}

pub fn subscribed(
    server: &Contender,
    count: usize,
    (question, answer): (&[u8], &[u8]),
) -> Result<Vec<TcpStream>> {
    let one = || -> io::Result<TcpStream> {
        let stream = connect(HOST, server.port)?;
        ask(&stream, question, answer)?;
        Ok(stream)
    };
    Ok((0..count).map(|_| one()).collect::<io::Result<_>>()?)
}

/// From writing a put to having read its push. Anywhere, and on one core.
pub fn push_latency(effort: &Effort) -> Result<Vec<Row>> {
    let anywhere = latency(effort, Some(AtMost(1.2)))?;
    let _one_core = OneCore::new()?;
    Ok(vec![anywhere, latency(effort, Some(AtMost(1.2)))?.on_one_core()])
}

fn latency(effort: &Effort, target: Option<Target>) -> Result<Row> {
    let count = 20_000 / effort.shorter;
    let p50 = |fan: &Fan| -> Result<f64> {
        Ok(fan.one_by_one(count)?.latency.value_at_quantile(0.5) as f64 / 1e3)
    };
    let (dsmq, redis) = (Contender::dsmq()?, Contender::redis()?);
    let (ours, theirs) = (dsmq_fan(&dsmq, 1)?, redis_fan(&redis, 1)?);
    Ok(Row {
        work: "p50 from put to push, one at a time".to_owned(),
        against: "Redis PUBLISH to SUBSCRIBE",
        unit: Unit::Micros,
        pairs: effort.alternate(|| p50(&ours), || p50(&theirs))?,
        target,
        cross_check: None,
    })
}
