//! CoreMQ sessions and handlers without sockets.

use std::task::Waker;

use proptest::prelude::*;
use serde_json::json;

use super::hub::Ids;
use super::object::RawObject;
use super::*;
use crate::limits;
use crate::store::{self, Rules};

fn broker() -> Arc<Broker> {
    Arc::new(Broker::new(store::in_memory(Rules::default()).unwrap()))
}

fn coremq(broker: &Arc<Broker>, hub: &Arc<CoreMqHub>) -> CoreMqSession {
    let waker = Waker::noop().clone();
    let caller = Arc::new(Caller::server());
    let session = broker.session(&caller);
    CoreMqSession::new(broker.clone(), caller, session, waker, hub.clone(), limits::MESSAGE_BYTES)
        .unwrap()
}

fn answer(coremq: &mut CoreMqSession, queue: &str, object: &str) -> String {
    coremq.receive(queue, &RawObject::new(object).unwrap())
}

fn response(text: &str) -> String {
    json!({ "response": text }).to_string()
}

/// The queue and body of each message that has arrived.
fn received(coremq: &mut CoreMqSession) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while let Some(messages) = coremq.next().unwrap() {
        let texts = messages.bodies().map(|body| str::from_utf8(body).unwrap().to_owned());
        all.extend(texts.map(|text| (messages.queue().to_owned(), text)));
    }
    all
}

#[test]
fn message_reaches_all_subscribers_except_its_sender() {
    let (broker, hub) = (broker(), Arc::new(CoreMqHub::new(Vec::new())));
    let [mut a, mut b, mut c] = [(); 3].map(|()| coremq(&broker, &hub));
    let subscribed = response("OK: Subscribe successful");
    assert_eq!(answer(&mut a, "x", r#"{"coremq_subscribe":"q"}"#), subscribed);
    assert_eq!(answer(&mut b, "x", r#"{"coremq_subscribe":["q","r"]}"#), subscribed);
    let sent = answer(&mut a, "q", r#"{"b": 1.50, "coremq_sender": "me", "a":[ ]}"#);
    assert_eq!(sent, response("OK: Message sent"));
    let (queue, text) = received(&mut b).remove(0);
    let own = format!(r#"{{"b":1.50,"a":[ ],"coremq_sender":"{}","coremq_sent":"#, a.id);
    assert_eq!(queue, "q");
    assert!(text.starts_with(&own), "{text}");
    assert!(text.ends_with(&format!(r#","coremq_server":"{}"}}"#, hub.server())), "{text}");
    assert_eq!((received(&mut a), received(&mut c)), (vec![], vec![]));

    // A direct message creates no topic.
    let id = a.id.clone();
    let topics = broker.topics(&Caller::server()).unwrap().len();
    answer(&mut c, &id, r#"{"to":"a"}"#);
    answer(&mut a, &id, r#"{"to":"itself"}"#);
    let direct = a.next_direct().unwrap();
    assert!(direct.queue == id && direct.json.starts_with(r#"{"to":"a","coremq_sender":"#));
    assert_eq!((a.next_direct(), received(&mut a)), (None, vec![]));
    assert_eq!(broker.topics(&Caller::server()).unwrap().len(), topics);
    drop(a);

    assert_eq!(
        answer(&mut b, "", r#"{"coremq_unsubscribe":"q"}"#),
        response("OK: Unsubscribe successful")
    );
    answer(&mut c, "q", "{}");
    answer(&mut c, "r", "{}");
    assert_eq!(received(&mut b).into_iter().map(|(queue, _)| queue).collect::<Vec<_>>(), ["r"]);
}

#[test]
fn unread_direct_messages_are_bounded() {
    let (broker, hub) = (broker(), Arc::new(CoreMqHub::new(Vec::new())));
    let (reader, mut writer) = (coremq(&broker, &hub), coremq(&broker, &hub));
    let (id, ok) = (reader.id.clone(), response("OK: Message sent"));
    let large = format!(r#"{{"large":"{}"}}"#, "x".repeat(limits::OUTBOX_BYTES));
    assert_eq!(answer(&mut writer, &id, &large), ok);
    assert!(answer(&mut writer, &id, "{}").contains("ERROR: that connection does not read"));
    assert!(reader.next_direct().is_some());
    for _ in 0..limits::DIRECT_MESSAGES {
        assert_eq!(answer(&mut writer, &id, "{}"), ok);
    }
    assert!(answer(&mut writer, &id, "{}").contains("ERROR: that connection does not read"));
}

#[test]
fn replicant_receives_direct_messages() {
    let (broker, hub) = (broker(), Arc::new(CoreMqHub::new(Vec::new())));
    let mut replicant = coremq(&broker, &hub).may_replicate(true);
    answer(&mut replicant, "", r#"{"coremq_replicant":"other"}"#);
    let (reader, mut writer) = (coremq(&broker, &hub), coremq(&broker, &hub));
    let id = reader.id.clone();
    answer(&mut writer, &id, r#"{"n":1}"#);
    assert_eq!(reader.next_direct().unwrap().queue, id);
    assert_eq!(replicant.next_direct().unwrap().queue, id);
    // A replicant does not receive its own direct messages.
    answer(&mut replicant, &id, r#"{"n":2}"#);
    assert_eq!((replicant.next_direct(), reader.next_direct().is_some()), (None, true));
}

#[test]
fn history_has_the_latest_ten_messages() {
    let (broker, hub) = (broker(), Arc::new(CoreMqHub::new(Vec::new())));
    let mut coremq = coremq(&broker, &hub);
    for number in 0..12 {
        answer(&mut coremq, "q", &format!(r#"{{"number":{number}}}"#));
    }
    let history = answer(&mut coremq, "x", r#"{"coremq_gethistory":["q","none"]}"#);
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let queues = history["history"].as_object().unwrap();
    let numbers = queues["q"].as_array().unwrap().iter().map(|object| object["number"].as_u64());
    assert_eq!(numbers.map(Option::unwrap).collect::<Vec<_>>(), (2..12).collect::<Vec<_>>());
    assert_eq!(queues.len(), 1);
    let none = answer(&mut coremq, "x", r#"{"coremq_gethistory":[]}"#);
    assert_eq!(none, r#"{"history":{}}"#);
}

#[test]
fn commands_have_a_fixed_precedence_and_errors_are_answered() {
    let (broker, hub) = (broker(), Arc::new(CoreMqHub::new(Vec::new())));
    let [mut a, _b] = [(); 2].map(|()| coremq(&broker, &hub));
    let both = r#"{"coremq_status":1,"coremq_options":{"a":null}}"#;
    assert_eq!(answer(&mut a, "x", both), response("OK: Options set"));
    let status: serde_json::Value =
        serde_json::from_str(&answer(&mut a, "x", r#"{"coremq_status":true}"#)).unwrap();
    assert_eq!(status["coremq_fwdto"], a.id);
    assert_eq!((&status["connections"], &status["replicants"]), (&2.into(), &json!([])));
    for (object, why) in [
        (r#"{"coremq_replicant":"x"}"#, "Not allowed to be a replicant"),
        (r#"{"coremq_subscribe":7}"#, "queues are a name, or a list of names"),
        (r#"{"coremq_subscribe":""}"#, "the topic is empty: give it a name"),
        (r#"{"coremq_options":[]}"#, "options are an object"),
    ] {
        assert_eq!(answer(&mut a, "x", object), response(&format!("ERROR: {why}")), "{object}");
    }
    assert_eq!(answer(&mut a, "", "{}"), response("ERROR: the topic is empty: give it a name"));
}

#[test]
fn connection_ids_are_distinct_uuids() {
    let ids = Ids::default();
    let (first, second) = (ids.next(), ids.next());
    assert_ne!(first, second);
    assert_ne!(Ids::default().next(), first);
    let parts: Vec<_> = first.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert!(first.chars().nth(14) == Some('4') && "89ab".contains(first.chars().nth(19).unwrap()));
}

#[test]
fn each_frame_is_written_separately() {
    use crate::protocol::handler::{Next, ProtocolHandler as _};
    let (broker, hub) = (broker(), Arc::new(CoreMqHub::new(Vec::new())));
    let mut sender = coremq(&broker, &hub);
    let mut reader = CoreMqHandler::new(coremq(&broker, &hub));
    let (used, step) = reader.advance(br#"+26 x {"coremq_subscribe":"q"}+9 x {"a":1}"#);
    assert_eq!((used, step), (42, Next::Read));
    (0..3).for_each(|_| drop(answer(&mut sender, "q", "{}")));
    assert!(!reader.push());
    let (mut start, mut frames) = (0, Vec::new());
    while start < reader.replies().len() {
        let end = reader.write_end(start);
        let frame = str::from_utf8(&reader.replies()[start..end]).unwrap();
        assert_eq!(frame.matches('+').count(), 1, "{frame}");
        assert!(frame.ends_with('}'), "{frame}");
        // A frame that was written in part is completed to the same end.
        assert_eq!(reader.write_end(start + 1), end);
        frames.push(frame);
        start = end;
    }
    assert_eq!(frames.len(), 6);
    reader.written(start);
    assert!(reader.replies().is_empty() && !reader.push());
}

proptest! {
    #[test]
    fn any_bytes_decode_alike_however_they_are_split(
        cut in any::<u8>(),
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "+", "0", "1", "9", "24", " ", "q", "{", "}", "\"a\"", ":", "é", "[1]", "+4 q {}", "+6 q [[]]",
                "+26 q {\"coremq_subscribe\":\"q\"}", "+29 q {\"coremq_gethistory\":[\"q\"]}",
                "+26 q {\"coremq_replicant\":\"x\"}", "+21 q {\"coremq_status\":1}", "+99999999 ",
            ]),
            0..20,
        ),
    ) {
        check::coremq(&[&[cut], parts.concat().as_bytes()].concat());
    }

    #[test]
    fn any_bytes_are_answered_in_frames(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        check::coremq(&bytes);
        check::coremq(&[b"\x03+9 ", bytes.as_slice()].concat());
    }
}
