//! Subscriptions.

use dsmq::client::Start;

use super::*;
use crate::suite::support::PATIENCE;

/// The next push, as topic and text.
fn pushed(client: &mut Client) -> (String, String) {
    let push = client.next_push(PATIENCE).unwrap().expect("nothing came");
    (push.topic, push.message.json().to_owned())
}

fn push(topic: &str, json: impl ToString) -> (String, String) {
    (topic.to_owned(), json.to_string())
}

#[test]
fn subscriptions_begin_where_they_are_told() {
    let server = server();
    let mut putter = Client::connect(server.addr()).unwrap();
    let receipts = putter.put_confirmed_batch("t", &[1, 2, 3, 4]).unwrap();
    for (start, first) in [
        (Start::Oldest, 1),
        (Start::Id(receipts[0].id), 2),
        (Start::Last(2), 3),
        (Start::Last(100), 1),
        (Start::Last(0), 5),
        (Start::Now, 6),
    ] {
        let mut client = Client::connect(server.addr()).unwrap();
        client.subscribe(&["t"], start).unwrap();
        let mut other = Client::connect(server.addr()).unwrap();
        other.subscribe(&["*"], start).unwrap();
        if first > 4 {
            putter.put("t", &first).unwrap();
        }
        for number in first..=first.max(4) {
            assert_eq!(pushed(&mut client), push("t", number), "{start:?}");
            assert_eq!(pushed(&mut other), push("t", number), "{start:?}");
        }
        assert_eq!(client.next_push(Duration::from_millis(5)).unwrap(), None);
    }
}

#[test]
fn pushes_and_replies_share_a_connection() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    client.subscribe(&["a", "b*"], Start::Now).unwrap();
    for number in 0..1_000 {
        client.put_confirmed(["a", "b1", "b2", "c"][number % 4], &number).unwrap();
    }
    for number in (0..1_000).filter(|number| number % 4 < 3) {
        assert_eq!(pushed(&mut client), push(["a", "b1", "b2"][number % 4], number));
    }
    assert_eq!(decoded(client.get_batch("c", 1_000).unwrap().iter()).len(), 250);
    client.unsubscribe(&["b*"]).unwrap();
    client.put_batch("b1", &["unheard"]).unwrap();
    client.put("a", "heard").unwrap();
    assert_eq!(pushed(&mut client), push("a", "\"heard\""));
    assert_eq!(client.next_push(Duration::from_millis(5)).unwrap(), None);
}

#[test]
fn a_subscription_lasts_over_a_restart() {
    let first = server();
    let mut client = Client::connect(first.addr()).unwrap();
    client.subscribe(&["t", "more*"], Start::Now).unwrap();
    client.put("t", "before").unwrap();
    assert_eq!(pushed(&mut client), push("t", "\"before\""));
    let second = restart(first);
    let mut other = Client::connect(second.addr()).unwrap();
    other.put_confirmed("t", "after").unwrap();
    other.put_confirmed("more", "new").unwrap();
    let mut came = [pushed(&mut client), pushed(&mut client)];
    came.sort();
    assert_eq!(came, [push("more", "\"new\""), push("t", "\"after\"")]);
    second.stop();
}

#[test]
fn subscriptions_are_refused_beyond_their_limit() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let names: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
    client.subscribe(&names, Start::Now).unwrap();
    let refused = client.subscribe(&["one more"], Start::Now).unwrap_err();
    assert_eq!(refused.code(), Some("too_many_subscriptions"));
    client.unsubscribe(&names[..1]).unwrap();
    client.subscribe(&["one more"], Start::Now).unwrap();
    client.put("one more", "here").unwrap();
    assert_eq!(pushed(&mut client), push("one more", "\"here\""));
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice_over_connections_that_break() {
    const COUNT: usize = 3_000;
    let server = server();
    let addr = breaking_proxy(server.addr());
    let mut putter = Client::connect(server.addr()).unwrap();
    let topics = ["a", "b1", "b2", "b3"];
    let mut client = Client::connect(addr).unwrap();
    persist(|| client.subscribe(&["a"], Start::Now));
    persist(|| client.subscribe(&["b*"], Start::Now));
    let putting = thread::spawn(move || {
        for number in 0..COUNT {
            putter.put(topics[number % topics.len()], &number).unwrap();
            if number % 100 == 0 {
                putter.ping().unwrap();
            }
        }
        putter.ping().unwrap();
    });
    let mut next: BTreeMap<String, usize> =
        topics.iter().enumerate().map(|(first, topic)| ((*topic).to_owned(), first)).collect();
    for _ in 0..COUNT {
        let push = persist(|| client.next_push(PATIENCE)).expect("nothing came");
        let expected = next.get_mut(&push.topic).unwrap();
        assert_eq!(push.message.decode::<usize>().unwrap(), *expected, "{}", push.topic);
        *expected += topics.len();
    }
    assert_eq!(persist(|| client.next_push(Duration::from_millis(5))), None);
    putting.join().unwrap();
}
