//! Partitions of a store over a cluster: each lies on the node of its slot, and fails separately.

use dsmq::{Config, Server};
use serde_json::{Value, json};

use crate::suite::support::peer::Peer;
use crate::suite::support::redis_cluster::{CALM, Cluster, NERVOUS};
use crate::suite::support::{server_with, until};

/// Enough topics that each partition has some.
const TOPICS: usize = 48;

pub fn server(cluster: &Cluster) -> Server {
    server_with(Config { store: cluster.url().parse().unwrap(), ..Config::default() })
}

fn put(peer: &mut Peer, topic: usize, message: &str) -> Value {
    let topic = format!("t{topic}");
    let put = json!({"action":"put","topic":topic,"message":message,"confirm":true,"tag":topic});
    peer.send(put.to_string());
    let reply = peer.receive_reply();
    assert_eq!(reply["tag"], topic, "{reply}");
    reply
}

/// The topics on a node.
pub fn topics_at(cluster: &Cluster, node: usize) -> Vec<usize> {
    let logs: Vec<String> = cluster.ask(node, &["KEYS", "dsmq:{*}:log:t*"]).unwrap();
    logs.iter().map(|log| log.rsplit(":t").next().unwrap().parse().unwrap()).collect()
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn silent_node_stops_only_its_partitions() {
    let mut cluster = Cluster::start(CALM);
    let server = server(&cluster);
    let (mut peer, mut waiter) = (Peer::connect(server.addr()), Peer::connect(server.addr()));
    for topic in 0..TOPICS {
        assert_eq!(put(&mut peer, topic, "before")["ok"], true);
    }
    let node = cluster.masters()[1];
    let there = topics_at(&cluster, node);
    assert!((1..TOPICS).contains(&there.len()), "{there:?}");
    cluster.pause(node);
    // Only requests for this node wait.
    let slow =
        json!({"action":"put","topic":format!("t{}", there[0]),"message":"slow","confirm":true});
    waiter.send(slow.to_string());
    for topic in (0..TOPICS).filter(|topic| !there.contains(topic)) {
        assert_eq!(put(&mut peer, topic, "meanwhile")["ok"], true);
    }
    waiter.expect_error("unavailable");
    for topic in &there[..3] {
        assert_eq!(put(&mut peer, *topic, "meanwhile")["code"], "unavailable");
    }
    cluster.go_on(node);
    for topic in there {
        until(|| put(&mut peer, topic, "after")["ok"] == true);
        waiter.send(json!({"action":"take","topic":format!("t{topic}")}).to_string());
        assert_eq!(waiter.receive_reply()["message"], "before");
    }
}

/// Clients waiting on an idle server receive messages that another server puts.
fn assert_all_are_woken(here: &mut Peer, idle: &Server, round: &str) {
    let mut subscriber = Peer::connect(idle.addr());
    subscriber.ask(r#"{"action":"subscribe","topic":"t*"}"#, r#"{"ok":true}"#);
    wake(here, idle, &mut subscriber, round, || {});
}

fn wake(here: &mut Peer, idle: &Server, subscriber: &mut Peer, round: &str, then: impl FnOnce()) {
    let mut waiting: Vec<Peer> = (0..TOPICS).map(|_| Peer::connect(idle.addr())).collect();
    for (topic, peer) in waiting.iter_mut().enumerate() {
        peer.send(json!({"action":"get","topic":format!("t{topic}"),"wait":600}).to_string());
    }
    then();
    for topic in 0..TOPICS {
        until(|| put(here, topic, round)["ok"] == true);
    }
    for (topic, peer) in waiting.iter_mut().enumerate() {
        assert_eq!(peer.receive_reply(), json!({"message": round}), "t{topic}");
        assert_eq!(subscriber.receive_reply()["message"], round);
    }
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn waiting_clients_are_woken_after_partitions_move() {
    let cluster = Cluster::start(CALM);
    let (here, idle) = (server(&cluster), server(&cluster));
    let mut peer = Peer::connect(here.addr());
    assert_all_are_woken(&mut peer, &idle, "before");
    let mut subscriber = Peer::connect(idle.addr());
    subscriber.ask(r#"{"action":"subscribe","topic":"t*"}"#, r#"{"ok":true}"#);
    wake(&mut peer, &idle, &mut subscriber, "moved", || {
        for partition in 0..16 {
            let slot = cluster.slot_of(&format!("{{{partition}}}"));
            let from = cluster.master_of(slot);
            let to = cluster.masters().into_iter().find(|node| *node != from).unwrap();
            cluster.move_slot(slot, to, || {});
        }
        cluster.until_healthy();
    });
    wake(&mut peer, &idle, &mut subscriber, "failed over", || {
        for master in cluster.masters() {
            cluster.fail_over(cluster.replica_of(master));
        }
    });
}

/// Waits until these nodes serve, and know that this one is a master.
fn until_known(cluster: &Cluster, master: usize, nodes: &[usize]) {
    let address = format!(":{}@", cluster.port(master));
    let knows = |node: &usize| {
        let ask = |what| cluster.ask::<String>(*node, &["CLUSTER", what]).unwrap();
        let known = ask("NODES").lines().any(|l| l.contains(&address) && l.contains("master -"));
        known && ask("INFO").contains("cluster_state:ok")
    };
    until(|| nodes.iter().all(knows));
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn server_starts_if_a_named_node_does_not_answer() {
    let mut cluster = Cluster::start(NERVOUS);
    let first = server(&cluster);
    let mut peer = Peer::connect(first.addr());
    for topic in 0..TOPICS {
        assert_eq!(put(&mut peer, topic, "before")["ok"], true);
    }
    // The unreachable node is named first.
    let replica = cluster.replica_of(0);
    cluster.pause(0);
    cluster.until_master(replica);
    until_known(&cluster, replica, &[1, 2, replica]);
    for killed in [false, true] {
        if killed {
            cluster.kill(0);
        }
        let late = server(&cluster);
        let mut peer = Peer::connect(late.addr());
        for topic in 0..TOPICS {
            until(|| put(&mut peer, topic, "after")["ok"] == true);
            peer.send(json!({"action":"peek","topic":format!("t{topic}")}).to_string());
            assert_eq!(peer.receive_reply()["message"], "before");
        }
    }
}
