//! Two servers over one Redis or one cluster: changes on one are visible on the other.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dsmq::{Config, CoreMqPort, Server};
use serde_json::json;

use super::Redis;
use crate::suite::compat::coremq_frames::{Client, address, response};
use crate::suite::semantics::put_back::{TAKE, sessions_get_what_they_passed, subscriber};
use crate::suite::support::peer::Peer;
use crate::suite::support::redis_cluster::{CALM, Cluster};
use crate::suite::support::server_with;

/// Messages shared by takers on two servers.
const MESSAGES: usize = 2_000;

/// Enough topics that each partition of a cluster has some.
const TOPICS: usize = 64;

/// A store that no other test uses.
struct Shared {
    config: Config,
}

impl Shared {
    fn config(&self) -> Config {
        self.config.clone()
    }

    fn server(&self) -> Server {
        server_with(self.config())
    }
}

/// The guarantees for servers that share a store.
const PROMISES: [fn(&Shared); 8] = [
    put_wakes_clients_of_another_server,
    prefix_subscription_covers_all_topics,
    confirmed_put_is_visible_on_another_server,
    expired_lease_serves_a_taker_of_another_server,
    takers_of_two_servers_take_each_message_once,
    new_server_finds_existing_messages,
    coremq_servers_are_each_others_masters,
    put_back_reaches_sessions_of_another_server,
];

fn hold(url: &str) {
    for (number, promise) in PROMISES.iter().enumerate() {
        let (store, redis_prefix) = (url.parse().unwrap(), format!("test{number}:"));
        promise(&Shared { config: Config { store, redis_prefix, ..Config::default() } });
    }
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn guarantees_hold_over_one_redis() {
    hold(&Redis::start().url());
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn guarantees_hold_over_a_cluster() {
    hold(&Cluster::start(CALM).url());
}

fn put_wakes_clients_of_another_server(store: &Shared) {
    let [here, there] = [store.server(), store.server()];
    let [mut getter, mut taker, mut subscriber, mut prefix] =
        [(); 4].map(|()| Peer::connect(there.addr()));
    let mut putter = Peer::connect(here.addr());
    subscriber.ask(r#"{"action":"subscribe","topic":"t"}"#, r#"{"ok":true}"#);
    prefix.ask(r#"{"action":"subscribe","topic":"t*"}"#, r#"{"ok":true}"#);
    for round in 0..20 {
        getter.send(r#"{"action":"get","topic":"t","wait":600}"#);
        // A message taken at once never reaches the subscriber: hence two topics.
        taker.send(r#"{"action":"take","topic":"jobs","wait":600}"#);
        for topic in ["t", "jobs"] {
            let put = json!({"action":"put","topic":topic,"message":round,"confirm":true});
            putter.send(put.to_string());
            assert_eq!(putter.receive_reply()["ok"], true);
        }
        assert_eq!(getter.receive_reply(), json!({"message": round}));
        let taken = taker.receive_reply();
        assert_eq!((&taken["message"], &taken["deliveries"]), (&json!(round), &json!(1)));
        for subscriber in [&mut subscriber, &mut prefix] {
            let push = subscriber.receive_reply();
            assert_eq!((&push["topic"], &push["message"]), (&json!("t"), &json!(round)));
        }
    }
}

fn put_back_reaches_sessions_of_another_server(store: &Shared) {
    let [here, there] = [store.server(), store.server()];
    sessions_get_what_they_passed(here.addr(), there.addr(), TAKE, || subscriber(there.addr()));
}

fn prefix_subscription_covers_all_topics(store: &Shared) {
    let [here, there] = [store.server(), store.server()];
    let [mut prefix, mut getter, mut taker] = [(); 3].map(|()| Peer::connect(there.addr()));
    prefix.ask(r#"{"action":"subscribe","topic":"m*"}"#, r#"{"ok":true}"#);
    let mut putter = Peer::connect(here.addr());
    for topic in 0..TOPICS {
        let (pushed, taken) = (format!("m{topic}"), format!("jobs{topic}"));
        getter.send(json!({"action":"get","topic":pushed,"wait":600}).to_string());
        taker.send(json!({"action":"take","topic":taken,"wait":600}).to_string());
        for name in [&pushed, &taken] {
            putter.send(json!({"action":"put","topic":name,"message":topic}).to_string());
        }
        assert_eq!(getter.receive_reply(), json!({"message": topic}));
        assert_eq!(taker.receive_reply()["message"], topic);
        let push = prefix.receive_reply();
        assert_eq!((&push["topic"], &push["message"]), (&json!(pushed), &json!(topic)));
    }
    // One batch with all of them.
    let put =
        |topic| json!({"action":"put","topic":format!("m{topic}"),"message":"all"}).to_string();
    putter.send((0..TOPICS).map(put).collect::<String>());
    let pushed: BTreeSet<String> =
        (0..TOPICS).map(|_| prefix.receive_reply()["topic"].to_string()).collect();
    assert_eq!(pushed.len(), TOPICS);
}

fn confirmed_put_is_visible_on_another_server(store: &Shared) {
    let [here, there] = [store.server(), store.server()];
    let (mut putter, mut reader) = (Peer::connect(here.addr()), Peer::connect(there.addr()));
    for round in 0..100 {
        let topic = format!("t{}", round % 7);
        let put = json!({"action":"put","topic":topic,"message":round,"confirm":true});
        putter.send(put.to_string());
        let id = putter.receive_reply()["id"].clone();
        // No wait: the message is there at once.
        reader.send(json!({"action":"get","topic":topic}).to_string());
        assert_eq!(reader.receive_reply(), json!({"message": round}));
        reader.send(json!({"action":"history","topic":topic,"limit":1}).to_string());
        assert_eq!(reader.receive_reply()["messages"][0]["id"], id);
    }
    reader.send(r#"{"action":"purge","topic":"t1"}"#);
    assert_eq!(reader.receive_reply()["ok"], true);
    putter.ask(r#"{"action":"history","topic":"t1"}"#, r#"{"messages":[]}"#);
}

fn expired_lease_serves_a_taker_of_another_server(store: &Shared) {
    let here = store.server();
    let mut taker = Peer::connect(here.addr());
    taker
        .send(r#"{"action":"put","topic":"t","message":1}{"action":"take","topic":"t","lease":1}"#);
    assert_eq!(taker.receive_reply()["deliveries"], 1);
    let there = store.server();
    let mut next = Peer::connect(there.addr());
    next.send(r#"{"action":"take","topic":"t","lease":60,"wait":600}"#);
    // The holder of the lease and its server are gone.
    drop(here);
    let taken = next.receive_reply();
    assert_eq!((&taken["message"], &taken["deliveries"]), (&json!(1), &json!(2)));
    let id = &taken["id"];
    next.ask(
        &json!({"action":"ack","topic":"t","id":id,"deliveries":2}).to_string(),
        r#"{"ok":true}"#,
    );
}

fn takers_of_two_servers_take_each_message_once(store: &Shared) {
    let servers = [store.server(), store.server()];
    let left = AtomicUsize::new(MESSAGES);
    let taken: Vec<Vec<u64>> = thread::scope(|scope| {
        for (number, server) in servers.iter().enumerate() {
            scope.spawn(move || {
                let mut putter = Peer::connect(server.addr());
                for message in (0..MESSAGES).filter(|message| message % 2 == number) {
                    putter.send(json!({"action":"put","topic":"t","message":message}).to_string());
                }
                putter.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
            });
        }
        let takers: Vec<_> = (0..8)
            .map(|taker| {
                let (addr, left) = (servers[taker % 2].addr(), &left);
                scope.spawn(move || {
                    let mut peer = Peer::connect(addr);
                    let mut taken = Vec::new();
                    // Some takers take at once, others wait.
                    let wait = if taker < 4 { ",\"wait\":1" } else { "" };
                    while left.load(Ordering::SeqCst) > 0 {
                        peer.send(format!(r#"{{"action":"take","topic":"t","lease":60{wait}}}"#));
                        let reply = peer.receive_reply();
                        let Some(message) = reply["message"].as_u64() else { continue };
                        let (id, deliveries) = (&reply["id"], &reply["deliveries"]);
                        assert_eq!(deliveries, 1);
                        let ack = json!({"action":"ack","topic":"t","id":id,"deliveries":1});
                        peer.ask(&ack.to_string(), r#"{"ok":true}"#);
                        left.fetch_sub(1, Ordering::SeqCst);
                        taken.push(message);
                    }
                    taken
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    let all: Vec<u64> = taken.into_iter().flatten().collect();
    let each: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), each.len()), (MESSAGES, MESSAGES));
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn all_keys_have_the_prefix() {
    let redis = Redis::start();
    // A user with only the rights that docs/reference/redis.md lists.
    let rights = ["~mine:*", "&mine:*", "+@all", "-@dangerous"];
    let user = [&["ACL", "SETUSER", "dsmq", "on", ">secret"][..], &rights].concat();
    assert_eq!(redis.ask(&user).trim(), "OK");
    let mut config = redis.config();
    config.store = format!("{}?user=dsmq&pass=secret", redis.url()).parse().unwrap();
    config.redis_prefix = "mine:".to_owned();
    let server = super::server_with(config);
    let mut peer = Peer::connect(server.addr());
    for request in [
        json!({"action":"put","topic":"a","message":1,"priority":9,"ttl":60,"dedupe":"k","confirm":true}),
        json!({"action":"put","topic":"a","message":2,"delay":60,"confirm":true}),
        json!({"action":"put","topic":"a","message":3,"confirm":true}),
        json!({"action":"put","topic":"b","message":4,"confirm":true}),
        json!({"action":"take","topic":"a","lease":60}),
        json!({"action":"peek","topic":"a"}),
        json!({"action":"stop","topic":"c"}),
        json!({"action":"policy","topic":"c","policy":"broadcast"}),
        json!({"action":"purge","topic":"b"}),
        json!({"action":"history","topic":"a"}),
    ] {
        peer.send(request.to_string());
        let reply = peer.receive_reply();
        assert!(reply.get("error").is_none(), "{request}: {reply}");
    }
    let keys = redis.ask(&["KEYS", "*"]);
    assert!(keys.lines().count() > 8, "{keys}");
    assert!(keys.lines().all(|key| key.starts_with("mine:{0}:")), "{keys}");

    // Another prefix is another store.
    let other = redis.server();
    Peer::connect(other.addr()).ask(r#"{"action":"topics"}"#, r#"{"topics":[]}"#);
    // redis-cli shows a topic readably.
    let log = redis.ask(&["XRANGE", "mine:{0}:log:a", "-", "+"]);
    let log: Vec<&str> = log.lines().collect();
    assert_eq!(log.last(), Some(&"3"), "{log:?}");
}

fn new_server_finds_existing_messages(store: &Shared) {
    let first = store.server();
    let mut peer = Peer::connect(first.addr());
    for message in 0..3 {
        peer.send(json!({"action":"put","topic":"t","message":message}).to_string());
    }
    peer.send(r#"{"action":"put","topic":"later","message":9,"delay":1,"confirm":true}"#);
    assert!(peer.receive_reply()["due"].is_number());
    drop(first);
    let second = store.server();
    let mut peer = Peer::connect(second.addr());
    peer.send(r#"{"action":"topics"}"#);
    let topics = peer.receive_reply();
    let listed = topics["topics"].as_array().unwrap();
    let lengths: Vec<_> = listed.iter().map(|t| (t["topic"].as_str(), &t["length"])).collect();
    assert_eq!(lengths[1], (Some("t"), &json!(3)), "{topics}");
    peer.send(r#"{"action":"take","topic":"later","wait":600}"#);
    assert_eq!(peer.receive_reply()["message"], 9);
    peer.ask(r#"{"action":"get","topic":"t","since":0}"#, r#"{"message":0}"#);
    peer.ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":1}"#);
}

fn coremq_servers_are_each_others_masters(store: &Shared) {
    let [here, there] = [(); 2]
        .map(|()| server_with(Config { coremq: Some(CoreMqPort::Port(0)), ..store.config() }));
    let mut sender = Client::connect(address(&here));
    let mut listener = Client::connect(address(&there));
    listener.subscribe(json!("q"));
    let id = listener.id.clone();
    for (round, queue) in ["q", id.as_str()].into_iter().enumerate() {
        assert_eq!(sender.ask_at(queue, json!({ "n": round })), response("OK: Message sent"));
        let (from, message) = listener.receive();
        assert_eq!((from.as_str(), &message["n"]), (queue, &json!(round)));
        assert_eq!(message["coremq_sender"], sender.id);
    }
    let history = listener.ask(json!({ "coremq_gethistory": ["q"] }));
    assert_eq!(history["history"]["q"][0]["n"], 0);
}
