//! What `stats` and the metrics show of a Redis node, without its password.

use std::time::Instant;

use dsmq::{Config, Server};
use serde_json::{Value, json};

use super::{Redis, words};
use crate::suite::support::peer::Peer;
use crate::suite::support::redis_cluster::free_port;
use crate::suite::support::{PATIENCE, server_with};

fn node(server: &Server) -> Value {
    let mut peer = Peer::connect(server.addr());
    peer.send(r#"{"action":"stats"}"#);
    let mut reply = peer.receive_reply();
    let nodes = reply["stats"]["nodes"].as_array_mut().unwrap();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    nodes.remove(0)
}

/// Waits until the node has this state.
fn until(server: &Server, like: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let node = node(server);
        if like(&node) {
            return node;
        }
        assert!(Instant::now() < deadline, "{node}");
    }
}

fn metrics(server: &Server) -> String {
    let mut peer = Peer::connect_silent(server.addr());
    peer.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    peer.receive_all()
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn stats_show_a_node_and_its_replicas() {
    let port = free_port().to_string();
    let flags = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--requirepass", "secret"];
    let mut redis =
        Redis::start_with(words(&[&flags[..], &["--repl-diskless-sync-delay", "0"]].concat()));
    let store = format!("redis://:secret@127.0.0.1:{port}").parse().unwrap();
    let server = server_with(Config { store, ..Config::default() });
    let first = until(&server, |node| node["replicas"] == 0);
    assert_eq!(first["address"], format!("127.0.0.1:{port}"));
    assert_eq!((&first["parts"], &first["away_seconds"]), (&json!([0]), &Value::Null));
    assert!(first["round_trip_us"].as_u64().unwrap() > 0 && first["news_lag_seconds"].is_null());

    let follows = ["--replicaof", "127.0.0.1", &port, "--masterauth", "secret", "--save", ""];
    let replica = Redis::start_with(words(&follows));
    until(&server, |node| node["replicas"] == 1 && node["replica_lag_bytes"] == 0);
    replica.pause();
    let mut peer = Peer::connect(server.addr());
    peer.send(r#"{"action":"put","topic":"t","message":1}"#);
    let behind = until(&server, |node| node["replica_lag_bytes"].as_u64() > Some(0));
    assert_eq!(behind["replicas"], 1);

    let up = format!("\ndsmq_store_node_up{{node=\"127.0.0.1:{port}\"}} ");
    let text = metrics(&server);
    assert!(text.contains(&(up.clone() + "1\n")) && !text.contains("secret"), "{text}");
    redis.kill();
    let away = until(&server, |node| node["away_seconds"].is_number());
    assert!(away["away_why"].as_str().is_some_and(|why| !why.is_empty()), "{away}");
    until(&server, |node| node["news_lag_seconds"].is_number());
    let deadline = Instant::now() + PATIENCE;
    while !metrics(&server).contains(&(up.clone() + "0\n")) {
        assert!(Instant::now() < deadline, "the metric still shows the node as up");
    }
    redis.start_again();
    let back = |node: &Value| node["away_seconds"].is_null() && node["news_lag_seconds"].is_null();
    until(&server, back);
    replica.go_on();
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn redis_that_became_a_replica_counts_as_down() {
    let redis = Redis::start();
    let server = redis.server();
    until(&server, |node| node["round_trip_us"].as_u64() > Some(0));
    // There is no such master: the node only becomes a replica.
    assert_eq!(redis.ask(&["REPLICAOF", "127.0.0.1", "1"]).trim(), "OK");
    let away = until(&server, |node| node["away_seconds"].is_number());
    assert!(away["away_why"].as_str().unwrap().contains("replica"), "{away}");
    let mut peer = Peer::connect(server.addr());
    peer.send(r#"{"action":"put","topic":"t","message":1,"confirm":true}"#);
    peer.expect_error("unavailable");
    assert_eq!(redis.ask(&["REPLICAOF", "NO", "ONE"]).trim(), "OK");
    until(&server, |node| node["away_seconds"].is_null());
    peer.send(r#"{"action":"put","topic":"t","message":1,"confirm":true}"#);
    assert_eq!(peer.receive_reply()["ok"], true);
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn replicas_are_unknown_without_the_right_to_info() {
    let redis = Redis::start();
    // The rights that docs/reference/redis.md lists.
    let rights = ["on", ">secret", "~dsmq:*", "&dsmq:*", "+@all", "-@dangerous"];
    assert_eq!(redis.ask(&[&["ACL", "SETUSER", "dsmq"][..], &rights].concat()).trim(), "OK");
    let store = format!("{}?user=dsmq&pass=secret", redis.url()).parse().unwrap();
    let server = server_with(Config { store, ..Config::default() });
    let node = until(&server, |node| node["round_trip_us"].as_u64() > Some(0));
    assert_eq!((&node["replicas"], &node["away_seconds"]), (&Value::Null, &Value::Null));
    assert!(!node.to_string().contains("secret"), "{node}");
    assert!(!metrics(&server).contains("dsmq_store_node_replicas{"));
}
