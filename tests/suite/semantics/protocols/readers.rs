//! Whoever reads: a connection of each protocol, and how what it reads looks.

use std::net::SocketAddr;

use serde_json::json;

use super::{Server, python};
use crate::suite::compat::coremq_frames;
use crate::suite::compat::o3one::{address_of, subscriber};
use crate::suite::support::peer::Peer;
use crate::suite::web::http::{ask, get, post};
use crate::suite::web::http_events;
use crate::suite::wire::websocket;

/// The topic that everybody reads: O3one's bridge has no others.
pub const TOPIC: &str = "o3";

pub struct Readers {
    addr: SocketAddr,
    json: Peer,
    json_subscriber: Peer,
    websocket: websocket::Client,
    http: Peer,
    events: http_events::Reader,
    coremq: Peer,
    corews: websocket::Client,
    o3one: Peer,
    bridge: websocket::Client,
    mezzenger: Peer,
}

impl Readers {
    /// They have subscribed when this returns.
    pub fn connect(server: &Server) -> Readers {
        let addr = server.addr();
        let mut json_subscriber = Peer::connect(addr);
        json_subscriber.ask(r#"{"action":"subscribe","topic":"o3"}"#, r#"{"ok":true}"#);
        let mut websocket = websocket::Client::connect(addr, "/");
        assert_eq!(websocket.ask(r#"{"action":"ping"}"#), r#"{"ok":true}"#);
        let mut events = http_events::follow(server, "/t/o3");
        assert!(events.block().is_some_and(|block| block.starts_with("id: ")));
        let mut coremq = coremq_frames::Client::connect(coremq_frames::address(server));
        coremq.subscribe(json!(TOPIC));
        let mut corews = websocket::Client::connect(addr, "/ws");
        corews.send(r#"{"coremq_subscribe":"o3"}"#);
        assert!(corews.ask(r#"{"corews_status":true}"#).starts_with(r#"{"connections":"#));
        Readers {
            addr,
            json: Peer::connect(addr),
            json_subscriber,
            websocket,
            http: Peer::connect_silent(addr),
            events,
            coremq: coremq.peer,
            corews,
            o3one: subscriber(address_of(server, "o3one pub"), TOPIC),
            // It is given all that came since it connected.
            bridge: websocket::Client::connect(address_of(server, "o3one ws"), "/"),
            mezzenger: subscriber(address_of(server, "mezzenger pub"), "o3|"),
        }
    }

    /// The next message, as the document names who reads it.
    pub fn read(&mut self, who: &str) -> Vec<u8> {
        let get_next = r#"{"action":"get","topic":"o3"}"#;
        match who {
            "JSON, `get`" => {
                self.json.send(get_next);
                self.json.receive_text().into_bytes()
            }
            "JSON, `subscribe`" => self.json_subscriber.receive_text().into_bytes(),
            "JSON in a WebSocket (dsmq 1.4.1)" => self.websocket.ask(get_next).into_bytes(),
            "HTTP, `GET /t/o3`" => self.ask(&get("/t/o3")),
            "HTTP, events" => {
                // On a slow machine a heartbeat comes between.
                let mut blocks = std::iter::from_fn(|| self.events.block());
                let event = blocks.find(|block| !block.starts_with(':')).unwrap();
                let (id, data) = event.split_once('\n').unwrap();
                assert!(id.starts_with("id: "), "{event}");
                data.strip_suffix("\n\n").unwrap().into()
            }
            "RestMQ, `get` at `/queue`" => {
                self.ask(&post("/queue", "body={\"cmd\":\"get\",\"queue\":\"o3\"}"))
            }
            "RestMQ, `GET /q/o3`" => self.ask(&get("/q/o3")),
            "RestMQ, XML-RPC's `get`" => {
                let call = "<methodCall><methodName>get</methodName><params><param><value>o3</value></param>\
                            </params></methodCall>";
                let answer = String::from_utf8(self.ask(&post("/xmlrpc", call))).unwrap();
                let value = answer.split_once("<name>value</name>\n<value><string>").unwrap().1;
                let value = value.split_once("</string>").unwrap().0;
                value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").into()
            }
            "RestMQ, a consumer" => self.consume(),
            "CoreMQ" => {
                // It reads as many characters as the header says.
                format!("+LENGTH {}", coremq_frames::receive_text(&mut self.coremq)).into_bytes()
            }
            "CoreMQ at `/ws`" => self.corews.receive_text().into_bytes(),
            "O3one, a subscriber" => zmtp(&mut self.o3one),
            "O3one, the bridge" => self.bridge.receive_text().into_bytes(),
            "Mezzenger" => zmtp(&mut self.mezzenger),
            other => panic!("nobody reads like {other:?}"),
        }
    }

    /// As a consumer, which is gone when this returns.
    fn consume(&mut self) -> Vec<u8> {
        let mut consumer = websocket::Client::connect(self.addr, "/ws/o3");
        let message = consumer.receive_text();
        self.ask(&get("/q/o3").replacen("GET", "DELETE", 1));
        consumer.expect_close(1000);
        message.into_bytes()
    }

    fn ask(&mut self, request: &str) -> Vec<u8> {
        let response = ask(&mut self.http, request);
        assert_eq!(response.status, 200, "{response:?}");
        response.body.trim_end().into()
    }
}

/// The next message of one part.
pub fn zmtp(peer: &mut Peer) -> Vec<u8> {
    let len = match peer.receive(2)[..] {
        [0, len] => u64::from(len),
        [2, first] => {
            let rest = peer.receive(7);
            u64::from_be_bytes([&[first], &rest[..]].concat().try_into().unwrap())
        }
        ref other => panic!("{other:?} begins no message"),
    };
    peer.receive(usize::try_from(len).unwrap())
}

/// The messages read, as the document shows them; times differ from the document.
pub fn shown(who: &str, read: &[u8]) -> String {
    if who != "Mezzenger" {
        return without(str::from_utf8(read).unwrap(), "\"coremq_sent\":", "TIME");
    }
    let bar = read.iter().position(|byte| *byte == b'|').unwrap();
    let (name, pickle) = (str::from_utf8(&read[..bar]).unwrap(), &read[bar + 1..]);
    let shown = without(&python::shown(pickle), "'coremq_sent': ", "TIME");
    let shown = without(&shown, "'timestamp': ", "TIME");
    let (before, checksum) = shown.split_once("'checksum': '").unwrap();
    let checksum = checksum.strip_suffix("'}").unwrap();
    assert!(checksum.len() == 32 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit()));
    format!("{name}|{before}'checksum': 'MD5'}}")
}

/// With a time that stands behind a key replaced.
fn without(text: &str, key: &str, word: &str) -> String {
    let Some((before, behind)) = text.split_once(key) else { return text.to_owned() };
    let end = behind.find([',', '}']).unwrap();
    let (time, rest) = behind.split_at(end);
    assert!(time.parse::<f64>().unwrap() > 1.7e9, "{text}");
    format!("{before}{key}{word}{rest}")
}
