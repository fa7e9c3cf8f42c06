//! The row on a store in Redis: what a server costs that stands between its clients and Redis.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;

use dsmq::cli::bench::load::{Request, Step, ask, connect, cycles, json};

use crate::contenders::{Contender, HOST};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target::AtLeast, Unit};
use crate::resp;

const PIPELINE: u32 = 64;

/// Messages of one connection among 50, and of one that is alone.
const EACH_OF_50: u64 = 30 * PIPELINE as u64;
const ALONE: u64 = 1_000 * PIPELINE as u64;

/// Every connection puts a round and takes a round; directly it adds entries, reads them for a group
/// and acknowledges them.
pub fn put_and_take(effort: &Effort) -> Result<Vec<Row>> {
    [("1 connection", 1, ALONE), ("50 connections", 50, EACH_OF_50)]
        .map(|(who, connections, each)| {
            let each = each / effort.shorter;
            let rate = |port: u16, steps: &[Step]| -> Result<f64> {
                let streams = (0..connections).map(|_| connect(HOST, port));
                let streams = streams.collect::<io::Result<Vec<TcpStream>>>()?;
                Ok(cycles(&streams, steps, PIPELINE, each, &AtomicU64::new(0))?.rate())
            };
            let dsmq = || {
                let redis = Contender::redis()?;
                let store = format!("redis://{HOST}:{}", redis.port);
                let server = Contender::dsmq_with(&["--store", &store])?;
                let put = json::put_confirmed(TOPIC, SIZE);
                let put = Step { request: Request::Same(put.request), reply: put.reply };
                rate(server.port, &[put, json::take(TOPIC, SIZE, None)])
            };
            let redis = || {
                let redis = Contender::redis()?;
                let (group, made) = resp::make_group();
                ask(&connect(HOST, redis.port)?, &group, made)?;
                rate(redis.port, &[resp::xadd(SIZE), resp::xreadgroup_any(SIZE), resp::xack_any()])
            };
            Ok(Row {
                work: format!("put (confirmed) and take over Redis, {who}, pipelined by 64"),
                against: "XADD, XREADGROUP and XACK in the same Redis, without a server between",
                unit: Unit::PerSecond,
                pairs: effort.alternate(dsmq, redis)?,
                target: Some(AtLeast(0.4)),
                cross_check: None,
            })
        })
        .into_iter()
        .collect()
}
