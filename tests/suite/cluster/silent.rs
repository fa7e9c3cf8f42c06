//! A silent node with due work and waiting takers does not delay clients that wait for messages on
//! other nodes.

use std::time::{SystemTime, UNIX_EPOCH};

use dsmq::Server;
use serde_json::json;

use super::partitions::{server, topics_at};
use crate::suite::support::peer::{Peer, ask};
use crate::suite::support::redis_cluster::{CALM, Cluster};
use crate::suite::support::until;
use crate::suite::web::http::get;

/// Enough topics that each partition has some.
const TOPICS: usize = 64;

/// The silent node has due work after this many seconds, the others a little later.
const DUE: f64 = 1.0;
const LATE: f64 = 1.5;

/// Takers waiting for a topic of the silent node, which leave one after the other.
const IN_LINE: usize = 8;

/// Concurrent calls to the silent node.
const CALLS: usize = 6;

/// Rounds before and after the overdue work.
const ROUNDS: usize = 3;

/// On an overloaded machine everything takes longer than a call may, which proves nothing: the
/// test then tries again.
const TRIALS: usize = 5;

fn name(topic: usize) -> String {
    format!("t{topic}")
}

fn put(peer: &mut Peer, topic: usize, message: &str) {
    let put = json!({"action":"put","topic":name(topic),"message":message,"confirm":true});
    assert_eq!(ask(peer, &put)["ok"], true);
}

/// Puts a message that becomes available after this many seconds; in odd topics by the end of a
/// lease. Returns that time.
fn put_late(peer: &mut Peer, topic: usize, seconds: f64) -> f64 {
    if topic % 2 == 1 {
        put(peer, topic, "late");
        let taken = ask(peer, &json!({"action":"take","topic":name(topic),"lease":seconds}));
        assert_eq!(taken["message"], "late");
        return now() + seconds;
    }
    let put = json!({
        "action":"put","topic":name(topic),"message":"late","confirm":true,"delay":seconds,
    });
    ask(peer, &put)["due"].as_f64().unwrap()
}

/// A client that waits for a message of the topic.
fn taker(server: &Server, topic: usize) -> Peer {
    let mut peer = Peer::connect(server.addr());
    wait_to_take(&mut peer, topic);
    peer
}

fn wait_to_take(peer: &mut Peer, topic: usize) {
    peer.send(json!({"action":"take","topic":name(topic),"wait":600}).to_string());
}

fn takers<'t>(server: &Server, topics: impl IntoIterator<Item = &'t usize>) -> Vec<(usize, Peer)> {
    topics.into_iter().map(|topic| (*topic, taker(server, *topic))).collect()
}

/// A RestMQ consumer, registered when this returns.
fn consumer(server: &Server, topic: usize) -> Peer {
    let mut peer = Peer::connect_silent(server.addr());
    peer.send(get(&format!("/c/{}", name(topic))));
    receive_up_to(&mut peer, "\r\n\r\n");
    peer
}

fn receive_up_to(peer: &mut Peer, end: &str) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.extend(peer.receive(1));
    }
}

/// Waits until this many takers are waiting.
fn until_in_line(server: &Server, takers: usize) {
    let mut peer = Peer::connect(server.addr());
    until(|| ask(&mut peer, &json!({"action":"stats"}))["stats"]["waiting"] == takers);
}

/// The clock of this machine and its nodes.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn read(peer: &mut Peer, topic: usize) {
    peer.send(json!({"action":"history","topic":name(topic)}).to_string());
}

/// Makes a server open this many connections to a node: a call over an open connection waits for
/// its reply, whereas connecting to a silent node fails.
fn connect(cluster: &Cluster, node: usize, server: &Server, topic: usize) {
    let order = |words: &[&str]| cluster.ask::<String>(node, words).unwrap();
    order(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let mut peers: Vec<Peer> = (0..CALLS).map(|_| Peer::connect(server.addr())).collect();
    peers.iter_mut().for_each(|peer| read(peer, topic));
    let held = |calls: &str| calls.trim().parse::<usize>().is_ok_and(|calls| calls >= CALLS);
    until(|| {
        let info = order(&["INFO", "clients"]);
        info.lines().any(|line| line.strip_prefix("blocked_clients:").is_some_and(held))
    });
    order(&["CLIENT", "UNPAUSE"]);
    for mut peer in peers {
        assert!(peer.receive_reply()["messages"].is_array());
    }
}

/// Clients that wait on one server for messages put on another, in nodes that answer.
struct Others {
    putter: Peer,
    takers: Vec<(usize, Peer)>,
    consumers: Vec<(usize, Peer)>,
    followed: Vec<usize>,
    subscriber: Peer,
    late: Vec<(usize, Peer)>,
}

impl Others {
    fn begin(mut putter: Peer, there: &Server, topics: &[usize]) -> Others {
        let quarter = |number: usize| topics.iter().skip(number).step_by(4);
        let followed: Vec<usize> = quarter(0).copied().collect();
        let names: Vec<String> = followed.iter().copied().map(name).collect();
        let mut subscriber = Peer::connect(there.addr());
        let begun = ask(&mut subscriber, &json!({"action":"subscribe","topic":names}));
        assert_eq!(begun["ok"], true);
        for topic in quarter(3) {
            put_late(&mut putter, *topic, LATE);
        }
        Others {
            putter,
            takers: takers(there, quarter(1)),
            consumers: quarter(2).map(|topic| (*topic, consumer(there, *topic))).collect(),
            followed,
            subscriber,
            late: takers(there, quarter(3)),
        }
    }

    fn in_line(&self) -> usize {
        self.takers.len() + self.late.len()
    }

    /// Every client receives something, except those that wait for overdue work.
    fn round(&mut self) {
        let topics = self.takers.iter().chain(&self.consumers).map(|(topic, _)| topic);
        for topic in topics.chain(&self.followed) {
            put(&mut self.putter, *topic, "now");
        }
        for (topic, taker) in &mut self.takers {
            assert_eq!(taker.receive_reply()["message"], "now");
            wait_to_take(taker, *topic);
        }
        for (_, consumer) in &mut self.consumers {
            receive_up_to(consumer, "\"now\"");
            receive_up_to(consumer, "\r\n");
        }
        for _ in &self.followed {
            assert_eq!(self.subscriber.receive_reply()["message"], "now");
        }
    }

    /// A new connection receives the messages put from now on.
    fn receive_now(&mut self, there: &Server) {
        for topic in self.followed.clone() {
            let mut getter = Peer::connect(there.addr());
            put(&mut self.putter, topic, "now");
            let get = json!({"action":"get","topic":name(topic),"wait":600});
            assert_eq!(ask(&mut getter, &get)["message"], "now");
            assert_eq!(self.subscriber.receive_reply()["message"], "now");
        }
    }

    fn receive_late(&mut self) {
        for (_, taker) in &mut self.late {
            assert_eq!(taker.receive_reply()["message"], "late");
        }
    }
}

/// Whether the other clients were served before a second consecutive call to the silent node could
/// have ended: a client delayed by such calls would not have been.
fn goes_on(cluster: &mut Cluster, node: usize, own: &[usize]) -> bool {
    let others: Vec<usize> = (0..TOPICS).filter(|topic| !own.contains(topic)).collect();
    let (here, there) = (&server(cluster), &server(cluster));
    let (line, due) = own.split_first().unwrap();
    connect(cluster, node, there, *line);
    let due = &due[..4];
    // First, so that it is due before the work on other nodes.
    let mut putter = Peer::connect(here.addr());
    let times = due.iter().map(|topic| put_late(&mut putter, *topic, DUE));
    let first = times.fold(f64::MAX, f64::min);
    let mut others = Others::begin(putter, there, &others);
    let mut in_line: Vec<Peer> = (0..IN_LINE).map(|_| taker(there, *line)).collect();
    let mut waiting = takers(there, due);
    until_in_line(there, others.in_line() + IN_LINE + due.len());
    others.round();

    cluster.pause(node);
    let mut slow = Peer::connect(there.addr());
    read(&mut slow, *line);
    let in_time = now() < first;
    // A take serves the waiting takers first, and is delayed here; then takers leave.
    let mut late_comer = Peer::connect(there.addr());
    late_comer.send(json!({"action":"take","topic":name(*line)}).to_string());
    for _ in 0..ROUNDS {
        in_line.pop();
        others.round();
    }
    others.receive_now(there);
    others.receive_late();
    for _ in 0..ROUNDS {
        in_line.pop();
        others.round();
    }
    let goes_on = in_time && !slow.has_arrived();

    slow.receive_reply();
    late_comer.receive_reply();
    cluster.go_on(node);
    for (_, taker) in &mut waiting {
        assert_eq!(taker.receive_reply()["message"], "late");
    }
    goes_on
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn silent_node_does_not_delay_clients_of_other_nodes() {
    let mut cluster = Cluster::start(CALM);
    let first = server(&cluster);
    let mut peer = Peer::connect(first.addr());
    (0..TOPICS).for_each(|topic| put(&mut peer, topic, "before"));
    let node = cluster.masters()[1];
    let own = topics_at(&cluster, node);
    for topic in 0..TOPICS {
        let take = json!({"action":"take","topic":name(topic)});
        assert_eq!(ask(&mut peer, &take)["message"], "before");
    }
    let mut trials = (0..TRIALS).map(|_| goes_on(&mut cluster, node, &own));
    assert!(trials.any(|goes_on| goes_on), "others wait for the silent node");
}
