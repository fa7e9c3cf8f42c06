//! The rows on HTTP. wrk asks: it is what others measure web servers with.

use std::io::{Read, Write};
use std::process::Command;

use dsmq::cli::bench::load::connect;

use crate::contenders::{Contender, HOST};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target, Unit};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/http/put_and_take.lua");
const CONNECTIONS: u32 = 50;
const SECONDS: u64 = 4;

/// Values that are there before, so that every take finds one.
const AHEAD: usize = 1_000;

/// A value is added and the next is taken, in turn.
pub fn put_and_take(effort: &Effort) -> Result<Vec<Row>> {
    let work = || format!("HTTP: POST then GET /q/, {CONNECTIONS} keep-alive connections (wrk)");
    let seconds = (SECONDS / effort.shorter).max(1);
    let dsmq = || {
        let server = Contender::dsmq()?;
        fill(&server)?;
        wrk(&server, seconds)
    };
    let constant = || wrk(&Contender::constant()?, seconds);
    let python = || {
        let redis = Contender::redis()?;
        let server = Contender::restmq(&redis)?;
        fill(&server)?;
        wrk(&server, seconds)
    };
    Ok(vec![
        Row {
            work: work(),
            against: "axum, a constant of the same length",
            unit: Unit::PerSecond,
            pairs: effort.alternate(dsmq, constant)?,
            target: Some(Target::AtLeast(0.5)),
            cross_check: None,
        },
        Row {
            work: work(),
            against: "Python's aiohttp over Redis, as RestMQ is built",
            unit: Unit::PerSecond,
            pairs: effort.alternate(dsmq, python)?,
            target: Some(Target::AtLeast(20.0)),
            cross_check: None,
        },
    ])
}

/// Requests a second, all of which were answered with 2xx.
fn wrk(server: &Contender, seconds: u64) -> Result<f64> {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s", SCRIPT]);
    command.arg(format!("http://{HOST}:{}", server.port));
    let output = command.output().map_err(|error| format!("wrk ({error}): apt-get install wrk"))?;
    let said = String::from_utf8(output.stdout)?;
    let line = |name| said.lines().find_map(|line: &str| line.trim().strip_prefix(name));
    if line("Non-2xx").is_some() || line("Socket errors").is_some() {
        return Err(format!("not every request was answered: {said}").into());
    }
    Ok(line("Requests/sec:").ok_or_else(|| format!("wrk says {said}"))?.trim().parse()?)
}

fn fill(server: &Contender) -> Result<()> {
    let mut stream = connect(HOST, server.port)?;
    let body = format!("value={}", "x".repeat(SIZE));
    let put = format!(
        "POST /q/{TOPIC} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..AHEAD {
        stream.write_all(put.as_bytes())?;
        let mut reply = Vec::new();
        while !(reply.ends_with(b"\r\n") && reply.windows(4).any(|w| w == b"\r\n\r\n"))
            || reply.ends_with(b"\r\n\r\n")
        {
            let mut some = [0; 1024];
            let read = stream.read(&mut some)?;
            if read == 0 {
                return Err("closed in the middle of a reply".into());
            }
            reply.extend_from_slice(&some[..read]);
        }
        if !reply.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&reply).into());
        }
    }
    Ok(())
}
