//! HTTP on the wire: responses, split requests, refusals, limits and shutdown.

use std::sync::mpsc;
use std::thread;

use dsmq::{Config, limits};

use crate::suite::support::peer::Peer;
use crate::suite::support::{server, server_with};

const PING: &str = r#"{"action":"ping"}"#;
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A response: status, header in lower case, body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub header: String,
    pub body: String,
}

impl Response {
    /// The code of an error response.
    pub fn code(&self) -> String {
        assert!(self.header.contains("content-type: application/json\r\n"), "{self:?}");
        let reply: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert!(reply["error"].as_str().is_some_and(|text| text.len() > 10), "{self:?}");
        reply["code"].as_str().unwrap().to_owned()
    }
}

pub fn response(peer: &mut Peer) -> Response {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        header.extend(peer.receive(1));
    }
    let header = String::from_utf8(header).unwrap().to_lowercase();
    let status = header.split(' ').nth(1).unwrap().parse().unwrap();
    let length = header.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body = peer.receive(length.map_or(0, |length| length.parse().unwrap()));
    Response { status, header, body: String::from_utf8(body).unwrap() }
}

pub fn ask(peer: &mut Peer, request: impl AsRef<[u8]>) -> Response {
    peer.send(request);
    response(peer)
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

pub fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn restmq_value_is_visible_to_every_protocol() {
    let server = server();
    let mut json = Peer::connect(server.addr());
    let mut peer = Peer::connect_silent(server.addr());
    let added = ask(&mut peer, post("/q/cars", "value=a+%22b%22+%C3%A9&other=1"));
    assert_eq!(added.status, 200);
    let key = added.body.strip_suffix("\r\n").unwrap().to_owned();
    let id = key.strip_prefix("cars:").unwrap();
    json.send(r#"{"action":"get","topic":"cars","meta":true}"#);
    let seen = json.receive_reply();
    assert_eq!(
        (seen["message"].as_str(), seen["id"].to_string().as_str()),
        (Some("a \"b\" é"), id)
    );

    let taken = ask(&mut peer, get("/q/cars"));
    let expected =
        format!("{{\"value\": \"a \\\"b\\\" é\", \"key\": \"{key}\", \"count\": 0}}\r\n");
    assert_eq!((taken.status, taken.body), (200, expected));
    let none = ask(&mut peer, get("/q/cars"));
    assert_eq!((none.status, none.body.as_str()), (204, ""));
    assert_eq!(ask(&mut peer, post("/q/cars", "msg=x&ttl=60")).status, 200);
    json.ask(
        r#"{"action":"put","topic":"cars","message":{"a": 1.50},"confirm":true}"#,
        r#"{"ok":true,"id":1795216135066522,"timestamp":1795216135.066522}"#,
    );
    assert!(ask(&mut peer, get("/q/cars")).body.starts_with("{\"value\": \"x\", "));
    assert!(ask(&mut peer, get("/q/cars")).body.starts_with("{\"value\": {\"a\": 1.50}, "));
}

#[test]
fn content_type_selects_json_or_text() {
    let server = server();
    let mut json = Peer::connect(server.addr());
    let mut peer = Peer::connect_silent(server.addr());
    let put = |kind: &str, body: &str| {
        let kind = format!("HTTP/1.1\r\nContent-Type: {kind}");
        post("/t/t", body).replacen("HTTP/1.1", &kind, 1)
    };
    for (kind, body, message) in [
        ("application/json", " {\"a\": 1.50}\n", "{\"a\": 1.50}"),
        ("application/json; charset=utf-8", "[1, 2]", "[1, 2]"),
        ("text/plain", "[1, 2]\n", "\"[1, 2]\\n\""),
    ] {
        let stored = ask(&mut peer, put(kind, body));
        assert_eq!(stored.status, 200, "{stored:?}");
        assert!(stored.body.starts_with("{\"ok\":true,\"id\":"), "{stored:?}");
        json.ask(r#"{"action":"get","topic":"t"}"#, &format!("{{\"message\":{message}}}"));
    }
    let deep = "[".repeat(limits::DEPTH_LEVELS + 1) + &"]".repeat(limits::DEPTH_LEVELS + 1);
    for (body, code) in [
        ("{", "bad_json"),
        ("", "bad_json"),
        ("1 2", "bad_json"),
        ("1}", "bad_json"),
        ("1,\"action\":\"put\"", "bad_json"),
        ("1,\"message\":2", "bad_json"),
        (&deep, "too_deep"),
    ] {
        let refused = ask(&mut peer, put("application/json", body));
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{body}");
    }
    json.ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":""}"#);
}

#[test]
fn requests_may_be_split_and_joined_anywhere() {
    let server = server();
    let two = post("/q/t", "value=1") + &post("/q/t", "value=2");
    let mut cut = Peer::connect_silent(server.addr());
    for byte in two.bytes() {
        cut.send([byte]);
    }
    assert_eq!((response(&mut cut).status, response(&mut cut).status), (200, 200));
    let mut glued = Peer::connect_silent(server.addr());
    glued.send(get("/q/t").repeat(3) + HEALTH);
    assert!(response(&mut glued).body.starts_with("{\"value\": \"1\""));
    assert!(response(&mut glued).body.starts_with("{\"value\": \"2\""));
    assert_eq!(response(&mut glued).status, 204);
    assert_eq!(response(&mut glued).body, "ok");
    for at in 1..HEALTH.len() {
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(&HEALTH[..at]);
        peer.send(&HEALTH[at..]);
        assert_eq!(response(&mut peer).body, "ok", "cut at {at}");
    }
}

#[test]
fn bad_requests_receive_their_error_codes() {
    let server = server_with(Config { max_message: 1_000, ..Config::default() });
    let addr = server.addr();
    let mut peer = Peer::connect_silent(addr);
    let long = "value=".to_owned() + &"x".repeat(999);
    let delete = get("/healthz").replacen("GET", "DELETE", 1);
    let head = get("/q/t").replacen("GET", "HEAD", 1);
    for (request, status, code) in [
        (get("/nowhere"), 404, "not_found"),
        (delete, 405, "method_not_allowed"),
        (post("/q/t", "a=b"), 400, "missing_field"),
        (post("/q/t", "value=1&ttl=x"), 400, "bad_field"),
        (post("/q/%00", "value=1"), 400, "bad_topic"),
        (post("/q/%ff", "value=1"), 400, "bad_topic"),
        (post("/q/t", &long), 413, "message_too_large"),
        (post("/q/t", &long).replace("Host: localhost\r\n", ""), 400, "missing_field"),
    ] {
        let refused = ask(&mut Peer::connect_silent(addr), &request);
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{request}");
    }
    assert_eq!(ask(&mut peer, post("/q/t", &long[..long.len() - 1])).status, 200);
    // HEAD removes nothing.
    peer.send(head);
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        header.extend(peer.receive(1));
    }
    assert!(header.starts_with(b"HTTP/1.1 405 "), "{}", String::from_utf8_lossy(&header));
    assert_eq!(ask(&mut peer, get("/q/t")).status, 200);
}

#[test]
fn too_large_body_is_refused_early() {
    let server = server_with(Config { max_message: 1_000, ..Config::default() });
    let most = 1_000 + limits::REQUEST_OVERHEAD_BYTES;
    let mut claims = Peer::connect_silent(server.addr());
    let head = "POST /t/t HTTP/1.1\r\nHost: localhost\r\n";
    let refused = ask(&mut claims, format!("{head}Content-Length: {}\r\n\r\n", most + 1));
    assert_eq!((refused.status, refused.code().as_str()), (413, "request_too_large"));
    let mut sends = Peer::connect_silent(server.addr());
    sends.send(post("/t/t", &"x".repeat(most + 100_000)));
    assert_eq!(response(&mut sends).status, 413);
    let mut chunked = Peer::connect_silent(server.addr());
    chunked.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    let chunk = format!("{:x}\r\n{}\r\n", most / 8, "x".repeat(most / 8));
    chunked.send(chunk.repeat(9));
    assert_eq!(response(&mut chunked).status, 413);
    let mut large = Peer::connect_silent(server.addr());
    let header = format!("A: {}\r\n", "x".repeat(limits::HTTP_HEADER_BYTES));
    let refused = ask(&mut large, HEALTH.replacen("Host", &(header + "Host"), 1));
    assert_eq!(refused.status, 431);
}

#[test]
fn foreign_origin_is_refused_unless_allowed() {
    let request_from = |origin: &str| {
        post("/q/t", "value=1").replacen("Host", &format!("Origin: {origin}\r\nHost"), 1)
    };
    let closed = server();
    let mut peer = Peer::connect_silent(closed.addr());
    let refused = ask(&mut peer, request_from("http://evil.example"));
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"));
    let refused = ask(&mut peer, HEALTH.replace("localhost", "evil.example"));
    assert_eq!((refused.status, refused.code().as_str()), (421, "wrong_host"));
    assert_eq!(ask(&mut peer, get("/q/t")).status, 204);

    let good = "https://good.example";
    let open = server_with(Config { allow_origin: vec![good.into()], ..Config::default() });
    let mut peer = Peer::connect_silent(open.addr());
    let let_in = ask(&mut peer, request_from(good));
    assert_eq!(let_in.status, 200);
    assert!(let_in.header.contains("access-control-allow-origin: https://good.example\r\n"));
    assert_eq!(ask(&mut peer, request_from("http://evil.example")).status, 403);
    let first = request_from(good).replacen("POST", "OPTIONS", 1);
    let asked =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a\r\nHost";
    let first = first.replacen("Host", asked, 1);
    let first = ask(&mut peer, first);
    assert_eq!(first.status, 204);
    assert!(first.header.contains("access-control-allow-methods: get, head, post, delete\r\n"));
    assert!(first.header.contains("access-control-allow-headers: x-a\r\n"), "{first:?}");
}

#[test]
fn http_json_hybrid_puts_nothing() {
    let server = server();
    let mut witness = Peer::connect(server.addr());
    let hidden = r#"{"action":"put","topic":"t","message":1}"#;
    for head in [
        "POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET ",
        "PUT",
        "A",
        "Z\n",
        "HEAD {",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ",
    ] {
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(head.to_owned() + hidden + "\r\n\r\n");
        peer.end();
        let output = peer.receive_all();
        assert!(output.is_empty() || output.starts_with("HTTP/1.1 "), "{head}: {output}");
    }
    for path in ["/", "/t/", "/healthz"] {
        let mut peer = Peer::connect_silent(server.addr());
        let refused = ask(&mut peer, post(path, hidden));
        assert!((400..500).contains(&refused.status), "{refused:?}");
    }
    // The reverse: HTTP on a JSON connection.
    let mut json = Peer::connect(server.addr());
    json.send(post("/q/t", "value=1"));
    json.expect_error("bad_json");
    json.expect_end();
    witness.ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":""}"#);
}

#[test]
fn request_in_progress_completes_during_shutdown() {
    let server = server();
    let addr = server.addr();
    let mut idle = Peer::connect_silent(addr);
    assert_eq!(ask(&mut idle, HEALTH).body, "ok");
    let mut begun = Peer::connect_silent(addr);
    let request = post("/q/t", "value=1").replacen("Host", "Expect: 100-continue\r\nHost", 1);
    let (head, body) = request.split_at(request.len() - 7);
    // After `100 Continue` the request is in progress.
    assert_eq!(ask(&mut begun, head).status, 100);
    let (stopped, stops) = mpsc::channel();
    let stopping = thread::spawn(move || {
        server.stop();
        stopped.send(()).unwrap();
    });
    idle.expect_end();
    assert!(
        stops.try_recv().is_err(),
        "the server stopped before the request in progress completed"
    );
    assert_eq!(ask(&mut begun, body).status, 200);
    begun.expect_end();
    stopping.join().unwrap();
}

#[test]
fn open_http_connection_counts_towards_the_limit() {
    let server = server_with(Config { max_connections: 1, ..Config::default() });
    let mut first = Peer::connect_silent(server.addr());
    assert_eq!(ask(&mut first, HEALTH).body, "ok");
    Peer::connect_silent(server.addr()).expect_error("busy");
    first.send(HEALTH.replacen("Host", "Connection: close\r\nHost", 1));
    assert_eq!(response(&mut first).body, "ok");
    first.expect_end();
    drop(first);
    // The connection counts until the server has seen its end.
    loop {
        let mut next = Peer::connect_silent(server.addr());
        next.send(PING);
        if next.receive(2) == b"{\"" && next.receive(2) == b"ok" {
            break;
        }
    }
}

#[test]
#[ignore = "waits for the header timeout: 10 s"]
fn slow_header_times_out() {
    let server = server();
    let mut used = Peer::connect_silent(server.addr());
    assert_eq!(ask(&mut used, HEALTH).body, "ok");
    let mut fresh = Peer::connect_silent(server.addr());
    for peer in [&mut used, &mut fresh] {
        peer.send("GET /healthz HTTP/1.1\r\n");
    }
    used.expect_end();
    fresh.expect_end();
}
