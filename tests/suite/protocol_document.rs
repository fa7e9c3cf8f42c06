//! docs/protocol.md, exchange by exchange, against a fresh server each.

use std::collections::BTreeMap;

use super::peer::Peer;
use super::support::server;

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md"));

/// The lines of every block that is marked as an exchange, with the line it begins at.
fn exchanges() -> Vec<(usize, Vec<&'static str>)> {
    let mut exchanges: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut within = false;
    for (number, line) in DOCUMENT.lines().enumerate() {
        match line {
            "```exchange" => {
                exchanges.push((number + 1, Vec::new()));
                within = true;
            }
            "```" => within = false,
            _ if within => exchanges.last_mut().unwrap().1.push(line),
            _ => {}
        }
    }
    exchanges
}

fn replay(lines: &[&str]) {
    let server = server();
    let mut peers: BTreeMap<&str, Peer> = BTreeMap::new();
    let connects_later = |name| lines.contains(&format!("{name} connects").as_str());
    for line in lines {
        let name = &line[..1];
        if !connects_later(name) {
            peers.entry(name).or_insert_with(|| Peer::connect(server.addr()));
        }
    }
    for line in lines {
        let (name, what) = line.split_at(1);
        if what == " connects" {
            peers.insert(name, Peer::connect(server.addr()));
            continue;
        }
        if what == " closed" {
            peers.remove(name).unwrap().expect_end();
            continue;
        }
        let peer = peers.get_mut(name).unwrap();
        match what.split_at(2) {
            ("> ", request) => peer.send(request),
            ("< ", reply) => peer.expect(reply),
            _ => panic!("not a line of an exchange: {line:?}"),
        }
    }
    // Nothing was answered beyond what the document shows.
    for peer in peers.values_mut() {
        peer.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    }
    server.stop();
}

#[test]
fn every_exchange_goes_as_it_is_written() {
    let exchanges = exchanges();
    assert!(exchanges.len() >= 11, "the document's exchanges were not found");
    for (number, lines) in exchanges {
        let replayed = std::panic::catch_unwind(|| replay(&lines));
        assert!(replayed.is_ok(), "the exchange at docs/protocol.md:{number} differs");
    }
}
