//! What a node says of itself when it is found: one that cannot serve is refused, and of one that loses
//! messages a person is warned.

use redis::{Value, cmd};

use super::node_pool::NodePool;
use super::probe;

/// The first versions that have what is needed.
const OLDEST: (u32, u32) = (6, 2);
const OLDEST_CLUSTER: (u32, u32) = (7, 0);

/// Refuses a Redis that is too old, or stands in a cluster where one alone is named, and warns of one that
/// loses messages, or has fewer replicas than are to confirm.
pub fn check(node_pool: &NodePool, in_cluster: bool, replicas: u32) -> Result<(), String> {
    let info = match node_pool.call(&cmd("INFO")) {
        Ok(Value::BulkString(info)) => info,
        Err(failed) if node_pool.is_away() => return Err(failed.error.text.into_owned()),
        // Not every user may ask.
        _ => return Ok(()),
    };
    let (info, address) = (String::from_utf8_lossy(&info), node_pool.address());
    let oldest = if in_cluster { OLDEST_CLUSTER } else { OLDEST };
    if version(&info).is_some_and(|version| version < oldest) {
        let (major, minor) = oldest;
        return Err(format!("Redis at {address} is too old: {major}.{minor} or later is needed"));
    }
    if !in_cluster && info.contains("cluster_enabled:1") {
        return Err("it is a node of a cluster: --store redis-cluster://HOST:PORT,…".to_owned());
    }
    if let Some(policy) = evicts(&info) {
        tracing::warn!(
            "Redis at {address} removes keys when its memory is full, and messages with them \
             (maxmemory-policy {policy}): noeviction would refuse new ones instead"
        );
    }
    let there = probe::replicas(&info).map(|there| there.count);
    if let Some(there) = there.filter(|there| *there < replicas) {
        tracing::warn!(
            "Redis at {address} has {there} replicas of the {replicas} that --redis-replicas asks for: \
             until they are there what it does is answered with `unconfirmed`"
        );
    }
    Ok(())
}

/// How a Redis makes room by itself, if it does.
fn evicts(info: &str) -> Option<&str> {
    let value = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let policy = value("maxmemory_policy:").filter(|policy| *policy != "noeviction");
    policy.filter(|_| value("maxmemory:").is_some_and(|bytes| bytes != "0"))
}

/// The first two numbers of the version that Redis says.
fn version(info: &str) -> Option<(u32, u32)> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    let mut numbers = version.split('.').map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_evicts_is_known() {
        let info = "maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(evicts(info), Some("allkeys-lru"));
        assert_eq!(evicts("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"), None);
        assert_eq!(evicts("maxmemory:100\r\nmaxmemory_policy:noeviction\r\n"), None);
    }

    #[test]
    fn a_version_is_two_numbers() {
        assert_eq!(version("# Server\r\nredis_version:7.0.15\r\n"), Some((7, 0)));
        assert_eq!(version("redis_version:6.2\n"), Some((6, 2)));
        assert_eq!(version("valkey:1"), None);
    }
}
