//! Opening a store: where it is, how many partitions it has, and whether this user may write to
//! it.

use redis::{Cmd, ConnectionInfo, Value, cmd};

use super::address::{PARTITIONS_DEFAULT, PARTITIONS_MAX, RedisAt};
use super::nodes::Nodes;
use super::partition::Partition;
use super::preflight::{check, preflight};
use super::scripts;
use crate::store::{Rules, WhenFull};

/// Version of the key layout.
const SCHEMA: &str = "1";

/// The result of opening; its error is text for the operator.
pub type OpenResult<T> = std::result::Result<T, String>;

/// Returns the first command that the user may not run on the store's keys (needs Redis 7.0),
/// `replica` for a replica, or an empty text.
const CHECK_PERMISSIONS: &str = "
    local prefix = string.sub(KEYS[1], 1, -6)
    local may = redis.acl_check_cmd
    for i, command in ipairs(ARGV) do
        local on = string.find(command, 'PUBLISH', 1, true) and prefix .. 'news' or KEYS[1]
        if may and not may(command, on) then return command end
    end
    if may and not may('SCRIPT', 'LOAD', '') then return 'SCRIPT LOAD' end
    local wrote = redis.pcall('LPUSHX', prefix .. 'nowhere', '')
    return type(wrote) == 'table' and string.find(wrote.err, 'READONLY', 1, true) and 'replica' or ''";

impl RedisAt<'_> {
    pub fn single(&self, info: ConnectionInfo) -> OpenResult<Nodes> {
        let nodes = Nodes::single(info, self, 1).map_err(|error| error.to_string())?;
        for (node_pool, _) in nodes.node_pools() {
            preflight(&node_pool)?;
            check(&node_pool, false, self.replicas)?;
        }
        Ok(nodes)
    }

    /// Opens a cluster with the number of partitions chosen when the store was created.
    pub fn cluster(
        &self,
        seeds: Vec<ConnectionInfo>,
        partitions: Option<usize>,
    ) -> OpenResult<Nodes> {
        let key = format!("{}store", self.keys(0));
        let first = Nodes::cluster(seeds.clone(), self, std::slice::from_ref(&key))?;
        let Some(route) = first.routes().first() else {
            return Err("the store has no partitions".to_owned());
        };
        // Check first: nothing may be written to a node that is refused.
        let first_node = route.node_pool();
        check(&first_node, true, self.replicas)?;
        let ask = |call: &Cmd| {
            let answer = first.call(route, call, 0);
            answer.map(|(answer, _)| answer).map_err(|failed| failed.error.text.into_owned())
        };
        let count = match get_or_set(
            &ask,
            &key,
            "parts",
            &partitions.unwrap_or(PARTITIONS_DEFAULT).to_string(),
        )? {
            Value::BulkString(count) => {
                std::str::from_utf8(&count).ok().and_then(|n| n.parse().ok())
            }
            _ => None,
        };
        let Some(count) = count.filter(|count| (1..=PARTITIONS_MAX).contains(count)) else {
            return Err(format!(
                "{key} is not a dsmq store, but another program's data: choose another --redis-prefix"
            ));
        };
        if partitions.is_some_and(|partitions| partitions != count) {
            return Err(format!(
                "the store has {count} partitions, and their number is fixed: use ?parts={count}, or omit it"
            ));
        }
        let keys: Vec<String> =
            (0..count).map(|partition| format!("{}store", self.keys(partition))).collect();
        let nodes = Nodes::cluster(seeds, self, &keys)?;
        for (node_pool, _) in nodes.node_pools() {
            if node_pool.address() != first_node.address() {
                preflight(&node_pool)?;
                check(&node_pool, true, self.replicas)?;
            }
        }
        Ok(nodes)
    }
}

impl Partition {
    /// Claims the keys for this layout; refuses keys of other programs or other layouts.
    pub fn claim(&self) -> OpenResult<()> {
        let (key, partitions) = (&self.key, self.shared.nodes.routes().len());
        let ask = |call: &Cmd| self.call(call).map_err(|error| error.text.into_owned());
        self.check_permissions()?;
        get_or_set(&ask, key, "schema", SCHEMA)?;
        match ask(cmd("HMGET").arg(key).arg("schema").arg("parts"))? {
            Value::Array(found) => match found.as_slice() {
                [Value::BulkString(schema), _] if schema != SCHEMA.as_bytes() => Err(format!(
                    "{key} has the layout of another version of dsmq: choose another --redis-prefix"
                )),
                [_, Value::BulkString(_)] if partitions == 1 && !self.shared.nodes.is_cluster() => {
                    Err(format!(
                        "{key} is a partition of a cluster's store: choose another --redis-prefix"
                    ))
                }
                _ => Ok(()),
            },
            _ => Err(format!(
                "{key} is not a dsmq store, but another program's data: choose another --redis-prefix"
            )),
        }
    }

    /// Refuses a replica, and a user without the rights that scripts need: a script would
    /// otherwise fail halfway.
    pub fn check_permissions(&self) -> Result<(), String> {
        let is_cluster = self.shared.nodes.is_cluster();
        let mut ask: Cmd = cmd("EVAL");
        ask.arg(CHECK_PERMISSIONS).arg(1).arg(&self.key).arg(scripts::commands());
        ask.arg(if is_cluster { "SPUBLISH" } else { "PUBLISH" });
        if self.shared.replicas > 0 {
            ask.arg("WAIT");
        }
        let answer = self.call(&ask).map_err(|error| error.text.into_owned())?;
        let Value::BulkString(answer) = answer else { return Ok(()) };
        let address = self.route.node_pool().address().to_string();
        match &*String::from_utf8_lossy(&answer) {
            "" => Ok(()),
            "replica" => {
                Err(format!("Redis at {address} is a replica: use the address of its master"))
            }
            command => Err(format!(
                "Redis at {address} does not permit this user to run {command} on {}*: \
                 docs/reference/redis.md lists the necessary rights",
                self.key.trim_end_matches("store")
            )),
        }
    }
}

/// Reads a field of the store, and sets it if it does not exist. Reads first, because a Redis
/// without memory refuses the write even if the field exists.
fn get_or_set(
    ask: &dyn Fn(&Cmd) -> OpenResult<Value>,
    key: &str,
    field: &str,
    value: &str,
) -> OpenResult<Value> {
    let existing = ask(cmd("HGET").arg(key).arg(field))?;
    if existing != Value::Nil {
        return Ok(existing);
    }
    ask(cmd("HSETNX").arg(key).arg(field).arg(value))?;
    ask(cmd("HGET").arg(key).arg(field))
}

/// Refuses a size limit whose share for each partition is too small.
pub fn check_share(rules: &Rules, partitions: usize) -> OpenResult<()> {
    let Some(bytes) = rules.max_bytes.filter(|_| rules.when_full == WhenFull::DropOldest) else {
        return Ok(());
    };
    if partitions > 1 && bytes / (partitions as u64) < STORE_BYTES_MIN {
        return Err(format!(
            "with --when-full drop-oldest each of the {partitions} partitions has an equal share of \
             --max-store, at least {} bytes: set --max-store to {} or more",
            STORE_BYTES_MIN,
            STORE_BYTES_MIN * partitions as u64
        ));
    }
    Ok(())
}

/// Least size limit of a partition, in bytes.
const STORE_BYTES_MIN: u64 = 1024 * 1024;
