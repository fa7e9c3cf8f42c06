//! Opens the store that the configuration names.

use std::sync::Arc;

use super::StartError;
use crate::config::{Config, RedisUrl, StoreLocation};
use crate::store::{self, Rules, Store};

pub fn open(config: &Config) -> Result<Arc<dyn Store>, StartError> {
    let rules = rules(config);
    let opened = match &config.store {
        StoreLocation::Memory => store::in_memory(rules).map_err(|error| error.text.into_owned()),
        StoreLocation::File(path) => store::in_file(path, config.sync, rules),
        StoreLocation::Redis(url) => in_redis(url, config, rules),
    };
    opened.map_err(StartError::Store)
}

#[cfg(feature = "redis")]
fn in_redis(url: &RedisUrl, config: &Config, rules: Rules) -> Result<Arc<dyn Store>, String> {
    let Config { redis_prefix: prefix, redis_pool: pool, redis_replicas: replicas, .. } = config;
    let at = store::RedisAt { url: url.as_str(), prefix, pool: *pool, replicas: *replicas };
    store::in_redis(&at, rules).map_err(|error| format!("{url}: {error}"))
}

#[cfg(not(feature = "redis"))]
fn in_redis(url: &RedisUrl, _: &Config, _: Rules) -> Result<Arc<dyn Store>, String> {
    Err(format!("{url}: this dsmq was built without Redis (--features redis)"))
}

fn rules(config: &Config) -> Rules {
    let microseconds = |keep: std::time::Duration| u64::try_from(keep.as_micros());
    Rules {
        dead_letter_after: config.dead_letter_after,
        max_bytes: Some(config.max_store),
        when_full: config.when_full(),
        keep: config.keep.map(|keep| microseconds(keep).unwrap_or(u64::MAX)),
    }
}
