//! Hostile and broken HTTP clients: foreign pages, foreign host names, smuggled requests, exceeded
//! limits, and slow clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use dsmq::{Config, limits};

use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::{PATIENCE, server, server_with};

/// A request that closes the connection, so that all responses can be read to the end.
const LAST: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The statuses of all responses to bytes sent on a new connection.
fn statuses(addr: SocketAddr, sent: &str) -> Vec<String> {
    let mut peer = Peer::connect_silent(addr);
    peer.send(sent);
    let output = peer.receive_all();
    output.split("HTTP/1.1 ").skip(1).map(|response| response[..3].to_owned()).collect()
}

fn status(addr: SocketAddr, sent: &str) -> String {
    let mut peer = Peer::connect_silent(addr);
    peer.send(sent);
    String::from_utf8(peer.receive(12)).unwrap().split_off(9)
}

/// Asserts that no message was put.
fn expect_nothing_put(addr: SocketAddr) {
    let mut witness = Peer::connect(addr);
    witness.send(r#"{"action":"stats"}"#);
    assert_eq!(witness.receive_reply()["stats"]["puts"], 0);
}

#[test]
fn fifty_http_json_hybrids_put_nothing() {
    let server = server();
    let hidden = r#"{"action":"put","topic":"t","message":1}"#;
    let heads = [
        "GET ",
        "POST\n",
        "PUT / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "POST /t/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ",
        "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "Z",
    ];
    let bodies = [
        hidden.to_owned(),
        hidden.repeat(3),
        format!("\r\n\r\n{hidden}\r\n\r\n"),
        format!(" \n{hidden}\n{LAST}"),
        format!("{{\"x\":1}}{hidden}"),
    ];
    for (head, body) in heads.iter().flat_map(|head| bodies.iter().map(move |body| (head, body))) {
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(format!("{head}{body}"));
        peer.end();
        let output = peer.receive_all();
        assert!(output.is_empty() || output.starts_with("HTTP/1."), "{head}{body}: {output}");
    }
    expect_nothing_put(server.addr());
}

#[test]
fn twenty_hostile_hosts_are_refused() {
    let server = server();
    for host in [
        "evil.example",
        "evil.example:30008",
        "localhost.evil.example",
        "evil.localhost",
        "127.0.0.1.evil.example",
        "localhost.",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost:80:80",
        "localhost:99999",
        "localhost:-1",
        "localhost:+80",
        "localhost:8o",
        "localhost evil.example",
        "localhost,evil.example",
        "localhost/",
        "http://localhost",
        "[::1",
        "[::1]evil",
        "[localhost]",
        "[::1%25eth0]",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "*",
        ".",
        ":",
        "",
        "%6cocalhost",
        "xn--localhost",
        "\u{e9}.example",
    ] {
        let put = format!("POST /q/t HTTP/1.1\r\nHost: {host}\r\nContent-Length: 7\r\n\r\nvalue=1");
        let refused = status(server.addr(), &put);
        assert!(["400", "421"].contains(&refused.as_str()), "{host}: {refused}");
    }
    for (line, hosts) in [
        ("http://evil.example/q/t", "Host: localhost\r\n"),
        ("http://localhost/q/t", "Host: evil.example\r\n"),
        ("/q/t", "Host: localhost\r\nHost: evil.example\r\n"),
        ("/q/t", "Host: localhost\r\nHost: localhost\r\n"),
        ("/q/t", ""),
    ] {
        let put = format!("POST {line} HTTP/1.1\r\n{hosts}Content-Length: 7\r\n\r\nvalue=1");
        let refused = status(server.addr(), &put);
        assert!(["400", "421"].contains(&refused.as_str()), "{line} {hosts}: {refused}");
    }
    expect_nothing_put(server.addr());
}

#[test]
fn foreign_origins_are_refused_unless_allowed() {
    let post = |kind: &str, body: &str| {
        let length = body.len();
        let headers =
            format!("Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
        format!("POST /q/t HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{body}")
    };
    let asks = [
        (post("application/x-www-form-urlencoded", "value=1"), "200"),
        (post("multipart/form-data; boundary=x", "value=1"), "200"),
        (post("text/plain", "value=1"), "200"),
        (post("application/json", "value=1"), "200"),
        (post("text/plain", "{\"value\":1}").replacen("/q/", "/t/", 1), "200"),
        (post("application/json", "{}").replacen("/q/", "/t/", 1), "200"),
        (LAST.replacen("/healthz", "/q/t", 1), "200"),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n"), "101"),
        (format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n"), "101"),
    ];
    let from = |ask: &str, header: &str| ask.replacen("Host", &format!("{header}\r\nHost"), 1);
    let closed = server();
    for origin in [
        "http://evil.example",
        "https://evil.example",
        "null",
        "",
        "http://localhost:1",
        "http://localhost.evil.example",
        "http://evil.example, http://localhost",
        "file://",
        "localhost",
    ] {
        for (ask, _) in &asks {
            let refused = status(closed.addr(), &from(ask, &format!("Origin: {origin}")));
            assert_eq!(refused, "403", "{origin}: {ask}");
        }
    }
    let no_cors = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors";
    for (ask, _) in &asks {
        assert_eq!(status(closed.addr(), &from(ask, no_cors)), "403", "{ask}");
    }
    expect_nothing_put(closed.addr());

    let good = "https://good.example";
    for allowed in [good, "*"] {
        let open = server_with(Config { allow_origin: vec![allowed.into()], ..Config::default() });
        for (ask, answer) in &asks {
            let let_in = status(open.addr(), &from(ask, &format!("Origin: {good}")));
            assert_eq!(let_in, *answer, "{allowed}: {ask}");
        }
    }
}

/// Two servers must never disagree on where a request ends.
#[test]
fn smuggled_requests_are_refused_and_close() {
    let server = server();
    let hidden = "POST /q/hidden HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\nvalue=1";
    let length = hidden.len();
    let chunks = "0\r\n\r\n";
    for (headers, body) in [
        (&*format!("Content-Length: {}\r\nTransfer-Encoding: chunked", length + 5), chunks),
        (&format!("Transfer-Encoding: chunked\r\nContent-Length: {}", length + 5), chunks),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", chunks),
        ("Content-Length: 0\r\nContent-Length: 9", ""),
        (&format!("Content-Length: 0\r\nContent-Length: {length}"), ""),
        ("Content-Length: 0, 0", ""),
        ("Content-Length: +0", ""),
        ("Content-Length: -1", ""),
        ("Content-Length: 0x0", ""),
        ("Content-Length: 99999999999999999999999", ""),
        ("Transfer-Encoding: xchunked", chunks),
        ("Transfer-Encoding: chunked, identity", chunks),
        ("Transfer-Encoding: identity\r\nContent-Length: 0", ""),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", chunks),
        ("Transfer-Encoding : chunked\r\nContent-Length: 0", ""),
        ("Transfer-Encoding:\r\n chunked\r\nContent-Length: 0", ""),
        ("X: a\r\n b\r\nContent-Length: 0", ""),
        ("X: a\rContent-Length: 0", ""),
        ("X: a\0\r\nContent-Length: 0", ""),
        ("X: a\nTransfer-Encoding: chunked\r\nContent-Length: 0", ""),
        ("Transfer-Encoding: chunked", "1;\nx\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "10000000000000000\r\n"),
        ("Transfer-Encoding: chunked", "-1\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "0\n\n"),
    ] {
        let outer = format!("POST /q/outer HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{body}");
        let output = statuses(server.addr(), &(outer + hidden + LAST));
        assert_eq!(output, ["400"], "{headers:?} {body:?}");
    }
    expect_nothing_put(server.addr());
    // The body of a GET is only a body.
    let get =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(statuses(server.addr(), &(get + hidden + LAST)), ["200", "200"]);
    // Line ends without a CR are accepted: they hide nothing.
    let bare = "POST /q/t HTTP/1.1\nHost: localhost\nContent-Length: 7\n\nvalue=1";
    let last = statuses(server.addr(), &(bare.to_owned() + LAST)).pop();
    assert!(last.is_some_and(|status| ["200", "400"].contains(&status.as_str())));
    let mut witness = Peer::connect(server.addr());
    witness.ask(r#"{"action":"take","topic":"hidden"}"#, r#"{"message":"","empty":true}"#);
}

#[test]
fn headers_are_limited() {
    let server = server();
    let with = |header: &str| LAST.replacen("Host", &format!("{header}\r\nHost"), 1);
    let room = limits::HTTP_HEADER_BYTES - with("X: ").len();
    assert_eq!(statuses(server.addr(), &with(&format!("X: {}", "x".repeat(room - 1)))), ["200"]);
    assert_eq!(statuses(server.addr(), &with(&format!("X: {}", "x".repeat(room + 1)))), ["431"]);
    let many = |count| (0..count).map(|n| format!("X{n}: x")).collect::<Vec<_>>().join("\r\n");
    assert_eq!(statuses(server.addr(), &with(&many(90))), ["200"]);
    assert_eq!(statuses(server.addr(), &with(&many(200))), ["431"]);
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(limits::HTTP_HEADER_BYTES)
    );
    assert!(["414", "431"].contains(&statuses(server.addr(), &long)[0].as_str()));
    // An endless header is cut off.
    let mut endless = Peer::connect_silent(server.addr());
    endless.send("GET / HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(10 * limits::HTTP_HEADER_BYTES));
    assert!(endless.receive_all().starts_with("HTTP/1.1 431 "));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    const REQUESTS: usize = 5_000;
    let server = server();
    let mut peer = Peer::connect_silent(server.addr());
    let mut writer = peer.try_clone();
    let writing = thread::spawn(move || {
        for number in 0..REQUESTS {
            let body = format!("value={number}");
            let length = body.len();
            writer.send(format!(
                "POST /q/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}\
                 GET /q/t HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ));
        }
        writer.send(LAST);
    });
    let output = peer.receive_all();
    writing.join().unwrap();
    let values = output.split("{\"value\": \"").skip(1);
    let values: Vec<usize> =
        values.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
    assert_eq!(values, (0..REQUESTS).collect::<Vec<_>>());
    assert_eq!(output.matches("HTTP/1.1 200 ").count(), 2 * REQUESTS + 1);
}

/// The responses exceed the socket buffers of a slow reader; other clients continue.
#[test]
fn slow_readers_do_not_delay_other_clients() {
    let server = server();
    let large = "x".repeat(4 << 20);
    let mut slow: Vec<_> = (0..20).map(|_| Peer::connect_silent(server.addr())).collect();
    let mut putter = Peer::connect(server.addr());
    for peer in &mut slow {
        putter.send(format!(
            r#"{{"action":"put","topic":"t","message":"{large}"}}{{"action":"ping"}}"#
        ));
        putter.expect(r#"{"ok":true}"#);
        peer.send("GET /q/t HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(peer.receive(9), b"HTTP/1.1 ");
    }
    for _ in 0..100 {
        assert_eq!(statuses(server.addr(), LAST), ["200"]);
    }
    for mut peer in slow {
        assert_eq!(peer.receive(4), b"200 ");
        assert!(peer.receive_all().contains(&large));
    }
}

#[test]
fn connection_over_the_limit_receives_busy() {
    let server = server_with(Config { max_connections: 2, ..Config::default() });
    let mut held: Vec<_> = (0..2).map(|_| Peer::connect(server.addr())).collect();
    for request in
        [LAST.to_owned(), format!("GET / HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n")]
    {
        let mut peer = Peer::connect_silent(server.addr());
        let _ = peer.try_send(request);
        peer.expect_error("busy");
    }
    held[0].ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
}

/// Headers that arrive at one byte a second time out, while other clients are served.
#[test]
#[ignore = "takes as long as a header may: 10 s"]
fn two_thousand_slow_headers_time_out() {
    const DRIBBLING: usize = 2_000;
    let (_process, addr) = Process::server(&mut dsmq(&["--port", "0", "--log", "error"]));
    let began = Instant::now();
    let mut open: Vec<TcpStream> = (0..DRIBBLING).map(|_| slow_client(addr)).collect();
    let mut healthy = Peer::connect_silent(addr);
    let mut took = Vec::new();
    let header = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(100)).into_bytes();
    let (mut sent, mut looked) = (1, began);
    while !open.is_empty() {
        assert!(began.elapsed() < PATIENCE, "{} are open", open.len());
        if began.elapsed() > sent * Duration::from_secs(1) {
            let byte = header[sent as usize];
            open.iter_mut().for_each(|stream| drop(stream.write(&[byte])));
            sent += 1;
        }
        if looked.elapsed() > Duration::from_millis(100) {
            open.retain_mut(is_open);
            looked = Instant::now();
        }
        let asked = Instant::now();
        healthy.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(healthy.receive(12), b"HTTP/1.1 200");
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\nok") {
            rest.extend(healthy.receive(1));
        }
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!(
        "{DRIBBLING} connections that dribble were closed after {:?} at most; meanwhile a healthy client had {} answers: \
         p50 {:?}, p99 {:?}, the slowest {:?}",
        looked - began,
        took.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(looked - began < 3 * limits::HTTP_HEADER);
    assert!(at(99) < Duration::from_secs(1));
}

fn slow_client(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.write_all(b"G").unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Whether the server has sent nothing and not closed.
fn is_open(stream: &mut TcpStream) -> bool {
    let read = stream.read(&mut [0; 1024]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
