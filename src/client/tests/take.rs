//! Takes, acks and what else changes something, over connections that break.

use super::*;

const LEASE: Duration = Duration::from_secs(60);

fn take(topic: &str) -> serde_json::Value {
    json!({"action": "take", "topic": topic})
}

fn take_lease(topic: &str) -> serde_json::Value {
    json!({"action": "take", "topic": topic, "lease": 60})
}

fn ack(topic: &str, id: u64, deliveries: u64) -> serde_json::Value {
    json!({"action": "ack", "topic": topic, "id": id, "deliveries": deliveries})
}

fn ids(taken: &[Taken]) -> Vec<u64> {
    taken.iter().map(|taken| taken.message.id).collect()
}

#[test]
fn a_take_that_may_have_been_carried_out_is_not_sent_again() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), take("a"));
        peer.say(r#"{"message":"half a rep"#);
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), take("a"));
        peer.taken(9, 1);
        assert_eq!(peer.request(), take("a"));
        peer.nothing();
    });
    let mut client = Client::connect(addr).unwrap();
    assert!(matches!(client.take("a"), Err(Error::Unconfirmed)));
    let taken = client.take("a").unwrap().unwrap();
    assert_eq!((taken.topic.as_str(), taken.message.id, taken.deliveries), ("a", 9, 1));
    assert_eq!(client.take("a").unwrap(), None);
    server.join().unwrap();
}

#[test]
fn a_take_goes_to_the_next_server_when_one_closes() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), json!({"action": "take", "topic": "a", "wait": 30}));
        peer.refuse("closing");
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), json!({"action": "take", "topic": "a", "wait": 30}));
        peer.nothing();
        assert_eq!(peer.request(), json!({"action": "take", "topic": "a", "wait": 30}));
        peer.taken(9, 1);
    });
    let mut client = Client::connect(addr).unwrap();
    let taken = client.take_wait("a", None, Duration::MAX).unwrap().unwrap();
    assert_eq!(taken.message.id, 9);
    server.join().unwrap();
}

#[test]
fn a_take_with_a_lease_is_sent_again() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), take_lease("a"));
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), take_lease("a"));
        peer.taken(9, 2);
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(client.take_lease("a", LEASE).unwrap().unwrap().deliveries, 2);
    server.join().unwrap();
}

#[test]
fn a_batch_of_takes_tells_what_it_took_before_it_broke() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        for id in [8, 9] {
            assert_eq!(peer.request(), take("a"));
            peer.taken(id, 1);
        }
        assert_eq!(peer.request(), take("a"));
        drop(peer);
        drop(Peer::begin(listener, 99));
    });
    let mut client = Client::connect(addr).unwrap();
    match client.take_batch("a", 3, None).unwrap_err() {
        Error::TakeBatch { taken, source } => {
            assert_eq!(ids(&taken), [8, 9]);
            assert!(matches!(*source, Error::Unconfirmed));
        }
        error => panic!("{error:?}"),
    }
    client.ready().unwrap();
    server.join().unwrap();
}

#[test]
fn a_batch_of_takes_with_a_lease_goes_on() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        for id in [8, 9] {
            assert_eq!(peer.request(), take_lease("a"));
            peer.taken(id, 1);
        }
        assert_eq!(peer.request(), take_lease("a"));
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), take_lease("a"));
        peer.taken(10, 2);
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(ids(&client.take_batch("a", 3, Some(LEASE)).unwrap()), [8, 9, 10]);
    server.join().unwrap();
}

#[test]
fn an_ack_whose_reply_was_lost_may_be_repeated() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), take_lease("a"));
        peer.taken(8, 3);
        assert_eq!(peer.request(), ack("a", 8, 3));
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), ack("a", 8, 3));
        peer.refuse("gone");
        let mut nack = ack("a", 8, 3);
        nack["action"] = json!("nack");
        assert_eq!(peer.request(), nack);
        peer.ok();
        nack["delay"] = json!(1.5);
        assert_eq!(peer.request(), nack);
        peer.ok();
    });
    let mut client = Client::connect(addr).unwrap();
    let taken = client.take_lease("a", LEASE).unwrap().unwrap();
    assert!(matches!(client.ack(&taken), Err(Error::Unconfirmed)));
    assert_eq!(client.ack(&taken).unwrap_err().code(), Some("gone"));
    client.nack(&taken, Duration::ZERO).unwrap();
    client.nack(&taken, Duration::from_millis(1500)).unwrap();
    server.join().unwrap();
}

#[test]
fn a_batch_of_acks_tells_of_each_whether_the_lease_lasted() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        for id in [8, 9, 10] {
            assert_eq!(peer.request(), take_lease("a"));
            peer.taken(id, 1);
        }
        assert_eq!(peer.request(), ack("a", 8, 1));
        peer.ok();
        assert_eq!(peer.request(), ack("a", 9, 1));
        peer.refuse("gone");
        assert_eq!(peer.request(), ack("a", 10, 1));
        peer.ok();
        assert_eq!(peer.request(), ack("a", 8, 1));
        peer.ok();
        assert_eq!(peer.request(), ack("a", 9, 1));
        peer.refuse("store_failed");
        assert_eq!(peer.request(), ack("a", 10, 1));
        peer.ok();
    });
    let mut client = Client::connect(addr).unwrap();
    let taken = client.take_batch("a", 3, Some(LEASE)).unwrap();
    assert_eq!(client.ack_batch(&taken).unwrap(), [true, false, true]);
    assert_eq!(client.ack_batch(&taken).unwrap_err().code(), Some("store_failed"));
    server.join().unwrap();
}

#[test]
fn what_changes_something_is_not_sent_again_and_what_looks_is() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), json!({"action": "purge", "topic": "a"}));
        drop(peer);
        let mut peer = Peer::begin(listener, 8);
        assert_eq!(peer.request(), json!({"action": "purge", "topic": "a"}));
        peer.reply(json!({"ok": true, "purged": 3}));
        assert_eq!(peer.request(), json!({"action": "history", "topic": "a", "limit": 2}));
        drop(peer);
        let mut peer = Peer::begin(listener, 9);
        assert_eq!(peer.request(), json!({"action": "history", "topic": "a", "limit": 2}));
        peer.refuse("closing");
        let mut peer = Peer::begin(listener, 9);
        assert_eq!(peer.request(), json!({"action": "history", "topic": "a", "limit": 2}));
        peer.reply(json!({"messages": [{"message": 1, "id": 8, "timestamp": 8e-6}]}));
    });
    let mut client = Client::connect(addr).unwrap();
    assert!(matches!(client.purge("a"), Err(Error::Unconfirmed)));
    assert_eq!(client.purge("a").unwrap(), 3);
    assert_eq!(client.history("a", 2).unwrap()[0].id, 8);
    server.join().unwrap();
}

#[test]
fn a_put_says_what_it_came_to() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        let request = peer.request();
        assert_eq!((&request["priority"], &request["ttl"]), (&json!(9), &json!(0.5)));
        peer.stored(8);
        let request = peer.request();
        assert_eq!((&request["delay"], &request["dedupe"]), (&json!(60), &json!("a \"key\"")));
        peer.reply(json!({"ok": true, "due": 68.5}));
        peer.request();
        peer.reply(json!({"ok": true, "due": 68.5, "duplicate": true}));
        peer.request();
        peer.reply(json!({"ok": true, "id": 8, "timestamp": 8e-6, "duplicate": true}));
    });
    let mut client = Client::connect(addr).unwrap();
    let urgent = Put::new().priority(9).ttl(Duration::from_millis(500));
    let late = Put::new().delay(LEASE).dedupe("a \"key\"");
    let confirmed = |id, timestamp, duplicate| Confirmed { id, timestamp, duplicate };
    assert_eq!(client.put_with("a", "m", &urgent).unwrap(), confirmed(Some(8), 8e-6, false));
    assert_eq!(client.put_with("a", "m", &late).unwrap(), confirmed(None, 68.5, false));
    assert_eq!(client.put_with("a", "m", &late).unwrap(), confirmed(None, 68.5, true));
    assert_eq!(client.put_with("a", "m", &late).unwrap(), confirmed(Some(8), 8e-6, true));
    server.join().unwrap();
}
