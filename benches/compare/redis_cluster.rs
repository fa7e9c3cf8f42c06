//! The rows on a store over a Redis Cluster: what a second server adds, and what the cluster costs.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Instant;

use dsmq::cli::load::{Request, Step, connect, cycles, json};

use crate::Result;
use crate::cluster::{Cluster, Shape};
use crate::contenders::{Contender, HOST};
use crate::report::{Row, Unit};
use crate::rows::{Effort, SIZE};

const PIPELINE: u32 = 64;

/// Each has connections of its own; some are in each part of the store.
const TOPICS: usize = 32;

/// Messages of one connection.
const EACH: u64 = 60 * PIPELINE as u64;

/// Masters alone, which nobody takes for dead because the machine is busy.
const MASTERS: Shape = Shape { replicas: false, node_timeout: 60_000 };

/// Every connection puts a round into its topic and takes a round of it.
pub fn put_and_take(effort: &Effort) -> Result<Vec<Row>> {
    let cluster = Cluster::start(MASTERS, Path::new(env!("CARGO_TARGET_TMPDIR")));
    let rate = |store: &str, servers: usize| rate(store, servers, EACH / effort.shorter);
    let over_cluster = |servers| rate(&cluster.url(), servers);
    let over_one = || {
        let redis = Contender::redis()?;
        rate(&format!("redis://{HOST}:{}", redis.port), 1)
    };
    let work = |who: &str| {
        format!(
            "put (confirmed) and take over a cluster of 3 masters, {who}, {TOPICS} connections, \
             each with its own topic, pipelined by {PIPELINE}"
        )
    };
    Ok(vec![
        Row {
            work: work("2 servers"),
            against: "1 server, the same",
            unit: Unit::PerSecond,
            pairs: effort.alternate(|| over_cluster(2), || over_cluster(1))?,
            target: None,
            cross_check: None,
        },
        Row {
            work: work("1 server"),
            against: "1 server over one Redis, the same",
            unit: Unit::PerSecond,
            pairs: effort.alternate(|| over_cluster(1), over_one)?,
            target: None,
            cross_check: None,
        },
    ])
}

/// Messages that so many servers over this store hand on in a second.
fn rate(store: &str, servers: usize, each: u64) -> Result<f64> {
    let servers = (0..servers).map(|_| Contender::dsmq_with(&["--store", store]));
    let servers = servers.collect::<Result<Vec<Contender>>>()?;
    let streams = servers.iter().cycle().take(TOPICS).map(|server| connect(HOST, server.port));
    let streams = streams.collect::<io::Result<Vec<TcpStream>>>()?;
    let start = Instant::now();
    let done: io::Result<u64> = thread::scope(|scope| {
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
        let join = |thread: thread::ScopedJoinHandle<'_, io::Result<u64>>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a connection's thread panicked")))
        };
        threads.into_iter().map(join).sum()
    });
    Ok(done? as f64 / start.elapsed().as_secs_f64())
}
