//! Property tests of the JSON protocol without a socket: text split anywhere, with serde_json as
//! the reference.

use proptest::prelude::*;

use super::check::{MAX_MESSAGE, handler, is_request, json, scan_and_compare, scan_pieces};
use super::fields::Field;
use super::scanner::Scan;
use crate::limits;

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
        string_text(),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..5), blank())
                .prop_map(|(items, blank)| format!("[{blank}{}{blank}]", items.join(","))),
            prop::collection::vec((string_text(), blank(), inner), 0..5).prop_map(|fields| {
                let fields: Vec<String> =
                    fields.iter().map(|(k, b, v)| format!("{b}{k}{b}:{b}{v}{b}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

fn blank() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,2}"
}

fn string_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ !#-\\[\\]-~]{0,40}",
        "[é漢🦀\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}]{0,4}",
        Just("\\\"".to_owned()),
        Just("\\\\".to_owned()),
        Just("\\n".to_owned()),
        Just("\\/".to_owned()),
        "\\\\u[0-9a-fA-F]{4}",
        Just("\\ud83e\\udd80".to_owned()),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn scanner_finds_requests_cut_anywhere(
        message in json_text(),
        topic in string_text(),
        blank in blank(),
        cuts in prop::collection::vec(1..400usize, 0..6),
    ) {
        let text = format!("{{{blank}\"topic\"{blank}:{topic},\"x\":[1],\"message\":{blank}{message}{blank}}}");
        prop_assume!(message.len() <= MAX_MESSAGE);
        prop_assert!(is_request(text.as_bytes()));
        let mut cuts = cuts;
        cuts.sort_unstable();
        let (found, scanner) = scan_pieces(text.as_bytes(), &cuts);
        prop_assert_eq!(found, Ok(Scan::Done(text.len())));
        let field = |field| scanner.fields().get(text.as_bytes(), field);
        prop_assert_eq!(field(Field::Message), Some(message.as_bytes()));
        prop_assert_eq!(field(Field::Topic), Some(topic.as_bytes()));
        prop_assert_eq!(field(Field::Action), None);
    }

    #[test]
    fn scanner_scan_and_compare_on_damage(
        message in json_text(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\0-+.eE \x80\xC3u".to_vec())],
        how in 0..3,
        cuts in prop::collection::vec(1..200usize, 0..4),
    ) {
        let mut text = format!("{{\"message\":{message}}}").into_bytes();
        let at = at.index(text.len());
        match how {
            0 => text[at] = byte,
            1 => text.insert(at, byte),
            _ => { text.remove(at); }
        }
        prop_assume!(text.first() == Some(&b'{') && text.len() < MAX_MESSAGE);
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert_eq!(scan_and_compare(&text, &cuts), scan_and_compare(&text, &[]), "splitting changes nothing");
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                Just(br#"{"action":"put","topic":"t","message":1}"#.to_vec()),
                Just(br#"{"action":"get","topic":"t"}"#.to_vec()),
                prop::collection::vec(
                    prop::sample::select(b"{}[]\",:\\ \t019-.eEtrufalsn\xC3\xA9".to_vec()), 0..40),
            ], 0..6),
        cut in any::<u8>(),
    ) {
        json(&[vec![cut], pieces.concat()].concat());
    }
}

#[test]
fn requests_may_be_split_at_every_byte() {
    let script = concat!(
        r#"{"action":"put","topic":"t","message":"Hello!"}"#,
        " \r\n\t",
        r#"{ "topic" : "t" , "message" : { "a" : [ 1.50, -0e+1, "é\ud83e\udd80\ud800" ] }, "action":"put" }"#,
        r#"{"action":"get","topic":"t"}{"action":"get","topic":"t","tag":{"n":1}}"#,
        r#"{"\u0061ction":"\u0067et","topic":"\u0074"}"#,
        r#"{"action":"nope","tag":7}{"action":"put","topic":"t"}{"action":"put","topic":"t"}"#,
        r#"{"action":"ping"}"#,
    );
    let whole = handler(script.as_bytes(), &[]);
    assert!(whole.starts_with(concat!(
        r#"{"message":"Hello!"}"#,
        r#"{"message":{ "a" : [ 1.50, -0e+1, "é\ud83e\udd80\ud800" ] },"tag":{"n":1}}"#,
        r#"{"message":""}"#,
    )));
    assert_eq!(whole.matches("unknown_action").count(), 1);
    assert_eq!(whole.matches("missing_field").count(), 1, "one error for consecutive puts");
    assert!(whole.ends_with(r#"{"ok":true}"#));
    for cut in 1..script.len() {
        assert_eq!(handler(script.as_bytes(), &[cut]), whole, "cut at {cut}");
    }
    let every_byte: Vec<usize> = (1..script.len()).collect();
    assert_eq!(handler(script.as_bytes(), &every_byte), whole);
}

#[test]
fn invalid_text_is_refused_at_its_first_bad_byte() {
    for text in [
        "[",
        "1",
        "\"",
        "{1",
        "{\"a\" nope",
        "{\"a\":.",
        "{\"a\":01",
        "{\"a\":1.}",
        "{\"a\":tru3",
        "{\"a\":\"\n",
        "{\"a\":\"\\x",
        "{\"a\":[1}",
        "{,",
        "{\"a\":1,}",
        "{\"a\":-x",
        "{\"a\":+1",
    ] {
        let answer = handler(text.as_bytes(), &[]);
        assert!(answer.contains("\"code\":\"bad_json\""), "{text}: {answer}");
        assert!(answer.contains("closed"), "{text}: {answer}");
    }
    for text in [&b"{\"a\":\"\xff"[..], b"{\"a\":\"\xC3\"", b"{\"\xED\xA0\x80", b"{\"\xC0\xAF"] {
        let answer = handler(text, &[]);
        assert!(answer.contains("\"code\":\"bad_utf8\""), "{text:?}: {answer}");
    }
    let answer = handler(b"{\"action\":\"ping\"", &[]);
    assert!(answer.contains("ended inside a request"), "{answer}");
}

#[test]
fn message_nesting_is_limited() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"action":"put","topic":"t","message":{open}{close}}}{{"action":"ping"}}"#)
    };
    let ok = r#"{"ok":true}"#;
    assert_eq!(handler(nested(limits::DEPTH_LEVELS).as_bytes(), &[]), ok);
    let answer = handler(nested(limits::DEPTH_LEVELS + 1).as_bytes(), &[]);
    assert!(answer.contains("\"too_deep\"") && answer.ends_with(ok), "{answer}");
    let answer = handler(nested(MAX_MESSAGE * 100).as_bytes(), &[]);
    assert!(answer.contains("\"too_deep\"") && answer.contains("\"bad_json\""), "{answer}");
    let mixed = format!(r#"{{"message":{}1"#, r#"{"a":["#.repeat(40_000));
    assert!(handler(mixed.as_bytes(), &[]).contains("too deep to follow"));
}

#[test]
fn too_large_request_is_refused_early_and_skipped() {
    let put = |len: usize| {
        let message = "x".repeat(len - 2);
        format!(r#"{{"action":"put","topic":"t","tag":1,"message":"{message}","confirm":true}}"#)
    };
    assert!(handler(put(MAX_MESSAGE).as_bytes(), &[]).starts_with(r#"{"ok":true,"id":N"#));
    for cuts in [vec![], vec![900, 1_100, 1_200], (1..2_000).collect()] {
        let text = put(MAX_MESSAGE + 1) + r#"{"action":"ping"}"#;
        let answer = handler(text.as_bytes(), &cuts);
        assert!(answer.contains("\"message_too_large\""), "{answer}");
        assert!(answer.contains("\"tag\":1") && answer.ends_with(r#"{"ok":true}"#), "{answer}");
        assert_eq!(answer.matches("error").count(), 1);
    }
    let padding = " ".repeat(MAX_MESSAGE + limits::REQUEST_OVERHEAD_BYTES);
    let answer = handler(format!("{{{padding}").as_bytes(), &[]);
    assert!(answer.contains("\"request_too_large\""), "{answer}");
}

#[test]
fn error_follows_replies_to_earlier_takes() {
    let message = "x".repeat(MAX_MESSAGE - 2);
    let messages = limits::TAKEN_BYTES / MAX_MESSAGE + 10;
    let put = format!(r#"{{"action":"put","topic":"t","message":"{message}"}}"#).repeat(messages);
    let take = r#"{"action":"take","topic":"t"}"#.repeat(messages);
    let refused = r#"{"action":"put","topic":"","message":1}"#;
    let answer = handler((put + &take + refused).as_bytes(), &[]);
    assert_eq!(answer.matches(&message).count(), messages);
    let last = answer.rsplit_once(&message).unwrap().1;
    assert!(last.contains("bad_topic"), "the error comes last: {last}");
}
