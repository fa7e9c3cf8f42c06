//! RestMQ's routes: each request has the exact status and body.

mod browser;
mod consumers;
pub mod document;
mod mapreduce;
mod xmlrpc;

use std::net::SocketAddr;

use dsmq::{Config, limits};

use crate::suite::support::peer::{Peer, masked};
use crate::suite::support::{server, server_with};
use crate::suite::web::http::{Response, ask, get, post};

/// A connection that sends one request after the other.
struct Rest(Peer);

impl Rest {
    fn connect(addr: SocketAddr) -> Rest {
        Rest(Peer::connect_silent(addr))
    }

    fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        ask(&mut self.0, request)
    }

    /// Compares status and body; ids are replaced.
    fn expect(&mut self, request: &str, status: u16, body: &str) -> Response {
        let answer = self.ask(request);
        assert_eq!((answer.status, masked(&answer.body)), (status, masked(body)), "{request}");
        answer
    }

    fn get(&mut self, path: &str, body: &str) -> Response {
        self.expect(&get(path), 200, body)
    }

    fn post(&mut self, path: &str, form: &str, body: &str) -> Response {
        self.expect(&post(path, form), 200, body)
    }

    /// Expects an error with this status and code.
    fn refused(&mut self, request: &str, status: u16, code: &str) {
        let answer = self.ask(request);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{request}");
    }

    /// Adds a value and returns its key.
    fn add(&mut self, queue: &str, value: &str) -> String {
        let added = self.ask(post(&format!("/q/{queue}"), &format!("value={value}")));
        assert_eq!(added.status, 200, "{added:?}");
        added.body.trim_end().to_owned()
    }
}

fn delete(path: &str) -> String {
    get(path).replacen("GET", "DELETE", 1)
}

#[test]
fn values_are_added_and_taken_at_root_and_queue() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let added = rest.post("/", "queue=test&value=foobar", "test:1795216135066522\r\n");
    assert!(added.header.contains("content-type: text/plain; charset=utf-8\r\n"), "{added:?}");
    let key = added.body.trim_end();
    let taken = rest.get(
        "/?queue=test",
        &format!("{{\"value\": \"foobar\", \"key\": \"{key}\", \"count\": 0}}\r\n"),
    );
    assert!(taken.body.contains(key) && taken.header.contains("application/json\r\n"), "{taken:?}");
    assert!(taken.header.contains("cache-control: no-store\r\n"), "{taken:?}");
    rest.refused(&get("/?queue=test"), 404, "not_found");
    rest.expect(&get("/q/test"), 204, "");

    rest.post("/q/test", "msg=1", "test:1795216135066522\r\n");
    rest.post("/?queue=test&msg=2", "", "test:1795216135066522\r\n");
    rest.post("/q/test?value=a", "value=3", "test:1795216135066522\r\n");
    for value in ["1", "2", "3"] {
        let body = format!(
            "{{\"value\": \"{value}\", \"key\": \"test:1795216135066522\", \"count\": 0}}\r\n"
        );
        rest.get("/q/test", &body);
    }
    // Opening the page takes nothing.
    rest.add("test", "stays");
    assert_eq!(rest.ask(get("/")).status, 200);
    assert!(rest.ask(get("/q/test")).body.contains("stays"));
}

#[test]
fn value_with_zero_ttl_is_not_taken() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    rest.post("/q/test", "value=gone&ttl=0", "test:1795216135066522\r\n");
    rest.post("/", "queue=test&value=too&ttl=0", "test:1795216135066522\r\n");
    rest.post("/q/test", "value=stays&ttl=3600", "test:1795216135066522\r\n");
    assert!(rest.ask(get("/q/test")).body.contains("stays"));
}

#[test]
fn values_come_back_unchanged() {
    let server = server();
    let mut json = Peer::connect(server.addr());
    let mut rest = Rest::connect(server.addr());
    for message in ["{\"a\": [1.50,\n 2]}", "\"\\ud800\"", "null", "1e400"] {
        json.send(format!(
            "{{\"action\":\"put\",\"topic\":\"q\",\"message\":{message},\"confirm\":true}}"
        ));
        json.receive_reply();
        let taken = rest.ask(get("/q/q")).body;
        assert!(taken.starts_with(&format!("{{\"value\": {message}, \"key\": ")), "{taken}");
    }
    // Text stays text, even if it looks like JSON.
    rest.add("q", "%7B%22a%22%3A1%7D+%C3%A9%0A");
    json.ask(r#"{"action":"get","topic":"q"}"#, r#"{"message":"{\"a\":1} é\n"}"#);
}

#[test]
fn queue_may_have_any_name_of_a_topic() {
    let server = server();
    let mut json = Peer::connect(server.addr());
    let mut rest = Rest::connect(server.addr());
    for (path, name) in
        [("a/b", "a/b"), ("a%2Fc", "a/c"), ("%C3%A9%20%22", "é \\\""), ("a:b", "a:b")]
    {
        rest.add(path, "1");
        json.ask(&format!(r#"{{"action":"get","topic":"{name}"}}"#), r#"{"message":"1"}"#);
        let taken = rest.ask(get(&format!("/q/{path}"))).body;
        assert!(taken.contains(&format!("\"key\": \"{name}:")), "{taken}");
    }
    let long = "x".repeat(limits::TOPIC_BYTES + 1);
    for bad in ["%00", "%ff", "a%0Ab", &long] {
        for path in ["q", "c", "p", "j", "stats", "control", "ws"] {
            rest.refused(&get(&format!("/{path}/{bad}")), 400, "bad_topic");
        }
        rest.refused(&post(&format!("/queue/{bad}"), ""), 400, "bad_topic");
        rest.refused(
            &post("/", &format!("value=1&queue={bad}")),
            400,
            if bad == "%ff" { "bad_utf8" } else { "bad_topic" },
        );
    }
    rest.refused(&post("/", "value=1&queue="), 400, "bad_topic");
    rest.get("/stats/", &rest_stats_of(&["a/b", "a/c", "a:b", "é \\\""]));
}

fn rest_stats_of(names: &[&str]) -> String {
    let queues: Vec<String> = names
        .iter()
        .map(|name| {
            format!(
                "\"{name}\": {{\"name\": \"{name}\", \"len\": 0, \"status\": 1, \"policy\": \"\"}}"
            )
        })
        .collect();
    let count = names.len();
    format!(
        "{{\"queues\": {{{}}}, \"redis\": \"dsmq store: memory\", \"count\": {count}}}",
        queues.join(", ")
    )
}

#[test]
fn invalid_requests_are_refused_and_add_nothing() {
    let server = server_with(Config { max_message: 1_000, ..Config::default() });
    let mut rest = Rest::connect(server.addr());
    for (request, status, code) in [
        (post("/", "queue=t"), 400, "missing_field"),
        (post("/", "value=1"), 400, "missing_field"),
        (post("/q/t", ""), 400, "missing_field"),
        (post("/q/t", "value=%ff"), 400, "bad_utf8"),
        (post("/q/t", "value=1&ttl=1.5"), 400, "bad_field"),
        (post("/q/t", "value=1&ttl=-1"), 400, "bad_field"),
        (post("/q/t", "value=1&ttl=99999999999"), 400, "bad_field"),
        (post("/q/t", &format!("value={}", "x".repeat(999))), 413, "message_too_large"),
        (post("/p/t", "a=b"), 400, "missing_field"),
        (post("/queue", "a=b"), 400, "missing_field"),
        (post("/stats/", ""), 405, "method_not_allowed"),
        (post("/q/", "value=1"), 405, "method_not_allowed"),
        (delete("/control/t"), 405, "method_not_allowed"),
        (get("/xmlrpc"), 405, "method_not_allowed"),
        (get("/ws/t"), 426, "bad_field"),
        (
            get("/q/t").replacen("GET", "HEAD", 1).replacen("HEAD", "PUT", 1),
            405,
            "method_not_allowed",
        ),
    ] {
        rest.refused(&request, status, code);
    }
    rest.get("/stats/", "{\"queues\": {}, \"redis\": \"dsmq store: memory\", \"count\": 0}");
    // One byte of a value takes up to three in a form, and six in XML.
    let most = 1_000 + limits::REQUEST_OVERHEAD_BYTES;
    for (path, most) in
        [("/q/t", 3 * most), ("/", 3 * most), ("/queue", 3 * most), ("/xmlrpc", 6 * most)]
    {
        let mut claims = Rest::connect(server.addr());
        claims.refused(&post(path, &"x".repeat(most + 1)), 413, "request_too_large");
    }
}

#[test]
fn percent_encoded_form_may_hold_the_largest_message() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let most = limits::MESSAGE_BYTES - 2;
    let whole = "x".repeat(most);
    rest.add("t", &whole);
    assert!(rest.ask(get("/q/t")).body.contains(&whole));
    rest.refused(&post("/q/t", &format!("value={whole}x")), 413, "message_too_large");
    let encoded = "%C3%A9".repeat(3 << 20);
    rest.add("t", &encoded);
    assert!(rest.ask(get("/q/t")).body.contains(&"é".repeat(3 << 20)));
}

#[test]
fn policies_are_set_and_shown() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    rest.get("/p/q", "{\"queue\": \"q\", \"value\": \"unknown\"}\r\n");
    for policy in ["broadcast", "roundrobin"] {
        rest.post("/p/q", &format!("policy={policy}"), "OK\r\n");
        rest.get("/p/q", &format!("{{\"queue\": \"q\", \"value\": \"{policy}\"}}\r\n"));
    }
    rest.post("/p/q", "policy=other", "null\r\n");
    rest.get("/p/q", "{\"queue\": \"q\", \"value\": \"roundrobin\"}\r\n");
    let stats = "{\"queues\": {\"q\": {\"name\": \"q\", \"len\": 0, \"status\": 1, \"policy\": 2}}, \"redis\": \"dsmq store: memory\", \"count\": 1}";
    rest.get("/stats/", stats);
}

#[test]
fn queues_are_stopped_started_counted_and_purged() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let state = |status: &str| format!("{{\"queue\": \"q\", \"status\": {status}}}");
    let answer = |status: &str| {
        format!(
            "{{\"redis\": \"dsmq store: memory\", \"queue\": \"q\", \"status\": {}}}\r\n",
            state(status)
        )
    };
    rest.get("/control/q", &answer("null"));
    rest.get("/control/", "{\"redis\": \"dsmq store: memory\", \"queues\": {}, \"count\": 0}\r\n");
    rest.add("q", "1");
    rest.get("/control/q", &answer("1"));
    rest.post("/control/q", "status=stop", &format!("{{\"stat\": {}}}\r\n", state("0")));
    rest.get("/control/q", &answer("0"));
    let all = format!(
        "{{\"redis\": \"dsmq store: memory\", \"queues\": {{\"q\": {}}}, \"count\": 1}}\r\n",
        state("0")
    );
    rest.get("/control/", &all);
    rest.get("/stats/", "{\"queues\": {\"q\": {\"name\": \"q\", \"len\": 1, \"status\": \"\", \"policy\": \"\"}}, \"redis\": \"dsmq store: memory\", \"count\": 1}");
    rest.post("/control/q", "status=start", &format!("{{\"stat\": {}}}\r\n", state("1")));
    rest.post("/control/q", "status=%22x", "{\"stat\": \"invalid status: \\\"x\"}\r\n");
    rest.post("/control/q", "", "{\"stat\": \"invalid status: None\"}\r\n");
    rest.get("/stats/q", "{\"redis\": \"dsmq store: memory\", \"queue\": \"q\", \"len\": 1}");
    rest.get(
        "/stats/other",
        "{\"redis\": \"dsmq store: memory\", \"queue\": \"other\", \"len\": 0}",
    );
    rest.expect(&delete("/q/q"), 200, "{\"queue\": \"q\", \"status\": 1}\r\n");
    rest.expect(&delete("/q/q"), 200, "{\"queue\": \"q\", \"status\": 0}\r\n");
    rest.expect(&get("/q/q"), 204, "");
}

#[test]
fn commands_and_their_errors_are_answered_with_objects() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let mut command = |path: &str, command: &str, answer: &str| {
        rest.post(path, &format!("body={}", command.replace('+', "%2B")), answer)
    };
    let key = "genesis:1795216135066522";
    let add = r#"{"cmd": "add", "queue": "genesis", "value": "abacab"}"#;
    command(
        "/queue",
        add,
        &format!("{{\"queue\": \"genesis\", \"value\": \"abacab\", \"key\": \"{key}\"}}"),
    );
    let added = command(
        "/queue/genesis",
        r#"{"cmd":"add","value":{"b": 1.50}}"#,
        &format!("{{\"queue\": \"genesis\", \"value\": {{\"b\": 1.50}}, \"key\": \"{key}\"}}"),
    );
    for count in 1..3 {
        let seen = format!(
            "{{\"queue\": \"genesis\", \"value\": \"abacab\", \"key\": \"{key}\", \"count\": {count}}}"
        );
        command("/queue", r#"{"cmd":"get","queue":"genesis"}"#, &seen);
    }
    command(
        "/queue/other",
        r#"{"cmd":"take","queue":"genesis"}"#,
        &format!("{{\"queue\": \"genesis\", \"value\": \"abacab\", \"key\": \"{key}\"}}"),
    );
    let added: serde_json::Value = serde_json::from_str(&added.body).unwrap();
    let key = added["key"].as_str().unwrap();
    for deleted in [true, false] {
        let answer =
            format!("{{\"queue\": \"genesis\", \"key\": \"{key}\", \"deleted\": {deleted}}}");
        command("/queue", &format!(r#"{{"cmd":"del","queue":"genesis","key":"{key}"}}"#), &answer);
    }
    command(
        "/queue",
        r#"{"cmd":"del","queue":"genesis","key":"other:1"}"#,
        "{\"queue\": \"genesis\", \"key\": \"other:1\", \"deleted\": false}",
    );
    for cmd in ["take", "get"] {
        command("/queue/genesis", &format!(r#"{{"cmd":"{cmd}"}}"#), "{\"error\": \"empty queue\"}");
    }
    command("/queue", r#"{"cmd":"fly","queue":"genesis"}"#, "{\"error\":\"null resultset\"}");
    for wrong in [
        r#"{"cmd":"add","queue":"genesis"}"#,
        r#"{"cmd":"add","value":1}"#,
        r#"{"cmd":"add","queue":"","value":1}"#,
        r#"{"cmd":"add","queue":7,"value":1}"#,
        r#"{"cmd":"del","queue":"genesis"}"#,
        &format!(
            r#"{{"cmd":"add","queue":"genesis","value":{}1{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        ),
    ] {
        let answer = rest.ask(post("/queue", &format!("msg={wrong}")));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.body.starts_with("{\"error\": \"") && answer.body.ends_with("\"}"),
            "{answer:?}"
        );
    }
    for malformed in
        ["{", "[]", "{}", "{\"cmd\":1}", "{\"cmd\":\"\"}", "x", "{\"cmd\":\"get\"}x", "1"]
    {
        rest.refused(&post("/queue", &format!("body={malformed}")), 400, "bad_json");
    }
    rest.expect(&get("/q/genesis"), 204, "");
}
