//! Whether a node can be used, since when not and why, and what it told of itself last. One line is
//! logged when it goes away, and one when it is back.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, ConnectionLike, RedisResult, Value, cmd};

use super::node_pool::{self, NodePool};
use crate::limits;
use crate::ops::{Away, Node, Replicas};
use crate::sync::lock;

/// From one probe to the next.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Behind the first failure; it doubles with each.
pub const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A node, as it is known between two probes.
pub struct NodeHealth {
    /// Where it is, without a password.
    address: String,
    state: Mutex<HealthState>,
    changed: Condvar,
}

#[derive(Default)]
struct HealthState {
    outage: Option<Outage>,
    /// How often it went away: a connection of an earlier round is of no more use.
    epoch: u64,
    reply: ProbeReply,
    /// Somebody wants it to be probed at once.
    probe_requested: bool,
    ended: bool,
    /// When a connection that broke was logged last.
    logged: Option<Instant>,
}

struct Outage {
    since: Instant,
    why: String,
    /// Whether a probe has found the same, and it is logged.
    confirmed: bool,
}

/// What a probe heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeReply {
    pub round_trip: Duration,
    /// Not every user may ask.
    pub replicas: Option<Replicas>,
}

impl NodeHealth {
    pub fn new(address: String) -> NodeHealth {
        NodeHealth { address, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The round of connections that are of use; `None` while it is away.
    pub fn epoch(&self) -> Option<u64> {
        let state = lock(&self.state);
        state.outage.is_none().then_some(state.epoch)
    }

    /// How many replicas followed it when it was last probed, if it told.
    pub fn replicas(&self) -> Option<u32> {
        lock(&self.state).reply.replicas.as_ref().map(|replicas| replicas.count)
    }

    /// A connection of this round broke: until it is probed the node is away.
    pub fn connection_broke(&self, epoch: u64, why: String) {
        let mut state = lock(&self.state);
        if state.epoch == epoch {
            state.mark_down(why);
        }
        state.probe_requested = true;
        drop(state);
        self.changed.notify_all();
    }

    /// It shall be probed at once.
    pub fn request_probe(&self) {
        lock(&self.state).probe_requested = true;
        self.changed.notify_all();
    }

    /// It is away: calls fail at once.
    pub fn mark_down(&self, why: &str) {
        lock(&self.state).mark_down(why.to_owned());
    }

    /// A probe had no answer.
    pub fn probe_failed(&self, why: String) {
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        state.mark_down(why);
        let Some(outage) = state.outage.as_mut().filter(|outage| !outage.confirmed) else { return };
        outage.confirmed = true;
        tracing::error!(
            "Redis at {} is away ({}): what needs it is refused until it is back",
            self.address,
            outage.why
        );
    }

    /// A probe was answered; true if the node was away before it.
    pub fn probe_succeeded(&self, reply: ProbeReply) -> bool {
        let mut state = lock(&self.state);
        state.reply = reply;
        let Some(outage) = state.outage.take() else { return false };
        let now = Instant::now();
        if outage.confirmed {
            let seconds = outage.since.elapsed().as_secs_f64();
            tracing::warn!("Redis at {} is back after {seconds:.1} s", self.address);
        } else if state.logged.is_none_or(|at| now - at >= limits::DROPS_LOGGED) {
            // It may break again and again.
            state.logged = Some(now);
            let why = outage.why;
            tracing::warn!("a connection to Redis at {} broke ({why}): it answers", self.address);
        }
        true
    }

    /// Waits until it is to be probed, so long at most; false once there is nobody to probe it for.
    pub fn wait_for_probe(&self, most: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self
            .changed
            .wait_timeout_while(state, most, |state| !state.probe_requested && !state.ended);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.probe_requested = false;
        !state.ended
    }

    /// Nobody needs it any more.
    pub fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }

    /// The node, as people are told of it.
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
            Ok(reply) => {
                backoff = Backoff::default();
                probed(true, node_health.probe_succeeded(reply));
                PROBE_INTERVAL
            }
            Err(why) => {
                // From here on no call waits for it, also none that asks who has its parts now. One whose
                // parts are elsewhere by now is watched no more.
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

/// Asks over the connection that there is, or else over a new one: that one broke says little.
fn probe(client: &Client, connection: &mut Option<Connection>) -> Result<ProbeReply, String> {
    if let Some(reply) = connection.as_mut().and_then(|connection| ask(connection).ok()) {
        return reply;
    }
    *connection = None;
    let mut fresh =
        node_pool::connect(client, node_pool::ANSWER).map_err(|error| node_pool::reason(&error))?;
    let reply = ask(&mut fresh).map_err(|error| node_pool::reason(&error))?;
    *connection = Some(fresh);
    reply
}

/// An error is the connection's; what the node says no with is inside.
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
        // Not every user may ask.
        _ => return Ok(Ok(ProbeReply { round_trip, replicas: None })),
    };
    if field(&info, "role:") == Some("slave") {
        return Ok(Err("it is a replica: only its master takes messages".to_owned()));
    }
    Ok(Ok(ProbeReply { round_trip, replicas: replicas(&info) }))
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

pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(RETRY)
    }
}

impl Backoff {
    /// It failed again: how long to wait now.
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
    fn a_connection_that_breaks_is_a_suspicion_until_a_probe_is_answered() {
        let node = NodeHealth::new("here:1".into());
        let epoch = node.epoch().unwrap();
        node.connection_broke(epoch, "broken".into());
        assert_eq!(node.epoch(), None);
        assert_eq!(node.node().away.unwrap().why, "broken");
        // It is to be probed at once.
        assert!(node.wait_for_probe(Duration::from_secs(60)));
        assert!(node.probe_succeeded(ProbeReply::default()), "it was away");
        let next = node.epoch().unwrap();
        assert!(next > epoch && node.node().away.is_none());
        // What was begun before that breaks late, and says nothing of now.
        node.connection_broke(epoch, "broken too".into());
        assert_eq!(node.epoch(), Some(next));
        assert!(!node.probe_succeeded(ProbeReply::default()));
    }

    #[test]
    fn the_first_reason_is_told_as_long_as_it_is_away() {
        let node = NodeHealth::new("here:1".into());
        node.probe_failed("refused".into());
        node.probe_failed("still refused".into());
        assert_eq!(node.node().away.unwrap().why, "refused");
        node.end();
        assert!(!node.wait_for_probe(Duration::from_secs(60)));
    }

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

    #[test]
    fn it_doubles_up_to_a_second() {
        let mut backoff = Backoff::default();
        let millis = [(); 7].map(|()| backoff.failed().as_millis());
        assert_eq!(millis, [50, 100, 200, 400, 800, 1_000, 1_000]);
    }
}
