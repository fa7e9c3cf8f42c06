//! wire-texts.md: the texts that are part of a wire protocol, line by line over real sockets.

use std::fs;

use dsmq::{Config, CoreMqPort, Server};
use serde_json::Value;

use crate::suite::compat::coremq_frames::{address, frame, receive_text};
use crate::suite::compat::mezzenger;
use crate::suite::compat::o3one::{address_of, answer, connect};
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::{ErrorTexts, Peer};
use crate::suite::support::server_with;
use crate::suite::web::http::{ask, get, post};
use crate::suite::wire::websocket;

const DOCUMENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/wire-texts.md"));

/// The kinds of blocks, each with how many there are at least.
const KINDS: [(&str, usize); 8] = [
    ("json", 1),
    ("websocket", 1),
    ("coremq", 5),
    ("replicant", 1),
    ("corews", 1),
    ("restmq", 4),
    ("o3one", 1),
    ("mezzenger", 1),
];

#[test]
fn texts_of_wire_protocols() {
    let blocks: Vec<_> = DOCUMENT.split("\n```").skip(1).step_by(2).collect();
    for (kind, least) in KINDS {
        let of_kind = blocks.iter().filter(|block| block.lines().next() == Some(kind));
        assert!(of_kind.count() >= least, "blocks of {kind} are missing");
    }
    for block in blocks {
        let (kind, lines) = block.split_once('\n').unwrap();
        Replay::start(kind).run(lines);
    }
}

/// A connection of one protocol.
enum Line {
    Json(Peer),
    WebSocket(websocket::Client),
    CoreMq(Peer),
    CoreWs(websocket::Client),
    RestMq(Peer),
    O3one(Peer),
    Mezzenger(Peer),
}

/// A block that is being replayed.
struct Replay {
    line: Line,
    server: Option<Server>,
    /// Requests without a reply so far, for the protocol that answers them one by one.
    asked: String,
    /// The connection's id, once the server has said it, and the server's name.
    id: Option<String>,
    name: Option<String>,
}

impl Replay {
    fn start(kind: &str) -> Replay {
        let folder = Folder::new("contract-wire");
        let conf = folder.path("coremq.conf");
        let allowed = if kind == "replicant" { "localhost" } else { "" };
        fs::write(&conf, format!("[CoreMQ]\nallowed_replicants = {allowed}\n")).unwrap();
        let server = server_with(Config {
            coremq: Some(CoreMqPort::Port(0)),
            coremq_conf: Some(conf),
            o3one: Some([0, 0, 0].into()),
            mezzenger: Some([0, 0]),
            ..Config::default()
        });
        let addr = server.addr();
        let line = match kind {
            "json" => Line::Json(Peer::connect(addr)),
            "websocket" => Line::WebSocket(websocket::Client::connect(addr, "/")),
            "coremq" | "replicant" => Line::CoreMq(Peer::connect_silent(address(&server))),
            "corews" => Line::CoreWs(websocket::Client::connect(addr, "/ws")),
            "restmq" => Line::RestMq(Peer::connect_silent(addr)),
            "o3one" => Line::O3one(connect(address_of(&server, "o3one sub"), "REQ")),
            "mezzenger" => Line::Mezzenger(connect(address_of(&server, "mezzenger recv"), "REQ")),
            other => panic!("no protocol is called {other:?}"),
        };
        let (asked, id, name) = (String::new(), None, None);
        Replay { line, server: Some(server), asked, id, name }
    }

    fn run(mut self, lines: &str) {
        for line in lines.lines() {
            if let Some(text) = line.strip_prefix("> ") {
                self.send(text);
            } else if let Some(text) = line.strip_prefix("raw> ") {
                self.peer().send(bytes(text));
            } else if let Some(expected) = line.strip_prefix("< ") {
                self.expect(expected);
            } else {
                match line {
                    "server stops" => self.server.take().unwrap().stop(),
                    "ends" => self.peer().end(),
                    "closed" => self.peer().expect_end(),
                    _ => panic!("not a line of an exchange: {line:?}"),
                }
            }
        }
    }

    /// The connection as bytes.
    fn peer(&mut self) -> &mut Peer {
        match &mut self.line {
            Line::Json(peer)
            | Line::CoreMq(peer)
            | Line::RestMq(peer)
            | Line::O3one(peer)
            | Line::Mezzenger(peer) => peer,
            Line::WebSocket(_) | Line::CoreWs(_) => panic!("a WebSocket is no bytes"),
        }
    }

    fn send(&mut self, text: &str) {
        let text = text.replace("ID ", &format!("{} ", self.id.as_deref().unwrap_or("ID")));
        match &mut self.line {
            Line::Json(peer) => peer.send(text),
            Line::WebSocket(client) | Line::CoreWs(client) => client.send(&text),
            Line::CoreMq(peer) => {
                let (queue, json) = text.split_once(' ').unwrap();
                peer.send(frame(queue, json));
            }
            Line::RestMq(_) => self.asked = request(&text),
            Line::O3one(peer) => peer.send(one_part(&bytes(&text))),
            Line::Mezzenger(peer) => {
                let [name, ack, payload] =
                    text.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
                let payload = format!("S'{payload}'\n");
                let frame = mezzenger::frame(name, &payload, ack.parse().unwrap(), "checksum");
                peer.send(one_part(frame.as_bytes()));
            }
        }
    }

    fn expect(&mut self, expected: &str) {
        let received = match &mut self.line {
            Line::Json(peer) => peer.receive_text(),
            Line::WebSocket(client) => client.receive_text(),
            Line::CoreMq(peer) => receive_text(peer),
            Line::CoreWs(client) => client.receive_text(),
            Line::RestMq(peer) => response(peer, &self.asked),
            Line::O3one(peer) | Line::Mezzenger(peer) => answer(peer),
        };
        if let (Line::CoreMq(_), None) = (&self.line, &self.id) {
            self.greeted(&received);
        }
        let received = self.shown(&received);
        match expected.strip_suffix('…') {
            Some(begin) => assert!(
                received.starts_with(begin) && received.len() > begin.len() + 3,
                "{expected}: {received}"
            ),
            None => {
                let texts = ErrorTexts::Masked;
                assert_eq!(texts.shown(&received), texts.shown(&self.shown(expected)));
            }
        }
    }

    /// Learns the id and the server's name from its welcome.
    fn greeted(&mut self, welcome: &str) {
        let (id, json) = welcome.split_once(' ').unwrap();
        let welcome: Value = serde_json::from_str(json).unwrap();
        self.id = Some(id.to_owned());
        self.name = Some(welcome["server"].as_str().unwrap().to_owned());
    }

    /// A text as it is compared: the keys of CoreMQ's objects are sorted.
    fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (truth, word) in [(&self.id, "ID"), (&self.name, "SERVER")] {
            if let Some(truth) = truth {
                text = text.replace(truth, word);
            }
        }
        let (queue, json) = match &self.line {
            Line::CoreMq(_) => text.split_once(' ').unwrap(),
            Line::CoreWs(_) => ("", text.as_str()),
            _ => return text,
        };
        let Ok(mut object) = serde_json::from_str::<Value>(json) else { return text };
        if let Line::CoreWs(_) = self.line {
            for (key, word) in [("queue", "ID"), ("mq_server", "SERVER:PORT")] {
                if let Some(value) = object.get_mut(key) {
                    assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{text}");
                    *value = word.into();
                }
            }
        }
        format!("{queue} {object}")
    }
}

/// The bytes of a text in which `\xNN` stands for a byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// A request over ZMTP.
fn one_part(body: &[u8]) -> Vec<u8> {
    let len = u64::try_from(body.len()).unwrap().to_be_bytes();
    [b"\x01\0\x02", &len[..], body].concat()
}

/// An HTTP request: its method, its path, and its body if it has one.
fn request(text: &str) -> String {
    let (method, rest) = text.split_once(' ').unwrap();
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    match method {
        "POST" => post(path, body),
        _ => get(path).replacen("GET", method, 1),
    }
}

/// The status, the type without its parameters, and the body with its line ends shown.
fn response(peer: &mut Peer, request: &str) -> String {
    let response = ask(peer, request);
    let kind = response.header.lines().find_map(|line| line.strip_prefix("content-type: "));
    let kind = kind.map_or("", |kind| kind.split(';').next().unwrap());
    let body = response.body.replace('\r', "\\r").replace('\n', "\\n");
    format!("{} {kind} {body}", response.status).trim_end().to_owned()
}
