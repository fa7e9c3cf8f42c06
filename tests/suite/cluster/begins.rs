//! Session starts on several servers: a session reads exactly the messages put after its
//! connection was accepted, even if its server does not know of other servers' puts yet.

use std::thread;

use dsmq::{Config, Server};
use serde_json::{Value, json};

use super::Redis;
use crate::suite::support::peer::Peer;
use crate::suite::support::redis_cluster::{CALM, Cluster};
use crate::suite::support::server_with;

const ROUNDS: usize = 300;

/// Clients that subscribe at the same time, and the number of their subscriptions.
const CLIENTS: usize = 24;
const CLIENT_ROUNDS: usize = 20;

/// Enough topics that each partition of a cluster has some.
const TOPICS: usize = 64;

/// Two servers over one store, and a connection to the first.
struct Servers {
    putter: Peer,
    here: Server,
    there: Server,
}

/// How often the first message was not the expected one.
#[derive(Debug, Default, PartialEq)]
struct Wrong {
    older_by_get: usize,
    older_by_subscribe: usize,
    missed_by_get: usize,
    missed_by_subscribe: usize,
}

impl Servers {
    fn start(url: &str) -> Servers {
        let server = || server_with(Config { store: url.parse().unwrap(), ..Config::default() });
        let (here, there) = (server(), server());
        Servers { putter: Peer::connect(here.addr()), here, there }
    }

    fn put(&mut self, topic: &str, message: &Value) {
        put(&mut self.putter, topic, message);
    }

    /// Puts on one server before and after subscribing on the other; returns how often a message
    /// put before was pushed.
    fn older(&self, topic: &str) -> usize {
        let mut putter = Peer::connect(self.here.addr());
        let subscribe = json!({"action":"subscribe","topic":topic}).to_string();
        let is_older = |round: usize| {
            let [before, after] = ["before", "after"].map(|when| json!([when, round]));
            put(&mut putter, topic, &before);
            let mut subscriber = Peer::connect_silent(self.there.addr());
            subscriber.ask(&subscribe, r#"{"ok":true}"#);
            put(&mut putter, topic, &after);
            let pushed = subscriber.receive_reply()["message"].clone();
            assert!(pushed == before || pushed == after, "{pushed}");
            pushed == before
        };
        (0..CLIENT_ROUNDS).map(is_older).filter(|is_older| *is_older).count()
    }

    /// Puts on one server, and reads on the other over connections accepted just before or after.
    fn count(&mut self) -> Wrong {
        let mut wrong = Wrong::default();
        for round in 0..ROUNDS {
            let topic = format!("t{}", round % TOPICS);
            let [before, after] = ["before", "after"].map(|when| json!([when, round]));
            let [get, subscribe] = ["get", "subscribe"]
                .map(|action| json!({"action":action,"topic":topic}).to_string());

            self.put(&topic, &before);
            let mut getter = Peer::connect_silent(self.there.addr());
            getter.send(&get);
            wrong.older_by_get += usize::from(getter.receive_reply()["message"] != "");

            self.put(&topic, &before);
            let mut subscriber = Peer::connect_silent(self.there.addr());
            subscriber.ask(&subscribe, r#"{"ok":true}"#);
            self.put(&topic, &after);
            let pushed = subscriber.receive_reply()["message"].clone();
            wrong.older_by_subscribe += usize::from(pushed == before);
            wrong.missed_by_subscribe += usize::from(pushed != before && pushed != after);

            // A reply shows that the connection was accepted.
            let mut getter = Peer::connect(self.there.addr());
            self.put(&topic, &after);
            getter.send(&get);
            wrong.missed_by_get += usize::from(getter.receive_reply()["message"] != after);
        }
        wrong
    }
}

fn put(peer: &mut Peer, topic: &str, message: &Value) {
    let put = json!({"action":"put","topic":topic,"message":message,"confirm":true});
    peer.send(put.to_string());
    assert_eq!(peer.receive_reply()["ok"], true);
}

/// A message put before is delivered if it falls into the travel time of a reply, which is rarer
/// on an idle machine. Without the query it happens in every third case.
fn judge(wrong: Wrong) {
    println!("of {ROUNDS}: {wrong:?}");
    let older_by_get = wrong.older_by_get;
    assert!(older_by_get < ROUNDS / 20, "{wrong:?}");
    assert_eq!(wrong, Wrong { older_by_get, ..Wrong::default() });
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn session_starts_at_accept_over_one_redis() {
    let redis = Redis::start();
    judge(Servers::start(&redis.url()).count());
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn session_starts_at_accept_over_a_cluster() {
    judge(Servers::start(&Cluster::start(CALM).url()).count());
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn concurrent_subscribers_receive_nothing_older() {
    let cluster = Cluster::start(CALM);
    let servers = &Servers::start(&cluster.url());
    let older: usize = thread::scope(|scope| {
        let client = |client| scope.spawn(move || servers.older(&format!("t{client}")));
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(older, 0, "of {}", CLIENTS * CLIENT_ROUNDS);
}
