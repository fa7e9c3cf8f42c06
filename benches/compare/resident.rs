//! The rows on memory: what a message costs, and what a connection costs that says nothing.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use dsmq::cli::bench::load::{Amount, Histogram, Pattern, Work, ask, connect, json, rounds};

use crate::contenders::{Contender, HOST, OneCore};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target::AtMost, Unit};
use crate::resp;

const MIB: f64 = 1024.0 * 1024.0;

/// What each message adds to what is resident while the connection that put it is still there.
pub fn memory(effort: &Effort) -> Result<Vec<Row>> {
    const MESSAGES: u64 = 1_000_000;
    fn grown(server: &Contender, before: u64) -> Result<f64> {
        let grown = server.resident_bytes()?.saturating_sub(before);
        Ok(grown as f64 / MESSAGES as f64)
    }
    let dsmq = || {
        let server = Contender::dsmq()?;
        let stream = json::session(HOST, server.port)?;
        let before = server.resident_bytes()?;
        json::fill(&stream, TOPIC, SIZE, MESSAGES)?;
        grown(&server, before)
    };
    let redis = || {
        let server = Contender::redis()?;
        let stream = connect(HOST, server.port)?;
        let before = server.resident_bytes()?;
        resp::fill(&stream, SIZE, MESSAGES)?;
        grown(&server, before)
    };
    // Memory is less noisy than time.
    let fewer = Effort { pairs: effort.pairs.div_ceil(3), ..*effort };
    Ok(vec![Row {
        work: "memory, 1,000,000 messages".to_owned(),
        against: "Redis list of the same",
        unit: Unit::BytesEach,
        pairs: fewer.alternate(dsmq, redis)?,
        target: Some(AtMost(1.7)),
        cross_check: None,
    }])
}

/// Connections that say nothing, or little: what they cost, and whether another one feels them.
/// That is asked of two servers in turn, one of which has them.
pub fn silent(effort: &Effort) -> Result<Vec<Row>> {
    const CONNECTIONS: usize = 5_000;
    let _one_core = OneCore::new()?;
    let (crowded, quiet) = (Contender::dsmq()?, Contender::dsmq()?);
    let silent: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| connect(HOST, crowded.port)).collect::<io::Result<_>>()?;
    all_accepted(&crowded, CONNECTIONS)?;
    let at_most = |work: &str, bound: f64| -> Result<Row> {
        Ok(Row {
            work: work.to_owned(),
            against: "what is allowed",
            unit: Unit::MiB,
            pairs: vec![(crowded.resident_bytes()? as f64 / MIB, bound)],
            target: Some(AtMost(1.0)),
            cross_check: None,
        })
    };
    let mut rows = vec![at_most("resident, 5,000 silent connections", 125.0)?];

    let (on_crowded, on_quiet) = (connect(HOST, crowded.port)?, connect(HOST, quiet.port)?);
    let pairs: Vec<_> = (0..effort.pairs)
        .map(|_| Ok((put_and_get(effort, &on_crowded)?, put_and_get(effort, &on_quiet)?)))
        .collect::<Result<_>>()?;
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let micros = |latency: &Histogram<u64>| latency.value_at_quantile(quantile) as f64 / 1e3;
        let row = Row {
            work: format!("{name} of put (confirmed) and get beside 5,000 silent connections"),
            against: "without them",
            unit: Unit::Micros,
            pairs: pairs.iter().map(|(ours, theirs)| (micros(ours), micros(theirs))).collect(),
            target: Some(AtMost(1.2)),
            cross_check: None,
        };
        rows.push(row.on_one_core());
    }

    let (put, get) = (json::put("once", SIZE), json::get("once"));
    (&silent[0]).write_all(&put)?;
    let reply = json::reply_to_get(&silent[0], &get, SIZE)?;
    let put_and_get = [put, get].concat();
    silent[1..].iter().try_for_each(|stream| ask(stream, &put_and_get, &reply))?;
    rows.push(at_most("resident, once each has put and got", 200.0)?);
    Ok(rows)
}

/// Latency of single requests, half of them puts and half gets.
fn put_and_get(effort: &Effort, stream: &TcpStream) -> Result<Histogram<u64>> {
    let streams = [stream.try_clone()?];
    let each = 4_000 / effort.shorter;
    let pattern = Pattern::new(1, Amount::Requests(each));
    let run = |work: &Work| rounds(&streams, work, pattern, &AtomicU64::new(0));
    let mut latency = run(&json::put_confirmed(TOPIC, SIZE))?.latency;
    let gets = json::filled_gets(stream, TOPIC, SIZE, each)?;
    latency.add(run(&gets)?.latency)?;
    Ok(latency)
}

/// Connecting succeeds before the server has accepted.
fn all_accepted(server: &Contender, connections: usize) -> Result<()> {
    let start = Instant::now();
    while server.descriptors()? < connections {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(
                format!("{} descriptors open, not {connections}", server.descriptors()?).into()
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
    // And the last one's thread has begun.
    ask(&json::session(HOST, server.port)?, json::PING, json::OK)?;
    Ok(())
}
