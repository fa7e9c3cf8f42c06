//! What a message costs a Redis that keeps it: calls, the time of its one thread, and bytes, as Redis
//! counts them itself. `--cost` prints a table of it.

use std::io;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::AtomicU64;

use dsmq::cli::bench::load::{Request, Step, connect, cycles, json};

use crate::contenders::{Contender, HOST};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report;

/// What Redis has counted since its start.
#[derive(Clone, Copy)]
struct Counted {
    calls: f64,
    /// Of its process: scripts, parsing, and the sockets.
    cpu_seconds: f64,
    bytes_in: f64,
    bytes_out: f64,
}

/// Messages are put with a confirmation, and then taken, by so many connections, so many at a time.
const SHAPES: [(&str, usize, u32, u64); 3] = [
    ("1 connection, one at a time", 1, 1, 20_000),
    ("1 connection, pipelined by 64", 1, 64, 256_000),
    ("50 connections, pipelined by 64", 50, 64, 12_800),
];

pub fn report(effort: &Effort) -> Result<()> {
    println!("{}\n", report::machine()?);
    println!(
        "| a message of {SIZE} bytes, put and taken | calls | CPU of Redis, µs | bytes to Redis | \
         bytes from it |\n| --- | --- | --- | --- | --- |"
    );
    for (name, connections, pipeline, each) in SHAPES {
        let each = (each / effort.shorter).max(u64::from(pipeline));
        let redis = Contender::redis()?;
        let store = format!("redis://{HOST}:{}", redis.port);
        let server = Contender::dsmq_with(&["--store", &store])?;
        let streams = (0..connections).map(|_| connect(HOST, server.port));
        let streams = streams.collect::<io::Result<Vec<TcpStream>>>()?;
        let put = json::put_confirmed(TOPIC, SIZE);
        let put = Step { request: Request::Same(put.request), reply: put.reply };
        let steps = [put, json::take(TOPIC, SIZE, None)];
        let before = counted(redis.port)?;
        let done = cycles(&streams, &steps, pipeline, each, &AtomicU64::new(0))?.requests as f64;
        let after = counted(redis.port)?;
        println!(
            "| {name} | {:.3} | {:.1} | {:.0} | {:.0} |",
            (after.calls - before.calls) / done,
            (after.cpu_seconds - before.cpu_seconds) / done * 1e6,
            (after.bytes_in - before.bytes_in) / done,
            (after.bytes_out - before.bytes_out) / done,
        );
    }
    Ok(())
}

/// What `INFO` tells.
fn counted(port: u16) -> Result<Counted> {
    let port = port.to_string();
    let info = Command::new("redis-cli").args(["-h", HOST, "-p", &port, "INFO", "all"]).output()?;
    let info = String::from_utf8(info.stdout)?;
    let number = |name: &str| -> Result<f64> {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        let line = line.ok_or_else(|| format!("Redis tells no {name}"))?;
        Ok(line.split(',').next().unwrap_or(line).trim().parse()?)
    };
    Ok(Counted {
        calls: number("cmdstat_evalsha:calls=").unwrap_or(0.0),
        cpu_seconds: number("used_cpu_user:")? + number("used_cpu_sys:")?,
        bytes_in: number("total_net_input_bytes:")?,
        bytes_out: number("total_net_output_bytes:")?,
    })
}
