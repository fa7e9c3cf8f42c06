//! Replays every exchange of docs/reference/protocol.md and of its frozen copy, each against a new
//! server.

use std::collections::BTreeMap;

use crate::suite::support::peer::{ErrorTexts, Peer};
use crate::suite::support::server;

const DOCUMENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/protocol.md"));

/// The lines of every block marked as an exchange, with its first line number.
fn exchanges(document: &'static str) -> Vec<(usize, Vec<&'static str>)> {
    let mut exchanges: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut within = false;
    for (number, line) in document.lines().enumerate() {
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

/// The ids in a line: numbers of 16 digits.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 16)
}

/// Records the server's ids for the ids in the document.
pub fn learn(known: &mut BTreeMap<&'static str, String>, document: &'static str, truth: &str) {
    known.extend(ids(document).zip(ids(truth).map(str::to_owned)));
}

/// A request of the document with the server's ids.
pub fn in_truth(request: &str, known: &BTreeMap<&str, String>) -> String {
    known.iter().fold(request.to_owned(), |text, (document, truth)| text.replace(document, truth))
}

fn replay(lines: &[&'static str], texts: ErrorTexts) {
    let server = server();
    let mut peers: BTreeMap<&str, Peer> = BTreeMap::new();
    let connects_later = |name| lines.contains(&format!("{name} connects").as_str());
    for line in lines {
        let name = &line[..1];
        if !connects_later(name) {
            peers.entry(name).or_insert_with(|| Peer::connect(server.addr()));
        }
    }
    let mut ids = BTreeMap::new();
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
            ("> ", request) => peer.send(in_truth(request, &ids)),
            ("< ", reply) => match reply.strip_suffix('…') {
                Some(begin) => assert!(peer.receive_text().starts_with(begin), "{begin}"),
                None => learn(&mut ids, reply, &peer.expect_replies(reply, texts)),
            },
            _ => panic!("not a line of an exchange: {line:?}"),
        }
    }
    // The server sent nothing beyond the document.
    for peer in peers.values_mut() {
        peer.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    }
    server.stop();
}

pub fn replay_all(name: &str, document: &'static str, texts: ErrorTexts) {
    let exchanges = exchanges(document);
    assert!(exchanges.len() >= 11, "the exchanges of {name} were not found");
    for (number, lines) in exchanges {
        let replayed = std::panic::catch_unwind(|| replay(&lines, texts));
        assert!(replayed.is_ok(), "the exchange at {name}:{number} differs");
    }
}

#[test]
fn every_exchange_matches_the_document() {
    replay_all("docs/reference/protocol.md", DOCUMENT, ErrorTexts::Compared);
}
