//! `dsmq::Client` against the real server; what it does when a server misbehaves is tested beside
//! it, in src/client.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use dsmq::client::{Client, Error, Message, Policy};
use dsmq::{Config, Server};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::suite::support::{server, server_with};

mod subscribe;
mod take;

/// Stops the server, and starts another one where it was.
fn restart(server: Server) -> Server {
    let addr = server.addr();
    server.stop();
    Server::start(Config { port: addr.port(), ..Config::default() }).unwrap()
}

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn gets_what_is_put_after_it_connected_in_order() {
    let server = server();
    let mut putter = Client::connect(server.addr()).unwrap();
    putter.put("t", "too early").unwrap();
    putter.ping().unwrap();
    let mut client = Client::connect(server.addr()).unwrap();
    let first = putter.put_confirmed("t", "first").unwrap();
    putter.put_confirmed("t", &2).unwrap();
    putter.put_confirmed("another", &json!({"third": [3]})).unwrap();

    let message = client.get("t").unwrap().unwrap();
    assert_eq!((message.id, message.timestamp), (first.id, first.timestamp));
    assert_eq!(message.text().unwrap(), "first");
    assert_eq!(client.get("t").unwrap().unwrap().decode::<u8>().unwrap(), 2);
    assert_eq!(client.get("t").unwrap(), None);
    assert_eq!(client.get("another").unwrap().unwrap().value().unwrap(), json!({"third": [3]}));
    assert_eq!(client.get("of nobody").unwrap(), None);
}

#[test]
fn messages_come_back_byte_for_byte() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let deep = "[".repeat(128) + &"]".repeat(128);
    let long = format!("\"{}\"", "long ".repeat(400_000));
    for json in [
        "null",
        "\"\"",
        "1.50",
        "-0",
        "123456789012345678901234567890.5e+07",
        r#"{"b" : 1, "a":[ 1,2 ], "b": null}"#,
        r#""\u0041\/\ud83d\ude00 \ud83d é 😀 \u0000""#,
        "{\n\t\"lines\": \"}{\\\"\"\r\n}",
        &deep,
        &long,
    ] {
        client.put_confirmed("t", &raw(json)).unwrap();
        client.put("t", &raw(json)).unwrap();
        assert_eq!(client.get("t").unwrap().unwrap().json(), json);
        assert_eq!(client.get("t").unwrap().unwrap().json(), json);
    }
}

#[test]
fn topics_may_be_named_in_any_language() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    for topic in ["a b", "\"quoted\\\"", "Grüße", "挨拶", "😀"] {
        client.put(topic, topic).unwrap();
        assert_eq!(client.get(topic).unwrap().unwrap().text().unwrap(), topic);
    }
}

#[test]
fn any_serializable_message_is_put() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let map = BTreeMap::from([("a", vec![1, 2]), ("b", vec![])]);
    client.put("t", &map).unwrap();
    client.put("t", &Some(1.5)).unwrap();
    client.put("t", &Value::Null).unwrap();
    let messages = client.get_batch("t", 10).unwrap();
    let texts: Vec<_> = messages.iter().map(dsmq::client::Message::json).collect();
    assert_eq!(texts, [r#"{"a":[1,2],"b":[]}"#, "1.5", "null"]);
    let keys_are_no_text = BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(client.put("t", &keys_are_no_text), Err(Error::Json(_))));
    assert_eq!(client.get("t").unwrap(), None);
}

#[test]
fn get_wait_returns_when_a_message_arrives() {
    let server = server();
    let mut waiting = Client::connect(server.addr()).unwrap();
    let mut putter = Client::connect(server.addr()).unwrap();
    let waiter = thread::spawn(move || waiting.get_wait("t", Duration::from_secs(50)));
    putter.put("t", "here").unwrap();
    assert_eq!(waiter.join().unwrap().unwrap().unwrap().text().unwrap(), "here");
    assert_eq!(putter.get_wait("t", Duration::ZERO).unwrap().unwrap().text().unwrap(), "here");
    assert_eq!(putter.get_wait("t", Duration::from_millis(20)).unwrap(), None);
}

#[test]
fn get_latest_passes_over_older_ones() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    client.put_batch("t", &[1, 2, 3]).unwrap();
    assert_eq!(client.get_latest("t").unwrap().unwrap().json(), "3");
    assert_eq!(client.get_latest("t").unwrap(), None);
    assert_eq!(client.get("t").unwrap(), None);
    client.since("t", 0);
    assert_eq!(client.get_batch("t", 2).unwrap().len(), 2);
    assert_eq!(client.get("t").unwrap().unwrap().json(), "3");
}

#[test]
fn long_batches_go_through_and_keep_their_order() {
    const COUNT: usize = 100_000;
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let numbers: Vec<usize> = (0..COUNT).collect();
    client.put_batch("unconfirmed", &numbers).unwrap();
    client.ping().unwrap();
    let receipts = client.put_confirmed_batch("confirmed", &numbers).unwrap();
    assert!(receipts.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(receipts.len(), COUNT);
    for topic in ["unconfirmed", "confirmed"] {
        let messages = client.get_batch(topic, COUNT + 1).unwrap();
        let got: Vec<usize> = messages.iter().map(|message| message.decode().unwrap()).collect();
        assert_eq!(got, numbers, "{topic}");
    }
}

#[test]
fn large_messages_go_through_in_batches() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let large = vec!["x".repeat(1_000_000); 20];
    client.put_confirmed_batch("t", &large).unwrap();
    let messages = client.get_batch("t", 100).unwrap();
    assert!(messages.iter().map(|message| message.text().unwrap()).eq(large));
}

#[test]
fn goes_on_from_its_place_when_the_server_was_restarted() {
    let first = server();
    let mut client = Client::connect(first.addr()).unwrap();
    client.put_batch("t", &["a", "b"]).unwrap();
    assert_eq!(client.get("t").unwrap().unwrap().text().unwrap(), "a");

    // A new server knows nothing of the old messages, but its ids are larger.
    let second = restart(first);
    let mut other = Client::connect(second.addr()).unwrap();
    other.put_confirmed("t", "c").unwrap();
    other.put_confirmed("another", "d").unwrap();
    assert_eq!(client.get("t").unwrap().unwrap().text().unwrap(), "c");
    assert_eq!(client.get("another").unwrap().unwrap().text().unwrap(), "d");

    let third = restart(second);
    client.put_confirmed("t", "e").unwrap();
    assert_eq!(client.get("t").unwrap().unwrap().text().unwrap(), "e");
    assert_eq!(client.get_latest("another").unwrap(), None);

    let fourth = restart(third);
    client.put("t", "f").unwrap();
    client.ping().unwrap();
    assert_eq!(client.get_batch("t", 10).unwrap()[0].text().unwrap(), "f");
    fourth.stop();
}

#[test]
fn a_wait_lasts_over_a_restart() {
    let first = server();
    let addr = first.addr();
    let mut client = Client::connect(addr).unwrap();
    let waiter = thread::spawn(move || client.get_wait("t", Duration::MAX));
    let second = restart(first);
    Client::connect(addr).unwrap().put_confirmed("t", "at last").unwrap();
    assert_eq!(waiter.join().unwrap().unwrap().unwrap().text().unwrap(), "at last");
    second.stop();
}

#[test]
fn a_server_that_is_gone_is_an_error() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    server.stop();
    assert!(matches!(client.get("t"), Err(Error::Connect(_))));
}

#[test]
fn a_refused_message_is_an_error() {
    let server = server_with(Config { max_message: 1_000, ..Config::default() });
    let mut client = Client::connect(server.addr()).unwrap();
    let large = "x".repeat(5_000_000);
    let code = |error: Error| match error {
        Error::Server { code, .. } | Error::EarlierPut { code, .. } => code,
        error => panic!("{error:?}"),
    };
    assert_eq!(code(client.put_confirmed("t", &large).unwrap_err()), "message_too_large");
    client.put("t", &large).unwrap();
    assert_eq!(code(client.get("t").unwrap_err()), "message_too_large");
    client.put("", "no topic").unwrap();
    assert_eq!(code(client.ping().unwrap_err()), "bad_topic");
    client.ping().unwrap();
    let deep = "[".repeat(129) + &"]".repeat(129);
    assert_eq!(code(client.put_confirmed("t", &raw(&deep)).unwrap_err()), "too_deep");
    assert_eq!(code(client.get("").unwrap_err()), "bad_topic");
    assert_eq!(code(client.get_batch("", 300).unwrap_err()), "bad_topic");
    match client.put_confirmed_batch("t", &["a", &large, "b"]).unwrap_err() {
        Error::Batch { stored, source } => {
            assert_eq!((stored.len(), code(*source)), (1, "message_too_large".into()));
        }
        error => panic!("{error:?}"),
    }
    assert_eq!(client.get("t").unwrap().unwrap().text().unwrap(), "a");
}

#[test]
fn a_server_without_room_says_so() {
    let server = server_with(Config { max_connections: 1, ..Config::default() });
    let first = Client::connect(server.addr()).unwrap();
    for _ in 0..50 {
        let error = Client::connect_once(server.addr()).unwrap_err();
        assert!(matches!(&error, Error::Server { code, .. } if code == "busy"), "{error:?}");
    }
    drop(first);
    Client::connect(server.addr()).unwrap();
}

#[test]
fn topics_are_looked_at_and_cleared() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let receipts = client.put_confirmed_batch("t", &[1, 2, 3]).unwrap();
    assert_eq!(decoded(client.history("t", 2).unwrap().iter()), [2, 3]);
    assert_eq!(client.history("of nobody", 2).unwrap(), []);
    let (message, looks) = client.peek("t").unwrap().unwrap();
    assert_eq!((message.id, looks), (receipts[0].id, 1));
    assert_eq!(client.peek("t").unwrap().unwrap().1, 2);
    assert!(client.delete("t", receipts[0].id).unwrap());
    assert!(!client.delete("t", receipts[0].id).unwrap());
    assert_eq!(client.peek("t").unwrap().unwrap().0.id, receipts[1].id);

    assert_eq!(client.policy("t").unwrap(), None);
    client.set_policy("t", Policy::RoundRobin).unwrap();
    assert_eq!(client.policy("t").unwrap(), Some(Policy::RoundRobin));
    client.stop("t").unwrap();
    client.take_lease("t", Duration::from_secs(60)).unwrap().unwrap();
    let topics = client.topics().unwrap();
    let [topic] = &topics[..] else { panic!("{topics:?}") };
    assert_eq!((topic.topic.as_str(), topic.length, topic.bytes, topic.leased), ("t", 2, 2, 1));
    assert_eq!(topic.oldest, Some(receipts[1].id));
    assert_eq!(topic.newest, Some(receipts[2].id));
    assert_eq!((topic.policy, topic.state.as_str()), (Some(Policy::RoundRobin), "stopped"));
    client.start("t").unwrap();
    let stats = client.stats().unwrap();
    assert_eq!((stats.connections, stats.topics, stats.messages), (1, 1, 2));
    assert_eq!(
        (stats.puts, stats.takes, stats.version.as_str()),
        (3, 1, env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(client.purge("t").unwrap(), 2);
    assert_eq!(client.topics().unwrap()[0].length, 0);
}

fn decoded<'m>(messages: impl Iterator<Item = &'m Message>) -> Vec<usize> {
    messages.map(|message| message.decode().unwrap()).collect()
}

/// Every connection through it breaks when so many bytes came from the server; more and more of
/// them, so that there is an end to it.
fn breaking_proxy(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = 100;
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut up, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut up, &mut to));
            thread::spawn(move || {
                let _ = std::io::copy(&mut (&server).take(bytes), &mut &client);
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
            bytes += bytes / 7;
        }
    });
    addr
}

/// A call gives up when three connections break on it. The next goes on from the same place.
fn persist<T>(mut call: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        match call() {
            Err(Error::Disconnected(_) | Error::Connect(_)) => {}
            result => return result.unwrap(),
        }
    }
}
