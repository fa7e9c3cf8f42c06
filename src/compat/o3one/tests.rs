use std::sync::Arc;
use std::task::Waker;

use super::*;
use crate::compat::zmq::ZmtpHandler;
use crate::protocol::handler::{Next, ProtocolHandler as _};
use crate::store::{self, Rules};
use crate::wire::zmtp::write_message;

fn broker() -> Arc<Broker> {
    Arc::new(Broker::new(store::in_memory(Rules::default()).unwrap()))
}

fn handler(broker: &Arc<Broker>, config: &Config, socket: &str) -> ZmtpHandler<O3one> {
    let caller = Arc::new(Caller::server());
    let dialect = O3one::new(broker.clone(), caller.clone(), config);
    let (max, waker) = (config.max_message, Waker::noop().clone());
    let mut handler = ZmtpHandler::new(
        broker.clone(),
        caller.clone(),
        broker.session(&caller),
        max,
        waker,
        dialect,
    );
    let mut begin = b"\xFF\0\0\0\0\0\0\0\x01\x7F\x03\0NULL".to_vec();
    begin.resize(64, 0);
    let body = [b"\x05READY\x0bSocket-Type\0\0\0", &[socket.len() as u8][..], socket.as_bytes()];
    let body = body.concat();
    begin.extend([4, body.len() as u8]);
    begin.extend(body);
    assert_eq!(handler.advance(&begin), (begin.len(), Next::Read));
    handler.written(handler.replies().len());
    handler
}

fn messages(messages: &[&[&str]]) -> Vec<u8> {
    let mut out = Vec::new();
    for parts in messages {
        write_message(&mut out, parts.iter().map(|part| part.as_bytes()));
    }
    out
}

/// The output for these bytes.
fn answered(handler: &mut ZmtpHandler<O3one>, bytes: &[u8]) -> Vec<u8> {
    assert_eq!(handler.advance(bytes), (bytes.len(), Next::Read));
    let answered = handler.replies().to_vec();
    handler.written(answered.len());
    answered
}

/// Everything that a subscriber is sent now.
fn pushed(handler: &mut ZmtpHandler<O3one>) -> Vec<u8> {
    assert!(!handler.push());
    answered(handler, b"")
}

fn of(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| messages(&[&[text]])).collect()
}

fn subscribe(handler: &mut ZmtpHandler<O3one>, prefix: &str) {
    assert_eq!(answered(handler, &of(&[&format!("\x01{prefix}")])), b"");
}

#[test]
fn publication_is_answered_and_sent_to_matching_subscribers() {
    let (broker, config) = (broker(), Config::default());
    let mut publisher = handler(&broker, &config, "REQ");
    let prefixes = ["o3", "o3 He", "", "o3 hello", "o", "other", "o3\u{0}", "o3  "];
    let mut subscribers: Vec<_> =
        prefixes.iter().map(|_| handler(&broker, &config, "SUB")).collect();
    for (subscriber, prefix) in subscribers.iter_mut().zip(prefixes) {
        subscribe(subscriber, prefix);
    }
    let ok = messages(&[&["", "OK"]]);
    for text in ["o3 Hello 5", "o3x content", "o3", "other {\"a\": 1}", "o3 "] {
        assert_eq!(answered(&mut publisher, &messages(&[&["", text]])), ok, "{text}");
    }
    let expected = [
        &["o3 Hello 5", "o3x content", "o3 ", "o3 "][..],
        &["o3 Hello 5"],
        &["o3 Hello 5", "o3x content", "o3 ", "other {\"a\": 1}", "o3 "],
        &[],
        &["o3 Hello 5", "o3x content", "o3 ", "other {\"a\": 1}", "o3 "],
        &["other {\"a\": 1}"],
        &[],
        &[],
    ];
    for ((subscriber, expected), prefix) in subscribers.iter_mut().zip(expected).zip(prefixes) {
        let expected = of(expected);
        assert_eq!(pushed(subscriber), expected, "{prefix:?}");
    }
}

#[test]
fn subscription_ends_after_as_many_cancels_as_subscribes() {
    let (broker, config) = (broker(), Config::default());
    let mut publisher = handler(&broker, &config, "DEALER");
    let mut subscriber = handler(&broker, &config, "SUB");
    let mut publish = |text: &str| assert_eq!(answered(&mut publisher, &of(&[text])), of(&["OK"]));
    subscribe(&mut subscriber, "o3");
    subscribe(&mut subscriber, "o3");
    subscribe(&mut subscriber, "o3 a");
    for (cancelled, sent) in [
        ("none", &["o3 a", "o3 b"][..]),
        ("o3", &["o3 a", "o3 b"]),
        ("o3", &["o3 a"]),
        ("o3", &["o3 a"]),
        ("o3 a", &[]),
    ] {
        answered(&mut subscriber, &of(&[&format!("\0{cancelled}")]));
        publish("o3 a");
        publish("o3 b");
        assert_eq!(pushed(&mut subscriber), of(sent), "{cancelled}");
    }
    assert!(!subscriber.is_subscribed());
}

#[test]
fn messages_of_other_protocols_are_sent_as_text_or_json() {
    let (broker, config) = (broker(), Config::default());
    let mut subscriber = handler(&broker, &config, "SUB");
    subscribe(&mut subscriber, "");
    let mut batch = Batch::default();
    for json in [r#""a \"b\" \u00e9""#, "1.50", r#"{"a":[1,null]}"#, r#""""#] {
        batch.put(Topic::new("two words").unwrap(), json.as_bytes(), None);
    }
    broker.apply(&Caller::server(), &mut batch);
    let texts =
        ["two words a \"b\" é", "two words 1.50", r#"two words {"a":[1,null]}"#, "two words "];
    assert_eq!(pushed(&mut subscriber), of(&texts));
}

#[test]
fn reply_returns_the_envelope() {
    let (broker, config) = (broker(), Config { o3one_ack: "thanks".into(), ..Config::default() });
    let mut dealer = handler(&broker, &config, "DEALER");
    let asked = messages(&[&["1", "", "o3 a"], &["o3 b"], &["", "o3 c"]]);
    let expected = messages(&[&["1", "", "thanks"], &["thanks"], &["", "thanks"]]);
    assert_eq!(answered(&mut dealer, &asked), expected);
    let mut pusher = handler(&broker, &config, "PUSH");
    assert_eq!(answered(&mut pusher, &of(&["o3 d", "o3 e"])), b"");
    let run = broker.history(&Caller::server(), "o3", 10).unwrap();
    let bodies: Vec<_> = (0..run.len()).map(|index| run.get(index).unwrap().body).collect();
    assert_eq!(bodies, [&b"\"a\""[..], b"\"b\"", b"\"c\"", b"\"d\"", b"\"e\""]);
}

#[test]
fn refused_messages_are_answered() {
    let (broker, config) = (broker(), Config { max_message: 20, ..Config::default() });
    let mut dealer = handler(&broker, &config, "DEALER");
    let long = format!("{} x", "t".repeat(257));
    let refused = |text: &str| format!("ERROR: {text}");
    for (text, expected) in [
        (&b"o3 \xff"[..], refused("a message is text, and this is no UTF-8")),
        (b" x", refused("the topic is empty: give it a name")),
        (b"", refused("the topic is empty: give it a name")),
        (b"o3 \x01\x01\x01\x01", refused("the message is too large for this server")),
    ] {
        let mut asked = of(&["o3 before"]);
        write_message(&mut asked, [text]);
        asked.extend(of(&["o3 behind"]));
        assert_eq!(answered(&mut dealer, &asked), of(&["OK", &expected, "OK"]));
    }
    let mut dealer = handler(&broker, &Config::default(), "DEALER");
    let expected = refused("the topic has 257 bytes: a name has at most 256");
    assert_eq!(answered(&mut dealer, &of(&[&long])), of(&[&expected]));
}

#[test]
fn messages_that_arrive_together_are_put_by_priority() {
    let (broker, config) = (broker(), Config { o3one_priority: true, ..Config::default() });
    let mut subscriber = handler(&broker, &config, "SUB");
    subscribe(&mut subscriber, "o3");
    let mut dealer = handler(&broker, &config, "DEALER");
    let asked =
        of(&["o3 1 low", "o3 none", "o3 9 high", "o3 99 higher", "o3 5", "o3 Hello 5", "o3 -1 x"]);
    assert_eq!(answered(&mut dealer, &asked), of(&["OK"; 7]));
    let sent = ["o3 high", "o3 higher", "o3 none", "o3 5", "o3 Hello 5", "o3 low", "o3 x"];
    assert_eq!(pushed(&mut subscriber), of(&sent));
    // Takers see the same order.
    let mut batch = Batch::default();
    batch.ops.push(crate::ops::Op::Take { topic: Topic::new("o3").unwrap(), lease: None });
    answered(&mut dealer, &of(&["o3 9 last"]));
    broker.apply(&Caller::server(), &mut batch);
    assert_eq!(batch.taken, b"\"high\"");
}

#[test]
fn subscription_ends_with_the_connection() {
    let (broker, config) = (broker(), Config::default());
    let mut subscriber = handler(&broker, &config, "SUB");
    subscribe(&mut subscriber, "o3");
    assert!(subscriber.is_subscribed());
    subscriber.end(b"");
    assert!(!subscriber.is_subscribed());
}

#[test]
fn several_batches_are_answered_in_order() {
    let (broker, config) = (broker(), Config::default());
    let mut dealer = handler(&broker, &config, "DEALER");
    let count = 3 * limits::ZMTP_BATCH_MESSAGES + 1;
    let texts: Vec<_> = (0..count).map(|number| format!("o3 {number}")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let (mut unread, mut answered, mut batches) = (of(&texts), Vec::new(), 0);
    loop {
        let (done, step) = dealer.advance(&unread);
        unread.drain(..done);
        answered.extend_from_slice(dealer.replies());
        dealer.written(dealer.replies().len());
        batches += 1;
        if step == Next::Read {
            break;
        }
    }
    assert_eq!((batches, answered), (4, of(&vec!["OK"; count])));
    let run = broker.history(&Caller::server(), "o3", count).unwrap();
    let bodies = (0..run.len()).map(|index| run.get(index).unwrap().body.to_vec());
    assert!(bodies.eq((0..count).map(|number| format!("\"{number}\"").into_bytes())));
}

#[test]
fn subscriptions_are_bounded() {
    let (broker, config) = (broker(), Config::default());
    let mut subscriber = handler(&broker, &config, "SUB");
    for number in 0..=limits::SUBSCRIPTIONS {
        subscribe(&mut subscriber, &format!("{number} "));
    }
    let mut publisher = handler(&broker, &config, "REQ");
    let last = limits::SUBSCRIPTIONS;
    for topic in [last, last - 1, 0] {
        answered(&mut publisher, &messages(&[&["", &format!("{topic} x")]]));
    }
    let (kept, first) = (format!("{} x", last - 1), "0 x");
    assert_eq!(pushed(&mut subscriber), of(&[&kept, first]));
}
