//! Mezzenger's frames against a broker, without sockets.

use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::broker::{Broker, From, Pattern};
use crate::limits;
use crate::store::{self, Rules};
use crate::wire::pickle::PickleWriter;

const MOST_BYTES: usize = 100_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn broker() -> Arc<Broker> {
    Arc::new(Broker::new(store::in_memory(Rules::default()).unwrap()))
}

/// A hub whose leases end at once.
fn hub(broker: &Arc<Broker>) -> Arc<MezzengerHub> {
    Arc::new(MezzengerHub::new(broker.clone(), Duration::from_micros(1)).unwrap())
}

fn connection(hub: &Arc<MezzengerHub>) -> Mezzenger {
    Mezzenger::new(hub.clone(), Arc::new(Caller::server()), Waker::noop().clone(), MOST_BYTES)
}

/// A frame with a JSON payload, and with a checksum unless it is empty.
fn framed(name: &str, payload: &str, ack: i32, checksum: &str) -> Vec<u8> {
    let mut pickle = PickleWriter::new();
    pickle.dict();
    pickle.text(b"name");
    pickle.text(name.as_bytes());
    pickle.text(b"payload");
    pickle.json(payload.as_bytes());
    pickle.text(b"ack");
    pickle.int(ack);
    pickle.text(b"timestamp");
    pickle.float(1.5);
    if !checksum.is_empty() {
        pickle.text(b"checksum");
        pickle.text(checksum.as_bytes());
    }
    pickle.end_dict();
    [name.as_bytes(), b"|", &pickle.end()].concat()
}

fn answer(connection: &mut Mezzenger, frame: &[u8]) -> String {
    let answers = connection.receive(&[frame]);
    assert_eq!(answers.len(), 1);
    String::from_utf8(answers[0].clone()).unwrap()
}

fn send(connection: &mut Mezzenger, frame: &[u8]) {
    assert_eq!(answer(connection, frame), "OK");
}

fn ack(connection: &mut Mezzenger, checksum: &str) {
    send(connection, &framed("ack", &format!("{checksum:?}"), 0, "of the ack itself"));
}

fn kept(broker: &Broker) -> usize {
    broker.history(&Caller::server(), "mezzenger.unacked", limits::HISTORY_MESSAGES).unwrap().len()
}

fn bodies(broker: &Broker, topic: &str) -> Vec<String> {
    let run = broker.history(&Caller::server(), topic, limits::HISTORY_MESSAGES).unwrap();
    let bodies = (0..run.len()).map(|index| run.get(index).unwrap().body.to_vec());
    bodies.map(|body| String::from_utf8(body).unwrap()).collect()
}

#[test]
fn ping_is_answered_and_not_published() {
    let broker = broker();
    let mut connection = connection(&hub(&broker));
    send(&mut connection, &framed("ping", r#""ping""#, 0, "a"));
    assert_eq!(broker.topics(&Caller::server()).unwrap().len(), 0);
}

#[test]
fn message_without_ack_is_put_once() {
    let broker = broker();
    let mut connection = connection(&hub(&broker));
    send(&mut connection, &framed("greetings", r#"{"a":[1,null]}"#, 0, "a"));
    assert_eq!(bodies(&broker, "greetings"), [r#"{"a":[1,null]}"#]);
    assert_eq!(kept(&broker), 0);
}

#[test]
fn invalid_frames_are_refused_and_affect_no_other() {
    let broker = broker();
    let mut connection = connection(&hub(&broker));
    let good = framed("a", "1", 0, "x");
    let other_name = [b"b|", good.split_at(2).1].concat();
    let reserved = framed("mezzenger.unacked", "1", 0, "x");
    let long = framed(&"x".repeat(limits::TOPIC_BYTES + 1), "1", 0, "x");
    let large = framed("a", &format!("{:?}", "x".repeat(MOST_BYTES)), 0, "x");
    let large_to_keep = framed("a", &format!("{:?}", "x".repeat(MOST_BYTES * 4 / 5)), 1, "x");
    let no_checksum = framed("ack", "7", 0, "x");
    for (wrong, why) in [
        (&b""[..], "has no bar"),
        (b"a|", "the pickle is cut off"),
        (b"a|]q\0h\0a.", "not the dict of a message"),
        (b"a|}.", "not the dict of a message"),
        (b"a|}X\x04\0\0\0nameU\x01as.", "has no payload"),
        (b"\xff|}.", "not UTF-8"),
        (&other_name, "not the one before the bar"),
        (&reserved, "reserved for the server"),
        (&long, "the topic has 257 bytes"),
        (&large, "larger than a message may be"),
        (&large_to_keep, "larger than a message may be"),
        (&no_checksum, "the checksum of a message"),
    ] {
        let answers = connection.receive(&[wrong, &good]);
        let [refused, done] = &answers[..] else { panic!("{} answers", answers.len()) };
        let refused = String::from_utf8_lossy(refused);
        assert!(refused.starts_with("ERROR: ") && refused.contains(why), "{why}: {refused}");
        assert_eq!(done, b"OK");
    }
    assert_eq!(bodies(&broker, "a").len(), 12);
    assert_eq!(kept(&broker), 0);
}

#[test]
fn message_is_stored_until_it_is_acknowledged() {
    let broker = broker();
    let hub = hub(&broker);
    let (mut publisher, mut subscriber) = (connection(&hub), connection(&hub));
    send(&mut publisher, &framed("job", "1", 1, "one"));
    send(&mut publisher, &framed("job", "2", 1, "two"));
    // A sender repeats a message if it missed the answer.
    send(&mut publisher, &framed("job", "2", 1, "two"));
    assert_eq!(kept(&broker), 2);
    ack(&mut subscriber, "one");
    ack(&mut subscriber, "one");
    ack(&mut subscriber, "none");
    assert_eq!(kept(&broker), 1);
    ack(&mut subscriber, "two");
    assert_eq!(kept(&broker), 0);
    assert_eq!(bodies(&broker, "job"), ["1", "2", "2"]);
}

#[test]
fn unacknowledged_message_is_sent_again_and_put_once() {
    let broker = broker();
    let hub = hub(&broker);
    let frame = framed("job", "1", 1, "one");
    let mut subscriber = connection(&hub);
    assert_eq!(subscriber.next_resend(), None);
    send(&mut connection(&hub), &frame);
    hub.take_all().unwrap();
    assert_eq!(subscriber.next_resend(), None, "it has just been published");
    for _ in 0..3 {
        assert_eq!(published_again(&broker, &hub, &mut subscriber), frame);
    }
    ack(&mut subscriber, "one");
    assert_eq!(kept(&broker), 0);
    assert_eq!(bodies(&broker, "job"), ["1"]);
}

fn published_again(broker: &Broker, hub: &MezzengerHub, subscriber: &mut Mezzenger) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        broker.catch_up();
        hub.take_all().unwrap();
        if let Some(frame) = subscriber.next_resend() {
            return frame.to_vec();
        }
    }
    panic!("it does not come again");
}

#[test]
fn second_server_over_one_store_sends_messages_again() {
    let broker = broker();
    let frame = framed("job", "[1]", 1, "one");
    send(&mut connection(&hub(&broker)), &frame);
    let hub = hub(&broker);
    let mut subscriber = connection(&hub);
    assert_eq!(subscriber.next_resend(), None);
    hub.take_all().unwrap();
    assert_eq!(published_again(&broker, &hub, &mut subscriber), frame);
    ack(&mut subscriber, "one");
    assert_eq!(kept(&broker), 0);
}

#[test]
fn messages_dropped_by_the_store_leave_the_index() {
    let broker = broker();
    let hub = hub(&broker);
    let mut connection = connection(&hub);
    for number in 0..2_000 {
        send(&mut connection, &framed("job", "1", 1, &format!("checksum {number}")));
    }
    let mut batch = Batch::default();
    batch.ops.push(Op::Purge { topic: hub.topic().clone() });
    broker.apply(&Caller::server(), &mut batch);
    for number in 2_000..6_000 {
        send(&mut connection, &framed("job", "1", 1, &format!("checksum {number}")));
    }
    assert!(hub.announce("checksum 0"), "it was forgotten");
    assert!(!hub.announce("checksum 2000"));
    assert_eq!(hub.forget("checksum 1999"), None);
}

#[test]
fn purged_message_is_stored_again_when_sent_again() {
    let broker = broker();
    let hub = hub(&broker);
    let mut sender = connection(&hub);
    let job = framed("job", "1", 1, "one");
    for _ in 0..2 {
        send(&mut sender, &job);
        assert_eq!(kept(&broker), 1);
        send(&mut sender, &job);
        assert_eq!(kept(&broker), 1, "the same sent twice is kept once");
        let mut batch = Batch::default();
        batch.ops.push(Op::Purge { topic: hub.topic().clone() });
        broker.apply(&Caller::server(), &mut batch);
        assert_eq!(kept(&broker), 0);
    }
}

#[test]
fn message_that_cannot_be_stored_is_not_published() {
    let rules =
        Rules { max_bytes: Some(1 << 20), when_full: store::WhenFull::Refuse, ..Rules::default() };
    let broker = Arc::new(Broker::new(store::in_memory(rules).unwrap()));
    let hub = hub(&broker);
    let mut sender = connection(&hub);
    let large = format!("\"{}\"", "x".repeat(MOST_BYTES / 2));
    let sent = (0..100).map(|n| answer(&mut sender, &framed("job", &large, 1, &n.to_string())));
    let accepted = sent.filter(|answer| answer == "OK").count();
    assert!((1..100).contains(&accepted), "{accepted}");
    // The last message may have been stored as unacknowledged, and then deleted.
    assert_eq!(kept(&broker), accepted);
    assert_eq!(bodies(&broker, "job").len(), accepted);
}

#[test]
fn foreign_messages_in_the_unacked_topic_are_skipped() {
    let broker = broker();
    let hub = hub(&broker);
    let mut subscriber = connection(&hub);
    assert_eq!(subscriber.next_resend(), None);
    let mut batch = Batch::default();
    batch.put(hub.topic().clone(), br#"{"checksum":"x","frame":"no base64"}"#, None);
    broker.apply(&Caller::server(), &mut batch);
    send(&mut connection(&hub), &framed("job", "1", 1, "one"));
    let frame = published_again(&broker, &hub, &mut subscriber);
    assert!(frame.starts_with(b"job|"));
}

/// What a subscriber to all messages of these topics receives.
fn sent(
    broker: &Broker,
    session: &mut crate::broker::Session,
    dialect: &Mezzenger,
) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    while let Some(pushes) = broker.pushes(&Caller::server(), session).unwrap() {
        for index in pushes.range.clone() {
            let mut frame = Vec::new();
            dialect.write(&mut frame, &pushes.topic, pushes.chunk.get(index).unwrap());
            sent.extend((!frame.is_empty()).then_some(frame));
        }
    }
    sent
}

#[test]
fn concurrent_publishers_frames_arrive_unchanged() {
    let broker = broker();
    let hub = hub(&broker);
    let dialect = connection(&hub);
    let mut session = broker.session(&Caller::server());
    let all = vec![Pattern::Prefix("".into())];
    broker.subscribe(&Caller::server(), &mut session, all, From::Now, Waker::noop()).unwrap();
    let frame = |thread: u32, number: u32| {
        framed("job", &number.to_string(), (number % 2) as i32, &format!("{thread} {number}"))
    };
    let publishers = (0..4).map(|thread| {
        let mut publisher = connection(&hub);
        thread::spawn(move || (0..500).for_each(|n| send(&mut publisher, &frame(thread, n))))
    });
    let publishers: Vec<_> = publishers.collect();
    let mut got = Vec::new();
    while publishers.iter().any(|publisher| !publisher.is_finished()) {
        got.extend(sent(&broker, &mut session, &dialect));
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    got.extend(sent(&broker, &mut session, &dialect));
    let mut expected: Vec<_> =
        (0..4).flat_map(|thread| (0..500).map(move |number| frame(thread, number))).collect();
    got.sort_unstable();
    expected.sort_unstable();
    assert_eq!(got.len(), 2_000);
    assert!(got == expected);
}

#[test]
fn messages_of_other_protocols_become_frames() {
    let broker = broker();
    let dialect = connection(&hub(&broker));
    let mut session = broker.session(&Caller::server());
    let all = vec![Pattern::Prefix("".into())];
    broker.subscribe(&Caller::server(), &mut session, all, From::Now, Waker::noop()).unwrap();
    let mut batch = Batch::default();
    for topic in ["greetings", "a|b", "mezzenger.unacked"] {
        batch.put(Topic::new(topic).unwrap(), br#"{"$pickle":"Li4u"}"#, None);
    }
    broker.apply(&Caller::server(), &mut batch);
    let sent = sent(&broker, &mut session, &dialect);
    assert_eq!(sent.len(), 1);
    let Command::Publish(read) = frame::parse(&sent[0], MOST_BYTES).map_err(|e| e.text).unwrap()
    else {
        panic!("it is no message");
    };
    assert_eq!(read.topic.as_str(), "greetings");
    // Such a message is data; it is never turned back into the pickle that it claims to be.
    assert_eq!(read.json, br#"{"$pickle":"Li4u"}"#);
    assert!(read.unacked.is_none() && read.checksum.len() == 32);
}

#[test]
fn missing_checksum_is_added() {
    let broker = broker();
    let hub = hub(&broker);
    let mut connection = connection(&hub);
    let frame = framed("job", r#""x""#, 1, "");
    send(&mut connection, &frame);
    let body: serde_json::Value =
        serde_json::from_str(&bodies(&broker, "mezzenger.unacked")[0]).unwrap();
    // The MD5 of "jobx1.5".
    assert_eq!(body["checksum"], "f6374716f3c44800575fedb57064f236");
    let Ok(Command::Publish(read)) = frame::parse(&frame, MOST_BYTES) else { panic!() };
    let Ok(Command::Publish(next_resend)) = frame::parse(&read.frame, MOST_BYTES) else { panic!() };
    assert_eq!(next_resend.checksum, read.checksum);
    assert_eq!(next_resend.frame, read.frame, "now it has one");
    ack(&mut connection, &read.checksum);
    assert_eq!(kept(&broker), 0);
}

#[test]
fn cached_frames_are_bounded() {
    let recent = cache::FrameCache::default();
    let frame = vec![0; limits::MEZZENGER_RECENT_BYTES / 4];
    (0..10).for_each(|id| recent.add(id, &frame));
    let held = (0..10).filter(|id| recent.get(*id).is_some()).collect::<Vec<_>>();
    assert_eq!(held, [6, 7, 8, 9]);
    recent.add(10, &vec![0; limits::MEZZENGER_RECENT_BYTES + 1]);
    assert!(recent.get(9).is_none() && recent.get(10).is_some(), "one that is larger is held");

    let outbox = ResendQueue::new(Waker::noop().clone());
    let frame: Arc<[u8]> = vec![0; limits::OUTBOX_BYTES / 4].into();
    (0..10).for_each(|_| outbox.add(&frame));
    assert_eq!(std::iter::from_fn(|| outbox.next()).count(), 4);
    outbox.add(&vec![0; limits::OUTBOX_BYTES + 1].into());
    assert!(outbox.next().is_some(), "one that is larger is sent");
}

proptest! {
    #[test]
    fn any_frame_is_read_or_refused(name in "[a-z]{0,3}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let frame = [name.as_bytes(), b"|", &bytes].concat();
        prop_assert!(frame::parse(&frame, MOST_BYTES).is_err());
    }
}
