//! The watch over a node: a thread that asks it now and then how it is, and as long as it is away
//! whether it is back. It has a connection of its own, so that no request waits for it.

use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, ConnectionLike, RedisResult, Value, cmd};

use super::backoff::Backoff;
use super::node_health::{NodeHealth, Told};
use super::node_pool::{self, NodePool};
use crate::ops::Replicas;

/// From one probe to the next.
const EVERY: Duration = Duration::from_secs(2);

impl NodePool {
    /// Watches over the node until nobody needs it; `probed` is called after each probe, and told whether
    /// the node answered, and whether it is back.
    pub fn probe(&self, probed: impl Fn(bool, bool) + Send + 'static) -> std::io::Result<()> {
        let (client, node_health) = (self.client.clone(), self.node_health.clone());
        let thread = thread::Builder::new().name("watch".into());
        thread.spawn(move || run(&client, &node_health, &probed)).map(drop)
    }
}

fn run(client: &Client, node_health: &NodeHealth, probed: &dyn Fn(bool, bool)) {
    let (mut connection, mut backoff) = (None, Backoff::default());
    loop {
        let pause = match probe(client, &mut connection) {
            Ok(told) => {
                backoff = Backoff::default();
                probed(true, node_health.answered(told));
                EVERY
            }
            Err(why) => {
                // From here on no call waits for it, also none that asks who has its parts now. One whose
                // parts are elsewhere by now is watched no more.
                node_health.leave(&why);
                probed(false, false);
                node_health.failed(why);
                backoff.failed()
            }
        };
        if !node_health.pause(pause) {
            return;
        }
    }
}

/// Asks over the connection that there is, or else over a new one: that one broke says little.
fn probe(client: &Client, connection: &mut Option<Connection>) -> Result<Told, String> {
    if let Some(told) = connection.as_mut().and_then(|connection| ask(connection).ok()) {
        return told;
    }
    *connection = None;
    let mut fresh =
        node_pool::connect(client, node_pool::ANSWER).map_err(|error| node_pool::reason(&error))?;
    let told = ask(&mut fresh).map_err(|error| node_pool::reason(&error))?;
    *connection = Some(fresh);
    told
}

/// An error is the connection's; what the node says no with is inside.
fn ask(connection: &mut Connection) -> RedisResult<Result<Told, String>> {
    let began = Instant::now();
    let ping = connection.req_command(&cmd("PING"))?;
    let round_trip = began.elapsed();
    if let Err(error) = ping.extract_error() {
        return Ok(Err(error.to_string()));
    }
    let mut info = cmd("INFO");
    let info = match connection.req_command(info.arg("replication"))? {
        Value::BulkString(info) => String::from_utf8_lossy(&info).into_owned(),
        Value::VerbatimString { text, .. } => text,
        // Not every user may ask.
        _ => return Ok(Ok(Told { round_trip, replicas: None })),
    };
    if field(&info, "role:") == Some("slave") {
        return Ok(Err("it is a replica: only its master takes messages".to_owned()));
    }
    Ok(Ok(Told { round_trip, replicas: replicas(&info) }))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The replicas that follow, and how far the last of them is behind.
pub fn replicas(info: &str) -> Option<Replicas> {
    let offset: u64 = field(info, "master_repl_offset:")?.parse().ok()?;
    let count: usize = field(info, "connected_slaves:")?.parse().ok()?;
    let mut replicas = Replicas::default();
    for number in 0..count {
        let Some(replica) = field(info, &format!("slave{number}:")) else { continue };
        let said =
            |name: &str| replica.split(',').find_map(|partition| partition.strip_prefix(name));
        // One that is being sent the whole is none yet.
        if said("state=") != Some("online") {
            continue;
        }
        let number = |name| said(name).and_then(|number| number.parse::<u64>().ok());
        replicas.count += 1;
        let behind = offset.saturating_sub(number("offset=").unwrap_or(0));
        replicas.lag_bytes = replicas.lag_bytes.max(behind);
        replicas.lag = replicas.lag.max(Duration::from_secs(number("lag=").unwrap_or(0)));
    }
    Some(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_that_is_furthest_behind_counts() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
            slave0:ip=127.0.0.1,port=1,state=online,offset=90,lag=0\r\n\
            slave1:ip=127.0.0.1,port=2,state=online,offset=70,lag=4,type=replica\r\n\
            slave2:ip=127.0.0.1,port=3,state=wait_bgsave,offset=0,lag=0\r\n\
            master_repl_offset:100\r\n";
        let lag = Duration::from_secs(4);
        assert_eq!(replicas(info), Some(Replicas { count: 2, lag_bytes: 30, lag }));
        let alone = "role:master\nconnected_slaves:0\nmaster_repl_offset:0\n";
        assert_eq!(replicas(alone), Some(Replicas::default()));
        assert_eq!(replicas("role:master\n"), None);
    }
}
