//! When a session begins: with its connection, whatever its server has heard of the others. What was confirmed
//! before on another server is not handed out, what is put after it on another is.

use serde_json::{Value, json};

use super::Redis;
use super::cluster::{CALM, Cluster};
use crate::suite::folder::Folder;
use crate::suite::peer::Peer;
use crate::suite::support::server_with;
use dsmq::{Config, Server};

const ROUNDS: usize = 300;

/// Topics of which some are in each part of a cluster.
const TOPICS: usize = 64;

/// Two servers over one store, and a connection to the first.
struct Servers {
    putter: Peer,
    _here: Server,
    there: Server,
}

/// In how many rounds what came first was not what should have come.
#[derive(Debug, Default, PartialEq)]
struct Wrong {
    older_by_get: usize,
    older_by_subscribe: usize,
    missed_at_once: usize,
    missed: usize,
    missed_by_subscribe: usize,
}

impl Servers {
    fn start(url: &str) -> Servers {
        let server = || server_with(Config { store: url.parse().unwrap(), ..Config::default() });
        let (here, there) = (server(), server());
        Servers { putter: Peer::connect(here.addr()), _here: here, there }
    }

    fn put(&mut self, topic: &str, message: &Value) {
        let put = json!({"action":"put","topic":topic,"message":message,"confirm":true});
        self.putter.send(put.to_string());
        assert_eq!(self.putter.receive_reply()["ok"], true);
    }

    fn count(&mut self) -> Wrong {
        let mut wrong = Wrong::default();
        for round in 0..ROUNDS {
            let topic = format!("t{}", round % TOPICS);
            let [before, after] = ["before", "after"].map(|when| json!([when, round]));
            let (get, subscribe) = (
                json!({"action":"get","topic":topic}).to_string(),
                json!({"action":"subscribe","topic":topic}).to_string(),
            );

            self.put(&topic, &before);
            let mut reader = Peer::connect_silent(self.there.addr());
            reader.send(&get);
            wrong.older_by_get += usize::from(reader.receive_reply()["message"] != "");

            self.put(&topic, &before);
            let mut reader = Peer::connect_silent(self.there.addr());
            reader.ask(&subscribe, r#"{"ok":true}"#);
            self.put(&topic, &after);
            let pushed = reader.receive_reply()["message"].clone();
            wrong.older_by_subscribe += usize::from(pushed == before);
            wrong.missed_by_subscribe += usize::from(pushed != before && pushed != after);

            let mut reader = Peer::connect_silent(self.there.addr());
            self.put(&topic, &after);
            reader.send(&get);
            wrong.missed_at_once += usize::from(reader.receive_reply()["message"] != after);

            let mut reader = Peer::connect(self.there.addr());
            self.put(&topic, &after);
            reader.send(&get);
            wrong.missed += usize::from(reader.receive_reply()["message"] != after);
        }
        wrong
    }
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn a_session_begins_with_its_connection_over_one_redis() {
    let redis = Redis::start();
    let wrong = Servers::start(&redis.url()).count();
    println!("one: {wrong:?}");
    assert_eq!(wrong, Wrong::default());
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn a_session_begins_with_its_connection_over_a_cluster() {
    let folder = Folder::new("cluster");
    let cluster = Cluster::start(CALM, &folder.path(""));
    let wrong = Servers::start(&cluster.url()).count();
    println!("cluster: {wrong:?}");
    assert_eq!(wrong, Wrong::default());
}

#[test]
#[ignore = "for now"]
fn memory() {
    let server = server_with(Config::default());
    let mut putter = Peer::connect(server.addr());
    let mut wrong = 0;
    for round in 0..ROUNDS {
        let put = json!({"action":"put","topic":"t","message":round,"confirm":true});
        let mut reader = Peer::connect_silent(server.addr());
        putter.send(put.to_string());
        assert_eq!(putter.receive_reply()["ok"], true);
        reader.send(r#"{"action":"get","topic":"t"}"#);
        wrong += usize::from(reader.receive_reply()["message"] != round);
    }
    println!("memory: Wrong {{ {wrong}");
}
