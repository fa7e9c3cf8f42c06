//! Health of a node: whether it is usable, since when not and why, and its last probe reply. A
//! probe thread asks each node over a connection of its own, so no request waits for it. Going
//! down and coming back are logged once each.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, ConnectionLike, RedisResult, Value, cmd};

use super::node_pool::{self, NodePool};
use crate::limits;
use crate::ops::{Away, Node, Replicas};
use crate::sync::lock;

/// Time between two probes of a healthy node.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Pause after the first failure; it doubles with each further failure.
pub const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// The state of a node between two probes.
pub struct NodeHealth {
    /// Without the password.
    address: String,
    state: Mutex<HealthState>,
    changed: Condvar,
}

#[derive(Default)]
struct HealthState {
    outage: Option<Outage>,
    /// Number of outages so far. Connections of an earlier epoch are not used again.
    epoch: u64,
    reply: ProbeReply,
    /// A probe is wanted at once.
    probe_requested: bool,
    ended: bool,
    /// When a broken connection was last logged.
    logged: Option<Instant>,
}

struct Outage {
    since: Instant,
    why: String,
    /// A probe confirmed the outage, and it is logged.
    confirmed: bool,
}

/// The result of a successful probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeReply {
    pub round_trip: Duration,
    /// `None` if the user may not run INFO.
    pub replicas: Option<Replicas>,
}

impl NodeHealth {
    pub fn new(address: String) -> NodeHealth {
        NodeHealth { address, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The epoch of usable connections; `None` while the node is down.
    pub fn epoch(&self) -> Option<u64> {
        let state = lock(&self.state);
        state.outage.is_none().then_some(state.epoch)
    }

    /// Number of replicas at the last probe; `None` if unknown.
    pub fn replicas(&self) -> Option<u32> {
        lock(&self.state).reply.replicas.as_ref().map(|replicas| replicas.count)
    }

    /// Reports a broken connection of this epoch: the node counts as down until the next probe.
    pub fn connection_broke(&self, epoch: u64, why: String) {
        let mut state = lock(&self.state);
        if state.epoch == epoch {
            state.mark_down(why);
        }
        state.probe_requested = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Requests a probe at once.
    pub fn request_probe(&self) {
        lock(&self.state).probe_requested = true;
        self.changed.notify_all();
    }

    /// Marks the node as down: calls fail immediately.
    pub fn mark_down(&self, why: &str) {
        lock(&self.state).mark_down(why.to_owned());
    }

    /// Records a failed probe.
    pub fn probe_failed(&self, why: String) {
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        state.mark_down(why);
        let Some(outage) = state.outage.as_mut().filter(|outage| !outage.confirmed) else { return };
        outage.confirmed = true;
        tracing::error!(
            "Redis at {} is unreachable ({}): requests that need it fail until it is back",
            self.address,
            outage.why
        );
    }

    /// Records a successful probe; true if the node was down before.
    pub fn probe_succeeded(&self, reply: ProbeReply) -> bool {
        let mut state = lock(&self.state);
        state.reply = reply;
        let Some(outage) = state.outage.take() else { return false };
        let now = Instant::now();
        if outage.confirmed {
            let seconds = outage.since.elapsed().as_secs_f64();
            tracing::warn!("Redis at {} is back after {seconds:.1} s", self.address);
        } else if state.logged.is_none_or(|at| now - at >= limits::DROPS_LOGGED) {
            // A connection can break again and again: limit the log.
            state.logged = Some(now);
            let why = outage.why;
            tracing::warn!(
                "a connection to Redis at {} broke ({why}): Redis answers on a new one",
                self.address
            );
        }
        true
    }

    /// Waits until the next probe is wanted, at most this long; false once the pool is dropped.
    pub fn wait_for_probe(&self, most: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self
            .changed
            .wait_timeout_while(state, most, |state| !state.probe_requested && !state.ended);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.probe_requested = false;
        !state.ended
    }

    /// Ends the probe thread.
    pub fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }

    /// The node as `stats` and the metrics show it.
    pub fn node(&self) -> Node {
        let state = lock(&self.state);
        let away = state
            .outage
            .as_ref()
            .map(|outage| Away { time: outage.since.elapsed(), why: outage.why.clone() });
        let ProbeReply { round_trip, replicas } = state.reply.clone();
        Node { address: self.address.clone(), away, round_trip, replicas, ..Node::default() }
    }
}

impl HealthState {
    fn mark_down(&mut self, why: String) {
        if self.outage.is_none() {
            self.epoch += 1;
            self.outage = Some(Outage { since: Instant::now(), why, confirmed: false });
        }
    }
}

impl NodePool {
    /// Starts the probe thread, which runs until the pool is dropped. It calls `probed` after each
    /// probe with two flags: the node answered, and it was down before.
    pub fn probe(&self, probed: impl Fn(bool, bool) + Send + 'static) -> std::io::Result<()> {
        let (client, node_health) = (self.client.clone(), self.node_health.clone());
        let thread = thread::Builder::new().name("probe".into());
        thread.spawn(move || run(&client, &node_health, &probed)).map(drop)
    }
}

fn run(client: &Client, node_health: &NodeHealth, probed: &dyn Fn(bool, bool)) {
    let (mut connection, mut backoff) = (None, Backoff::default());
    loop {
        let pause = match probe(client, &mut connection) {
            Ok(reply) => {
                backoff = Backoff::default();
                probed(true, node_health.probe_succeeded(reply));
                PROBE_INTERVAL
            }
            Err(why) => {
                // From here on no call waits for the node, including the one in `probed` that asks
                // for the new slots. A node that has lost its partitions is then dropped, and its
                // probe ends.
                node_health.mark_down(&why);
                probed(false, false);
                node_health.probe_failed(why);
                backoff.failed()
            }
        };
        if !node_health.wait_for_probe(pause) {
            return;
        }
    }
}

/// Probes over the open connection, or over a new one if that fails: one broken connection is not
/// an outage.
fn probe(client: &Client, connection: &mut Option<Connection>) -> Result<ProbeReply, String> {
    if let Some(reply) = connection.as_mut().and_then(|connection| ask(connection).ok()) {
        return reply;
    }
    *connection = None;
    let mut fresh = node_pool::connect(client, node_pool::REPLY_TIMEOUT)
        .map_err(|error| node_pool::reason(&error))?;
    let reply = ask(&mut fresh).map_err(|error| node_pool::reason(&error))?;
    *connection = Some(fresh);
    reply
}

/// The outer error is the connection's, the inner one the node's refusal.
fn ask(connection: &mut Connection) -> RedisResult<Result<ProbeReply, String>> {
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
        // The user may not run INFO.
        _ => return Ok(Ok(ProbeReply { round_trip, replicas: None })),
    };
    if field(&info, "role:") == Some("slave") {
        return Ok(Err("it is a replica: only its master accepts messages".to_owned()));
    }
    Ok(Ok(ProbeReply { round_trip, replicas: replicas(&info) }))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The number of replicas online, and the largest lag among them.
pub fn replicas(info: &str) -> Option<Replicas> {
    let offset: u64 = field(info, "master_repl_offset:")?.parse().ok()?;
    let count: usize = field(info, "connected_slaves:")?.parse().ok()?;
    let mut replicas = Replicas::default();
    for number in 0..count {
        let Some(replica) = field(info, &format!("slave{number}:")) else { continue };
        let field_of = |name: &str| replica.split(',').find_map(|field| field.strip_prefix(name));
        // A replica in its initial sync does not count yet.
        if field_of("state=") != Some("online") {
            continue;
        }
        let number = |name| field_of(name).and_then(|number| number.parse::<u64>().ok());
        replicas.count += 1;
        let lag_bytes = offset.saturating_sub(number("offset=").unwrap_or(0));
        replicas.lag_bytes = replicas.lag_bytes.max(lag_bytes);
        replicas.lag = replicas.lag.max(Duration::from_secs(number("lag=").unwrap_or(0)));
    }
    Some(replicas)
}

pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(RETRY)
    }
}

impl Backoff {
    /// The pause after another failure.
    pub fn failed(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(RETRY_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_connection_marks_the_node_down_until_a_probe() {
        let node = NodeHealth::new("here:1".into());
        let epoch = node.epoch().unwrap();
        node.connection_broke(epoch, "broken".into());
        assert_eq!(node.epoch(), None);
        assert_eq!(node.node().away.unwrap().why, "broken");
        // Requests a probe.
        assert!(node.wait_for_probe(Duration::from_secs(60)));
        assert!(node.probe_succeeded(ProbeReply::default()), "it was away");
        let next = node.epoch().unwrap();
        assert!(next > epoch && node.node().away.is_none());
        // A call started before the outage fails late; it says nothing about the node now.
        node.connection_broke(epoch, "broken too".into());
        assert_eq!(node.epoch(), Some(next));
        assert!(!node.probe_succeeded(ProbeReply::default()));
    }

    #[test]
    fn outage_keeps_its_first_reason() {
        let node = NodeHealth::new("here:1".into());
        node.probe_failed("refused".into());
        node.probe_failed("still refused".into());
        assert_eq!(node.node().away.unwrap().why, "refused");
        node.end();
        assert!(!node.wait_for_probe(Duration::from_secs(60)));
    }

    #[test]
    fn largest_replica_lag_counts() {
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

    #[test]
    fn backoff_doubles_up_to_a_second() {
        let mut backoff = Backoff::default();
        let millis = [(); 7].map(|()| backoff.failed().as_millis());
        assert_eq!(millis, [50, 100, 200, 400, 800, 1_000, 1_000]);
    }
}
