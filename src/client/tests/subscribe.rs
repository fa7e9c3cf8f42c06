//! Subscriptions over connections that break.

use std::io::Read;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

impl Peer {
    fn push(&mut self, topic: &str, id: u64, message: &str) {
        let push = json!({"topic": topic, "message": message, "id": id, "timestamp": 0.5});
        self.say(&push.to_string());
    }

    fn subscribed(&mut self, since: u64) {
        self.reply(json!({"ok": true, "since": since}));
    }

    /// Expects a subscription to one topic, and agrees.
    fn subscribe(&mut self, topic: &str, from: u64) {
        let from = json!(from);
        let request = json!({"action": "subscribe", "meta": true, "from": from, "topic": topic});
        assert_eq!(self.request(), request);
        self.subscribed(1_000_000);
    }

    fn ping(&mut self) {
        assert_eq!(self.request()["action"], "ping");
        self.reply(json!({"ok": true, "since": 0}));
    }

    fn topics(&mut self, newest: &[(&str, Option<u64>)]) {
        assert_eq!(self.request(), json!({"action": "topics"}));
        let rows = newest.iter().map(|(topic, newest)| json!({"topic": topic, "newest": newest}));
        self.reply(json!({"topics": rows.collect::<Vec<_>>()}));
    }
}

fn subscribe(topics: serde_json::Value, from: serde_json::Value) -> serde_json::Value {
    json!({"action": "subscribe", "meta": true, "from": from, "topic": topics})
}

/// The next push, as topic and id.
fn next(client: &mut Client) -> (String, u64) {
    let push = client.next_push(PATIENCE).unwrap().unwrap();
    (push.topic, push.message.id)
}

fn of(topic: &str, id: u64) -> (String, u64) {
    (topic.to_owned(), id)
}

#[test]
fn pushes_before_a_reply_are_kept_in_order() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), subscribe(json!(["a", "b"]), json!("now")));
        peer.subscribed(8);
        peer.push("a", 9, "first");
        assert_eq!(peer.request(), get("a"));
        peer.push("b", 10, "second");
        peer.message(9, "first");
        peer.push("a", 11, "third");
        assert_eq!(peer.request(), json!({"action": "unsubscribe", "topic": ["b"]}));
        peer.push("b", 12, "of no interest");
        peer.ok();
        peer.ping();
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(client.next_push(Duration::MAX).unwrap(), None);
    client.subscribe(&["a", "b"], Start::Now).unwrap();
    assert_eq!(text(client.get("a")), "first");
    for expected in [of("a", 9), of("b", 10), of("a", 11)] {
        assert_eq!(next(&mut client), expected);
    }
    client.unsubscribe(&["b"]).unwrap();
    assert_eq!(client.next_push(Duration::ZERO).unwrap(), None);
    client.ping().unwrap();
    server.join().unwrap();
}

#[test]
fn a_wait_without_a_push_returns_nothing() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        peer.request();
        peer.subscribed(8);
        peer.ping();
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a"], Start::Now).unwrap();
    assert_eq!(client.next_push(Duration::ZERO).unwrap(), None);
    assert_eq!(client.next_push(Duration::from_millis(2)).unwrap(), None);
    client.ping().unwrap();
    server.join().unwrap();
}

#[test]
fn topics_go_on_from_their_last_push() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), subscribe(json!(["a", "b"]), json!("now")));
        peer.subscribed(20);
        assert_eq!(peer.request(), subscribe(json!(["c"]), json!("oldest")));
        peer.subscribed(21);
        assert_eq!(peer.request(), subscribe(json!(["d"]), json!(5)));
        peer.subscribed(22);
        assert_eq!(peer.request(), subscribe(json!(["e"]), json!(-3)));
        peer.subscribed(23);
        peer.push("a", 24, "one");
        peer.push("a", 25, "two");
        peer.say(r#"{"topic":"a","message":"half a pu"#);
        drop(peer);

        let mut peer = Peer::begin(listener, 99);
        // The last three, but in any case what was put since.
        assert_eq!(peer.request(), json!({"action": "history", "topic": "e", "limit": 3}));
        peer.reply(json!({"messages": [{"message": 1, "id": 40, "timestamp": 0.5}]}));
        for (topic, from) in [("a", 25), ("b", 20), ("c", 0), ("d", 5), ("e", 23)] {
            peer.subscribe(topic, from);
        }
        peer.push("a", 26, "three");
        peer.push("b", 27, "one");
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a", "b"], Start::Now).unwrap();
    client.subscribe(&["c"], Start::Oldest).unwrap();
    client.subscribe(&["d"], Start::Id(5)).unwrap();
    client.subscribe(&["e"], Start::Last(3)).unwrap();
    for expected in [of("a", 24), of("a", 25), of("a", 26), of("b", 27)] {
        assert_eq!(next(&mut client), expected);
    }
    server.join().unwrap();
}

#[test]
fn push_of_a_put_back_keeps_the_place() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), subscribe(json!(["a"]), json!("now")));
        peer.subscribed(8);
        for id in [11, 10, 12, 9] {
            peer.push("a", id, "passed by others");
        }
        drop(peer);

        let mut peer = Peer::begin(listener, 99);
        peer.subscribe("a", 12);
        // A server that begins earlier than it was asked pushes again what is known.
        for id in [9, 12, 14, 13] {
            peer.push("a", id, "again or new");
        }
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a"], Start::Now).unwrap();
    for id in [11, 10, 12, 9, 14, 13] {
        assert_eq!(next(&mut client), of("a", id));
    }
    server.join().unwrap();
}

#[test]
fn a_prefix_goes_on_at_the_first_message_that_is_missing() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), subscribe(json!(["a*"]), json!("now")));
        peer.subscribed(20);
        peer.push("a1", 30, "seen");
        peer.push("a2", 40, "seen");
        drop(peer);

        let mut peer = Peer::begin(listener, 99);
        // a1 has one more, a2 none, a3 is older than the subscription, a4 is new.
        let topics = [("a1", Some(60)), ("a2", Some(40)), ("a3", Some(15)), ("a4", Some(50))];
        peer.topics(&[&topics[..], &[("a5", None), ("b", Some(70))]].concat());
        assert_eq!(peer.request(), get_since("a1", 30));
        peer.message(60, "missing");
        assert_eq!(peer.request(), get_since("a4", 20));
        peer.message(35, "missing");
        peer.subscribe("a*", 34);
        peer.push("a4", 35, "missing");
        peer.push("a2", 40, "seen");
        peer.push("a4", 50, "missing");
        peer.push("a1", 60, "missing");
        peer.push("a6", 100, "new");
        assert_eq!(peer.request(), get_since("a4", 7));
        peer.nothing();
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a*"], Start::Now).unwrap();
    for expected in
        [of("a1", 30), of("a2", 40), of("a4", 35), of("a4", 50), of("a1", 60), of("a6", 100)]
    {
        assert_eq!(next(&mut client), expected);
    }
    // That a4 was looked at is nothing to the place of get.
    assert_eq!(client.get("a4").unwrap(), None);
    server.join().unwrap();
}

#[test]
fn a_prefix_that_misses_nothing_goes_on_from_now() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), subscribe(json!(["*", "a"]), json!("oldest")));
        peer.subscribed(20);
        peer.push("a", 30, "seen");
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        peer.topics(&[("a", Some(30))]);
        peer.subscribe("*", 99);
        peer.subscribe("a", 30);
        peer.push("a", 100, "new");
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["*", "a"], Start::Oldest).unwrap();
    assert_eq!(next(&mut client), of("a", 30));
    assert_eq!(next(&mut client), of("a", 100));
    server.join().unwrap();
}

#[test]
fn what_was_unsubscribed_is_not_subscribed_again() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        peer.request();
        peer.subscribed(20);
        assert_eq!(peer.request(), json!({"action": "unsubscribe", "topic": ["a"]}));
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        peer.subscribe("b", 20);
        peer.push("b", 100, "new");
        assert_eq!(peer.request(), subscribe(json!(["a"]), json!("oldest")));
        peer.subscribed(101);
        peer.push("a", 19, "old");
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a", "b"], Start::Now).unwrap();
    client.unsubscribe(&["a"]).unwrap();
    assert_eq!(next(&mut client), of("b", 100));
    client.subscribe(&["a"], Start::Oldest).unwrap();
    assert_eq!(next(&mut client), of("a", 19));
    server.join().unwrap();
}

#[test]
fn a_refused_subscription_is_none() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        peer.request();
        peer.refuse("too_many_subscriptions");
    });
    let mut client = Client::connect(addr).unwrap();
    let refused = client.subscribe(&["a"], Start::Now).unwrap_err();
    assert_eq!(refused.code(), Some("too_many_subscriptions"));
    assert_eq!(client.next_push(Duration::MAX).unwrap(), None);
    server.join().unwrap();
}

/// More than is kept: the rest comes again, over a new connection.
#[test]
fn too_many_pushes_are_left_to_the_server() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 0);
        assert_eq!(peer.request(), subscribe(json!(["a"]), json!("oldest")));
        peer.subscribed(0);
        assert_eq!(peer.request(), put_confirmed("b", "m"));
        for id in 1..=1_000 {
            peer.push("a", id, &"x".repeat(1_000));
        }
        peer.stored(1_001);
        // The results of earlier puts must be known before the connection is given up.
        peer.ping();
        let mut peer = Peer::begin(listener, 1_001);
        let request = peer.request();
        let from = request["from"].as_u64().unwrap();
        assert!((50..100).contains(&from), "{request}");
        peer.subscribed(1_001);
        for id in from + 1..=1_000 {
            peer.push("a", id, &"x".repeat(1_000));
        }
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a"], Start::Oldest).unwrap();
    client.put_confirmed("b", "m").unwrap();
    for id in 1..=1_000 {
        assert_eq!(next(&mut client), of("a", id));
    }
    server.join().unwrap();
}

/// A server that does not read while its pushes are not read.
#[test]
fn a_put_among_pushes_never_fills_both_sockets() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 0);
        peer.request();
        peer.subscribed(0);
        let mut start = [0; 1_000];
        peer.reader.read_exact(&mut start).unwrap();
        for id in 1..=20_000 {
            peer.push("a", id, &"x".repeat(1_000));
        }
        let put = serde_json::Deserializer::from_reader(start.chain(&mut peer.reader));
        let put = put.into_iter::<serde_json::Value>().next().unwrap().unwrap();
        assert_eq!(put["message"].as_str().unwrap().len(), 20_000_000);
        peer.tag = put["tag"].clone();
        peer.stored(20_001);
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a"], Start::Now).unwrap();
    assert_eq!(client.put_confirmed("b", &"x".repeat(20_000_000)).unwrap().id, 20_001);
    server.join().unwrap();
}

#[test]
fn a_connection_that_is_silent_is_asked_and_left() {
    let (addr, server) = play(|listener| {
        let mut silent = Peer::begin(listener, 7);
        silent.request();
        silent.subscribed(20);
        let mut peer = Peer::begin(listener, 99);
        peer.subscribe("a", 20);
        peer.push("a", 100, "here");
        drop(silent);
    });
    let mut client = Client::connect(addr).unwrap();
    client.subscribe(&["a"], Start::Now).unwrap();
    assert_eq!(next(&mut client), of("a", 100));
    server.join().unwrap();
}
