//! The JSON protocol over real sockets: split and joined input, limits, errors, waits and closing.

use std::time::{Duration, Instant};

use dsmq::limits;
use serde_json::json;

use dsmq::Config;

use crate::suite::support::peer::Peer;
use crate::suite::support::{server, server_with};

const PING: &str = r#"{"action":"ping"}"#;
const OK: &str = r#"{"ok":true}"#;
const NOTHING: &str = r#"{"message":""}"#;

fn put(topic: &str, message: &str) -> String {
    format!(r#"{{"action":"put","topic":{},"message":{message}}}"#, json!(topic))
}

fn get(topic: &str) -> String {
    format!(r#"{{"action":"get","topic":{}}}"#, json!(topic))
}

fn reply(message: &str) -> String {
    format!(r#"{{"message":{message}}}"#)
}

/// Asserts that messages put on one connection are received unchanged on another.
fn assert_round_trip(messages: &[String]) {
    let server = server();
    let (mut a, mut b) = (Peer::connect(server.addr()), Peer::connect(server.addr()));
    for message in messages {
        a.ask(&(put("t", message) + PING), OK);
        b.send(get("t"));
        let expected = reply(message);
        let received = b.receive(expected.len());
        assert!(received == expected.as_bytes(), "{}", &message[..message.len().min(80)]);
    }
    b.ask(&get("t"), NOTHING);
}

#[test]
fn session_starts_when_it_is_accepted() {
    let server = server();
    let mut early = Peer::connect_silent(server.addr());
    // Connections are accepted in order: once this one replies, the silent one has its session.
    let mut putter = Peer::connect(server.addr());
    putter.ask(&(put("t", "1") + PING), OK);
    let mut late = Peer::connect_silent(server.addr());
    early.ask(&get("t"), &reply("1"));
    late.ask(&get("t"), NOTHING);
}

#[test]
fn every_session_receives_every_message_in_order() {
    let server = server();
    let mut peers: Vec<Peer> = (0..5).map(|_| Peer::connect(server.addr())).collect();
    for i in 0..1_000 {
        peers[i % 5].send(put("t", &i.to_string()));
    }
    for peer in &mut peers {
        peer.ask(PING, OK);
    }
    let mut orders: Vec<String> = Vec::new();
    for peer in &mut peers {
        peer.send(get("t").repeat(1_001));
        let mut all = String::new();
        while !all.ends_with(NOTHING) {
            all.push_str(&String::from_utf8(peer.receive(1)).unwrap());
        }
        orders.push(all);
    }
    assert!(orders.iter().all(|order| *order == orders[0]), "all see one order");
    // Messages of one connection keep their order.
    let values: Vec<usize> = orders[0]
        .split("{\"message\":")
        .filter_map(|part| part.trim_end_matches('}').parse().ok())
        .collect();
    assert_eq!(values.len(), 1_000);
    for peer in 0..5 {
        let own: Vec<usize> = values.iter().copied().filter(|value| value % 5 == peer).collect();
        assert!(own.is_sorted() && own.len() == 200);
    }
}

#[test]
fn requests_may_be_split_at_every_byte_of_a_stream() {
    let server = server();
    let script = put("t", r#"{"é" : [1.50,"\ud83e\udd80"]}"#) + "\n" + &get("t") + " " + PING;
    let expected = reply(r#"{"é" : [1.50,"\ud83e\udd80"]}"#) + OK;
    let mut peer = Peer::connect(server.addr());
    for cut in 1..script.len() {
        peer.send(&script.as_bytes()[..cut]);
        peer.send(&script.as_bytes()[cut..]);
        peer.expect(&expected);
    }
    for byte in script.as_bytes() {
        peer.send([*byte]);
    }
    peer.expect(&expected);
}

#[test]
fn requests_may_arrive_joined() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    for round in 0..20 {
        let puts: String = (0..1_000).map(|i| put("t", &(round * 1_000 + i).to_string())).collect();
        peer.send(puts + &get("t").repeat(1_000));
        let expected: String =
            (0..1_000).map(|i| reply(&(round * 1_000 + i).to_string())).collect();
        assert_eq!(String::from_utf8(peer.receive(expected.len())).unwrap(), expected);
    }
}

#[test]
fn message_text_is_preserved_byte_for_byte() {
    assert_round_trip(
        &[
            "0",
            "-0",
            "1.0",
            "1.50",
            "1e5",
            "1E+5",
            "-0.0e-0",
            "123456789012345678901234567890",
            "1e400",
            "0.1000000000000000055511151231257827",
            "true",
            "false",
            "null",
            "\"\"",
            "[]",
            "{}",
            "[ 1 ,\t2\r\n, [ ] ]",
            r#"{"b":1,"a":2,"b":3}"#,
            r#"{"":{"":[{}]}}"#,
            r#""\u0000\b\f\n\r\t\"\\\/\u00e9""#,
            r#""\ud83e\udd80""#,
            r#""\ud800""#,
            r#""\udc00x""#,
            "\"\u{7f}\"",
        ]
        .map(str::to_owned),
    );
}

#[test]
fn messages_of_every_size_round_trip() {
    let around = |n: usize| [n - 1, n, n + 1];
    let sizes = [2, 3, 10, 100]
        .into_iter()
        .chain([960, 2_000, 4_096, 65_536, 1 << 20].into_iter().flat_map(around));
    let messages: Vec<String> = sizes
        .chain([limits::MESSAGE_BYTES])
        .map(|n| format!("\"{}\"", "x".repeat(n - 2)))
        .collect();
    assert_round_trip(&messages);
}

#[test]
fn all_of_unicode_round_trips() {
    let plain = (' '..=char::MAX).filter(|c| !matches!(c, '"' | '\\'));
    let plain: String = plain.collect();
    let escaped: String = (0..=0xFFFF).map(|unit| format!("\\u{unit:04X}")).collect();
    assert_round_trip(&[format!("\"{plain}\""), format!("\"{escaped}\"")]);
    let server = server();
    let mut peer = Peer::connect(server.addr());
    for topic in ["é", "漢字", "🦀", " ", "a b*", "\u{10FFFF}", "'; DROP TABLE log; --"] {
        peer.send(put(topic, "1"));
        let escaped: String = topic.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        peer.ask(&format!(r#"{{"action":"get","topic":"{escaped}"}}"#), &reply("1"));
        peer.ask(&get(topic), NOTHING);
    }
}

#[test]
fn large_message_may_arrive_in_small_pieces() {
    // Rescanning the partial message for each piece would take minutes.
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let message = format!("\"{}\"", "x".repeat(limits::MESSAGE_BYTES - 2));
    for piece in put("t", &message).as_bytes().chunks(1_000) {
        peer.send(piece);
    }
    peer.send(get("t"));
    let expected = reply(&message);
    assert!(peer.receive(expected.len()) == expected.as_bytes());
}

#[test]
fn message_nesting_is_limited() {
    let nested = |open: &str, close: &str, n: usize| open.repeat(n) + "1" + &close.repeat(n);
    let deep = [nested("[", "]", 128), nested("{\"a\":", "}", 128), nested("[{\"a\":", "}]", 64)];
    assert_round_trip(&deep);
    let server = server();
    let mut peer = Peer::connect(server.addr());
    for message in [nested("[", "]", 129), nested("{\"a\":", "}", 1_000), nested("[", "]", 60_000)]
    {
        peer.send(put("t", &message) + &get("t"));
        peer.expect_error("too_deep");
        peer.expect(NOTHING);
    }
    peer.send(put("t", &"[".repeat(1_000_000)));
    peer.expect_error("too_deep");
    peer.expect_error("bad_json");
    peer.expect_end();
}

#[test]
fn too_large_message_is_refused_early() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let message = format!("\"{}\"", "x".repeat(limits::MESSAGE_BYTES));
    let request = put("t", &message);
    let (most, rest) = request.split_at(request.len() - 2);
    peer.send(most);
    // The error arrives before the request ends.
    peer.expect_error("message_too_large");
    peer.send(rest.to_owned() + &put("t", "1") + &get("t"));
    peer.expect(&reply("1"));
}

#[test]
fn every_exceeded_limit_is_reported_early() {
    let server = server();
    let junk = "x".repeat(limits::REQUEST_OVERHEAD_BYTES);
    for (begin, end, code) in [
        ("{".to_owned() + &" ".repeat(limits::REQUEST_OVERHEAD_BYTES), "}", "request_too_large"),
        (format!(r#"{{"action":"ping","junk":"{junk}"#), "\"}", "request_too_large"),
        (format!(r#"{{"action":"get","topic":"{}"#, "x".repeat(2_000)), "\"}", "bad_topic"),
        (
            format!("{{{}", format!(r#""message":"{}","#, "x".repeat(6 << 20)).repeat(3)),
            "\"x\":1}",
            "message_too_large",
        ),
        (format!(r#"{{"action":"ping","tag":"{}"#, "x".repeat(2_000)), "\"}", "bad_field"),
        (
            format!(r#"{{"action":"put","topic":"t","message":1,"dedupe":"{}"#, "x".repeat(2_000)),
            "\"}",
            "bad_field",
        ),
    ] {
        let mut peer = Peer::connect(server.addr());
        peer.send(&begin);
        peer.expect_error(code);
        peer.send(end.to_owned() + PING);
        peer.expect(OK);
        // The complete request receives the same error.
        peer.send(begin + end + PING);
        peer.expect_error(code);
        peer.expect(OK);
    }
}

#[test]
fn message_limit_is_configurable() {
    let server = server_with(Config { max_message: 10, ..Config::default() });
    let mut peer = Peer::connect(server.addr());
    peer.ask(&(put("t", "1234567890") + &get("t")), &reply("1234567890"));
    peer.send(put("t", "12345678901"));
    peer.expect_error("message_too_large");
}

#[test]
fn request_error_keeps_the_connection_open() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let long = "x".repeat(limits::TOPIC_BYTES + 1);
    let cases = [
        (r#"{}"#.to_owned(), "missing_field"),
        (r#"{"topic":"t","message":1}"#.to_owned(), "missing_field"),
        (r#"{"action":"put","message":1,"confirm":true}"#.to_owned(), "missing_field"),
        (r#"{"action":"put","topic":"t","confirm":true}"#.to_owned(), "missing_field"),
        (r#"{"action":"get"}"#.to_owned(), "missing_field"),
        (r#"{"action":7,"topic":"t"}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":7}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":null}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"\ud800"}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"t","meta":1}"#.to_owned(), "bad_field"),
        (r#"{"action":"put","topic":"t","message":1,"confirm":"yes"}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"t","wait":-0.5}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"t","wait":"1"}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"t","wait":3600.1}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"t","wait":1e999}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"t","since":-1}"#.to_owned(), "bad_field"),
        (r#"{"action":"get","topic":"t","since":1.5}"#.to_owned(), "bad_field"),
        (format!(r#"{{"action":"get","topic":"t","since":{}}}"#, 1u64 << 53), "bad_field"),
        (format!(r#"{{"action":"ping","tag":"{}"}}"#, "x".repeat(limits::TAG_BYTES)), "bad_field"),
        (r#"{"action":"PUT","topic":"t","message":1}"#.to_owned(), "unknown_action"),
        (r#"{"action":"tame","topic":"t"}"#.to_owned(), "unknown_action"),
        (put("", "1"), "bad_topic"),
        (get(&long), "bad_topic"),
        (r#"{"action":"get","topic":"a\u0000b"}"#.to_owned(), "bad_topic"),
        (r#"{"action":"get","topic":"a\u0085b"}"#.to_owned(), "bad_topic"),
    ];
    for (request, code) in &cases {
        peer.send(request);
        peer.expect_error(code);
        peer.ask(PING, OK);
    }
    peer.send(r#"{"action":"dance","tag":{"a":[1]}}"#);
    assert_eq!(peer.expect_error("unknown_action")["tag"], json!({"a": [1]}));
    let longest = "é".repeat(limits::TOPIC_BYTES / 2);
    peer.ask(&(put(&longest, "1") + &get(&longest)), &reply("1"));
    let longest_tag = format!("\"{}\"", "x".repeat(limits::TAG_BYTES - 2));
    peer.ask(
        &format!(r#"{{"action":"ping","tag":{longest_tag}}}"#),
        &format!(r#"{{"ok":true,"tag":{longest_tag}}}"#),
    );
}

#[test]
fn consecutive_failed_puts_share_one_error() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    peer.send(put("", "1").repeat(1_000) + &put("t", "1") + &put("", "1") + PING);
    peer.expect_error("bad_topic");
    peer.expect_error("bad_topic");
    peer.expect(OK);
    let confirmed = r#"{"action":"put","topic":"","message":1,"confirm":true}"#;
    peer.send(confirmed.repeat(3) + PING);
    for _ in 0..3 {
        peer.expect_error("bad_topic");
    }
    peer.expect(OK);
}

#[test]
fn invalid_json_closes_only_its_connection() {
    let server = server();
    let mut healthy = Peer::connect(server.addr());
    for (text, code) in [
        (&b"[1]"[..], "unknown_protocol"),
        (b"hello", "unknown_protocol"),
        (b"\x16\x03\x01\x02\x00\x01", "unknown_protocol"),
        (b"\xfe", "unknown_protocol"),
        (b"\x00", "unknown_protocol"),
        (b" [1]", "bad_json"),
        (b"{\"action\":\"ping\"", "bad_json"),
        (b"{\"action\":\"ping\",}", "bad_json"),
        (b"{'action':'ping'}", "bad_json"),
        (b"{\"a\":NaN}", "bad_json"),
        (b"{\"a\":\"\x01\"}", "bad_json"),
        (b"{\"a\":\"\xc3\x28\"}", "bad_utf8"),
        (b"{\"a\":\"\xf5\x80\x80\x80\"}", "bad_utf8"),
        (b"{\"a\":\"\xed\xa0\x80\"}", "bad_utf8"),
    ] {
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(text);
        if code == "bad_json" {
            peer.end();
        }
        peer.expect_error(code);
        peer.expect_end();
        healthy.ask(PING, OK);
    }
    let mut peer = Peer::connect(server.addr());
    peer.send(put("t", "1") + "oops");
    peer.expect_error("bad_json");
    healthy.ask(&get("t"), &reply("1"));
}

#[test]
fn requests_before_a_close_are_carried_out() {
    let server = server();
    let mut witness = Peer::connect(server.addr());
    for i in 0..100 {
        // The put client of dsmq 1.x does this: connect, send, close.
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(put("t", &i.to_string()));
        drop(peer);
        witness.ask(r#"{"action":"get","topic":"t","wait":30}"#, &reply(&i.to_string()));
    }
    let mut peer = Peer::connect(server.addr());
    peer.send(put("t", "100") + &get("t").repeat(2) + PING);
    peer.end();
    assert_eq!(peer.receive_all(), reply("100") + NOTHING + OK);
    let mut peer = Peer::connect(server.addr());
    peer.send(put("t", "101") + r#"{"action":"pi"#);
    peer.end();
    peer.expect_error("bad_json");
    witness.ask(&get("t").repeat(2), &(reply("100") + &reply("101")));
}

#[test]
fn requests_are_carried_out_with_replies_unread() {
    let server = server();
    let mut witness = Peer::connect(server.addr());
    let confirmed = r#"{"action":"put","topic":"t","message":1,"confirm":true}"#;
    let wrong = r#"{"action":"put","topic":"t"}"#;
    let (rounds, puts) = (30, 400);
    for first in [wrong, r#"{"action":"get","topic":"t"}"#, confirmed] {
        for _ in 0..rounds {
            let mut peer = Peer::connect(server.addr());
            // Fits into the socket buffers: data still with the sender is lost with the connection.
            peer.send(first.repeat(20) + &confirmed.repeat(puts) + &put("last", "1"));
            // Closing with unread replies resets the connection.
            drop(peer);
            witness.ask(r#"{"action":"get","topic":"last","wait":30}"#, &reply("1"));
        }
    }
    let expected = (3 * puts + 20) * rounds;
    witness.ask(&get("t").repeat(expected + 1), &(reply("1").repeat(expected) + NOTHING));
}

#[test]
fn wait_ends_with_a_message_or_empty() {
    let server = server();
    let wait = r#"{"action":"get","topic":"t","wait":30,"meta":true}"#;
    let mut waiting: Vec<Peer> = (0..20).map(|_| Peer::connect(server.addr())).collect();
    for peer in &mut waiting {
        // Requests after a waiting one are carried out after it.
        peer.send(PING.to_owned() + wait + &put("later", "1") + PING);
        peer.expect(OK);
    }
    let mut putter = Peer::connect(server.addr());
    let mut witness = Peer::connect(server.addr());
    witness.ask(&get("later"), NOTHING);
    putter.send(put("other", "0") + &put("t", "1"));
    for peer in &mut waiting {
        peer.expect(r#"{"message":1,"id":1795216135066522,"timestamp":1795216135.066522}"#);
        peer.expect(OK);
    }
    witness.ask(&get("later").repeat(21), &(reply("1").repeat(20) + NOTHING));

    let before = Instant::now();
    let briefly = r#"{"action":"get_latest","topic":"t","wait":0.05,"meta":true}"#;
    witness.ask(briefly, r#"{"message":1,"id":1795216135066522,"timestamp":1795216135.066522}"#);
    witness.ask(briefly, r#"{"message":"","empty":true}"#);
    assert!(before.elapsed() >= Duration::from_millis(50), "it did wait");
}

#[test]
fn half_closed_peer_receives_its_awaited_message() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    peer.send(r#"{"action":"get","topic":"t","wait":30}"#);
    peer.end();
    let mut putter = Peer::connect(server.addr());
    putter.send(put("t", "1"));
    assert_eq!(peer.receive_all(), reply("1"));
}

#[test]
fn requests_queue_after_a_waiting_request() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let mut putter = Peer::connect(server.addr());
    // More than the server reads ahead.
    let next = put("later", "1").repeat(4_000) + PING;
    peer.send(r#"{"action":"get","topic":"t","wait":30}"#.to_owned() + &next);
    putter.send(put("t", "1"));
    peer.expect(&(reply("1") + OK));
    putter.send(get("later").repeat(4_001));
    putter.expect(&(reply("1").repeat(4_000) + NOTHING));
}

#[test]
fn since_moves_the_cursor_both_ways() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let mut ids = Vec::new();
    for i in 0..700 {
        peer.send(format!(r#"{{"action":"put","topic":"t","message":{i},"confirm":true}}"#));
        let reply = peer
            .receive(r#"{"ok":true,"id":1795216135066522,"timestamp":1795216135.066522}"#.len());
        ids.push(
            serde_json::from_slice::<serde_json::Value>(&reply).unwrap()["id"].as_u64().unwrap(),
        );
    }
    let mut late = Peer::connect(server.addr());
    late.ask(&get("t"), NOTHING);
    for at in [0, 1, 350, 300, 698, 2, 255, 256, 257] {
        let since = format!(r#"{{"action":"get","topic":"t","since":{}}}"#, ids[at]);
        late.ask(
            &(since + &get("t")),
            &(reply(&(at + 1).to_string())
                + &if at + 2 < 700 { reply(&(at + 2).to_string()) } else { NOTHING.to_owned() }),
        );
    }
    let next = format!(r#"{{"action":"get","topic":"t","since":{}}}"#, ids[699]);
    late.ask(&next, NOTHING);
    late.ask(r#"{"action":"get","topic":"t","since":0}"#, &reply("0"));
    late.ask(r#"{"action":"get_latest","topic":"t"}"#, &reply("699"));
    late.ask(&get("t"), NOTHING);
    // A cursor of a topic that does not exist yet.
    late.ask(r#"{"action":"get","topic":"new","since":0}"#, NOTHING);
    peer.ask(&(put("new", "1") + PING), OK);
    late.ask(&get("new"), &reply("1"));
}

#[test]
fn cursors_per_session_are_limited() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let place = |i: usize| format!(r#"{{"action":"get","topic":"t{i}","since":0}}"#);
    for from in (0..limits::CURSORS).step_by(1_000) {
        peer.send((from..from + 1_000).map(place).collect::<String>());
        peer.expect(&NOTHING.repeat(1_000));
    }
    peer.send(place(limits::CURSORS));
    peer.expect_error("too_many_places");
    peer.ask(&place(0), NOTHING);
    Peer::connect(server.addr()).ask(&place(limits::CURSORS), NOTHING);
}

#[test]
fn topics_in_the_store_are_limited() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    peer.send((0..limits::TOPICS).map(|i| put(&format!("t{i}"), "1")).collect::<String>() + PING);
    peer.expect(OK);
    peer.send(put("one more", "1") + &put("t7", "2") + &get("t7") + &get("t7"));
    peer.expect_error("too_many_topics");
    peer.expect(&(reply("1") + &reply("2")));
}
