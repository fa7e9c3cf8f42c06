//! Replays every exchange of docs/reference/http.md, each against a new server.

use std::collections::BTreeMap;

use super::http::response;
use crate::suite::support::peer::{ErrorTexts, Peer};
use crate::suite::support::server;
use crate::suite::wire::protocol_document::{in_truth, learn};

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/http.md"));

fn request(line: &str) -> String {
    let (method, rest) = line.split_once(' ').unwrap();
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn replay(exchange: &'static str, texts: ErrorTexts) {
    let server = server();
    let mut peer = Peer::connect_silent(server.addr());
    let mut ids = BTreeMap::new();
    for line in exchange.lines() {
        if let Some(text) = line.strip_prefix("> ") {
            peer.send(request(&in_truth(text, &ids)));
        } else {
            let expected = line.strip_prefix("< ").unwrap_or_else(|| panic!("{line}"));
            let answer = response(&mut peer);
            let answer = format!("{} {}", answer.status, answer.body);
            match expected.strip_suffix('…') {
                Some(begin) => assert!(answer.starts_with(begin), "{line}\n{answer}"),
                None => assert_eq!(texts.shown(&answer), texts.shown(expected), "{line}"),
            }
            learn(&mut ids, expected, &answer);
        }
    }
}

/// Replays all exchanges of a document.
pub fn replay_all(document: &'static str, texts: ErrorTexts) {
    let blocks = document.split("```requests\n").skip(1);
    let exchanges: Vec<&str> = blocks.map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(exchanges.len(), 4);
    exchanges.into_iter().for_each(|exchange| replay(exchange, texts));
}

#[test]
fn every_exchange_matches_the_document() {
    replay_all(DOCUMENT, ErrorTexts::Compared);
}
