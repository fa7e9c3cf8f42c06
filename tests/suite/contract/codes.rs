//! error-codes.txt: the codes that errors have on the wire, with their HTTP status, and whether a
//! connection of the JSON protocol ends after one. A unit test of the source holds every code that
//! there is against the file; here the server says them.

use std::collections::BTreeMap;
use std::thread;

use dsmq::{Config, Server, WhenFull, limits};

use crate::suite::support::peer::Peer;
use crate::suite::support::{server, server_with};
use crate::suite::web::http::{ask, get, post};
use crate::suite::web::http_native::with;

const FILE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/error-codes.txt"));

/// Codes that need a store that fails, or take long. Other tests see them on the wire.
const ELSEWHERE: [&str; 6] = [
    "damaged",         // suite::durability::store_file
    "store_failed",    // suite::durability::faults
    "too_many_places", // suite::wire::json
    "too_many_topics", // suite::wire::json
    "unavailable",     // suite::cluster
    "unconfirmed",     // suite::cluster
];

/// A code's HTTP status and what becomes of a JSON connection.
fn codes() -> BTreeMap<&'static str, (u16, &'static str)> {
    let lines = FILE.lines().filter(|line| !line.starts_with('#'));
    let code = |line: &'static str| {
        let [code, status, end] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        assert!(["closes", "stays", "http"].contains(&end), "{line}");
        (code, (status.parse().unwrap(), end))
    };
    lines.map(code).collect()
}

/// Requests of the JSON protocol that are refused, each with its code.
fn refused_in_json() -> Vec<(Vec<u8>, &'static str)> {
    let put = |topic: &str, message: &str| {
        format!(r#"{{"action":"put","topic":"{topic}","message":{message}}}"#)
    };
    let junk = "x".repeat(limits::REQUEST_OVERHEAD_BYTES);
    let depth = limits::DEPTH_LEVELS + 1;
    let names: String = (0..limits::SUBSCRIPTIONS).map(|n| format!("\"t{n}\",")).collect();
    let subscribe = |names: &str| format!(r#"{{"action":"subscribe","topic":[{names}]}}"#);
    let too_many = subscribe(names.trim_end_matches(',')) + &subscribe("\"one more\"");
    let cases = [
        (r#"{"action" oops"#.to_owned(), "bad_json"),
        ("?".to_owned(), "unknown_protocol"),
        (r#"{"action":"get"}"#.to_owned(), "missing_field"),
        (r#"{"action":"get","topic":7}"#.to_owned(), "bad_field"),
        (r#"{"action":"dance"}"#.to_owned(), "unknown_action"),
        (r#"{"action":"ack","topic":"t","id":1,"deliveries":1}"#.to_owned(), "gone"),
        (put("", "1"), "bad_topic"),
        (put("t", &format!("\"{}\"", "x".repeat(limits::MESSAGE_BYTES))), "message_too_large"),
        (format!(r#"{{"action":"ping","junk":"{junk}"}}"#), "request_too_large"),
        (put("t", &("[".repeat(depth) + &"]".repeat(depth))), "too_deep"),
        (too_many, "too_many_subscriptions"),
        (r#"{"action":"shutdown"}"#.to_owned(), "forbidden"),
    ];
    let mut cases: Vec<_> =
        cases.into_iter().map(|(request, code)| (request.into_bytes(), code)).collect();
    cases.push((b"{\"a\":\"\xc3\x28\"}".to_vec(), "bad_utf8"));
    cases
}

/// The next error's code, and what becomes of the connection.
fn seen_in_json(peer: &mut Peer) -> (String, &'static str) {
    let reply = loop {
        let reply = peer.receive_reply();
        if reply.get("error").is_some() {
            break reply;
        }
    };
    assert!(reply["error"].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
    let code = reply["code"].as_str().unwrap().to_owned();
    if peer.try_send(r#"{"action":"ping"}"#).is_ok()
        && peer.try_receive(r#"{"ok":true}"#.len()).is_some()
    {
        return (code, "stays");
    }
    (code, "closes")
}

/// A server with no room left; its last put was refused.
fn full() -> (Server, Peer) {
    let server = server_with(Config {
        max_store: 1 << 20,
        when_full: Some(WhenFull::Refuse),
        ..Config::default()
    });
    let mut peer = Peer::connect(server.addr());
    let text = "x".repeat(100_000);
    let put = format!(r#"{{"action":"put","topic":"t","message":"{text}"}}"#);
    peer.send(put.repeat(20));
    (server, peer)
}

#[test]
fn codes_of_errors_on_the_wire() {
    let codes = codes();
    let mut seen = Vec::new();
    let plain = server();
    for (request, code) in refused_in_json() {
        let mut peer = Peer::connect_silent(plain.addr());
        peer.send(request);
        let (got, end) = seen_in_json(&mut peer);
        assert_eq!((got.as_str(), end), (code, codes[code].1));
        seen.push(code);
    }

    let (_full, mut peer) = full();
    assert_eq!(seen_in_json(&mut peer), ("full".to_owned(), codes["full"].1));
    let small = server_with(Config { max_connections: 1, ..Config::default() });
    let _first = Peer::connect(small.addr());
    let mut second = Peer::connect_silent(small.addr());
    assert_eq!(seen_in_json(&mut second), ("busy".to_owned(), codes["busy"].1));
    let stopping = server();
    let mut peer = Peer::connect(stopping.addr());
    peer.send(r#"{"action":"ping"}{"action":"get","topic":"t","wait":60}"#);
    peer.expect(r#"{"ok":true}"#);
    let stop = thread::spawn(|| stopping.stop());
    peer.expect_error("closing");
    // A request that arrives now may still be carried out: none is sent.
    peer.expect_end();
    assert_eq!(codes["closing"].1, "closes");
    stop.join().unwrap();
    seen.extend(["full", "busy", "closing"]);

    seen.extend(of_http(&plain, &codes));
    seen.extend(ELSEWHERE);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, codes.keys().copied().collect::<Vec<_>>());
}

/// Requests of HTTP that are refused: their codes.
fn of_http(
    server: &Server,
    codes: &BTreeMap<&'static str, (u16, &'static str)>,
) -> Vec<&'static str> {
    let (full, _peer) = full();
    let text = "x".repeat(100_000);
    let deep = "[".repeat(limits::DEPTH_LEVELS + 1) + &"]".repeat(limits::DEPTH_LEVELS + 1);
    let json = |body: &str| with(&post("/t/t", body), "Content-Type: application/json");
    let large = "x".repeat(limits::MESSAGE_BYTES - 1);
    let cases = [
        (server, json("{"), "bad_json"),
        (server, post("/q/t", "value=%c3%28"), "bad_utf8"),
        (server, post("/q/t", "a=b"), "missing_field"),
        (server, get("/t/t?limit=0"), "bad_field"),
        (server, post("/t/t/ack", "id=1&deliveries=1"), "gone"),
        (server, post("/t/%00", "1"), "bad_topic"),
        (server, post("/t/t", &large), "message_too_large"),
        (server, with(&get("/t/t"), "Origin: http://other.example"), "forbidden"),
        (server, json(&deep), "too_deep"),
        (server, get("/nowhere"), "not_found"),
        (server, post("/healthz", ""), "method_not_allowed"),
        (server, get("/healthz").replace("localhost", "other.example"), "wrong_host"),
        (&full, post("/t/t", &text), "full"),
    ];
    let codes_seen = cases.into_iter().map(|(server, request, code)| {
        let refused = ask(&mut Peer::connect_silent(server.addr()), &request);
        let shown = &request[..request.len().min(100)];
        assert_eq!((refused.code().as_str(), refused.status), (code, codes[code].0), "{shown}");
        code
    });
    let mut codes_seen: Vec<_> = codes_seen.collect();
    let claim = post("/t/t", "").replace("Length: 0", "Length: 99999999");
    let refused = ask(&mut Peer::connect_silent(server.addr()), claim);
    assert_eq!((refused.code().as_str(), refused.status), ("request_too_large", 413));
    codes_seen.push("request_too_large");
    codes_seen
}
