//! The same checks over Redis: one partition, several partitions, and the nodes of a cluster.

use super::*;
use crate::store::{RedisCluster, RedisServer};

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn redis_contract_holds() {
    let server = Arc::new(RedisServer::start());
    hold(&|| {
        let (server, prefix) = (server.clone(), server.prefix());
        Box::new(move |rules| Arc::new(server.open(&prefix, rules, Some(clock))))
    });
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn partitions_contract_holds() {
    let server = Arc::new(RedisServer::start());
    hold(&|| {
        let (server, prefix) = (server.clone(), server.prefix());
        Box::new(move |rules| Arc::new(server.open_parts(&prefix, rules, clock, 7)))
    });
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn cluster_contract_holds() {
    let server = Arc::new(RedisCluster::start());
    hold(&|| {
        let (server, prefix) = (server.clone(), server.prefix());
        Box::new(move |rules| Arc::new(server.open(&prefix, rules, clock)))
    });
}
