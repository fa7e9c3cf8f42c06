//! Property tests of query, body and header parameters, compared with the rules of the JSON
//! protocol.

use axum::http::{HeaderValue, Uri};
use proptest::prelude::*;
use serde_json::Value;

use super::events::last_event_id;
use super::input::{BodyKind, Params};
use crate::error::Code;
use crate::limits;
use crate::ops::{Chunk, Op};
use crate::protocol::json::{Field, FieldSource as _, Request};

const MAX_MESSAGE: usize = 1_000;

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn field_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "(priority|ttl|delay|confirm|since|wait|limit|lease|id|deliveries|delayed|from)",
        "(dedupe|policy|topic|action|message|tag|meta)",
        "[a-z\"{}:,\\\\ ]{0,6}",
    ]
}

fn field_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,17}(\\.[0-9]{1,3})?(e[0-9]{1,3})?",
        "(true|false|null|now|oldest|broadcast|\"\"|\\{\\}|\\[1\\])",
        "\\PC{0,12}",
        "[\"{}\\[\\]:,\\\\ \u{0}-\u{1f}]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// A query sets fields only: topic and action always come from the path.
    #[test]
    fn query_sets_fields_but_not_topic_or_action(pairs in prop::collection::vec((field_name(), field_value()), 0..6)) {
        let query: Vec<String> =
            pairs.iter().map(|(k, v)| format!("{}={}", encoded(k), encoded(v))).collect();
        let uri: Uri = format!("/t/t?{}", query.join("&")).parse().unwrap();
        for action in ["put", "get", "take", "ack", "nack", "subscribe", "history", "policy"] {
            let params = Params::new(&uri).path(Field::Topic, "t").path(Field::Action, action);
            check(Request::decode(&params), action)?;
            if let Err(error) = (&params).put_options() {
                prop_assert!(error.code == Code::BadField, "{error}");
            }
        }
    }

    /// A body is an object of fields, or it is refused.
    #[test]
    fn body_is_an_object_of_fields_or_refused(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "\\{[a-z\"{}:,0-9\\\\ \\[\\]]{0,30}\\}?".prop_map(String::into_bytes),
        "\\{(\"(topic|action|lease)\":(1|\"purge\"|\"u\"|\\{\\}),?){0,4}\\}".prop_map(String::into_bytes),
    ]) {
        let trimmed = bytes.trim_ascii();
        let judged = serde_json::from_slice::<Value>(trimmed).ok().filter(Value::is_object);
        match Params::default().body(&bytes, MAX_MESSAGE) {
            Ok(params) => {
                let params = params.path(Field::Topic, "t").path(Field::Action, "take");
                check(Request::decode(&params), "take")?;
                let object = trimmed.first() == Some(&b'{');
                prop_assert!(!object || judged.is_some());
            }
            Err(error) => {
                prop_assert!(judged.is_none(), "{error}");
                prop_assert!(matches!(error.code, Code::BadJson | Code::BadUtf8), "{error}");
            }
        }
    }

    /// Only a number below 2^53 is an id.
    #[test]
    fn last_event_id_is_an_id_or_refused(bytes in prop_oneof![
        "[0-9]{0,17}".prop_map(String::into_bytes),
        "[ -~]{0,20}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..20),
    ]) {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        let text = str::from_utf8(&bytes).unwrap_or("?").trim_ascii();
        let digits = serde_json::from_str::<u64>(text).ok().filter(|id| *id < 1 << 53);
        match last_event_id(Some(&value)).transpose() {
            Ok(since) => {
                let since = since.flatten();
                prop_assert!(since == digits, "{text:?} {since:?}");
                prop_assert!(since.is_some() || bytes.is_empty());
            }
            Err(error) => prop_assert!(digits.is_none() && error.code == Code::BadField, "{error}"),
        }
    }

    /// A put message is one JSON value, and its event is one line with the same value.
    #[test]
    fn message_is_one_json_value_and_one_event_line(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 1..40),
            "[\\[\\]{}:,0-9a\"\\\\ \r\n\t]{1,20}".prop_map(String::into_bytes),
            "[\r\n ]?\\[[\r\n ]?1[\r\n ]?,[\r\n ]?\"a\"[\r\n ]?\\][\r\n ]?".prop_map(String::into_bytes),
        ],
        kind in prop_oneof![Just(BodyKind::Json), Just(BodyKind::Text), Just(BodyKind::Either)],
    ) {
        let judged = serde_json::from_slice::<Value>(&bytes).ok();
        let message = match kind.message(&bytes, MAX_MESSAGE) {
            Ok(message) => message,
            Err(error) => {
                let text = kind != BodyKind::Json && str::from_utf8(&bytes).is_ok();
                prop_assert!(!text && (judged.is_none() || kind == BodyKind::Text), "{error}");
                return Ok(());
            }
        };
        let value = serde_json::from_slice::<Value>(&message);
        match (kind, judged) {
            (BodyKind::Json | BodyKind::Either, Some(judged)) => prop_assert_eq!(value.unwrap(), judged),
            // serde_json rejects some valid JSON, such as an unpaired surrogate.
            (BodyKind::Json, None) => {}
            (_, _) if kind == BodyKind::Text || message.as_ref() != bytes.trim_ascii() => {
                prop_assert_eq!(value.unwrap(), Value::from(str::from_utf8(&bytes).unwrap()));
            }
            _ => {}
        }
        let mut chunk = Chunk::new(0, 0);
        chunk.push(7, &message, None);
        let events = super::events::events(None, &chunk, 0..1).bytes;
        let data = events.strip_prefix(b"id: 7\ndata: ").and_then(|d| d.strip_suffix(b"\n\n"));
        let data = data.expect("an event has these lines");
        prop_assert!(!data.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
        let (sent, put) = (serde_json::from_slice::<Value>(data), serde_json::from_slice::<Value>(&message));
        prop_assert_eq!(sent.ok(), put.ok());
    }
}

fn check(request: crate::error::Result<Request<'_>>, action: &str) -> Result<(), TestCaseError> {
    match request {
        Ok(Request::Get { topic, wait, .. }) => {
            prop_assert_eq!((&*topic, action), ("t", "get"));
            prop_assert!(wait <= limits::WAIT_MAX);
        }
        Ok(Request::Take { topic, .. }) => prop_assert_eq!((&*topic, action), ("t", "take")),
        Ok(Request::Op(Op::Ack { topic, .. })) => {
            prop_assert_eq!((topic.as_str(), action), ("t", "ack"))
        }
        Ok(Request::Op(Op::Nack { topic, .. })) => {
            prop_assert_eq!((topic.as_str(), action), ("t", "nack"))
        }
        Ok(Request::History { topic, .. }) => {
            prop_assert_eq!((topic.as_str(), action), ("t", "history"));
        }
        Ok(Request::Policy { topic } | Request::Op(Op::SetPolicy { topic, .. })) => {
            prop_assert_eq!((topic.as_str(), action), ("t", "policy"));
        }
        Ok(Request::Subscribe { patterns, .. }) => {
            prop_assert_eq!((patterns.len(), action), (1, "subscribe"));
        }
        Ok(other) => prop_assert!(false, "{action}: {other:?}"),
        Err(error) => {
            prop_assert!(matches!(error.code, Code::BadField | Code::MissingField), "{error}");
        }
    }
    Ok(())
}
