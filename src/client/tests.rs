//! The client against a server that misbehaves on cue: a script of what each connection says.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use serde::Deserialize;
use serde_json::json;

use super::*;

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
fn the_refusal_of_a_put_comes_from_the_next_call_with_nothing_else_to_return() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), put("a", "refused"));
        peer.refuse("bad_topic");
        assert_eq!(peer.request(), get("a"));
        peer.nothing();
        assert_eq!(peer.request(), put("a", "refused"));
        peer.refuse("bad_topic");
        assert_eq!(peer.request(), get("a"));
        peer.message(8, "first");
        assert_eq!(peer.request(), get("a"));
        peer.message(9, "second");
        assert_eq!(peer.request(), put("a", "refused"));
        peer.refuse("bad_topic");
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 7}));
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 7}));
    });
    let refused = |error| matches!(error, Error::EarlierPut { code, text } if code == "bad_topic" && text == "do better");
    let mut client = Client::connect(addr).unwrap();
    client.put("a", "refused").unwrap();
    assert!(refused(client.get("a").unwrap_err()));
    client.put("a", "refused").unwrap();
    assert_eq!(text(client.get("a")), "first");
    assert!(refused(client.get("a").unwrap_err()));
    assert_eq!(text(client.get("a")), "second");
    client.put("a", "refused").unwrap();
    assert!(refused(client.ping().unwrap_err()));
    client.ping().unwrap();
    server.join().unwrap();
}

#[test]
fn a_put_finds_that_the_server_has_gone_before_it_is_sent() {
    let (gone, has_gone) = mpsc::channel();
    let (addr, server) = play(move |listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), put("a", "first"));
        drop(peer);
        gone.send(()).unwrap();
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), put("a", "second"));
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 99}));
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 99}));
    });
    let mut client = Client::connect(addr).unwrap();
    client.put("a", "first").unwrap();
    has_gone.recv().unwrap();
    thread::sleep(Duration::from_millis(1)); // a connection is looked at when that old
    client.put("a", "second").unwrap();
    // Nothing answered after the first put: nobody knows.
    assert!(matches!(client.ping(), Err(Error::Unconfirmed)));
    client.ping().unwrap();
    server.join().unwrap();
}

#[test]
fn a_put_without_confirmation_is_not_sent_again() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), put_confirmed("a", "once"));
        peer.say(r#"{"ok":tr"#);
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), put_confirmed("a", "twice"));
        peer.stored(100);
    });
    let mut client = Client::connect(addr).unwrap();
    assert!(matches!(client.put_confirmed("a", "once"), Err(Error::Unconfirmed)));
    let receipt = client.put_confirmed("a", "twice").unwrap();
    assert_eq!((receipt.id, receipt.timestamp), (100, 1e-4));
    server.join().unwrap();
}

#[test]
fn a_refused_put_leaves_the_connection_in_step() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        peer.request();
        peer.refuse("too_deep");
        assert_eq!(peer.request(), get("a"));
        peer.nothing();
    });
    let mut client = Client::connect(addr).unwrap();
    let refused = client.put_confirmed("a", "deep").unwrap_err();
    assert_eq!(refused.to_string(), "do better (too_deep)");
    assert_eq!(client.get("a").unwrap(), None);
    server.join().unwrap();
}

#[test]
fn a_confirmed_batch_tells_how_far_it_came() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        for id in [8, 9] {
            peer.request();
            peer.stored(id);
        }
        peer.request();
        peer.refuse("too_deep");
        peer.request();
        peer.stored(10);
        for id in [11, 12] {
            peer.request();
            peer.stored(id);
        }
        peer.request();
        drop(peer);
    });
    let mut client = Client::connect(addr).unwrap();
    let batch = ["a", "b", "c", "d"];
    match client.put_confirmed_batch("t", &batch).unwrap_err() {
        Error::Batch { stored, source } => {
            assert_eq!(stored.iter().map(|receipt| receipt.id).collect::<Vec<_>>(), [8, 9]);
            assert!(matches!(*source, Error::Server { code, .. } if code == "too_deep"));
        }
        error => panic!("{error:?}"),
    }
    let error = client.put_confirmed_batch("t", &batch).unwrap_err();
    assert!(
        matches!(&error, Error::Batch { stored, source }
            if stored.len() == 2 && matches!(**source, Error::Unconfirmed)),
        "{error:?}"
    );
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

/// A server that reads nothing while it writes, and the other way round.
#[test]
fn batches_never_fill_both_sockets() {
    const COUNT: usize = 2_000;
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 0);
        for id in 0..COUNT {
            peer.request();
            peer.stored(id as u64 + 1);
        }
        let long = "x".repeat(20_000);
        for id in 0..COUNT {
            peer.request();
            peer.message(id as u64 + 1, &long);
        }
    });
    let mut client = Client::connect(addr).unwrap();
    let receipts = client.put_confirmed_batch("a", &vec!["x".repeat(5_000); COUNT]).unwrap();
    assert_eq!(receipts.len(), COUNT);
    assert_eq!(client.get_batch("a", COUNT).unwrap().len(), COUNT);
    server.join().unwrap();
}

#[test]
fn a_put_that_the_server_hangs_up_on_is_told_why() {
    let (addr, server) = play(|listener| {
        for _ in 0..2 {
            let mut peer = Peer::begin(listener, 0);
            let mut start = [0; 40];
            std::io::Read::read_exact(&mut peer.reader, &mut start).unwrap();
            let start = String::from_utf8(start.to_vec()).unwrap();
            peer.tag =
                if start.contains("\"put\",\"tag\":\"put\"") { json!("put") } else { json!(1) };
            peer.refuse("message_too_large");
            peer.reader.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
            // Reads on, as a server must that wants to be heard, but not to the end.
            std::io::Read::read_exact(&mut peer.reader, &mut vec![0; 1_000_000]).unwrap();
        }
    });
    let large = "x".repeat(50_000_000);
    let mut client = Client::connect(addr).unwrap();
    let refused = client.put("a", &large).unwrap_err();
    assert!(matches!(refused, Error::EarlierPut { code, .. } if code == "message_too_large"));
    let mut client = Client::connect(addr).unwrap();
    let refused = client.put_confirmed("a", &large).unwrap_err();
    assert!(matches!(refused, Error::Server { code, .. } if code == "message_too_large"));
    server.join().unwrap();
}
