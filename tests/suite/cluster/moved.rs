//! Slots migrate to other masters under load: some requests must be tried again, no message is
//! lost or duplicated, and no script runs halfway.

use std::net::SocketAddr;

use dsmq::{Config, Server};
use serde_json::{Value, json};

use super::{ask_again, load};
use crate::suite::support::peer::Peer;
use crate::suite::support::random::{Random, seed};
use crate::suite::support::redis_cluster::{CALM, Cluster};
use crate::suite::support::server_with;

/// Partitions of a store.
const PARTITIONS: usize = 16;

const TOPICS: usize = 24;

/// Messages put and taken while every partition moves twice.
const MESSAGES: usize = 20_000;

/// Kinds of keys that hold messages; they are empty once all messages are gone.
const KEPT: [(&str, &str); 7] = [
    ("log", "XLEN"),
    ("ready", "ZCARD"),
    ("leases", "ZCARD"),
    ("held", "HLEN"),
    ("delayed", "ZCARD"),
    ("later", "HLEN"),
    ("back", "HLEN"),
];

fn servers(cluster: &Cluster) -> [Server; 2] {
    let config = || Config { store: cluster.url().parse().unwrap(), ..Config::default() };
    [server_with(config()), server_with(config())]
}

/// The slot of a partition, and a master other than its own.
fn elsewhere(cluster: &Cluster, partition: usize, random: &mut Random) -> (u16, usize) {
    let slot = cluster.slot_of(&format!("{{{partition}}}"));
    let from = cluster.master_of(slot);
    let others: Vec<usize> = cluster.masters().into_iter().filter(|node| *node != from).collect();
    (slot, others[random.below(others.len() as u64) as usize])
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn migrating_slots_lose_and_duplicate_nothing() {
    let cluster = Cluster::start(CALM);
    let servers = servers(&cluster);
    let addrs: Vec<SocketAddr> = servers.iter().map(Server::addr).collect();
    let plan = load::Plan { messages: MESSAGES, topics: TOPICS, seed: seed(), taker_ends: 50 };
    let seen = load::run(plan, &addrs, |load| {
        let mut random = Random(plan.seed);
        for partition in (0..2).flat_map(|_| 0..PARTITIONS) {
            let (slot, to) = elsewhere(&cluster, partition, &mut random);
            // Some requests meet the slot during its migration.
            cluster.move_slot(slot, to, || load.until_answered(50));
            load.until_answered(50);
        }
        cluster.until_healthy();
    });
    println!("{MESSAGES} messages, {} slots moved: {seen}", 2 * PARTITIONS);
    for (kind, count) in KEPT {
        for node in cluster.masters() {
            let keys: Vec<String> =
                cluster.ask(node, &["KEYS", &format!("dsmq:{{*}}:{kind}:*")]).unwrap();
            for key in keys {
                let left: u64 = cluster.ask(node, &[count, &key]).unwrap();
                assert_eq!(left, 0, "{key}, seed {}", plan.seed);
            }
        }
    }
}

/// The reply to a request, repeated while a node is down.
fn ask(peer: &mut Peer, request: &Value) -> Value {
    let reply = ask_again(peer, request, || {});
    assert!(reply["error"].is_null(), "{request}: {reply}");
    reply
}

fn topics(peer: &mut Peer) -> Value {
    let mut reply = ask(peer, &json!({"action":"topics"}));
    for topic in reply["topics"].as_array_mut().unwrap() {
        topic["put_rate"].take();
        topic["take_rate"].take();
    }
    reply
}

/// A put that can be repeated safely.
fn put(topic: &str, message: u64) -> Value {
    let dedupe = message.to_string();
    json!({"action":"put","topic":topic,"message":message,"dedupe":dedupe,"confirm":true})
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn all_keys_of_a_topic_move_with_its_slot() {
    let cluster = Cluster::start(CALM);
    let [here, there] = servers(&cluster);
    let mut peer = Peer::connect(here.addr());
    for topic in 0..TOPICS {
        let topic = format!("t{topic}");
        for request in [
            put(&topic, 1),
            json!({"action":"put","topic":topic,"message":2,"dedupe":"2","priority":9,"ttl":600,"confirm":true}),
            json!({"action":"put","topic":topic,"message":3,"dedupe":"3","delay":600,"confirm":true}),
            put(&topic, 4),
            json!({"action":"take","topic":topic,"lease":600}),
            json!({"action":"policy","topic":topic,"policy":"broadcast"}),
        ] {
            ask(&mut peer, &request);
        }
    }
    let before = topics(&mut peer);
    for partition in 0..PARTITIONS {
        let (slot, to) = elsewhere(&cluster, partition, &mut Random(partition as u64));
        cluster.move_slot(slot, to, || {});
    }
    cluster.until_healthy();
    assert_eq!(topics(&mut peer), before);
    let mut other = Peer::connect(there.addr());
    for topic in 0..TOPICS {
        let topic = format!("t{topic}");
        let reply = ask(&mut other, &put(&topic, 1));
        assert_eq!(reply["duplicate"], true, "{reply}");
        let take = json!({"action":"take","topic":topic,"lease":600});
        let taken = [(); 3].map(|()| ask(&mut other, &take)["message"].clone());
        assert_eq!(taken, [json!(1), json!(4), json!("")], "{topic}");
    }
    // A server that opens the store now finds everything at the new node.
    let [late, _] = servers(&cluster);
    let mut late = Peer::connect(late.addr());
    for topic in topics(&mut late)["topics"].as_array().unwrap() {
        let counts = ["length", "leased", "delayed"].map(|field| topic[field].as_u64().unwrap());
        assert_eq!(counts, [3, 3, 1], "{topic}");
    }
}
