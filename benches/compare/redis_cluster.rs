//! The rows on a store over a Redis Cluster: what a second server adds, and what the cluster costs.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use dsmq::cli::bench::load::{Request, Step, connect, cycles, json};

use crate::cluster::{Cluster, PATIENT, Shape};
use crate::contenders::{Contender, HOST, processor_time};
use crate::measure::{Effort, Result, SIZE};
use crate::report::{Row, Unit};

const PIPELINE: u32 = 64;

/// Each has connections of its own; some are in each part of the store.
const TOPICS: usize = 32;

/// Messages of one connection.
const EACH: u64 = 120 * PIPELINE as u64;

/// Masters alone, which nobody takes for dead because the machine is busy.
const MASTERS: Shape = Shape { replicas: false, node_timeout: PATIENT };

/// What a run came to.
struct Run {
    rate: f64,
    /// Microseconds for which cores were busy with a message, in servers and in the cluster's nodes.
    busy: (f64, f64),
}

/// Every connection puts a round into its topic and takes a round of it.
pub fn put_and_take(effort: &Effort) -> Result<Vec<Row>> {
    let cluster = Cluster::start(MASTERS);
    let nodes = cluster.ids();
    let run = |servers| run(&cluster.url(), servers, &nodes, EACH / effort.shorter);
    let over_one = || {
        let redis = Contender::redis()?;
        let store = format!("redis://{HOST}:{}", redis.port);
        Ok(self::run(&store, 1, &[], EACH / effort.shorter)?.rate)
    };
    let mut busy = Vec::new();
    let two = || {
        let two = run(2)?;
        busy.push(two.busy);
        Ok(two.rate)
    };
    let one = || Ok(run(1)?.rate);
    let rates = effort.alternate(two, one)?;
    let costs = effort.alternate(one, over_one)?;
    let row = |what: &str, against, unit, pairs| Row {
        work: format!(
            "put (confirmed) and take over a cluster of 3 masters, {TOPICS} connections, each with \
             its own topic, pipelined by {PIPELINE}: {what}"
        ),
        against,
        unit,
        pairs,
        target: None,
        cross_check: None,
    };
    Ok(vec![
        row("2 servers", "1 server, the same", Unit::PerSecond, rates),
        row("1 server", "1 server over one Redis, the same", Unit::PerSecond, costs),
        row("2 servers' processor time a message", "that of the 3 nodes", Unit::Micros, busy),
    ])
}

/// Hands messages on through so many servers over this store.
fn run(store: &str, servers: usize, nodes: &[u32], each: u64) -> Result<Run> {
    let servers = (0..servers).map(|_| Contender::dsmq_with(&["--store", store]));
    let servers = servers.collect::<Result<Vec<Contender>>>()?;
    let streams = servers.iter().cycle().take(TOPICS).map(|server| connect(HOST, server.port));
    let streams = streams.collect::<io::Result<Vec<TcpStream>>>()?;
    let before = nodes_time(nodes)?;
    let start = Instant::now();
    let messages = hand_on(streams, each)? as f64;
    let elapsed = start.elapsed();
    let own = servers.iter().map(Contender::processor_time).sum::<Result<Duration>>()?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / messages;
    let busy = (micros(own), micros(nodes_time(nodes)? - before));
    Ok(Run { rate: messages / elapsed.as_secs_f64(), busy })
}

fn nodes_time(nodes: &[u32]) -> Result<Duration> {
    nodes.iter().map(|node| processor_time(*node)).sum()
}

/// Puts and takes on all connections; how many messages.
fn hand_on(streams: Vec<TcpStream>, each: u64) -> io::Result<u64> {
    thread::scope(|scope| {
        let run = |(number, stream): (usize, TcpStream)| {
            scope.spawn(move || {
                let topic = format!("compare{number}");
                let put = json::put_confirmed(&topic, SIZE);
                let put = Step { request: Request::Same(put.request), reply: put.reply };
                let steps = [put, json::take(&topic, SIZE, None)];
                Ok(cycles(&[stream], &steps, PIPELINE, each, &AtomicU64::new(0))?.requests)
            })
        };
        let threads: Vec<_> = streams.into_iter().enumerate().map(run).collect();
        let panicked = |_| Err(io::Error::other("a connection's thread panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).sum()
    })
}
