//! A node that goes silent, with things due and takers in line at it: who waits for what stands at other
//! nodes is served meanwhile.

use std::time::{SystemTime, UNIX_EPOCH};

use dsmq::Server;
use serde_json::json;

use super::parts::{server, topics_at};
use crate::suite::support::peer::{Peer, ask};
use crate::suite::support::redis_cluster::{CALM, Cluster};
use crate::suite::support::until;
use crate::suite::web::http::get;

/// Topics of which some are in each part.
const TOPICS: usize = 64;

/// What time does at the silent node it does so many seconds from now, and elsewhere a little later.
const DUE: f64 = 1.0;
const LATE: f64 = 1.5;

/// Takers in line for a topic of the silent node, who leave one by one.
const IN_LINE: usize = 8;

/// Calls to the silent node at a time.
const CALLS: usize = 6;

/// Rounds before and behind what is late.
const ROUNDS: usize = 3;

/// On a machine that is too busy all of it takes longer than a call may, and says nothing: then it is
/// tried again.
const TRIALS: usize = 5;

fn name(topic: usize) -> String {
    format!("t{topic}")
}

fn put(peer: &mut Peer, topic: usize, message: &str) {
    let put = json!({"action":"put","topic":name(topic),"message":message,"confirm":true});
    assert_eq!(ask(peer, &put)["ok"], true);
}

/// Puts a message that comes so many seconds later, from a lease if the topic's number is odd; when.
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

/// One who waits to take of the topic.
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

/// A consumer of RestMQ's, which is there when this returns.
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

/// Waits until so many takers stand in line.
fn until_in_line(server: &Server, takers: usize) {
    let mut peer = Peer::connect(server.addr());
    until(|| ask(&mut peer, &json!({"action":"stats"}))["stats"]["waiting"] == takers);
}

/// The clock of this machine, and of its nodes.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn read(peer: &mut Peer, topic: usize) {
    peer.send(json!({"action":"history","topic":name(topic)}).to_string());
}

/// Has a server make so many connections to a node as it will need: over one that is there an answer is
/// waited for, and a new one is not made to a node that is silent.
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

/// Those who wait on one server for what is put on another, at nodes that answer.
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

    /// Something comes for everyone, but for those who wait for what is late.
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

    /// Who connects now gets what is put from now on.
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

/// Whether the others had all of theirs before a call to the silent node can have ended that was made
/// after another one: what that one held up could not have gone on by then.
fn goes_on(cluster: &mut Cluster, node: usize, own: &[usize]) -> bool {
    let others: Vec<usize> = (0..TOPICS).filter(|topic| !own.contains(topic)).collect();
    let (here, there) = (&server(cluster), &server(cluster));
    let (line, due) = own.split_first().unwrap();
    connect(cluster, node, there, *line);
    let due = &due[..4];
    // First of all, so that it is due before what is late elsewhere.
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
    // Whoever takes serves the line first, which is held up so; then others leave it.
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
fn who_waits_for_other_nodes_waits_for_no_silent_one() {
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
