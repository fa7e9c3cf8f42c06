//! The client against a server that misbehaves on cue: a script of what each connection says.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::*;

mod put;
mod subscribe;
mod take;

/// The server's side of one connection.
struct Peer {
    reader: BufReader<TcpStream>,
    tag: serde_json::Value,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Peer {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Peer { reader: BufReader::new(stream), tag: json!(null) }
    }

    /// Accepts, and answers the ping that each session begins with.
    fn begin(listener: &TcpListener, since: u64) -> Peer {
        let mut peer = Peer::accept(listener);
        assert_eq!(peer.request(), json!({"action": "ping", "meta": true}));
        peer.reply(json!({"ok": true, "since": since}));
        peer
    }

    /// Reads a request; its tag is kept for the reply.
    fn request(&mut self) -> serde_json::Value {
        let mut deserializer = serde_json::Deserializer::from_reader(&mut self.reader);
        let mut request = serde_json::Value::deserialize(&mut deserializer).unwrap();
        self.tag = request["tag"].take();
        request.as_object_mut().unwrap().remove("tag");
        request
    }

    fn reply(&mut self, mut reply: serde_json::Value) {
        reply["tag"] = self.tag.clone();
        self.say(&reply.to_string());
    }

    fn message(&mut self, id: u64, message: &str) {
        self.reply(json!({"message": message, "id": id, "timestamp": id as f64 / 1e6}));
    }

    fn nothing(&mut self) {
        self.reply(json!({"message": "", "empty": true}));
    }

    fn stored(&mut self, id: u64) {
        self.reply(json!({"ok": true, "id": id, "timestamp": id as f64 / 1e6}));
    }

    fn taken(&mut self, id: u64, deliveries: u64) {
        let timestamp = id as f64 / 1e6;
        let taken =
            json!({"message": "job", "id": id, "timestamp": timestamp, "deliveries": deliveries});
        self.reply(taken);
    }

    fn ok(&mut self) {
        self.reply(json!({"ok": true}));
    }

    fn refuse(&mut self, code: &str) {
        self.reply(json!({"error": "do better", "code": code}));
    }

    fn say(&mut self, text: &str) {
        self.reader.get_ref().write_all(text.as_bytes()).unwrap();
    }
}

/// Plays the script on another thread; join it, for its assertions.
fn play(script: impl FnOnce(&TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (addr, thread::spawn(move || script(&listener)))
}

fn get(topic: &str) -> serde_json::Value {
    json!({"action": "get", "topic": topic, "meta": true})
}

fn get_since(topic: &str, since: u64) -> serde_json::Value {
    json!({"action": "get", "topic": topic, "meta": true, "since": since})
}

fn put(topic: &str, message: &str) -> serde_json::Value {
    json!({"action": "put", "topic": topic, "message": message})
}

fn put_confirmed(topic: &str, message: &str) -> serde_json::Value {
    json!({"action": "put", "topic": topic, "message": message, "confirm": true})
}

fn text(message: Result<Option<Message>>) -> String {
    message.unwrap().unwrap().text().unwrap()
}

#[test]
fn a_refused_connection_is_an_error_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::connect_once(addr).unwrap_err();
    assert!(
        matches!(&error, Error::Connect(error)
            if error.kind() == std::io::ErrorKind::ConnectionRefused),
        "{error:?}"
    );
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let (addr, server) = play(|listener| {
        for _ in 0..3 {
            Peer::accept(listener).say(r#"{"error":"no room","code":"busy"}"#);
        }
        Peer::begin(listener, 7);
    });
    Client::connect(addr).unwrap();
    server.join().unwrap();
}

#[test]
fn a_server_that_stays_busy_is_an_error() {
    let (addr, server) = play(|listener| {
        Peer::accept(listener).say(r#"{"error":"no room","code":"busy"}"#);
    });
    let error = Client::connect_once(addr).unwrap_err();
    assert!(matches!(error, Error::Server { code, .. } if code == "busy"));
    server.join().unwrap();
}

#[test]
fn what_speaks_otherwise_is_no_dsmq() {
    let (addr, server) = play(|listener| {
        Peer::accept(listener).say("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    assert!(matches!(Client::connect(addr), Err(Error::Protocol(_))));
    server.join().unwrap();
}

#[test]
fn a_get_goes_on_from_its_place() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), get("a"));
        peer.say(r#"{"message":"half a rep"#);
        drop(peer);

        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), get_since("a", 7));
        peer.message(10, "first");
        assert_eq!(peer.request(), get("a"));
        drop(peer);

        let mut peer = Peer::begin(listener, 100);
        assert_eq!(peer.request(), get_since("a", 10));
        peer.nothing();
        assert_eq!(peer.request(), get("a"));
        peer.message(11, "second");
        assert_eq!(peer.request(), get_since("b", 7));
        peer.message(9, "of another topic");
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(text(client.get("a")), "first");
    assert_eq!(client.get("a").unwrap(), None);
    assert_eq!(text(client.get("a")), "second");
    assert_eq!(text(client.get("b")), "of another topic");
    server.join().unwrap();
}

#[test]
fn get_of_a_put_back_keeps_the_place() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        for id in [11, 10] {
            assert_eq!(peer.request(), get("a"));
            peer.message(id, &id.to_string());
        }
        assert_eq!(peer.request(), get("a"));
        drop(peer);

        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), get_since("a", 11));
        peer.nothing();
        // Whoever moves the place goes back all the same.
        assert_eq!(peer.request(), get_since("a", 5));
        peer.message(10, "10");
        drop(peer);

        let mut peer = Peer::begin(listener, 100);
        assert_eq!(peer.request(), get_since("a", 10));
        peer.nothing();
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(text(client.get("a")), "11");
    assert_eq!(text(client.get("a")), "10");
    assert_eq!(client.get("a").unwrap(), None);
    client.since("a", 5);
    assert_eq!(text(client.get("a")), "10");
    assert_eq!(client.get("a").unwrap(), None);
    server.join().unwrap();
}

#[test]
fn a_wait_goes_on_when_the_server_closes() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        let request = peer.request();
        assert_eq!((&request["wait"], &request["since"]), (&json!(30), &json!(null)));
        peer.refuse("closing");

        let mut peer = Peer::begin(listener, 99);
        let request = peer.request();
        assert_eq!((&request["wait"], &request["since"]), (&json!(30), &json!(7)));
        peer.nothing();
        assert_eq!(peer.request()["wait"], 30);
        peer.message(10, "at last");
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(text(client.get_wait("a", Duration::MAX)), "at last");
    server.join().unwrap();
}

#[test]
fn a_wait_that_is_over_returns_nothing() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert!(peer.request()["wait"].as_f64().unwrap() <= 0.5);
        peer.nothing();
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(client.get_wait("a", Duration::from_millis(500)).unwrap(), None);
    server.join().unwrap();
}

#[test]
fn a_silent_server_is_left() {
    let (addr, server) = play(|listener| {
        let mut silent = Peer::begin(listener, 7);
        assert_eq!(silent.request(), get("a"));
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), get_since("a", 7));
        peer.message(10, "here");
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(text(client.get("a")), "here");
    server.join().unwrap();
}

#[test]
fn a_get_gives_up_in_the_end_and_keeps_its_place() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), get("a"));
        peer.message(8, "first");
        for _ in 0..3 {
            peer.request();
            drop(peer);
            peer = Peer::begin(listener, 99);
        }
        assert_eq!(peer.request(), get_since("a", 8));
        peer.message(9, "second");
    });
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(text(client.get("a")), "first");
    assert!(matches!(client.get("a"), Err(Error::Disconnected(_))));
    assert_eq!(text(client.get("a")), "second");
    server.join().unwrap();
}

#[test]
fn a_batch_of_gets_goes_on_where_it_broke() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        for id in [8, 9] {
            assert_eq!(peer.request(), get("a"));
            peer.message(id, "before");
        }
        peer.say(r#"{"message""#);
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), get_since("a", 9));
        peer.message(10, "after");
        assert_eq!(peer.request(), get("a"));
        peer.nothing();
    });
    let mut client = Client::connect(addr).unwrap();
    let messages = client.get_batch("a", 4).unwrap();
    assert_eq!(messages.iter().map(|message| message.id).collect::<Vec<_>>(), [8, 9, 10]);
    server.join().unwrap();
}
