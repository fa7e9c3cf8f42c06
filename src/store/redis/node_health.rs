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
const EVERY: Duration = Duration::from_secs(2);

/// Behind the first failure; it doubles with each.
pub const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A node, as it is known between two probes.
pub struct NodeHealth {
    /// Where it is, without a password.
    address: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    gone: Option<Gone>,
    /// How often it went away: a connection of an earlier round is of no more use.
    round: u64,
    told: Told,
    /// Somebody wants it to be probed at once.
    asked: bool,
    ended: bool,
    /// When a connection that broke was logged last.
    logged: Option<Instant>,
}

struct Gone {
    since: Instant,
    why: String,
    /// Whether a probe has found the same, and it is logged.
    sure: bool,
}

/// What a probe heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub round_trip: Duration,
    /// Not every user may ask.
    pub replicas: Option<Replicas>,
}

impl NodeHealth {
    pub fn new(address: String) -> NodeHealth {
        NodeHealth { address, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The round of connections that are of use; `None` while it is away.
    pub fn round(&self) -> Option<u64> {
        let state = lock(&self.state);
        state.gone.is_none().then_some(state.round)
    }

    /// How many replicas followed it when it was last probed, if it told.
    pub fn replicas(&self) -> Option<u32> {
        lock(&self.state).told.replicas.as_ref().map(|replicas| replicas.count)
    }

    /// A connection of this round broke: until it is probed the node is away.
    pub fn suspect(&self, round: u64, why: String) {
        let mut state = lock(&self.state);
        if state.round == round {
            state.leave(why);
        }
        state.asked = true;
        drop(state);
        self.changed.notify_all();
    }

    /// It shall be probed at once.
    pub fn ask(&self) {
        lock(&self.state).asked = true;
        self.changed.notify_all();
    }

    /// It is away: calls fail at once.
    pub fn leave(&self, why: &str) {
        lock(&self.state).leave(why.to_owned());
    }

    /// A probe had no answer.
    pub fn failed(&self, why: String) {
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        state.leave(why);
        let Some(gone) = state.gone.as_mut().filter(|gone| !gone.sure) else { return };
        gone.sure = true;
        tracing::error!(
            "Redis at {} is away ({}): what needs it is refused until it is back",
            self.address,
            gone.why
        );
    }

    /// A probe was answered; true if the node was away before it.
    pub fn answered(&self, told: Told) -> bool {
        let mut state = lock(&self.state);
        state.told = told;
        let Some(gone) = state.gone.take() else { return false };
        let now = Instant::now();
        if gone.sure {
            let seconds = gone.since.elapsed().as_secs_f64();
            tracing::warn!("Redis at {} is back after {seconds:.1} s", self.address);
        } else if state.logged.is_none_or(|at| now - at >= limits::DROPS_LOGGED) {
            // It may break again and again.
            state.logged = Some(now);
            let why = gone.why;
            tracing::warn!("a connection to Redis at {} broke ({why}): it answers", self.address);
        }
        true
    }

    /// Waits until it is to be probed, so long at most; false once there is nobody to probe it for.
    pub fn pause(&self, most: Duration) -> bool {
        let state = lock(&self.state);
        let waited =
            self.changed.wait_timeout_while(state, most, |state| !state.asked && !state.ended);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.asked = false;
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
            .gone
            .as_ref()
            .map(|gone| Away { time: gone.since.elapsed(), why: gone.why.clone() });
        let Told { round_trip, replicas } = state.told.clone();
        Node { address: self.address.clone(), away, round_trip, replicas, ..Node::default() }
    }
}

impl State {
    fn leave(&mut self, why: String) {
        if self.gone.is_none() {
            self.round += 1;
            self.gone = Some(Gone { since: Instant::now(), why, sure: false });
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
        let round = node.round().unwrap();
        node.suspect(round, "broken".into());
        assert_eq!(node.round(), None);
        assert_eq!(node.node().away.unwrap().why, "broken");
        // It is to be probed at once.
        assert!(node.pause(Duration::from_secs(60)));
        assert!(node.answered(Told::default()), "it was away");
        let next = node.round().unwrap();
        assert!(next > round && node.node().away.is_none());
        // What was begun before that breaks late, and says nothing of now.
        node.suspect(round, "broken too".into());
        assert_eq!(node.round(), Some(next));
        assert!(!node.answered(Told::default()));
    }

    #[test]
    fn the_first_reason_is_told_as_long_as_it_is_away() {
        let node = NodeHealth::new("here:1".into());
        node.failed("refused".into());
        node.failed("still refused".into());
        assert_eq!(node.node().away.unwrap().why, "refused");
        node.end();
        assert!(!node.pause(Duration::from_secs(60)));
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
