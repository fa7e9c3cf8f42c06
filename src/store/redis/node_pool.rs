//! Connections to one node, shared by calls, and the errors of a failed call.
//!
//! A call waits at most [`REPLY_TIMEOUT`] for its reply. While the node is down, calls fail at
//! once; the [`probe`](super::node_health) detects when it is back.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionInfo, ConnectionLike, ErrorKind, Pipeline,
    ProtocolVersion, RedisError, RedisResult, Value, cmd,
};

use super::address::Address;
use super::node_health::NodeHealth;
use super::scripts;
use crate::error::{Code, Error};
use crate::sync::lock;

/// Time limit to connect and authenticate.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit from a call to its reply.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle connections older than this are closed: Redis (`timeout`) or a firewall may have dropped
/// them.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Time limit for replicas to confirm; and the limit if the node has too few replicas anyway.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(1);
const LACKING_REPLICAS_TIMEOUT: Duration = Duration::from_millis(50);

pub struct NodePool {
    pub(super) client: Client,
    address: Address,
    max_connections: usize,
    pool: Mutex<Pool>,
    freed: Condvar,
    pub(super) node_health: Arc<NodeHealth>,
}

#[derive(Default)]
struct Pool {
    /// With the time of last use.
    idle: Vec<(Connection, Instant)>,
    /// Connections in use by calls.
    busy: usize,
    /// The epoch of these connections (see [`NodeHealth`]); older ones are discarded.
    epoch: u64,
}

/// The error of a call.
#[derive(Debug)]
pub struct CallError {
    pub error: Error,
    /// The call may have been carried out.
    pub may_be_done: bool,
    /// This process was suspended during the call (SIGSTOP) and has resumed.
    pub interrupted: bool,
    /// The node that serves the slot according to a `MOVED` reply, as `HOST:PORT`.
    pub moved: Option<String>,
}

impl Drop for NodePool {
    fn drop(&mut self) {
        self.node_health.end();
    }
}

impl NodePool {
    /// Makes a pool of at most this many connections. It connects on demand.
    pub fn new(info: ConnectionInfo, max_connections: usize) -> RedisResult<NodePool> {
        let address = Address::from(info.addr());
        let node_health = Arc::new(NodeHealth::new(address.to_string()));
        let (pool, freed) = (Mutex::default(), Condvar::new());
        Ok(NodePool {
            client: Client::open(info)?,
            address,
            max_connections,
            pool,
            freed,
            node_health,
        })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the node counts as down.
    pub fn is_away(&self) -> bool {
        self.node_health.epoch().is_none()
    }

    pub fn node_health(&self) -> &NodeHealth {
        &self.node_health
    }

    /// Opens a connection outside the pool, with this read and write timeout.
    pub fn connect(&self, timeout: Duration) -> RedisResult<Connection> {
        connect(&self.client, timeout)
    }

    /// The same with RESP3, in which a cluster's nodes deliver published messages.
    pub fn connect_pubsub(&self, timeout: Duration) -> RedisResult<Connection> {
        let info = self.client.get_connection_info().clone();
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        connect(&Client::open(info.set_redis_settings(redis))?, timeout)
    }

    pub fn has_tls(&self) -> bool {
        matches!(self.client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Makes a call.
    pub fn call(&self, call: &Cmd) -> Result<Value, CallError> {
        self.call_with(call, 0).map(|(answer, _)| answer)
    }

    /// Makes a call, then waits until this many replicas have its changes; returns how many have.
    pub fn call_with(&self, call: &Cmd, replicas: u32) -> Result<(Value, Option<u32>), CallError> {
        let (mut connection, epoch) = self.take()?;
        let answer = ask(&mut connection, call);
        let count = match &answer {
            Ok(_) if replicas > 0 => {
                Some(wait(&mut connection, replicas, self.replication_timeout(replicas)))
            }
            _ => None,
        };
        let error = answer.as_ref().err().or(count.as_ref().and_then(|count| count.as_ref().err()));
        self.give_back(connection, epoch, error.filter(|error| is_broken(error)));
        match answer {
            // The call succeeded. If the master failed during WAIT, no replica has confirmed it.
            Ok(answer) => Ok((answer, count.map(|count| count.unwrap_or(0)))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes read-only calls in one round trip; `None` if the node does not answer. A call that
    /// the node refuses has its error among the replies.
    pub fn read_all(&self, calls: &Pipeline) -> Option<Vec<Value>> {
        loop {
            let (mut connection, epoch) = self.take().ok()?;
            let answers = ask_all(&mut connection, calls);
            self.give_back(connection, epoch, answers.as_ref().err());
            match answers {
                Err(error) if is_interrupted(&error) => {}
                answers => return answers.ok(),
            }
        }
    }

    /// How long to wait for this many replicas.
    fn replication_timeout(&self, replicas: u32) -> Duration {
        let lacks = self.node_health.replicas().is_some_and(|connected| connected < replicas);
        if lacks { LACKING_REPLICAS_TIMEOUT } else { REPLICATION_TIMEOUT }
    }

    /// Takes a connection from the pool, or opens one.
    fn take(&self) -> Result<(Connection, u64), CallError> {
        let Some(epoch) = self.node_health.epoch() else {
            return Err(unavailable(format!("Redis at {} is unreachable", self.address)));
        };
        let deadline = Instant::now() + REPLY_TIMEOUT;
        let mut pool = lock(&self.pool);
        while pool.busy >= self.max_connections {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unavailable("all connections to Redis are busy (--redis-pool)".into()));
            }
            let waited = self.freed.wait_timeout(pool, left);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        pool.busy += 1;
        // A connection broke since these were used; the others probably did too.
        let stale = pool.begin(epoch);
        let epoch = pool.epoch;
        let idle = pool.idle.pop().filter(|(_, used)| used.elapsed() < IDLE_MAX);
        drop(pool);
        drop(stale);
        let connect = || loop {
            match self.connect(REPLY_TIMEOUT) {
                Err(error) if is_interrupted(&error) => {}
                connection => return connection,
            }
        };
        let connection = idle.map_or_else(connect, |(connection, _)| Ok(connection));
        connection.map(|connection| (connection, epoch)).map_err(|error| {
            self.free(None, epoch);
            self.node_health.connection_broke(epoch, reason(&error));
            CallError { may_be_done: false, ..failed(&error) }
        })
    }

    fn give_back(&self, connection: Connection, epoch: u64, broken: Option<&RedisError>) {
        let Some(error) = broken else { return self.free(Some(connection), epoch) };
        self.free(None, epoch);
        // This process was suspended, which says nothing about the node.
        if !is_interrupted(error) {
            self.node_health.connection_broke(epoch, reason(error));
        }
    }

    fn free(&self, connection: Option<Connection>, epoch: u64) {
        let mut pool = lock(&self.pool);
        pool.busy -= 1;
        if pool.epoch == epoch {
            pool.idle.extend(connection.map(|connection| (connection, Instant::now())));
        }
        drop(pool);
        self.freed.notify_one();
    }
}

impl Pool {
    /// Starts a new epoch; returns the connections of the previous one.
    fn begin(&mut self, epoch: u64) -> Vec<(Connection, Instant)> {
        if epoch <= self.epoch {
            return Vec::new();
        }
        self.epoch = epoch;
        std::mem::take(&mut self.idle)
    }
}

/// Opens a connection with this read and write timeout.
pub fn connect(client: &Client, timeout: Duration) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    Ok(connection)
}

/// Sends a call. If Redis does not have the script, loads all scripts and repeats the call.
fn ask(connection: &mut Connection, call: &Cmd) -> RedisResult<Value> {
    let mut ask = |call: &Cmd| connection.req_command(call).and_then(Value::extract_error);
    match ask(call) {
        Err(error) if error.code() == Some("NOSCRIPT") => {
            for text in scripts::texts() {
                ask(cmd("SCRIPT").arg("LOAD").arg(text))?;
            }
            ask(call)
        }
        answer => answer,
    }
}

/// Sends several calls; an error is the connection's.
fn ask_all(connection: &mut Connection, calls: &Pipeline) -> RedisResult<Vec<Value>> {
    connection.send_packed_command(&calls.get_packed_pipeline())?;
    // Stops at the first missing reply.
    (0..calls.len()).map(|_| connection.recv_response()).collect()
}

/// Waits for replicas to have this connection's changes; returns how many have.
fn wait(connection: &mut Connection, replicas: u32, timeout: Duration) -> RedisResult<u32> {
    let mut wait = cmd("WAIT");
    wait.arg(replicas).arg(timeout.as_millis() as u64);
    match connection.req_command(&wait)?.extract_error()? {
        Value::Int(count) => Ok(u32::try_from(count).unwrap_or(0)),
        _ => Ok(0),
    }
}

/// Whether the connection is unusable, and the fate of the call unknown.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || error.code().is_none()
}

/// Whether the process was suspended during a read: the kernel then ends a read with a timeout
/// early (EINTR).
pub fn is_interrupted(error: &RedisError) -> bool {
    let source = std::error::Error::source(error);
    let cause =
        source.and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::Interrupted)
}

/// The target of a `MOVED` reply. `ASK` is not followed: while a slot migrates, its keys are on
/// two nodes, and scripts refuse to run.
pub fn moved(error: &RedisError) -> Option<String> {
    let (address, _) = error.redirect_node()?;
    (error.code() == Some("MOVED")).then(|| address.to_owned())
}

/// The error of a call for the client: code and text.
pub fn client_error(error: &RedisError) -> Error {
    match error.code() {
        Some("OOM") => no_memory(),
        Some("NOPERM") => not_permitted(error),
        Some("MOVED") => unavailable(format!(
            "Redis redirects to another node ({error}): for a cluster use redis-cluster://HOST:PORT,…"
        ))
        .error,
        Some(
            "LOADING" | "MASTERDOWN" | "READONLY" | "BUSY" | "MISCONF" | "NOREPLICAS"
            | "CLUSTERDOWN" | "NOAUTH" | "WRONGPASS",
        ) => unavailable(format!("Redis refuses ({error})")).error,
        Some("ASK" | "TRYAGAIN") => {
            unavailable("this partition is moving to another node".into()).error
        }
        Some("WRONGTYPE") => Error::new(
            Code::StoreFailed,
            format!(
                "a key of the store holds another program's data ({error}): choose another --redis-prefix"
            ),
        ),
        Some(_) => Error::new(Code::StoreFailed, format!("Redis reported an error ({error}): try again")),
        None if refuses_user(error) => unavailable(format!("Redis refuses ({error})")).error,
        None if is_interrupted(error) => {
            unavailable("this server was suspended while it waited for Redis".into()).error
        }
        None => unavailable(format!("Redis does not answer ({})", reason(error))).error,
    }
}

/// Whether Redis rejects the user or password.
pub fn refuses_user(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS")
}

/// Whether the peer does not speak the Redis protocol.
pub fn is_no_redis(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType)
}

pub fn not_permitted(error: &RedisError) -> Error {
    let text = format!(
        "Redis does not permit this to the user ({error}): docs/reference/redis.md lists the \
         necessary rights"
    );
    Error::new(Code::Unavailable, text)
}

pub fn no_memory() -> Error {
    Error::new(Code::Full, "Redis has no memory left (maxmemory): take or purge messages")
}

/// Why a connection broke, or could not be opened.
pub fn reason(error: &RedisError) -> String {
    // A read timeout is reported as EWOULDBLOCK.
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if is_no_redis(error) {
        "the server there is not a Redis".to_owned()
    } else {
        error.to_string()
    }
}

fn failed(error: &RedisError) -> CallError {
    CallError {
        may_be_done: is_broken(error),
        interrupted: is_interrupted(error),
        error: client_error(error),
        moved: moved(error),
    }
}

fn unavailable(why: String) -> CallError {
    let error = Error::new(Code::Unavailable, format!("{why}: try again"));
    CallError { error, may_be_done: false, interrupted: false, moved: None }
}
