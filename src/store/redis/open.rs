//! Opening a store: where it is, how many parts it has, and whether it can be served.

use redis::{Cmd, ConnectionInfo, Value, cmd};

use super::address::{PARTS, PARTS_MAX};
use super::link::Link;
use super::nodes::Nodes;
use super::shard::Shard;
use crate::store::{Rules, WhenFull};

/// The layout of the keys.
const SCHEMA: &str = "1";

/// What opening a store comes to: an error is for the person who started the server.
pub type Opened<T> = std::result::Result<T, String>;

/// Where a store is, and how it is reached.
#[derive(Clone, Debug)]
pub struct RedisAt<'a> {
    pub url: &'a str,
    /// What every key begins with.
    pub prefix: &'a str,
    /// Connections at most to each node, beside those that hear news.
    pub pool: usize,
    /// Replicas that must have what is promised.
    pub replicas: u32,
}

impl RedisAt<'_> {
    /// What the keys of a part begin with: they have a hash tag in common, so that they stand on one node of
    /// a cluster.
    pub fn keys(&self, part: usize) -> String {
        format!("{}{{{part}}}:", self.prefix)
    }

    pub fn one(&self, info: ConnectionInfo) -> Opened<Nodes> {
        let nodes = Nodes::one(info, self.pool, 1).map_err(|error| error.to_string())?;
        for (link, _) in nodes.links() {
            check(&link, OLDEST)?;
        }
        Ok(nodes)
    }

    /// As many parts as were asked for when the store was made.
    pub fn cluster(&self, seeds: Vec<ConnectionInfo>, parts: Option<usize>) -> Opened<Nodes> {
        let key = format!("{}store", self.keys(0));
        let first = Nodes::cluster(seeds.clone(), self.pool, std::slice::from_ref(&key))?;
        for (link, _) in first.links() {
            check(&link, OLDEST_CLUSTER)?;
        }
        let Some(route) = first.routes().first() else {
            return Err("it has no parts".to_owned());
        };
        let ask = |call: &Cmd| {
            let answer = first.call(route, call, 0);
            answer.map(|(answer, _)| answer).map_err(|failed| failed.error.text.into_owned())
        };
        ask(cmd("HSETNX").arg(&key).arg("parts").arg(parts.unwrap_or(PARTS)))?;
        let made = match ask(cmd("HGET").arg(&key).arg("parts"))? {
            Value::BulkString(made) => std::str::from_utf8(&made).ok().and_then(|n| n.parse().ok()),
            _ => None,
        };
        let Some(made) = made.filter(|made| (1..=PARTS_MAX).contains(made)) else {
            return Err(format!("{key} makes no sense: is another program's data there?"));
        };
        if parts.is_some_and(|parts| parts != made) {
            return Err(format!(
                "the store has {made} parts, and will not have others: ?parts={made}, or nothing"
            ));
        }
        let keys: Vec<String> = (0..made).map(|part| format!("{}store", self.keys(part))).collect();
        Nodes::cluster(seeds, self.pool, &keys)
    }
}

impl Shard {
    /// Refuses what is no store of ours.
    pub fn claim(&self) -> Opened<()> {
        let (key, parts) = (&self.key, self.common.nodes.routes().len());
        let ask = |call: &Cmd| self.call(call).map_err(|error| error.text.into_owned());
        ask(cmd("HSETNX").arg(key).arg("schema").arg(SCHEMA))?;
        match ask(cmd("HMGET").arg(key).arg("schema").arg("parts"))? {
            Value::Array(found) => match found.as_slice() {
                [Value::BulkString(schema), _] if schema != SCHEMA.as_bytes() => Err(format!(
                    "{key} is of another version of dsmq: --redis-prefix names another"
                )),
                [_, Value::BulkString(_)] if parts == 1 && !self.common.nodes.is_cluster() => Err(
                    format!("{key} is a part of a cluster's store: --redis-prefix names another"),
                ),
                _ => Ok(()),
            },
            _ => Err(format!("{key} makes no sense: is another program's data there?")),
        }
    }
}

/// Refuses a bound of which each part's share is too small.
pub fn check_share(rules: &Rules, parts: usize) -> Opened<()> {
    let Some(bytes) = rules.max_bytes.filter(|_| rules.when_full == WhenFull::DropOldest) else {
        return Ok(());
    };
    if parts > 1 && bytes / (parts as u64) < STORE_BYTES_MIN {
        return Err(format!(
            "with --when-full drop-oldest each of its {parts} parts has its share of --max-store, which \
             must be at least {} bytes: give it {} or more",
            STORE_BYTES_MIN,
            STORE_BYTES_MIN * parts as u64
        ));
    }
    Ok(())
}

/// The least that a part may hold.
const STORE_BYTES_MIN: u64 = 1024 * 1024;

/// The first versions that have what is needed.
const OLDEST: (u32, u32) = (6, 2);
const OLDEST_CLUSTER: (u32, u32) = (7, 0);

/// Refuses a Redis that is too old, and warns of one that loses messages.
fn check(link: &Link, oldest: (u32, u32)) -> Opened<()> {
    let info = match link.call(&cmd("INFO")) {
        Ok(Value::BulkString(info)) => info,
        Err(failed) if link.is_away() => return Err(failed.error.text.into_owned()),
        // Not every user may ask.
        _ => return Ok(()),
    };
    let info = String::from_utf8_lossy(&info);
    if version(&info).is_some_and(|version| version < oldest) {
        return Err(format!("it is too old: {}.{} or later is needed", oldest.0, oldest.1));
    }
    if oldest < OLDEST_CLUSTER && info.contains("cluster_enabled:1") {
        return Err("it is a node of a cluster: --store redis-cluster://HOST:PORT,…".to_owned());
    }
    if let Some(policy) = evicts(&info) {
        tracing::warn!(
            "this Redis removes keys when its memory is full, and messages with them \
             (maxmemory-policy {policy}): noeviction would refuse new ones instead"
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
