//! RestMQ's consumers, comet and WebSocket: the order and the distribution of messages, and the
//! return of messages that were not received.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::{Rest, delete};
use crate::suite::support::peer::Peer;
use crate::suite::support::{PATIENCE, server, server_with};
use crate::suite::web::http::get;
use dsmq::Config;
use serde_json::{Value, json};

/// A comet consumer. It has joined the queue when the answer's header arrives.
struct Comet {
    peer: Peer,
    text: String,
}

impl Comet {
    fn connect(addr: SocketAddr, queue: &str) -> Comet {
        let mut peer = Peer::connect_silent(addr);
        peer.send(get(&format!("/c/{queue}")));
        let header = header(&mut peer);
        assert!(header.starts_with("HTTP/1.1 200 OK\r\n"), "{header}");
        assert!(header.contains("\r\ntransfer-encoding: chunked\r\n"), "{header}");
        assert!(header.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"), "{header}");
        Comet { peer, text: String::new() }
    }

    /// The next line unchanged; `None` at the end.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once("\r\n") {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(line);
            }
            let mut size = String::new();
            while !size.ends_with("\r\n") {
                size.push(self.peer.receive(1)[0].into());
            }
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            let chunk = self.peer.receive(size + 2);
            if size == 0 {
                assert_eq!(self.text, "", "it ends inside a line");
                return None;
            }
            self.text += str::from_utf8(&chunk[..size]).unwrap();
        }
    }

    fn object(&mut self) -> Value {
        serde_json::from_str(&self.line().expect("the answer has ended")).unwrap()
    }

    fn value(&mut self) -> String {
        self.object()["value"].as_str().unwrap().to_owned()
    }
}

fn header(peer: &mut Peer) -> String {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        header.extend(peer.receive(1));
    }
    String::from_utf8(header).unwrap()
}

/// A WebSocket consumer.
struct Socket(Peer);

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

impl Socket {
    fn connect(addr: SocketAddr, queue: &str) -> Socket {
        let mut peer = Peer::connect_silent(addr);
        // The key and its answer are those of RFC 6455.
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost";
        peer.send(get(&format!("/ws/{queue}")).replacen("Host", upgrade, 1));
        let header = header(&mut peer).to_lowercase();
        assert!(header.starts_with("http/1.1 101 "), "{header}");
        assert!(
            header.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{header}"
        );
        Socket(peer)
    }

    /// The next frame's opcode and text; for a close frame the code.
    fn frame(&mut self) -> (u8, String) {
        let head = self.0.receive(2);
        let len = match head[1] {
            126 => self.0.receive(2).iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
            127 => self.0.receive(8).iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
            short => usize::from(short),
        };
        let payload = self.0.receive(len);
        let text = match head[0] {
            CLOSE => u16::from_be_bytes(payload[..2].try_into().unwrap()).to_string(),
            _ => String::from_utf8(payload).unwrap(),
        };
        (head[0], text)
    }

    fn send(&mut self, kind: u8, text: &str) {
        // A mask of zeros leaves the bytes unchanged.
        let masked = [kind, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        self.0.send([&masked, text.as_bytes()].concat());
    }
}

/// Waits until the topic has this number of consumers.
fn consumed_by(json: &mut Peer, topic: &str, consumers: u64) {
    let begun = Instant::now();
    loop {
        json.send(r#"{"action":"topics"}"#);
        let topics = json.receive_reply();
        let found = topics["topics"].as_array().unwrap().iter().find(|t| t["topic"] == topic);
        if found.unwrap()["consumers"] == consumers {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{topics}");
    }
}

#[test]
fn backlog_comes_first_then_new_messages_line_by_line() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let keys = [rest.add("test", "1"), rest.add("test", "2")];
    let mut comet = Comet::connect(server.addr(), "test");
    for (key, value) in keys.iter().zip(["1", "2"]) {
        let line = format!("{{\"key\": \"{key}\", \"value\": \"{value}\"}}");
        assert_eq!(comet.line().unwrap(), line);
    }
    let key = rest.add("test", "3");
    assert_eq!(comet.line().unwrap(), format!("{{\"key\": \"{key}\", \"value\": \"3\"}}"));
    // Messages of other protocols keep their JSON, on one line.
    let mut json = Peer::connect(server.addr());
    json.send(
        "{\"action\":\"put\",\"topic\":\"test\",\"message\":{\"a\" :\r\n[1.50,\n\"\\n b\"]}}",
    );
    assert!(comet.line().unwrap().ends_with(", \"value\": {\"a\" :[1.50,\"\\n b\"]}}"));
    rest.expect(&get("/q/test"), 204, "");
}

#[test]
fn consumer_may_join_before_the_queue_and_use_jsonp() {
    let server = server();
    let mut comet = Comet::connect(server.addr(), "new?callback=cb");
    let mut rest = Rest::connect(server.addr());
    let key = rest.add("new", "1");
    let line = format!("cb({{\"key\": \"{key}\", \"value\": \"1\"}});");
    assert_eq!(comet.line().unwrap(), line);
}

#[test]
fn broadcast_reaches_all_and_round_robin_reaches_one() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let mut first = Comet::connect(server.addr(), "q");
    let mut second = Comet::connect(server.addr(), "q");
    let mut third = Socket::connect(server.addr(), "q");
    let socket_value = |third: &mut Socket| {
        let (kind, text) = third.frame();
        assert_eq!(kind, TEXT);
        serde_json::from_str::<Value>(&text).unwrap()["value"].as_str().unwrap().to_owned()
    };
    for value in ["1", "2"] {
        rest.add("q", value);
        assert_eq!((first.value().as_str(), second.value().as_str()), (value, value));
        assert_eq!(socket_value(&mut third), value);
    }
    rest.post("/p/q", "policy=roundrobin", "OK\r\n");
    for value in ["a", "b", "c", "d", "e", "f"] {
        rest.add("q", value);
    }
    assert_eq!([first.value(), first.value()], ["a", "d"]);
    assert_eq!([second.value(), second.value()], ["b", "e"]);
    assert_eq!([socket_value(&mut third), socket_value(&mut third)], ["c", "f"]);
    rest.get("/stats/q", "{\"redis\": \"dsmq store: memory\", \"queue\": \"q\", \"len\": 0}");
}

#[test]
fn stopped_queue_sends_nothing_to_consumers() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let mut comet = Comet::connect(server.addr(), "q");
    rest.post("/control/q", "status=stop", "{\"stat\": {\"queue\": \"q\", \"status\": 0}}\r\n");
    for value in ["1", "2"] {
        rest.add("q", value);
    }
    assert!(rest.ask(get("/q/q")).body.contains("\"1\""));
    rest.post("/control/q", "status=start", "{\"stat\": {\"queue\": \"q\", \"status\": 1}}\r\n");
    assert_eq!(comet.value(), "2");
}

#[test]
fn purge_disconnects_the_consumers() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let mut comet = Comet::connect(server.addr(), "q");
    let mut socket = Socket::connect(server.addr(), "q");
    let mut other = Comet::connect(server.addr(), "other");
    rest.add("q", "1");
    assert_eq!(comet.value(), "1");
    assert!(socket.frame().1.contains("\"1\""));
    rest.expect(&delete("/q/q"), 200, "{\"queue\": \"q\", \"status\": 0}\r\n");
    assert_eq!(comet.line(), None);
    assert_eq!(socket.frame(), (CLOSE, "1000".to_owned()));
    // New messages wait for the next consumer.
    rest.add("q", "2");
    rest.add("other", "3");
    assert_eq!(other.value(), "3");
    assert_eq!(Comet::connect(server.addr(), "q").value(), "2");
}

#[test]
fn client_frames_are_echoed() {
    let server = server();
    let mut socket = Socket::connect(server.addr(), "q");
    let mut rest = Rest::connect(server.addr());
    socket.send(TEXT, "héllo");
    assert_eq!(socket.frame(), (TEXT, "héllo".into()));
    let key = rest.add("q", "1");
    assert_eq!(socket.frame(), (TEXT, format!("{{\"key\": \"{key}\", \"value\": \"1\"}}")));
    socket.send(BINARY, "{\"action\":\"put\"}");
    assert_eq!(socket.frame(), (BINARY, "{\"action\":\"put\"}".into()));
    socket.send(PING, "p");
    assert_eq!(socket.frame(), (PONG, "p".into()));
    socket.send(CLOSE, "");
    assert_eq!(socket.frame().0, CLOSE);
    socket.0.expect_end();
}

#[test]
fn consumer_that_left_receives_nothing() {
    let server = server();
    let mut json = Peer::connect(server.addr());
    let mut rest = Rest::connect(server.addr());
    rest.post("/p/q", "policy=roundrobin", "OK\r\n");
    let mut stays = Comet::connect(server.addr(), "q");
    let mut comet = Comet::connect(server.addr(), "q");
    let mut socket = Socket::connect(server.addr(), "q");
    for value in ["1", "2", "3"] {
        rest.add("q", value);
    }
    assert_eq!((stays.value().as_str(), comet.value().as_str()), ("1", "2"));
    assert!(socket.frame().1.contains("\"3\""));
    drop((comet, socket));
    consumed_by(&mut json, "q", 1);
    for value in ["4", "5", "6"] {
        rest.add("q", value);
    }
    assert_eq!([stays.value(), stays.value(), stays.value()], ["4", "5", "6"]);
}

/// Kills a consumer that has stopped reading. Only data that the system had already accepted may be
/// lost: the next consumer continues without gaps, and no message arrives twice.
fn killed_half_way(config: Config, kill: impl Fn(SocketAddr)) {
    const MESSAGES: usize = 400;
    let server = server_with(config);
    let mut json = Peer::connect(server.addr());
    // More data than the buffers of both sides hold.
    let long = "x".repeat(100_000);
    for number in 0..MESSAGES {
        let message = format!("{number} {long}");
        json.send(json!({"action": "put", "topic": "q", "message": message}).to_string());
    }
    json.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    kill(server.addr());
    consumed_by(&mut json, "q", 0);
    let mut next = Comet::connect(server.addr(), "q");
    let mut number = || -> usize { next.value().split(' ').next().unwrap().parse().unwrap() };
    let first = number();
    assert!((3..MESSAGES - 1).contains(&first), "the first that it gets is {first}");
    for expected in first + 1..MESSAGES {
        assert_eq!(number(), expected);
    }
    let mut rest = Rest::connect(server.addr());
    rest.expect(&get("/q/q"), 204, "");
}

fn read_three_and_die(addr: SocketAddr) {
    let mut killed = Comet::connect(addr, "q");
    for number in 0..3 {
        assert!(killed.value().starts_with(&format!("{number} ")));
    }
}

#[test]
fn unread_messages_of_a_killed_comet_go_to_the_next() {
    killed_half_way(Config::default(), read_three_and_die);
}

#[test]
fn unread_messages_of_a_killed_socket_go_to_the_next() {
    killed_half_way(Config::default(), |addr| {
        let mut killed = Socket::connect(addr, "q");
        for number in 0..3 {
            assert!(killed.frame().1.contains(&format!("\"value\": \"{number} ")));
        }
    });
}

#[test]
fn unread_messages_in_a_file_go_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let store = dsmq::StoreLocation::File(folder.path().join("q.db"));
    killed_half_way(Config { store, ..Config::default() }, read_three_and_die);
}

#[test]
fn five_hundred_consumers_receive_every_message() {
    let server = server();
    let mut readers: Vec<Comet> = (0..500).map(|_| Comet::connect(server.addr(), "q")).collect();
    let mut rest = Rest::connect(server.addr());
    for value in ["1", "2", "3"] {
        rest.add("q", value);
    }
    for reader in &mut readers {
        assert_eq!([reader.value(), reader.value(), reader.value()], ["1", "2", "3"]);
    }
    rest.post("/p/q", "policy=roundrobin", "OK\r\n");
    for number in 0..readers.len() {
        rest.add("q", &number.to_string());
    }
    let got: HashSet<String> = readers.iter_mut().map(Comet::value).collect();
    assert_eq!(got.len(), readers.len());
}

#[test]
fn file_store_serves_consumers() {
    let folder = tempfile::tempdir().unwrap();
    let store = dsmq::StoreLocation::File(folder.path().join("q.db"));
    let server = server_with(Config { store, ..Config::default() });
    let mut rest = Rest::connect(server.addr());
    rest.add("q", "1");
    let mut comet = Comet::connect(server.addr(), "q");
    assert_eq!(comet.value(), "1");
    let mut socket = Socket::connect(server.addr(), "q");
    for number in 0..50 {
        rest.add("q", &number.to_string());
        socket.send(TEXT, "echo");
    }
    let mut echoes = 0;
    let mut values = Vec::new();
    for _ in 0..100 {
        match socket.frame().1 {
            echo if echo == "echo" => echoes += 1,
            object => values.push(serde_json::from_str::<Value>(&object).unwrap()["value"].clone()),
        }
    }
    assert_eq!(echoes, 50);
    for (number, value) in values.iter().enumerate() {
        assert_eq!((value, comet.value()), (&json!(number.to_string()), number.to_string()));
    }
    assert_eq!(values.len(), 50);
}

/// A burst much larger than an outbox reaches every consumer completely, even one that joins while
/// the others are throttled.
#[test]
fn burst_reaches_every_consumer() {
    const MESSAGES: usize = 300;
    let server = server();
    let addr = server.addr();
    let mut late = Comet::connect(addr, "q");
    let mut json = Peer::connect(addr);
    let long = "x".repeat(100_000);
    for number in 0..MESSAGES {
        let message = format!("{number} {long}");
        json.send(json!({"action": "put", "topic": "q", "message": message}).to_string());
    }
    json.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    json.send(r#"{"action":"topics"}"#);
    let topics = json.receive_reply();
    assert!(topics["topics"][0]["length"].as_u64().unwrap() > 100, "all waits for the late one");
    let mut others = [(); 3].map(|()| Comet::connect(addr, "q"));
    json.send(r#"{"action":"put","topic":"q","message":"last"}"#);
    std::thread::scope(|scope| {
        for other in &mut others {
            scope.spawn(move || {
                let values = std::iter::from_fn(|| Some(other.value()));
                let numbers = values.take_while(|value| value != "last");
                let numbers =
                    numbers.map(|value| value.split(' ').next().unwrap().parse::<usize>());
                let numbers: Vec<_> = numbers.map(Result::unwrap).collect();
                // From the first message it received, there are no gaps.
                let first = numbers.first().copied().unwrap_or(MESSAGES);
                assert!(numbers.into_iter().eq(first..MESSAGES));
            });
        }
        for number in 0..MESSAGES {
            assert!(late.value().starts_with(&format!("{number} ")), "{number}");
        }
        assert_eq!(late.value(), "last");
    });
}

/// With a backlog of thousands in a file, the first message arrives at once, and other requests are
/// answered.
#[test]
fn backlog_in_a_file_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.db");
    let start = || {
        let store = dsmq::StoreLocation::File(path.clone());
        server_with(Config { store, ..Config::default() })
    };
    let server = start();
    let mut json = Peer::connect(server.addr());
    for number in 0..5_000 {
        json.send(
            json!({"action": "put", "topic": "q", "message": number.to_string()}).to_string(),
        );
    }
    json.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    let mut comet = Comet::connect(server.addr(), "q");
    assert_eq!(comet.value(), "0");
    // The server stops halfway: messages that were not written must survive.
    server.stop();
    let mut last = 0;
    while let Some(line) = comet.line() {
        let object: Value = serde_json::from_str(&line).unwrap();
        last = object["value"].as_str().unwrap().parse().unwrap();
    }
    let server = start();
    let mut comet = Comet::connect(server.addr(), "q");
    // The last message may have arrived without the server's knowledge.
    let first: usize = comet.value().parse().unwrap();
    assert!(first == last || first == last + 1, "{first} behind {last}");
    for number in first + 1..5_000 {
        assert_eq!(comet.value(), number.to_string());
    }
}

#[test]
fn streams_end_when_the_server_stops() {
    let server = server();
    let mut comet = Comet::connect(server.addr(), "q");
    let mut socket = Socket::connect(server.addr(), "q");
    let stopping = std::thread::spawn(move || server.stop());
    assert_eq!(comet.line(), None);
    comet.peer.expect_end();
    assert_eq!(socket.frame(), (CLOSE, "1001".to_owned()));
    drop(socket);
    stopping.join().unwrap();
}
