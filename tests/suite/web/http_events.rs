//! Server-sent events: exact bytes, start position, resumption and end of a stream.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use dsmq::{Server, limits};
use serde_json::Value;

use super::http::{ask, get, post};
use super::http_native::{connect, id_in, with};
use crate::suite::support::folder::Folder;
use crate::suite::support::line::Line;
use crate::suite::support::peer::{Peer, masked};
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::server;

/// A client that follows a stream.
pub struct Reader {
    peer: Peer,
    /// Bytes received but not parsed yet.
    text: String,
}

/// An event: its text and its parsed fields.
#[derive(Debug, PartialEq)]
struct Event {
    id: u64,
    topic: Option<String>,
    data: Option<String>,
}

impl Reader {
    pub fn open(addr: SocketAddr, request: &str) -> Reader {
        let mut peer = Peer::connect_silent(addr);
        peer.send(with(request, "Accept: text/event-stream"));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(peer.receive(1));
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
        Reader { peer, text: String::new() }
    }

    /// The next chunk; `None` after the last one.
    fn chunk(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.peer.try_receive(1)?);
        }
        let length = str::from_utf8(&line).unwrap().trim_end();
        let length = usize::from_str_radix(length, 16).unwrap();
        let chunk = self.peer.try_receive(length)?;
        self.peer.try_receive(2)?;
        (length > 0).then(|| String::from_utf8(chunk).unwrap())
    }

    /// Reads up to the next blank line; `None` at the end of the stream.
    pub fn block(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.text.find("\n\n") {
                let rest = self.text.split_off(at + 2);
                return Some(std::mem::replace(&mut self.text, rest));
            }
            let chunk = self.chunk()?;
            self.text.push_str(&chunk);
        }
    }

    /// The next event, skipping heartbeats.
    fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.block()?;
            let field = |name: &str| {
                let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
                lines.next().map(str::to_owned)
            };
            if let Some(id) = field("id: ") {
                let (topic, data) = (field("event: "), field("data: "));
                return Some(Event { id: id.parse().unwrap(), topic, data });
            }
            assert_eq!(block, ":\n\n");
        }
    }

    fn data(&mut self) -> String {
        self.event().unwrap().data.unwrap()
    }
}

pub fn follow(server: &Server, path: &str) -> Reader {
    Reader::open(server.addr(), &get(path))
}

fn put(peer: &mut Peer, topic: &str, body: &str) -> u64 {
    id_in(&ask(peer, post(&format!("/t/{topic}"), body)))
}

#[test]
fn event_is_one_message_on_one_line() {
    let server = server();
    let mut puts = connect(&server);
    let before = put(&mut puts, "t", "0");
    let mut reader = follow(&server, "/t/t");
    assert_eq!(reader.block().unwrap(), format!("id: {before}\n\n"));
    for (message, data) in [
        ("1", "1"),
        ("{\"b\": 1.50,\r\n\t\"a\":[\n]}", "{\"b\": 1.50,\t\"a\":[]}"),
        ("\"\\n\\r\"", "\"\\n\\r\""),
        ("text: é", "\"text: é\""),
        ("\"\"", "\"\""),
    ] {
        let id = put(&mut puts, "t", message);
        assert_eq!(reader.block().unwrap(), format!("id: {id}\ndata: {data}\n\n"));
    }
}

#[test]
fn stream_starts_at_the_requested_id() {
    let server = server();
    let mut puts = connect(&server);
    let ids: Vec<u64> = (0..4).map(|n| put(&mut puts, "t", &n.to_string())).collect();
    for (query, header, first) in [
        ("?from=oldest", "", 0),
        ("?from=-1", "", 3),
        ("?from=-3", "", 1),
        ("?since=0", "", 0),
        (&format!("?from={}", ids[1]), "", 2),
        (&format!("?since={}", ids[1]), "", 2),
        (&format!("?since={}&from=oldest", ids[2]), "", 3),
        ("", &format!("Last-Event-ID: {}", ids[0]), 1),
        ("?from=oldest", &format!("Last-Event-ID: {}", ids[2]), 3),
        ("?since=0", &format!("last-event-id: {}", ids[0]), 1),
        ("?from=oldest", "Last-Event-ID:", 0),
    ] {
        let request = get(&format!("/t/t{query}"));
        let request = if header.is_empty() { request } else { with(&request, header) };
        let mut reader = Reader::open(server.addr(), &request);
        for (n, id) in ids.iter().enumerate().skip(first) {
            let expected = Event { id: *id, topic: None, data: Some(n.to_string()) };
            assert_eq!(reader.event().unwrap(), expected, "{request}");
        }
    }
    for (query, header) in [
        ("?from=x", "A: b"),
        ("?from=-1001", "A: b"),
        ("?since=-1", "A: b"),
        ("", "Last-Event-ID: x"),
        ("", "Last-Event-ID: -1"),
        ("", "Last-Event-ID: 9007199254740992"),
        ("", "Last-Event-ID: \u{e9}"),
    ] {
        let request = with(&get(&format!("/t/t{query}")), "Accept: text/event-stream");
        let refused = ask(&mut connect(&server), with(&request, header));
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "bad_field"),
            "{query} {header}"
        );
    }
}

#[test]
fn topics_are_followed_by_name_and_prefix() {
    let server = server();
    let mut puts = connect(&server);
    let mut reader = follow(&server, "/t/?topic=news&topic=weather*&topic=a%2Fb");
    let mut prefix = follow(&server, "/t/weather*");
    assert_eq!(masked(&reader.block().unwrap()), "id: <id>\n\n");
    prefix.block().unwrap();
    for (topic, followed) in [
        ("news", true),
        ("other", false),
        ("weather.oslo", true),
        ("a%2Fb", true),
        ("weather", true),
    ] {
        let id = put(&mut puts, topic, "1");
        if followed {
            let name = topic.replace("%2F", "/");
            let block = reader.block().unwrap();
            assert_eq!(block, format!("event: {name}\nid: {id}\ndata: 1\n\n"));
            if name.starts_with("weather") {
                assert_eq!(prefix.block().unwrap(), block);
            }
        }
    }
    for (path, code) in
        [("/t/", "missing_field"), ("/t/?topic=", "bad_topic"), ("/t/?topic=a&from=x", "bad_field")]
    {
        let refused = ask(&mut connect(&server), with(&get(path), "Accept: text/event-stream"));
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{path}");
    }
}

#[test]
fn large_message_is_one_event() {
    let server = server();
    let large = "x".repeat(limits::MESSAGE_BYTES - 2);
    let mut reader = follow(&server, "/t/t");
    reader.block().unwrap();
    let request = with(&post("/t/t", &large), "Content-Type: text/plain");
    assert_eq!(ask(&mut connect(&server), request).status, 200);
    assert!(reader.data() == format!("\"{large}\""));
}

#[test]
fn thousand_readers_receive_every_message() {
    const MESSAGES: usize = 200;
    let server = server();
    let mut readers: Vec<Reader> = (0..1_000).map(|_| follow(&server, "/t/t")).collect();
    for reader in &mut readers {
        assert_eq!(masked(&reader.block().unwrap()), "id: <id>\n\n");
    }
    let mut puts = Peer::connect(server.addr());
    for n in 0..MESSAGES {
        puts.send(format!(r#"{{"action":"put","topic":"t","message":{n}}}"#));
    }
    for reader in &mut readers {
        for n in 0..MESSAGES {
            assert_eq!(reader.data(), n.to_string());
        }
    }
}

#[test]
fn stream_ends_when_the_server_stops() {
    let server = server();
    let mut reader = follow(&server, "/t/t");
    put(&mut connect(&server), "t", "1");
    reader.block().unwrap();
    assert_eq!(reader.data(), "1");
    server.stop();
    assert_eq!(reader.block(), None);
    reader.peer.expect_end();
}

#[test]
fn disconnected_reader_is_unsubscribed() {
    let server = server();
    let mut puts = connect(&server);
    put(&mut puts, "t", "1");
    let reader = follow(&server, "/t/t");
    let followers = |peer: &mut Peer| {
        let topics: Value = serde_json::from_str(&ask(peer, get("/t/")).body).unwrap();
        topics["topics"][0]["consumers"].as_u64().unwrap()
    };
    assert_eq!(followers(&mut puts), 1);
    drop(reader);
    while followers(&mut puts) > 0 {}
}

/// Puts numbers starting at `first`, each after the previous one is confirmed, until `end` or until
/// the server is gone.
fn put_numbers(addr: SocketAddr, first: usize, end: usize) {
    let mut line: Line = Line::connect(addr);
    for n in first..end {
        let put = format!(r#"{{"action":"put","topic":"t","message":{n},"confirm":true}}"#);
        if line.send(&put).is_err() || line.reply().is_none() {
            return;
        }
    }
}

fn restart(store: &Path) -> (Process, SocketAddr) {
    let store = store.to_str().unwrap();
    Process::server(&mut dsmq(&["--port", "0", "--log", "error", "--store", store]))
}

/// All stored messages, read page by page.
fn kept(addr: SocketAddr) -> Vec<(u64, String)> {
    let (mut peer, mut kept, mut last) = (Peer::connect_silent(addr), Vec::new(), 0);
    loop {
        let page = ask(&mut peer, get(&format!("/t/t?since={last}&limit=1000")));
        let page: Value = serde_json::from_str(&page.body).unwrap();
        let messages = page["messages"].as_array().unwrap().clone();
        if messages.is_empty() {
            return kept;
        }
        last = page["last"].as_u64().unwrap();
        kept.extend(messages.iter().map(|m| (m["id"].as_u64().unwrap(), m["message"].to_string())));
    }
}

#[test]
fn reader_resumes_without_loss_after_kill() {
    const MESSAGES: usize = 2_000;
    let folder = Folder::new("events");
    let store = folder.path("queue.db");
    let mut seen: Vec<(u64, String)> = Vec::new();
    // Number of events read before the server is killed.
    for killed_at in [1, 300, 301, 900, 1_700, MESSAGES] {
        let (server, addr) = restart(&store);
        let first = kept(addr).len();
        let putting = thread::spawn(move || put_numbers(addr, first, MESSAGES));
        let request = match seen.last() {
            Some((id, _)) => with(&get("/t/t"), &format!("Last-Event-ID: {id}")),
            None => get("/t/t?from=oldest"),
        };
        let mut reader = Reader::open(addr, &request);
        while seen.len() < killed_at {
            let event = reader.event().unwrap();
            seen.push((event.id, event.data.unwrap()));
        }
        drop(server);
        putting.join().unwrap();
        // Complete events in flight count as received.
        while let Some(event) = reader.event() {
            seen.push((event.id, event.data.unwrap()));
        }
    }
    let (_server, addr) = restart(&store);
    let numbers: Vec<String> = seen.iter().map(|(_, number)| number.clone()).collect();
    assert_eq!(numbers, (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(seen, kept(addr));
}

#[test]
#[ignore = "takes as long as a heartbeat: 15 s"]
fn idle_stream_sends_heartbeats() {
    let server = server();
    let mut reader = follow(&server, "/t/t");
    assert_eq!(masked(&reader.block().unwrap()), "id: <id>\n\n");
    assert_eq!(reader.block().unwrap(), ":\n\n");
    let id = put(&mut connect(&server), "t", "1");
    assert_eq!(reader.block().unwrap(), format!("id: {id}\ndata: 1\n\n"));
}

#[test]
#[ignore = "takes as long as a write may stall: 30 s"]
fn stalled_reader_is_dropped_and_resumes() {
    const MESSAGES: u64 = 300;
    let server = server();
    let mut puts = connect(&server);
    let body = "x".repeat(100_000);
    let mut slow = follow(&server, "/t/t?from=oldest");
    for n in 0..MESSAGES {
        put(&mut puts, "t", &format!("\"{n} {body}\""));
    }
    let connections = |peer: &mut Peer| {
        // The reader pauses without sending anything.
        ask(peer, get("/t/none?wait=0.5"));
        let stats: Value = serde_json::from_str(&ask(peer, get("/t/?stats")).body).unwrap();
        stats["stats"]["connections"].as_u64().unwrap()
    };
    assert_eq!(connections(&mut puts), 2);
    while connections(&mut puts) > 1 {}
    let (mut last, mut n) = (0, 0);
    let check = |event: Event, n: u64| {
        assert_eq!(event.data.unwrap(), format!("\"{n} {body}\""));
        (event.id, n + 1)
    };
    while let Some(event) = slow.event() {
        (last, n) = check(event, n);
    }
    assert!(n < MESSAGES, "it was not dropped");
    let request = with(&get("/t/t"), &format!("Last-Event-ID: {last}"));
    let mut again = Reader::open(server.addr(), &request);
    while n < MESSAGES {
        (_, n) = check(again.event().unwrap(), n);
    }
}
