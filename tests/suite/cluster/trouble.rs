//! Redis is killed, silent, empty, or requires a password: requests fail with an error, none
//! hangs, and no confirmed message is lost.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Redis, ask_again, load};
use crate::suite::support::PATIENCE;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{dsmq, run};

/// Messages put and taken while Redis is killed.
const MESSAGES: usize = 3_000;

/// Number of kills.
const KILLS: usize = 5;

/// Repeats a request while Redis is down, and counts the repetitions.
fn ask(peer: &mut Peer, request: &Value, away: &AtomicUsize) -> Value {
    ask_again(peer, request, || {
        away.fetch_add(1, Ordering::SeqCst);
    })
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn killed_redis_keeps_confirmed_messages() {
    let mut redis = Redis::durable();
    let servers = [redis.server(), redis.server()];
    let (away, acked, killed) = (AtomicUsize::new(0), Mutex::default(), AtomicBool::new(false));
    let acks: Vec<(u64, bool)> = thread::scope(|scope| {
        for (number, server) in servers.iter().enumerate() {
            let away = &away;
            scope.spawn(move || {
                let mut peer = Peer::connect(server.addr());
                for message in (0..MESSAGES).filter(|message| message % 2 == number) {
                    let request = json!({
                        "action": "put", "topic": "t", "message": message, "confirm": true,
                        "dedupe": message.to_string(), "tag": message,
                    });
                    let reply = ask(&mut peer, &request, away);
                    assert_eq!(reply["ok"], true, "{reply}");
                }
            });
        }
        let takers: Vec<_> = (0..4)
            .map(|taker| {
                let (addr, away, acked) = (servers[taker % 2].addr(), &away, &acked);
                let killed = &killed;
                scope.spawn(move || work(&mut Peer::connect(addr), away, acked, killed))
            })
            .collect();
        for kill in 1..=KILLS {
            while acked.lock().unwrap().len() < kill * MESSAGES / (KILLS + 1) {
                thread::yield_now();
            }
            redis.kill();
            redis.start_again();
        }
        killed.store(true, Ordering::SeqCst);
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    load::judge(MESSAGES, &acks);
    assert!(away.load(Ordering::SeqCst) > 0, "nobody noticed");
}

/// Takes and acks until all is done; returns each message with a successful or possible ack.
fn work(
    peer: &mut Peer,
    away: &AtomicUsize,
    acked: &Mutex<HashSet<u64>>,
    killed: &AtomicBool,
) -> Vec<(u64, bool)> {
    let mut acks = Vec::new();
    while acked.lock().unwrap().len() < MESSAGES || !killed.load(Ordering::SeqCst) {
        let take = json!({"action":"take","topic":"t","lease":2,"wait":1,"tag":1});
        let taken = ask(peer, &take, away);
        let Some(message) = taken["message"].as_u64() else { continue };
        let (id, deliveries) = (&taken["id"], &taken["deliveries"]);
        let before = away.load(Ordering::SeqCst);
        let ack = json!({"action":"ack","topic":"t","id":id,"deliveries":deliveries,"tag":2});
        let reply = ask(peer, &ack, away);
        assert!(reply["ok"] == true || reply["code"] == "gone", "{reply}");
        // It is gone: either an ack without a reply worked, or its lease ended and another taker
        // acked it.
        let doubtful = reply["code"] == "gone" && away.load(Ordering::SeqCst) > before;
        if reply["ok"] == true || (doubtful && is_gone(peer, id, away)) {
            acks.push((message, reply["ok"] == true));
            acked.lock().unwrap().insert(message);
        }
    }
    acks
}

/// Whether the topic no longer has a message with this id.
fn is_gone(peer: &mut Peer, id: &Value, away: &AtomicUsize) -> bool {
    let since = id.as_u64().unwrap() - 1;
    let get = json!({"action":"get","topic":"t","since":since,"meta":true,"tag":3});
    ask(peer, &get, away)["id"] != *id
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn silent_redis_is_unavailable_until_it_answers() {
    let redis = Redis::start();
    let [here, there] = [redis.server(), redis.server()];
    let (mut peer, mut waiter) = (Peer::connect(here.addr()), Peer::connect(there.addr()));
    let put = r#"{"action":"put","topic":"t","message":1,"confirm":true,"tag":"x"}"#;
    peer.send(put);
    assert_eq!(peer.receive_reply()["ok"], true);
    waiter.ask(r#"{"action":"subscribe","topic":"t"}"#, r#"{"ok":true}"#);
    redis.pause();
    for _ in 0..3 {
        peer.send(put);
        assert_eq!(peer.expect_error("unavailable")["tag"], "x");
    }
    // Requests that need no Redis still work, also on new connections.
    let mut late = Peer::connect(here.addr());
    late.ask(r#"{"action":"subscribe","topic":"t"}"#, r#"{"ok":true}"#);
    late.send(r#"{"action":"get","topic":"t"}"#);
    late.expect_error("unavailable");
    redis.go_on();
    let away = AtomicUsize::new(0);
    let again = json!({"action":"put","topic":"t","message":2,"confirm":true,"tag":"y"});
    assert_eq!(ask(&mut peer, &again, &away)["ok"], true);
    // The earlier put is pushed as well, if it was carried out.
    while waiter.receive_reply()["message"] != 2 {}
    while late.receive_reply()["message"] != 2 {}
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn redis_that_lost_everything_is_served() {
    let mut redis = Redis::start();
    let [here, there] = [redis.server(), redis.server()];
    let (mut peer, mut reader) = (Peer::connect(here.addr()), Peer::connect(there.addr()));
    let away = AtomicUsize::new(0);
    for message in 0..10 {
        let put = json!({"action":"put","topic":"t","message":message,"confirm":true,"tag":1});
        assert_eq!(ask(&mut peer, &put, &away)["ok"], true);
    }
    reader.ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":0}"#);
    redis.kill();
    redis.start_again();
    let put = json!({"action":"put","topic":"t","message":"new","confirm":true,"tag":1});
    assert_eq!(ask(&mut peer, &put, &away)["ok"], true);
    // Messages read before the loss may still be delivered until an update arrives.
    let get = json!({"action":"get","topic":"t","wait":60,"tag":2});
    while ask(&mut reader, &get, &away)["message"] != "new" {}
    let history = json!({"action":"history","topic":"t","tag":3});
    let history = ask(&mut reader, &history, &away);
    assert_eq!(history["messages"].as_array().unwrap().len(), 1, "{history}");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn topic_lost_by_redis_starts_again() {
    let mut redis = Redis::start();
    let [here, there] = [redis.server(), redis.server()];
    let (mut peer, mut reader) = (Peer::connect(here.addr()), Peer::connect(there.addr()));
    let away = AtomicUsize::new(0);
    let put = |peer: &mut Peer, topic: &str, message: &str| {
        let put = json!({"action":"put","topic":topic,"message":message,"confirm":true,"tag":1});
        assert_eq!(ask(peer, &put, &away)["ok"], true);
    };
    put(&mut peer, "kept", "old");
    assert_eq!(redis.ask(&["SAVE"]).trim(), "OK");
    (0..20).for_each(|_| put(&mut peer, "lost", "old"));
    redis.kill();
    redis.start_again();
    // Its first messages have lower numbers than those known before.
    put(&mut peer, "lost", "new");
    let get = json!({"action":"get","topic":"lost","wait":1,"tag":2});
    let got = (0..60).map(|_| ask(&mut reader, &get, &away)["message"].clone());
    assert!({ got }.any(|message| message == "new"), "what was put is not handed out");
    let history = ask(&mut reader, &json!({"action":"history","topic":"lost","tag":3}), &away);
    assert_eq!(history["messages"].as_array().unwrap().len(), 1, "{history}");
}

/// All topics with their number of messages.
fn topics(peer: &mut Peer, away: &AtomicUsize) -> Vec<(String, u64)> {
    let reply = ask(peer, &json!({"action":"topics","tag":4}), away);
    let topics = reply["topics"].as_array().unwrap().iter();
    let topic = |topic: &Value| {
        (topic["topic"].as_str().unwrap().to_owned(), topic["length"].as_u64().unwrap())
    };
    topics.map(topic).collect()
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn topics_lost_by_redis_are_not_listed() {
    let mut redis = Redis::start();
    let [here, there] = [redis.server(), redis.server()];
    let (mut peer, mut reader) = (Peer::connect(here.addr()), Peer::connect(there.addr()));
    let mut subscriber = Peer::connect(there.addr());
    let away = AtomicUsize::new(0);
    let put = |peer: &mut Peer, topic: &str, message: u32| {
        let put = json!({"action":"put","topic":topic,"message":message,"confirm":true,"tag":1});
        assert_eq!(ask(peer, &put, &away)["ok"], true);
    };
    subscriber.ask(r#"{"action":"subscribe","topic":"lost*"}"#, r#"{"ok":true}"#);
    for topic in ["lost", "lost too"] {
        put(&mut peer, topic, 1);
        assert_eq!(subscriber.receive_reply()["topic"], topic);
    }
    let get = json!({"action":"get","topic":"lost","wait":60,"tag":2});
    assert_eq!(ask(&mut reader, &get, &away)["message"], 1);
    redis.kill();
    redis.start_again();
    put(&mut peer, "new", 1);
    for peer in [&mut peer, &mut reader] {
        let deadline = Instant::now() + PATIENCE;
        while topics(peer, &away) != [("new".to_owned(), 1)] {
            assert!(Instant::now() < deadline, "{:?}", topics(peer, &away));
        }
    }
    // Cursors in the topic remain valid.
    put(&mut peer, "lost", 2);
    assert_eq!(ask(&mut reader, &get, &away)["message"], 2);
    assert_eq!(topics(&mut reader, &away), [("lost".to_owned(), 1), ("new".to_owned(), 1)]);
    while subscriber.receive_reply()["message"] != 2 {}
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn password_is_required_and_never_shown() {
    let redis = Redis::start_with(super::words(&["--requirepass", "secret", "--save", ""]));
    let socket = redis.url().split_once("://").unwrap().1.to_owned();
    let refused = |url: &str| {
        let mut command = dsmq(&["--port", "0", "--log", "error", "--store", url]);
        let ended = run(command.stdout(Stdio::piped()), "");
        assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(!ended.stderr.contains("wrong"), "{ended:?}");
    };
    refused(&redis.url());
    refused(&format!("redis+unix://{socket}?pass=wrong"));
    let mut config = redis.config();
    config.store = format!("redis+unix://{socket}?pass=secret").parse().unwrap();
    let server = super::server_with(config);
    let mut peer = Peer::connect(server.addr());
    peer.send(r#"{"action":"put","topic":"t","message":1,"confirm":true}"#);
    assert_eq!(peer.receive_reply()["ok"], true);
}

#[test]
fn missing_redis_is_reported_in_one_line() {
    let mut command = dsmq(&["--port", "0", "--store", "redis+unix:///nowhere/redis"]);
    let ended = run(&mut command, "");
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("redis+unix:///nowhere/redis: "), "{ended:?}");
}
