//! `dsmq::Client` against the real server; what it does when a server misbehaves is tested beside
//! it, in src/client.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use dsmq::client::{Client, Error};
use dsmq::{Config, Server};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::support::{server, server_with};

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
