//! Tests of the store over a real Redis Cluster: the contract. tests/suite/cluster covers
//! failures.

#[expect(dead_code, reason = "the integration tests, whose it is, do more to it")]
#[path = "../../../tests/suite/support/redis_cluster.rs"]
mod nodes;

use std::sync::atomic::{AtomicUsize, Ordering};

use ::redis::Client;

use self::nodes::{CALM, Cluster};
use super::tests::rows;
use super::*;
use crate::store::contract;

/// A cluster that ends with the test.
pub struct Server {
    cluster: Cluster,
    stores: AtomicUsize,
}

impl Server {
    pub fn start() -> Server {
        Server { cluster: Cluster::start(CALM), stores: AtomicUsize::new(0) }
    }

    /// A prefix that no other store uses.
    pub fn prefix(&self) -> String {
        format!("test{}:", self.stores.fetch_add(1, Ordering::SeqCst))
    }

    pub fn open(&self, prefix: &str, rules: Rules, clock: fn() -> Id) -> RedisStore {
        let at = RedisAt { url: &self.cluster.url(), prefix, pool: 8, replicas: 0 };
        RedisStore::open(&at, rules, Some(clock)).unwrap()
    }

    /// Number of rows of a store on all masters.
    pub fn rows(&self, prefix: &str) -> i64 {
        let of = |node| {
            let url = format!("redis://127.0.0.1:{}", self.cluster.port(node));
            rows(&mut Client::open(url).unwrap().get_connection().unwrap(), prefix)
        };
        self.cluster.masters().into_iter().map(of).sum()
    }
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn store_in_a_cluster_holds_the_contract() {
    let server = Server::start();
    contract::hold_in_parts(&|| {
        Arc::new(server.open(&server.prefix(), Rules::default(), contract::clock))
    });
}
