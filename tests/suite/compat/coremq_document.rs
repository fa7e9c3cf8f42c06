//! Replays docs/reference/coremq.md, each exchange against a fresh server.

use std::collections::BTreeMap;

use serde_json::Value;

use super::coremq_frames::{Client, address, config, frame};
use crate::suite::support::server_with;

const DOCUMENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/coremq.md"));

/// Replaces the ids, the server's name and the time of the document by those of this run.
fn with_actual_values(text: &str, clients: &BTreeMap<&str, Client>, port: u16) -> String {
    let mut text = text.to_owned();
    for (name, client) in clients {
        text = text.replace(&format!("\"{name}\""), &format!("\"{}\"", client.id));
        text = text.replace("SERVER:6747", &format!("{}:{port}", client.name));
        text = text.replace("SERVER", &client.name);
    }
    text
}

fn replay(exchange: &'static str) {
    let server = server_with(config());
    let addr = address(&server);
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    for line in exchange.lines() {
        let (client_name, rest) = line.split_at(1);
        let (direction, rest) = rest.split_at(2);
        let (queue, json) = rest.split_once(' ').unwrap();
        if !clients.contains_key(client_name) {
            // The welcome is read and checked when a client connects.
            assert!(json.starts_with(r#"{"response": "OK: Welcome to CoreMQ server""#), "{line}");
            clients.insert(client_name, Client::connect(addr));
            continue;
        }
        let queue = clients.get(queue).map_or(queue.to_owned(), |client| client.id.clone());
        let json = with_actual_values(json, &clients, addr.port());
        let client = clients.get_mut(client_name).unwrap();
        if direction == "> " {
            client.peer.send(frame(&queue, &json));
            continue;
        }
        let mut expected: Value = serde_json::from_str(&json).unwrap();
        let (got, message) = client.receive();
        if let Some(sent) = expected.get_mut("coremq_sent") {
            *sent = message["coremq_sent"].clone();
            assert!(sent.is_f64(), "{message}");
        }
        assert_eq!((got, message), (queue, expected), "{line}");
    }
}

/// Replays all exchanges of a document. Every text in them is part of CoreMQ's protocol.
pub fn replay_all(document: &'static str) {
    let blocks = document.split("```frames\n").skip(1);
    let exchanges: Vec<&str> = blocks.map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(exchanges.len(), 2);
    exchanges.into_iter().for_each(replay);
}

#[test]
fn every_exchange_gives_the_documented_answers() {
    replay_all(DOCUMENT);
}
