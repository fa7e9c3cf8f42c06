//! The way to Redis: connections that calls share, and what becomes of a call when it does not answer.
//!
//! A call waits for an answer no longer than [`ANSWER`]. While Redis is away calls fail at once: the
//! [`probe`](super::node_health) finds out when it is back.

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

/// To connect, and to be let in.
const CONNECT: Duration = Duration::from_secs(1);

/// From a call to its answer.
pub const ANSWER: Duration = Duration::from_secs(3);

/// A connection that was idle for so long may have been closed by Redis (timeout), or on the way.
const IDLE: Duration = Duration::from_secs(30);

/// From an answer to its confirmation by replicas; and where the node has fewer than are to confirm.
const REPLICATED: Duration = Duration::from_secs(1);
const LACKS_REPLICAS: Duration = Duration::from_millis(50);

pub struct NodePool {
    pub(super) client: Client,
    address: Address,
    most: usize,
    pool: Mutex<Pool>,
    freed: Condvar,
    pub(super) node_health: Arc<NodeHealth>,
}

#[derive(Default)]
struct Pool {
    /// With when each was used last.
    idle: Vec<(Connection, Instant)>,
    /// Those that calls have.
    busy: usize,
    /// Of which round they are: those of another one are thrown away.
    epoch: u64,
}

/// A call that failed.
#[derive(Debug)]
pub struct CallError {
    pub error: Error,
    /// Whether it may have been done all the same.
    pub may_be_done: bool,
    /// Whether that is because this server was stopped, and goes on.
    pub interrupted: bool,
    /// Where a cluster's node says that it is done, as `HOST:PORT`.
    pub moved: Option<String>,
}

impl Drop for NodePool {
    fn drop(&mut self) {
        self.node_health.end();
    }
}

impl NodePool {
    /// So many connections at most. None is made yet.
    pub fn new(info: ConnectionInfo, most: usize) -> RedisResult<NodePool> {
        let address = Address::from(info.addr());
        let node_health = Arc::new(NodeHealth::new(address.to_string()));
        let (pool, freed) = (Mutex::default(), Condvar::new());
        Ok(NodePool { client: Client::open(info)?, address, most, pool, freed, node_health })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is taken for away.
    pub fn is_away(&self) -> bool {
        self.node_health.epoch().is_none()
    }

    /// How the node is.
    pub fn node_health(&self) -> &NodeHealth {
        &self.node_health
    }

    /// A connection of one's own, for so long without an answer.
    pub fn connect(&self, patience: Duration) -> RedisResult<Connection> {
        connect(&self.client, patience)
    }

    /// The same, on which a cluster's nodes tell what was published in a part.
    pub fn connect_to_hear(&self, patience: Duration) -> RedisResult<Connection> {
        let info = self.client.get_connection_info().clone();
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        connect(&Client::open(info.set_redis_settings(redis))?, patience)
    }

    pub fn has_tls(&self) -> bool {
        matches!(self.client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Makes a call.
    pub fn call(&self, call: &Cmd) -> Result<Value, CallError> {
        self.call_with(call, 0).map(|(answer, _)| answer)
    }

    /// Makes a call, and then waits for so many replicas to have what it did, if any: how many do.
    pub fn call_with(&self, call: &Cmd, replicas: u32) -> Result<(Value, Option<u32>), CallError> {
        let (mut connection, epoch) = self.take()?;
        let answer = ask(&mut connection, call);
        let count = match &answer {
            Ok(_) if replicas > 0 => Some(wait(&mut connection, replicas, self.patience(replicas))),
            _ => None,
        };
        let error = answer.as_ref().err().or(count.as_ref().and_then(|count| count.as_ref().err()));
        self.give_back(connection, epoch, error.filter(|error| is_broken(error)));
        match answer {
            // It is done, and what it answered is known: a master that fails now has not confirmed it.
            Ok(answer) => Ok((answer, count.map(|count| count.unwrap_or(0)))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes calls that only read, in one round trip, if the node answers; what it refuses is an error among
    /// the answers.
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

    /// How long to wait for so many replicas.
    fn patience(&self, replicas: u32) -> Duration {
        let lacks = self.node_health.replicas().is_some_and(|there| there < replicas);
        if lacks { LACKS_REPLICAS } else { REPLICATED }
    }

    /// A connection that nobody else has.
    fn take(&self) -> Result<(Connection, u64), CallError> {
        let Some(epoch) = self.node_health.epoch() else {
            return Err(unavailable(format!("Redis at {} cannot be reached", self.address)));
        };
        let deadline = Instant::now() + ANSWER;
        let mut pool = lock(&self.pool);
        while pool.busy >= self.most {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unavailable("all connections to Redis are busy (--redis-pool)".into()));
            }
            let waited = self.freed.wait_timeout(pool, left);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        pool.busy += 1;
        // A connection broke since these were used: so did most likely all of them.
        let gone = pool.begin(epoch);
        let epoch = pool.epoch;
        let idle = pool.idle.pop().filter(|(_, used)| used.elapsed() < IDLE);
        drop(pool);
        drop(gone);
        let connect = || loop {
            match self.connect(ANSWER) {
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
        // This server stood still, which says nothing of the node.
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
    /// Connections of an earlier round, if this one is new.
    fn begin(&mut self, epoch: u64) -> Vec<(Connection, Instant)> {
        if epoch <= self.epoch {
            return Vec::new();
        }
        self.epoch = epoch;
        std::mem::take(&mut self.idle)
    }
}

/// A connection, for so long without an answer.
pub fn connect(client: &Client, patience: Duration) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(CONNECT)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    Ok(connection)
}

/// Asks; a Redis that does not know the script is told it first.
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

/// Asks several; an error is the connection's.
fn ask_all(connection: &mut Connection, calls: &Pipeline) -> RedisResult<Vec<Value>> {
    connection.send_packed_command(&calls.get_packed_pipeline())?;
    // The first that does not come is the last that is waited for.
    (0..calls.len()).map(|_| connection.recv_response()).collect()
}

/// Waits for replicas to have what this connection's calls did; how many do.
fn wait(connection: &mut Connection, replicas: u32, patience: Duration) -> RedisResult<u32> {
    let mut wait = cmd("WAIT");
    wait.arg(replicas).arg(patience.as_millis() as u64);
    match connection.req_command(&wait)?.extract_error()? {
        Value::Int(count) => Ok(u32::try_from(count).unwrap_or(0)),
        _ => Ok(0),
    }
}

/// Whether the connection is of no more use, and nobody knows what became of the call.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || error.code().is_none()
}

/// Whether this process was stopped while it waited, and goes on: a system then ends a wait that has a time
/// limit.
pub fn is_interrupted(error: &RedisError) -> bool {
    let source = std::error::Error::source(error);
    let cause =
        source.and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::Interrupted)
}

/// Where a node of a cluster says that a call belongs. Only for good: while a slot is on its way its
/// messages are in two places, and nothing is done.
pub fn moved(error: &RedisError) -> Option<String> {
    let (address, _) = error.redirect_node()?;
    (error.code() == Some("MOVED")).then(|| address.to_owned())
}

/// What a person reads of it, and a program.
pub fn explain(error: &RedisError) -> Error {
    match error.code() {
        Some("OOM") => no_memory(),
        Some("NOPERM") => not_permitted(error),
        Some("MOVED") => unavailable(format!(
            "Redis says that it is elsewhere ({error}): a cluster is redis-cluster://HOST:PORT,…"
        ))
        .error,
        Some(
            "LOADING" | "MASTERDOWN" | "READONLY" | "BUSY" | "MISCONF" | "NOREPLICAS"
            | "CLUSTERDOWN" | "NOAUTH" | "WRONGPASS",
        ) => unavailable(format!("Redis refuses ({error})")).error,
        Some("ASK" | "TRYAGAIN") => {
            unavailable("this part of the store is being moved to another node".into()).error
        }
        Some("WRONGTYPE") => Error::new(
            Code::StoreFailed,
            format!(
                "another program's data is where the store's should be ({error}): --redis-prefix names other keys"
            ),
        ),
        Some(_) => Error::new(Code::StoreFailed, format!("Redis failed ({error}): try again")),
        None if refuses_user(error) => unavailable(format!("Redis refuses ({error})")).error,
        None if is_interrupted(error) => {
            unavailable("this server was stopped while Redis worked, and goes on".into()).error
        }
        None => unavailable(format!("Redis does not answer ({})", reason(error))).error,
    }
}

/// Whether Redis does not let this user in.
pub fn refuses_user(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS")
}

/// Whether what answers speaks otherwise.
pub fn is_no_redis(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType)
}

pub fn not_permitted(error: &RedisError) -> Error {
    let text = format!(
        "Redis does not permit it to this user ({error}): docs/reference/redis.md lists the rights \
         that it needs"
    );
    Error::new(Code::Unavailable, text)
}

pub fn no_memory() -> Error {
    Error::new(Code::Full, "Redis has no memory left (maxmemory): take or purge messages")
}

/// Why a connection broke, or was not made.
pub fn reason(error: &RedisError) -> String {
    // A system says of a read that took too long that it would block.
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if is_no_redis(error) {
        "what answers there is no Redis".to_owned()
    } else {
        error.to_string()
    }
}

fn failed(error: &RedisError) -> CallError {
    CallError {
        may_be_done: is_broken(error),
        interrupted: is_interrupted(error),
        error: explain(error),
        moved: moved(error),
    }
}

fn unavailable(why: String) -> CallError {
    let error = Error::new(Code::Unavailable, format!("{why}: try again"));
    CallError { error, may_be_done: false, interrupted: false, moved: None }
}
