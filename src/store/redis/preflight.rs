//! Checks of a node before it is used: whether it is a Redis that lets this user in, and is
//! suitable. Errors tell the operator what to do; risks are logged as warnings.

use redis::{ConnectionLike, RedisError, Value, cmd};

use super::node_health;
use super::node_pool::{self, NodePool};

/// Oldest supported versions.
const OLDEST: (u32, u32) = (6, 2);
const OLDEST_CLUSTER: (u32, u32) = (7, 0);

/// Connects and pings; refuses a peer that rejects the user or is not a Redis.
pub fn preflight(node_pool: &NodePool) -> Result<(), String> {
    let answered = node_pool
        .connect(node_pool::REPLY_TIMEOUT)
        .and_then(|mut connection| connection.req_command(&cmd("PING"))?.extract_error());
    answered.map(drop).map_err(|error| advice(&error, node_pool))
}

fn advice(error: &RedisError, node_pool: &NodePool) -> String {
    let (at, why) = (format!("Redis at {}", node_pool.address()), node_pool::reason(error));
    match error.code() {
        Some("NOAUTH") => {
            return format!(
                "{at} requires a password: set …://USER:PASSWORD@HOST, preferably in DSMQ_STORE"
            );
        }
        Some("NOPERM") => return node_pool::not_permitted(error).text.into_owned(),
        _ => {}
    }
    if node_pool::refuses_user(error) {
        return format!(
            "{at} rejects this user: check the name and the password, and whether it requires any"
        );
    }
    if node_pool::is_no_redis(error) {
        return format!("the server at {} is not a Redis: check the port", node_pool.address());
    }
    if why.contains("certificate") {
        return format!(
            "{at} has an untrusted certificate ({why}): set SSL_CERT_FILE to a file of trusted certificates"
        );
    }
    let hangs_up = error.is_connection_dropped() && !error.is_connection_refusal();
    match node_pool.has_tls() {
        true if hangs_up || error.is_timeout() => {
            format!("{at} does not answer over TLS ({why}): use redis:// to connect without TLS")
        }
        false if hangs_up => {
            format!("{at} closes the connection ({why}): use rediss:// if it requires TLS")
        }
        _ if error.is_io_error() => {
            format!("{at} does not answer ({why}): check the address and that it is running")
        }
        _ => format!("{at} refuses the connection ({why})"),
    }
}

/// Refuses a Redis that is too old, or is a cluster node although a single Redis is configured.
/// Warns of eviction and of too few replicas.
pub fn check(node_pool: &NodePool, in_cluster: bool, replicas: u32) -> Result<(), String> {
    let info = match node_pool.call(&cmd("INFO")) {
        Ok(Value::BulkString(info)) => info,
        Err(failed) if node_pool.is_away() => return Err(failed.error.text.into_owned()),
        // The user may not run INFO.
        _ => return Ok(()),
    };
    let (info, address) = (String::from_utf8_lossy(&info), node_pool.address());
    let oldest = if in_cluster { OLDEST_CLUSTER } else { OLDEST };
    if version(&info).is_some_and(|version| version < oldest) {
        let (major, minor) = oldest;
        return Err(format!(
            "Redis at {address} is too old: version {major}.{minor} or later is necessary"
        ));
    }
    if !in_cluster && info.contains("cluster_enabled:1") {
        return Err("it is a node of a cluster: use --store redis-cluster://HOST:PORT,…".to_owned());
    }
    if let Some(policy) = evicts(&info) {
        tracing::warn!(
            "Redis at {address} evicts keys when its memory is full, and loses messages \
             (maxmemory-policy {policy}): set noeviction, which refuses new messages instead"
        );
    }
    let connected = node_health::replicas(&info).map(|connected| connected.count);
    if let Some(connected) = connected.filter(|connected| *connected < replicas) {
        tracing::warn!(
            "Redis at {address} has {connected} of the {replicas} replicas that --redis-replicas requires: \
             until they are connected, changes are answered with `unconfirmed`"
        );
    }
    Ok(())
}

/// The eviction policy, if Redis has a memory limit and evicts keys.
fn evicts(info: &str) -> Option<&str> {
    let value = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let policy = value("maxmemory_policy:").filter(|policy| *policy != "noeviction");
    policy.filter(|_| value("maxmemory:").is_some_and(|bytes| bytes != "0"))
}

/// The major and minor version in a reply to INFO.
fn version(info: &str) -> Option<(u32, u32)> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    let mut numbers = version.split('.').map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eviction_policy_is_recognised() {
        let info = "maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(evicts(info), Some("allkeys-lru"));
        assert_eq!(evicts("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"), None);
        assert_eq!(evicts("maxmemory:100\r\nmaxmemory_policy:noeviction\r\n"), None);
    }

    #[test]
    fn version_is_two_numbers() {
        assert_eq!(version("# Server\r\nredis_version:7.0.15\r\n"), Some((7, 0)));
        assert_eq!(version("redis_version:6.2\n"), Some((6, 2)));
        assert_eq!(version("valkey:1"), None);
    }
}
