//! The page and the monitoring routes on the wire. tests/python/page.py tests the page in a
//! browser.

use std::collections::HashSet;
use std::process::Command;
use std::time::Instant;

use dsmq::{Config, WhenFull, limits};
use serde_json::Value;

use super::http::{Response, ask, get, response};
use crate::suite::support::peer::Peer;
use crate::suite::support::{PATIENCE, server, server_with};

fn fetch(addr: std::net::SocketAddr, path: &str) -> Response {
    ask(&mut Peer::connect_silent(addr), get(path))
}

fn json(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap()
}

/// Opens the page's stream; returns the header and the first event.
fn open_stream(peer: &mut Peer, path: &str) -> (String, Value) {
    peer.send(get(path));
    let header = until(peer, "\r\n\r\n");
    (header, event(peer))
}

fn until(peer: &mut Peer, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.extend(peer.receive(1));
    }
    String::from_utf8(bytes).unwrap()
}

fn event(peer: &mut Peer) -> Value {
    until(peer, "data: ");
    serde_json::from_str(&until(peer, "\n\n")).unwrap()
}

/// The first event for which `is` holds.
fn event_matching(peer: &mut Peer, mut state: Value, is: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    while !is(&state) {
        assert!(Instant::now() < deadline, "{state}");
        state = event(peer);
    }
    state
}

/// The value of a metric.
fn metric(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[test]
fn page_files_have_security_headers() {
    let server = server();
    let page = fetch(server.addr(), "/");
    assert!(page.body.starts_with("<!doctype html>"), "{page:?}");
    let mut files = vec!["/".to_owned(), "/dump".to_owned()];
    let quoted = page.body.split('"').filter(|text| text.starts_with("/page/"));
    files.extend(quoted.map(str::to_owned));
    let scripts = fetch(server.addr(), "/page/page.js").body;
    let imported = scripts.split('"').filter_map(|text| text.strip_prefix("./"));
    files.extend(imported.map(|name| format!("/page/{name}")));
    assert!(files.len() >= 9, "{files:?}");
    for path in files {
        let file = fetch(server.addr(), &path);
        assert_eq!(file.status, 200, "{path}");
        for header in [
            "content-security-policy: default-src 'none'; ",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
        ] {
            assert!(file.header.contains(header), "{path} without {header}: {}", file.header);
        }
        assert!(!file.header.contains("unsafe"), "{}", file.header);
        assert!(!file.body.contains(" style=\"") && !file.body.contains("<script>"), "{path}");
    }
    let none = fetch(server.addr(), "/page/../Cargo.toml");
    assert_eq!((none.status, none.code().as_str()), (404, "not_found"));
    let head = get("/").replacen("GET", "HEAD", 1);
    let mut peer = Peer::connect_silent(server.addr());
    peer.send(head);
    assert!(until(&mut peer, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
    // HEAD has no body: the next response follows directly.
    assert_eq!(ask(&mut peer, get("/healthz")).body, "ok");
}

#[test]
fn api_returns_the_five_o3one_texts() {
    let server = server();
    let mut raw = Peer::connect(server.addr());
    for _ in 0..3 {
        raw.send(r#"{"action":"put","topic":"t","message":1}"#);
    }
    raw.send(r#"{"action":"take","topic":"t"}"#);
    assert_eq!(raw.receive_reply()["message"], 1);
    let api = fetch(server.addr(), "/api");
    assert_eq!(api.status, 201);
    let state = json(&api);
    let fields: HashSet<_> = state.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["instance_text", "health_text", "replication_text", "records_text", "uptime_text"];
    assert_eq!(fields, HashSet::from(expected));
    assert_eq!(
        (&state["records_text"], &state["replication_text"]),
        (&"3 / 2".into(), &"disabled".into())
    );
    let folder = tempfile::tempdir().unwrap();
    let store = dsmq::StoreLocation::File(folder.path().join("queue.db"));
    let kept = server_with(Config { store, ..Config::default() });
    assert_eq!(json(&fetch(kept.addr(), "/api"))["replication_text"], "SQL ");
}

#[test]
fn dump_lists_the_last_messages_escaped() {
    let server = server();
    let mut raw = Peer::connect(server.addr());
    for number in 0..60 {
        let topic = if number % 2 == 0 { "even" } else { "<odd>&\\\"'" };
        raw.send(format!(r#"{{"action":"put","topic":"{topic}","message":"<i>{number}</i>"}}"#));
    }
    raw.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    let dump = fetch(server.addr(), "/dump");
    assert_eq!(dump.status, 200);
    assert!(dump.header.contains("content-type: text/html; charset=utf-8\r\n"), "{dump:?}");
    let shown = dump.body.lines().filter(|line| line.starts_with("<tr><td>")).collect::<Vec<_>>();
    assert_eq!(shown.len(), limits::PAGE_MESSAGES);
    let newest =
        "<bdi>&lt;odd&gt;&amp;&quot;&#39;</bdi><td><pre>&quot;&lt;i&gt;59&lt;/i&gt;&quot;</pre>";
    assert!(shown[0].ends_with(newest), "{}", shown[0]);
    assert!(shown[1].contains("even") && shown[49].contains("10"), "{shown:?}");
    assert!(!dump.body.contains("<i>") && !dump.body.contains("<odd>"));
}

#[test]
fn metrics_follow_the_prometheus_text_format() {
    let server = server();
    let mut raw = Peer::connect(server.addr());
    raw.send(r#"{"action":"put","topic":"a\"b\\c","message":1}"#.repeat(3));
    raw.send(r#"{"action":"take","topic":"a\"b\\c"}{"action":"get","topic":"a\"b\\c"}"#);
    raw.receive_reply();
    raw.receive_reply();
    let metrics = fetch(server.addr(), "/metrics");
    assert!(metrics.header.contains("content-type: text/plain; version=0.0.4"), "{metrics:?}");
    let text = &metrics.body;
    for (name, value) in [
        ("dsmq_puts_total", 3.0),
        ("dsmq_takes_total", 1.0),
        ("dsmq_reads_total", 1.0),
        ("dsmq_messages", 2.0),
        ("dsmq_connections{protocol=\"json\"}", 1.0),
        ("dsmq_connections{protocol=\"http\"}", 1.0),
        ("dsmq_topic_messages{topic=\"a\\\"b\\\\c\"}", 2.0),
        ("dsmq_store_max_bytes", 1_073_741_824.0),
    ] {
        assert_eq!(metric(text, name), value, "{name}");
    }
    // Every value follows its HELP and TYPE lines, and each family occurs once.
    let (mut families, mut family) = (HashSet::new(), String::new());
    for line in text.lines() {
        if let Some(state) = line.strip_prefix("# HELP ") {
            family = state.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family}");
        } else if let Some(state) = line.strip_prefix("# TYPE ") {
            assert_eq!(state.split(' ').next().unwrap(), family);
        } else {
            assert!(line.starts_with(&family), "{line}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
}

#[test]
fn metrics_and_page_limit_the_listed_topics() {
    let server = server();
    let mut raw = Peer::connect(server.addr());
    for number in 0..limits::METRICS_TOPICS + 10 {
        raw.send(format!(r#"{{"action":"put","topic":"t{number}","message":1}}"#));
    }
    raw.send(r#"{"action":"put","topic":"most used","message":1}"#.repeat(2));
    raw.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    let text = fetch(server.addr(), "/metrics").body;
    let state = text.lines().filter(|line| line.starts_with("dsmq_topic_messages{")).count();
    assert_eq!(state, limits::METRICS_TOPICS);
    assert_eq!(metric(&text, "dsmq_topic_puts_total{topic=\"most used\"}"), 2.0);
    let mut peer = Peer::connect_silent(server.addr());
    let (_, first) = open_stream(&mut peer, "/api/live?topic=t7");
    assert_eq!(first["topics"].as_array().unwrap().len(), limits::PAGE_TOPICS);
    assert_eq!(first["matching"], limits::METRICS_TOPICS + 11);
    assert_eq!((&first["open"]["topic"], &first["open"]["length"]), (&"t7".into(), &1.into()));
    let (_, found) = open_stream(&mut Peer::connect_silent(server.addr()), "/api/live?filter=T100");
    assert_eq!(found["matching"], 1 + 10, "t100, t1000 to t1009");
}

#[test]
fn live_stream_reports_state_and_ends_on_stop() {
    let server = server();
    let mut raw = Peer::connect(server.addr());
    let mut peer = Peer::connect_silent(server.addr());
    let (header, first) = open_stream(&mut peer, "/api/live");
    assert!(header.contains("content-type: text/event-stream\r\n"), "{header}");
    assert_eq!(first["rules"].as_array().unwrap().len(), 4);
    raw.send(r#"{"action":"put","topic":"t","message":1}"#.repeat(100));
    raw.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    let state = event_matching(&mut peer, first, |state| state["puts"] == 100);
    assert!(state["point"][1].as_f64().unwrap() > 0.0, "{state}");
    assert_eq!(state["protocols"], serde_json::json!({ "http": 0, "json": 1, "sse": 1 }));
    assert_eq!(state["connections"], 2);
    server.stop();
    // Only the final chunk remains.
    let rest = peer.receive_all();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[test]
fn disconnected_reader_leaves_the_live_stream() {
    let server = server();
    let mut witness = Peer::connect_silent(server.addr());
    let mut leaves = Peer::connect_silent(server.addr());
    open_stream(&mut leaves, "/api/live");
    let (_, state) = open_stream(&mut witness, "/api/live");
    let state = event_matching(&mut witness, state, |state| state["protocols"]["sse"] == 2);
    drop(leaves);
    let left = |state: &Value| state["protocols"]["sse"] == 1 && state["connections"] == 1;
    event_matching(&mut witness, state, left);
}

#[test]
fn topic_view_shows_messages_byte_for_byte() {
    let server = server();
    let mut raw = Peer::connect(server.addr());
    for number in 0..limits::PAGE_MESSAGES + 5 {
        raw.send(format!(
            r#"{{"action":"put","topic":"t","message":{{"b": {number}.50, "a":[ ]}}}}"#
        ));
    }
    let long = "é".repeat(limits::PAGE_MESSAGE_BYTES);
    raw.send(format!(r#"{{"action":"put","topic":"t","message":"{long}","confirm":true}}"#));
    let id = raw.receive_reply()["id"].clone();
    let state = json(&fetch(server.addr(), "/api/topic?name=t"));
    let messages = state["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &state["last"]), (limits::PAGE_MESSAGES, &id));
    assert_eq!(messages[0]["text"], r#"{"b": 6.50, "a":[ ]}"#);
    let last = &messages[limits::PAGE_MESSAGES - 1];
    assert_eq!((&last["id"], &last["bytes"]), (&id, &(2 * limits::PAGE_MESSAGE_BYTES + 2).into()));
    let text = last["text"].as_str().unwrap();
    assert!(text.starts_with("\"éé") && text.len() == limits::PAGE_MESSAGE_BYTES - 1, "{text}");
    for (path, code) in [("/api/topic", "missing_field"), ("/api/topic?name=", "bad_topic")] {
        let refused = fetch(server.addr(), path);
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{path}");
    }
    let none = json(&fetch(server.addr(), "/api/topic?name=none"));
    assert_eq!((&none["messages"], &none["last"]), (&serde_json::json!([]), &id));
}

#[test]
fn full_server_reports_its_health() {
    let why = |server: &dsmq::Server, health: &str| {
        let mut peer = Peer::connect_silent(server.addr());
        let (_, state) = open_stream(&mut peer, "/api/live");
        let state = event_matching(&mut peer, state, |state| state["health"] == health);
        state["why"].as_str().unwrap().to_owned()
    };
    let put = format!(r#"{{"action":"put","topic":"t","message":"{}"}}"#, "x".repeat(10_000));
    for (when_full, expected) in [
        (WhenFull::Refuse, "the store is full: it has refused "),
        (WhenFull::DropOldest, "the full store has dropped its "),
    ] {
        let config = Config { max_store: 1 << 20, when_full: Some(when_full), ..Config::default() };
        let server = server_with(config);
        // The first snapshot: later drops count as recent.
        fetch(server.addr(), "/api");
        let mut raw = Peer::connect(server.addr());
        raw.send(put.repeat(200));
        raw.send(r#"{"action":"put","topic":"t","message":"x"}"#.repeat(20_000));
        raw.send(r#"{"action":"ping"}"#);
        let state = why(&server, "overflowed");
        assert!(state.starts_with(expected), "{state}");
    }
    let server = server_with(Config { max_connections: 4, ..Config::default() });
    let _raw = [0, 1, 2].map(|_| Peer::connect(server.addr()));
    assert_eq!(why(&server, "overloaded"), "100 % of the connections are taken");
}

#[test]
fn foreign_origin_cannot_read_monitoring() {
    let server = server();
    for path in ["/api", "/api/live", "/api/topic?name=t", "/metrics", "/dump"] {
        let mut peer = Peer::connect_silent(server.addr());
        let cross = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nHost";
        let refused = ask(&mut peer, get(path).replacen("Host", cross, 1));
        assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{path}");
        peer.send(get(path).replacen("Host", "Origin: https://evil.example\r\nHost", 1));
        assert_eq!(response(&mut peer).status, 403, "{path}");
    }
}

#[test]
#[ignore = "needs Python with playwright from PyPI, chromium and redis-server: make test installs them"]
fn page_works_in_a_browser() {
    let python = std::env::var_os("DSMQ_TEST_PYTHON")
        .expect("DSMQ_TEST_PYTHON names a Python that has playwright: make test sets it");
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/page.py");
    let output = Command::new(python).args([driver, env!("CARGO_BIN_EXE_dsmq")]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let passed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "passed:\n{passed}then:\n{errors}");
    assert_eq!(passed.lines().count(), 11, "{passed}");
}

#[test]
fn unknown_page_file_is_not_found() {
    let server = server();
    let refused = ask(&mut Peer::connect_silent(server.addr()), get("/page/other.js"));
    assert_eq!((refused.status, refused.code().as_str()), (404, "not_found"));
}
