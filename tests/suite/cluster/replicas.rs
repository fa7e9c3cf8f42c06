//! A Redis with a replica: a confirmed change is on both, otherwise the reply is `unconfirmed`.

use serde_json::json;

use super::{Redis, words};
use crate::suite::support::peer::Peer;
use crate::suite::support::redis_cluster::free_port;
use crate::suite::support::until;

fn put(peer: &mut Peer, message: u32) -> serde_json::Value {
    let put = json!({"action":"put","topic":"t","message":message,"confirm":true,"tag":message});
    peer.send(put.to_string());
    let reply = peer.receive_reply();
    assert_eq!(reply["tag"], message);
    reply
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn change_missing_on_the_replica_is_unconfirmed() {
    let port = free_port().to_string();
    let flags = ["--port", &port, "--bind", "127.0.0.1", "--save", ""];
    let flags = [&flags[..], &["--repl-diskless-sync-delay", "0"]].concat();
    let redis = Redis::start_with(words(&flags));
    let config = dsmq::Config { redis_replicas: 1, ..redis.config() };
    let server = super::server_with(config);
    let mut peer = Peer::connect(server.addr());
    let mut subscriber = Peer::connect(server.addr());
    subscriber.ask(r#"{"action":"subscribe","topic":"t"}"#, r#"{"ok":true}"#);

    assert_eq!(put(&mut peer, 1)["code"], "unconfirmed", "no replica is connected yet");
    assert_eq!(subscriber.receive_reply()["message"], 1, "the message is stored nevertheless");
    // Of two puts in a batch, only the one with `confirm` receives the error.
    let both = r#"{"action":"put","topic":"two","message":1,"tag":"silent"}{"action":"put","topic":"two","message":2,"confirm":true,"tag":"asks"}"#;
    peer.send(both);
    assert_eq!(peer.expect_error("unconfirmed")["tag"], "asks");
    // Waiting clients receive unconfirmed messages at once.
    peer.ask(r#"{"action":"put","topic":"t","message":2}{"action":"ping"}"#, r#"{"ok":true}"#);
    let replica = Redis::start_with(words(&["--replicaof", "127.0.0.1", &port, "--save", ""]));
    until(|| put(&mut peer, 3)["ok"] == true);
    replica.pause();
    assert_eq!(put(&mut peer, 4)["code"], "unconfirmed");
    peer.send(r#"{"action":"take","topic":"t","lease":60}"#);
    let taken = peer.receive_reply();
    assert_eq!(taken["message"], 1, "a take hands out what it has");
    replica.go_on();
    until(|| put(&mut peer, 5)["ok"] == true);
    assert!(replica.ask(&["XLEN", "dsmq:{0}:log:t"]).trim().parse::<u32>().unwrap() >= 5);
}
