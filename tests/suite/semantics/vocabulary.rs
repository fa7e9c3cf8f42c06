//! Take, ack, subscribe and the rest, over real sockets. docs/reference/protocol.md shows each; here is what
//! they must withstand.

use std::time::{Duration, Instant};

use dsmq::{Config, limits};
use serde_json::{Value, json};

use crate::suite::support::peer::{Peer, ask};
use crate::suite::support::{server, server_with};

const PING: &str = r#"{"action":"ping"}"#;
const OK: &str = r#"{"ok":true}"#;
const EMPTY: &str = r#"{"message":"","empty":true}"#;

fn put(peer: &mut Peer, topic: &str, message: impl Into<Value>) -> u64 {
    put_with(peer, topic, message, json!({}))
}

/// A confirmed put with more fields; its id.
fn put_with(peer: &mut Peer, topic: &str, message: impl Into<Value>, fields: Value) -> u64 {
    let mut request =
        json!({"action": "put", "topic": topic, "message": message.into(), "confirm": true});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let reply = ask(peer, &request);
    assert_eq!(reply["ok"], true, "{reply}");
    reply["id"].as_u64().unwrap_or(0)
}

fn take(peer: &mut Peer, topic: &str) -> Value {
    ask(peer, &json!({"action": "take", "topic": topic}))
}

fn lease(peer: &mut Peer, topic: &str, lease: f64, wait: f64) -> Value {
    ask(peer, &json!({"action": "take", "topic": topic, "lease": lease, "wait": wait}))
}

/// An ack or a nack of what was taken; its reply.
fn settle(peer: &mut Peer, action: &str, topic: &str, taken: &Value) -> Value {
    let (id, deliveries) = (&taken["id"], &taken["deliveries"]);
    ask(peer, &json!({"action": action, "topic": topic, "id": id, "deliveries": deliveries}))
}

fn topic_row(peer: &mut Peer, topic: &str) -> Value {
    let topics = ask(peer, &json!({"action": "topics"}));
    let rows = topics["topics"].as_array().unwrap();
    rows.iter().find(|row| row["topic"] == topic).unwrap().clone()
}

#[test]
fn higher_priorities_are_taken_first_and_older_ones_within_one() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    for (message, priority) in [("a", 4), ("b", 9), ("c", 0), ("d", 5), ("e", 9), ("f", 4)] {
        put_with(&mut peer, "t", message, json!({"priority": priority}));
    }
    put(&mut peer, "t", "g");
    let taken: String =
        (0..7).map(|_| take(&mut peer, "t")["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!(taken, "bedafgc");
    peer.ask(r#"{"action":"take","topic":"t"}"#, EMPTY);
    // A get knows no priorities, and sees what was taken no more.
    let mut late = Peer::connect(server.addr());
    late.ask(r#"{"action":"get","topic":"t","since":0}"#, r#"{"message":""}"#);
}

#[test]
fn takers_that_meet_get_each_message_once() {
    let server = server();
    let mut putter = Peer::connect(server.addr());
    let puts =
        (0..10_000).map(|i| json!({"action": "put", "topic": "t", "message": i}).to_string());
    putter.ask(&(puts.collect::<String>() + PING), OK);
    let mut taken: Vec<u64> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut peer = Peer::connect(server.addr());
                    let mut taken = Vec::new();
                    loop {
                        peer.send(r#"{"action":"take","topic":"t"}"#.repeat(50));
                        let replies: Vec<Value> = (0..50).map(|_| peer.receive_reply()).collect();
                        taken.extend(replies.iter().filter_map(|reply| reply["message"].as_u64()));
                        if replies.iter().any(|reply| reply["empty"] == true) {
                            return taken;
                        }
                    }
                })
            })
            .collect();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..10_000));
}

#[test]
fn a_lease_ends_and_its_message_comes_again() {
    let server = server();
    let (mut a, mut b) = (Peer::connect(server.addr()), Peer::connect(server.addr()));
    let id = put(&mut a, "t", "work");
    let first = lease(&mut a, "t", 0.05, 0.0);
    assert_eq!((first["id"].as_u64(), first["deliveries"].as_u64()), (Some(id), Some(1)));
    // The other waits until the lease ends.
    let second = lease(&mut b, "t", 60.0, 30.0);
    assert_eq!((second["id"].as_u64(), second["deliveries"].as_u64()), (Some(id), Some(2)));
    assert_eq!(settle(&mut a, "ack", "t", &first)["code"], "gone");
    assert_eq!(settle(&mut a, "nack", "t", &first)["code"], "gone");
    // Leases hide a message from takers alone.
    assert_eq!(ask(&mut a, &json!({"action": "peek", "topic": "t"}))["message"], "work");
    assert_eq!(ask(&mut a, &json!({"action": "get", "topic": "t"}))["message"], "work");
    assert_eq!(topic_row(&mut a, "t")["leased"], 1);
    assert_eq!(settle(&mut b, "ack", "t", &second), json!({"ok": true}));
    assert_eq!(settle(&mut b, "ack", "t", &second)["code"], "gone");
    assert_eq!(ask(&mut a, &json!({"action": "peek", "topic": "t"}))["empty"], true);
}

#[test]
fn a_nack_returns_a_message_into_its_place() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    for message in ["1", "2", "3"] {
        put(&mut peer, "t", message);
    }
    let first = lease(&mut peer, "t", 60.0, 0.0);
    assert_eq!(settle(&mut peer, "nack", "t", &first), json!({"ok": true}));
    let again = lease(&mut peer, "t", 60.0, 0.0);
    assert_eq!((&again["message"], &again["deliveries"]), (&json!("1"), &json!(2)));
    let delayed =
        json!({"action": "nack", "topic": "t", "id": again["id"], "deliveries": 2, "delay": 0.05});
    assert_eq!(ask(&mut peer, &delayed), json!({"ok": true}));
    assert_eq!(settle(&mut peer, "ack", "t", &again)["code"], "gone", "it is nobody's now");
    assert_eq!(take(&mut peer, "t")["message"], "2");
    assert_eq!(take(&mut peer, "t")["message"], "3");
    let last = lease(&mut peer, "t", 60.0, 30.0);
    assert_eq!((&last["message"], &last["deliveries"]), (&json!("1"), &json!(3)));
}

#[test]
fn what_comes_back_too_often_is_a_dead_letter() {
    let server = server_with(Config { dead_letter_after: 2, ..Config::default() });
    let mut peer = Peer::connect(server.addr());
    let id = put(&mut peer, "jobs", "poison");
    let mut watcher = Peer::connect(server.addr());
    watcher.ask(r#"{"action":"subscribe","topic":"jobs.dead"}"#, OK);
    for _ in 0..2 {
        let taken = lease(&mut peer, "jobs", 60.0, 0.0);
        settle(&mut peer, "nack", "jobs", &taken);
    }
    assert_eq!(take(&mut peer, "jobs")["empty"], true);
    assert_eq!(watcher.receive_reply()["message"], "poison");
    let from = json!({"topic": "jobs", "id": id});
    assert_eq!(ask(&mut peer, &json!({"action": "peek", "topic": "jobs.dead"}))["from"], from);
    let history = ask(&mut peer, &json!({"action": "history", "topic": "jobs.dead"}));
    assert_eq!(history["messages"][0]["from"], from);
    // Dead letters have no dead letters.
    for deliveries in 1..=4 {
        let taken = lease(&mut peer, "jobs.dead", 60.0, 0.0);
        assert_eq!((&taken["from"], &taken["deliveries"]), (&from, &json!(deliveries)));
        settle(&mut peer, "nack", "jobs.dead", &taken);
    }
    // A lease that ends counts as well.
    put(&mut peer, "jobs", "slow");
    lease(&mut peer, "jobs", 0.01, 0.0);
    lease(&mut peer, "jobs", 0.01, 30.0);
    assert_eq!(watcher.receive_reply()["message"], "slow");
}

#[test]
fn waiting_takers_are_served_in_the_order_in_which_they_began() {
    let server = server();
    let mut putter = Peer::connect(server.addr());
    let mut takers: Vec<Peer> = (0..10).map(|_| Peer::connect(server.addr())).collect();
    for (place, taker) in takers.iter_mut().enumerate() {
        taker.send(r#"{"action":"take","topic":"t","wait":30}"#);
        // It stands in line once the server has read on: stats shows no line, but a second
        // connection of the same server cannot tell earlier than by being served later.
        wait_for_line(&mut putter, place + 1);
    }
    for i in 0..10 {
        put(&mut putter, "t", i);
    }
    for (i, taker) in takers.iter_mut().enumerate() {
        assert_eq!(taker.receive_reply()["message"], i);
    }
}

#[test]
fn who_waits_comes_before_who_puts_and_takes_at_once() {
    let server = server();
    let (mut waiting, mut both) = (Peer::connect(server.addr()), Peer::connect(server.addr()));
    waiting.send(r#"{"action":"take","topic":"t","wait":30}"#);
    wait_for_line(&mut both, 1);
    both.send(r#"{"action":"put","topic":"t","message":1}{"action":"take","topic":"t"}"#);
    assert_eq!(waiting.receive_reply()["message"], 1);
    both.expect(EMPTY);
}

#[test]
fn large_messages_are_taken_a_few_at_a_time_and_in_order() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let body = "x".repeat(400_000);
    for i in 0..40 {
        peer.send(json!({"action": "put", "topic": "t", "message": [i, body]}).to_string());
    }
    // All in one piece: more than one batch may take, with other requests in between.
    let take = r#"{"action":"take","topic":"t"}"#;
    let leased = r#"{"action":"take","topic":"t","lease":60}"#;
    let peek = r#"{"action":"peek","topic":"t"}"#;
    let four = take.to_owned() + leased + PING + peek + take + r#"{"no":"action"}"# + take;
    peer.send(four.repeat(10) + take + PING);
    for i in 0..10 {
        let place = |n: u64| json!(4 * i + n);
        assert_eq!(peer.receive_reply()["message"][0], place(0));
        assert_eq!(peer.receive_reply()["message"][0], place(1));
        peer.expect(OK);
        assert_eq!(peer.receive_reply()["message"][0], 1, "the first under a lease is the oldest");
        assert_eq!(peer.receive_reply()["message"][0], place(2));
        peer.expect_error("missing_field");
        assert_eq!(peer.receive_reply()["message"][0], place(3));
    }
    peer.expect(EMPTY);
    peer.expect(OK);
    // Several who wait are served with as much.
    let mut waiting: Vec<Peer> = (0..8).map(|_| Peer::connect(server.addr())).collect();
    for (i, taker) in waiting.iter_mut().enumerate() {
        taker.send(r#"{"action":"take","topic":"u","wait":30}"#);
        wait_for_line(&mut peer, i + 1);
    }
    let put = |i| json!({"action": "put", "topic": "u", "message": [i, body]}).to_string();
    peer.send((0..8).map(put).collect::<String>());
    for (i, taker) in waiting.iter_mut().enumerate() {
        assert_eq!(taker.receive_reply()["message"][0], i);
    }
}

#[test]
fn who_unsubscribes_keeps_nothing_from_the_others() {
    let server = server();
    let addr = server.addr();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut peer = Peer::connect(addr);
            let come_and_go =
                r#"{"action":"subscribe","topic":"x"}{"action":"unsubscribe","topic":"x"}"#;
            for _ in 0..200 {
                peer.ask(&come_and_go.repeat(20), &OK.repeat(40));
            }
        });
        let mut peer = Peer::connect(addr);
        let mut round = 0;
        while !other.is_finished() {
            let topic = format!("t{round}");
            put(&mut peer, &topic, round);
            let last = json!({"action": "subscribe", "topic": topic, "from": -1});
            assert_eq!(ask(&mut peer, &last), json!({"ok": true}));
            assert_eq!(peer.receive_reply()["message"], round);
            peer.ask(&json!({"action": "unsubscribe", "topic": topic}).to_string(), OK);
            round += 1;
        }
    });
}

/// Waits until so many takers stand in line.
fn wait_for_line(peer: &mut Peer, takers: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while ask(peer, &json!({"action": "stats"}))["stats"]["waiting"] != takers {
        assert!(Instant::now() < deadline, "the takers do not stand in line");
    }
}

#[test]
fn a_taker_that_leaves_its_wait_loses_nothing() {
    let server = server();
    let mut putter = Peer::connect(server.addr());
    for round in 0..200 {
        let mut leaver = Peer::connect_silent(server.addr());
        leaver.send(r#"{"action":"take","topic":"t","wait":30}"#);
        if round % 2 == 0 {
            wait_for_line(&mut putter, 1);
        }
        // It leaves while the message comes.
        let left = std::thread::spawn(move || {
            leaver.end();
            leaver.receive_all()
        });
        put(&mut putter, "t", round);
        let left: Value = serde_json::from_str(&left.join().unwrap()).unwrap();
        if left["empty"] == true {
            let taken = ask(&mut putter, &json!({"action": "take", "topic": "t", "wait": 30}));
            assert_eq!((&taken["message"], &taken["deliveries"]), (&json!(round), &json!(1)));
        } else {
            assert_eq!(left["message"], round);
        }
    }
    assert_eq!(take(&mut putter, "t")["empty"], true);
}

#[test]
fn what_was_taken_and_could_not_be_written_is_put_back() {
    let server = server();
    let mut putter = Peer::connect(server.addr());
    let body = "x".repeat(1 << 20);
    let ids: Vec<u64> = (0..32).map(|_| put(&mut putter, "t", body.clone())).collect();
    let mut deaf = Peer::connect(server.addr());
    deaf.send(r#"{"action":"take","topic":"t"}"#.repeat(32));
    // It is in the middle of it when its peer goes away.
    let first = deaf.receive(10);
    assert_eq!(first, b"{\"message\"");
    drop(deaf);
    let mut taken = Vec::new();
    // Those that were written to the deaf one are gone; all others come again, under their ids.
    loop {
        let reply = ask(&mut putter, &json!({"action": "take", "topic": "t", "wait": 0.2}));
        let Some(id) = reply["id"].as_u64() else { break };
        assert_eq!(reply["deliveries"], 1);
        taken.push(id);
    }
    taken.sort_unstable();
    assert!(taken.len() > 16, "{} came back", taken.len());
    assert!(taken.iter().all(|id| ids.contains(id)));
    assert_eq!(taken[..], ids[ids.len() - taken.len()..], "the last ones, each once");
}

#[test]
fn a_subscriber_gets_everything_in_order_and_once() {
    let server = server();
    let mut putter = Peer::connect(server.addr());
    let ids: Vec<u64> = (0..5).map(|i| put(&mut putter, "a.b", i)).collect();
    let mut all = Peer::connect(server.addr());
    let topics =
        json!({"action": "subscribe", "topic": ["a.b", "a*", "*", "a.c"], "from": "oldest"});
    all.ask(&topics.to_string(), OK);
    let mut last = Peer::connect(server.addr());
    last.ask(r#"{"action":"subscribe","topic":"a.b","from":-2}"#, OK);
    let mut behind = Peer::connect(server.addr());
    behind.ask(&json!({"action": "subscribe", "topic": "a.*", "from": ids[2]}).to_string(), OK);
    let mut now = Peer::connect(server.addr());
    now.ask(r#"{"action":"subscribe","topic":"a.*"}"#, OK);
    for i in 5..500 {
        put(&mut putter, if i % 3 == 0 { "a.c" } else { "a.b" }, i);
    }
    let receive = |peer: &mut Peer, count: usize| -> Vec<u64> {
        let pushes: Vec<Value> = (0..count).map(|_| peer.receive_reply()).collect();
        assert!(pushes.is_sorted_by(|x, y| x["id"].as_u64() < y["id"].as_u64()));
        pushes.iter().map(|push| push["message"].as_u64().unwrap()).collect()
    };
    assert!(receive(&mut all, 500).into_iter().eq(0..500));
    assert!(receive(&mut behind, 497).into_iter().eq(3..500));
    assert!(receive(&mut now, 495).into_iter().eq(5..500));
    let expected = (3..500).filter(|i| *i < 5 || i % 3 != 0);
    let count = expected.clone().count();
    assert!(receive(&mut last, count).into_iter().eq(expected));
    for peer in [&mut all, &mut last, &mut behind, &mut now] {
        peer.ask(PING, OK);
    }
}

#[test]
fn a_slow_subscriber_lags_and_loses_nothing() {
    let server = server();
    let mut slow = Peer::connect(server.addr());
    slow.ask(r#"{"action":"subscribe","topic":"t"}"#, OK);
    let mut putter = Peer::connect(server.addr());
    let filler = "x".repeat(10_000);
    // Far more than sockets hold.
    for i in 0..4_000 {
        putter.send(json!({"action": "put", "topic": "t", "message": [i, filler]}).to_string());
    }
    putter.ask(PING, OK);
    for i in 0..4_000 {
        assert_eq!(slow.receive_reply()["message"][0], i);
    }
    slow.ask(PING, OK);
}

#[test]
fn pushes_stand_between_replies() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    peer.ask(r#"{"action":"subscribe","topic":"t"}"#, OK);
    let putter = std::thread::spawn({
        let addr = server.addr();
        move || {
            let mut putter = Peer::connect(addr);
            (0..2_000).for_each(|i| {
                putter.send(json!({"action": "put", "topic": "t", "message": i}).to_string())
            });
            putter.ask(PING, OK);
        }
    });
    let (mut pushes, mut replies) = (0, 0);
    while pushes < 2_000 || replies < 2_000 {
        if replies < 2_000 {
            peer.send(format!(r#"{{"action":"ping","tag":{replies}}}"#));
        }
        loop {
            let value = peer.receive_reply();
            if value["topic"] == "t" {
                assert_eq!(value["message"], pushes);
                pushes += 1;
                if replies == 2_000 {
                    break;
                }
            } else {
                assert_eq!(value["tag"], replies);
                replies += 1;
                break;
            }
        }
    }
    putter.join().unwrap();
    // They go on while a request waits.
    let mut other = Peer::connect(server.addr());
    peer.send(r#"{"action":"take","topic":"jobs","wait":30,"tag":"job"}"#);
    put(&mut other, "t", "meanwhile");
    assert_eq!(peer.receive_reply()["message"], "meanwhile");
    put(&mut other, "jobs", "work");
    assert_eq!(peer.receive_reply()["tag"], "job");
}

#[test]
fn one_publisher_reaches_a_thousand_subscribers() {
    let server = server();
    let mut subscribers: Vec<Peer> = (0..1_000).map(|_| Peer::connect(server.addr())).collect();
    for peer in &mut subscribers {
        peer.ask(r#"{"action":"subscribe","topic":"news"}"#, OK);
    }
    let mut putter = Peer::connect(server.addr());
    for i in 0..20 {
        put(&mut putter, "news", i);
    }
    for peer in &mut subscribers {
        for i in 0..20 {
            assert_eq!(peer.receive_reply()["message"], i);
        }
    }
    assert_eq!(topic_row(&mut putter, "news")["consumers"], 1_000);
    drop(subscribers);
}

#[test]
fn a_subscriber_that_ended_its_sending_side_goes_on_listening() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    peer.ask(r#"{"action":"subscribe","topic":"t"}"#, OK);
    peer.end();
    let mut putter = Peer::connect(server.addr());
    put(&mut putter, "t", 1);
    assert_eq!(peer.receive_reply()["message"], 1);
    server.stop();
    peer.expect_end();
}

#[test]
fn a_session_has_only_so_many_subscriptions() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let names: Vec<String> = (0..limits::SUBSCRIPTIONS).map(|i| format!("t{i}")).collect();
    peer.ask(&json!({"action": "subscribe", "topic": names}).to_string(), OK);
    peer.send(r#"{"action":"subscribe","topic":"one more"}"#);
    peer.expect_error("too_many_subscriptions");
    peer.ask(r#"{"action":"subscribe","topic":"t7"}"#, OK);
    peer.ask(r#"{"action":"unsubscribe","topic":["t7","t8"]}"#, OK);
    peer.ask(r#"{"action":"subscribe","topic":"one more"}"#, OK);
    let mut putter = Peer::connect(server.addr());
    for topic in ["t7", "t9", "one more"] {
        put(&mut putter, topic, topic);
    }
    assert_eq!(peer.receive_reply()["message"], "t9");
    assert_eq!(peer.receive_reply()["message"], "one more");
}

#[test]
fn delayed_messages_come_when_they_are_due_and_in_that_order() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let mut watcher = Peer::connect(server.addr());
    watcher.ask(r#"{"action":"subscribe","topic":"t"}"#, OK);
    let before = Instant::now();
    put_with(&mut peer, "t", "third", json!({"delay": 0.15, "priority": 9}));
    put_with(&mut peer, "t", "second", json!({"delay": 0.05}));
    put(&mut peer, "t", "first");
    let row = topic_row(&mut peer, "t");
    assert_eq!((&row["length"], &row["delayed"]), (&json!(1), &json!(2)));
    let later = ask(&mut peer, &json!({"action": "history", "topic": "t", "delayed": true}));
    let later = later["messages"].as_array().unwrap();
    assert!(later.len() <= 2 && later.iter().all(|m| m["due"].as_f64().unwrap() > 1.7e9));
    let pushes: Vec<Value> = (0..3).map(|_| watcher.receive_reply()).collect();
    assert!(before.elapsed() >= Duration::from_millis(150));
    assert!(pushes.is_sorted_by(|x, y| x["id"].as_u64() < y["id"].as_u64()));
    let messages: Vec<&str> = pushes.iter().map(|push| push["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["first", "second", "third"]);
    assert_eq!(take(&mut peer, "t")["message"], "third");
    // A waiting taker gets what falls due.
    put_with(&mut peer, "later", "soon", json!({"delay": 0.05}));
    assert_eq!(lease(&mut peer, "later", 1.0, 30.0)["message"], "soon");
}

#[test]
fn what_has_expired_is_handed_out_by_no_action() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    put_with(&mut peer, "t", "brief", json!({"ttl": 0.05}));
    put(&mut peer, "t", "lasting");
    // It is there, and leased, and read into a run by a get before it expires.
    let leased = lease(&mut peer, "t", 60.0, 0.0);
    assert_eq!(leased["message"], "brief");
    let mut reader = Peer::connect(server.addr());
    reader.ask(r#"{"action":"get","topic":"t","since":0}"#, r#"{"message":"brief"}"#);
    let deadline = Instant::now() + Duration::from_secs(30);
    while topic_row(&mut peer, "t")["length"] != 1 {
        assert!(Instant::now() < deadline, "what has expired is kept");
    }
    reader.ask(r#"{"action":"get","topic":"t","since":0}"#, r#"{"message":"lasting"}"#);
    assert_eq!(ask(&mut peer, &json!({"action": "peek", "topic": "t"}))["message"], "lasting");
    assert_eq!(settle(&mut peer, "nack", "t", &leased), json!({"ok": true}));
    assert_eq!(take(&mut peer, "t")["message"], "lasting");
    assert_eq!(take(&mut peer, "t")["empty"], true);
}

#[test]
fn a_purge_leaves_nothing_behind() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    put_with(&mut peer, "t", "kept", json!({"dedupe": "k"}));
    put_with(&mut peer, "t", "x".repeat(5_000), json!({"priority": 1}));
    put_with(&mut peer, "t", "delayed", json!({"delay": 60}));
    let leased = lease(&mut peer, "t", 60.0, 0.0);
    let purge = json!({"action": "purge", "topic": "t"});
    assert_eq!(ask(&mut peer, &purge), json!({"ok": true, "purged": 3}));
    assert_eq!(settle(&mut peer, "ack", "t", &leased)["code"], "gone");
    assert_eq!(ask(&mut peer, &json!({"action": "history", "topic": "t"}))["messages"], json!([]));
    let row = topic_row(&mut peer, "t");
    for field in ["length", "bytes", "leased", "delayed"] {
        assert_eq!(row[field], 0, "{field}");
    }
    assert_eq!((&row["oldest"], &row["newest"]), (&Value::Null, &Value::Null));
    let id = put_with(&mut peer, "t", "again", json!({"dedupe": "k"}));
    assert!(id > 0, "the dedupe key is forgotten too");
    assert_eq!(take(&mut peer, "t")["message"], "again");
    assert_eq!(ask(&mut peer, &json!({"action": "purge", "topic": "none"}))["purged"], 0);
}

#[test]
fn topics_and_stats_tell_what_there_is() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let oldest = put(&mut peer, "b", "12345");
    let newest = put(&mut peer, "b", 7);
    put(&mut peer, "a", 1);
    take(&mut peer, "a");
    ask(&mut peer, &json!({"action": "stop", "topic": "b"}));
    ask(&mut peer, &json!({"action": "policy", "topic": "b", "policy": "roundrobin"}));
    let topics = ask(&mut peer, &json!({"action": "topics"}));
    let (a, b) = (&topics["topics"][0], &topics["topics"][1]);
    assert_eq!(
        (&a["topic"], &a["length"], &a["state"]),
        (&json!("a"), &json!(0), &json!("started"))
    );
    assert_eq!(b["topic"], "b");
    assert_eq!((b["oldest"].as_u64(), b["newest"].as_u64()), (Some(oldest), Some(newest)));
    assert_eq!((&b["length"], &b["bytes"]), (&json!(2), &json!(8)));
    assert_eq!((&b["policy"], &b["state"]), (&json!("roundrobin"), &json!("stopped")));
    assert!(b["put_rate"].as_f64().unwrap() > 0.0 && a["take_rate"].as_f64().unwrap() > 0.0);
    let stats = &ask(&mut peer, &json!({"action": "stats"}))["stats"];
    assert_eq!(
        (&stats["messages"], &stats["puts"], &stats["takes"]),
        (&json!(2), &json!(3), &json!(1))
    );
    assert_eq!((&stats["connections"], &stats["topics"]), (&json!(1), &json!(2)));
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn each_wrong_field_gets_its_error() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let put = json!({"action": "put", "topic": "t", "message": 1, "confirm": true});
    let cases = [
        (put.clone(), json!({"priority": 10})),
        (put.clone(), json!({"priority": -1})),
        (put.clone(), json!({"priority": 1.5})),
        (put.clone(), json!({"ttl": -1})),
        (put.clone(), json!({"delay": "soon"})),
        (put.clone(), json!({"delay": 1e12})),
        (put.clone(), json!({"dedupe": 7})),
        (put, json!({"dedupe": "x".repeat(limits::DEDUPE_BYTES + 1)})),
        (json!({"action": "take", "topic": "t"}), json!({"lease": -1})),
        (json!({"action": "take", "topic": "t"}), json!({"lease": "long"})),
        (json!({"action": "ack", "topic": "t", "deliveries": 1}), json!({"id": "x"})),
        (json!({"action": "ack", "topic": "t", "id": 1}), json!({"deliveries": -1})),
        (json!({"action": "subscribe", "topic": "t"}), json!({"from": "then"})),
        (json!({"action": "subscribe", "topic": "t"}), json!({"from": -1001})),
        (json!({"action": "subscribe"}), json!({"topic": []})),
        (json!({"action": "subscribe"}), json!({"topic": [1]})),
        (json!({"action": "history", "topic": "t"}), json!({"limit": 0})),
        (json!({"action": "history", "topic": "t"}), json!({"limit": 1001})),
        (json!({"action": "policy", "topic": "t"}), json!({"policy": "random"})),
    ];
    for (mut request, fields) in cases {
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        peer.send(request.to_string());
        peer.expect_error("bad_field");
    }
    for (action, missing) in
        [("ack", "id"), ("nack", "id"), ("delete", "id"), ("subscribe", "topic")]
    {
        let mut request = json!({"action": action, "topic": "t", "id": 1, "deliveries": 1});
        request.as_object_mut().unwrap().remove(missing);
        peer.send(request.to_string());
        peer.expect_error("missing_field");
    }
    peer.ask(r#"{"action":"take","topic":"t"}"#, EMPTY);
    assert_eq!(ask(&mut peer, &json!({"action": "topics"}))["topics"], json!([]));
}

#[test]
fn a_refused_list_of_subscriptions_changes_nothing() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let names: Vec<String> = (1..limits::SUBSCRIPTIONS).map(|i| format!("t{i}")).collect();
    peer.ask(&json!({"action": "subscribe", "topic": names}).to_string(), OK);
    peer.send(r#"{"action":"subscribe","topic":["t1","p","q"]}"#);
    peer.expect_error("too_many_subscriptions");
    let mut putter = Peer::connect(server.addr());
    for topic in ["p", "q", "t1"] {
        put(&mut putter, topic, topic);
    }
    assert_eq!(peer.receive_reply()["message"], "t1");
}
