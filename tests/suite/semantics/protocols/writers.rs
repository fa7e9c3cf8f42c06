//! Whoever puts: a connection of each protocol.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Server, python};
use crate::suite::compat::coremq_frames::{self, frame};
use crate::suite::compat::o3one::{address_of, connect};
use crate::suite::support::peer::Peer;
use crate::suite::web::http::{Response, ask, post, response};
use crate::suite::web::http_native::with;
use crate::suite::wire::websocket;

/// What became of a put.
#[derive(Debug, Default)]
pub struct Put {
    /// Values that the document leaves out, as JSON and as Python show them.
    pub left_out: (String, String),
    /// What Mezzenger's subscribers are to get.
    pub frame: Option<Vec<u8>>,
    /// What it was answered.
    pub answer: String,
}

impl Put {
    fn answered(answer: impl Into<String>) -> Put {
        Put { answer: answer.into(), ..Put::default() }
    }

    /// With what CoreMQ adds.
    fn sent(answer: &Value, id: &str, server: &str) -> Put {
        let json =
            format!(r#""coremq_sender":"{id}","coremq_sent":TIME,"coremq_server":"{server}""#);
        let python = json.replace('"', "'").replace("':", "': ").replace(",'", ", '");
        Put { left_out: (json, python), ..Put::answered(answer["response"].as_str().unwrap()) }
    }
}

pub struct Writers {
    json: Peer,
    websocket: websocket::Client,
    http: Peer,
    coremq: coremq_frames::Client,
    corews: websocket::Client,
    o3one: Peer,
    mezzenger: Peer,
    /// As CoreMQ names it.
    server: String,
}

impl Writers {
    pub fn connect(server: &Server) -> Writers {
        let coremq_addr = coremq_frames::address(server);
        let coremq = coremq_frames::Client::connect(coremq_addr);
        Writers {
            json: Peer::connect(server.addr()),
            websocket: websocket::Client::connect(server.addr(), "/"),
            http: Peer::connect_silent(server.addr()),
            corews: websocket::Client::connect(server.addr(), "/ws"),
            o3one: connect(address_of(server, "o3one sub"), "REQ"),
            mezzenger: connect(address_of(server, "mezzenger recv"), "REQ"),
            server: format!("{}:{}", coremq.name, coremq_addr.port()),
            coremq,
        }
    }

    /// Puts into a topic what the document says, in the way that it says.
    pub fn put(&mut self, by: &str, how: &str, topic: &str, what: &str) -> Put {
        match (by, how) {
            ("JSON", "") => {
                self.json.send(request(topic, what));
                Put::answered(self.json.receive_text())
            }
            ("JSON", "in a WebSocket") => Put::answered(self.websocket.ask(&request(topic, what))),
            ("HTTP", _) => {
                let request = post(&format!("/t/{}", encoded(topic)), what);
                let kind = how.strip_prefix("as ").map(|kind| format!("Content-Type: {kind}"));
                said(&self.ask(&kind.map_or(request.clone(), |kind| with(&request, &kind))))
            }
            ("RestMQ", "") => {
                let form = format!("value={}", encoded(what));
                said(&self.ask(&post(&format!("/q/{}", encoded(topic)), &form)))
            }
            ("RestMQ", "at /queue") => {
                let queue = Value::from(topic);
                let command = format!(r#"{{"cmd":"add","queue":{queue},"value":{what}}}"#);
                said(&self.ask(&post("/queue", &format!("body={}", encoded(&command)))))
            }
            ("CoreMQ", "") => {
                self.coremq.peer.send(frame(topic, what));
                Put::sent(&self.coremq.answer(), &self.coremq.id, &self.server)
            }
            ("CoreMQ", "at /ws") => {
                let object = what.strip_prefix('{').unwrap();
                self.corews.send(&format!("{{\"queue\":{},{object}", json!(topic)));
                let answer = self.corews.receive_json();
                Put::sent(&answer, answer["queue"].as_str().unwrap(), &self.server)
            }
            ("O3one", "") => self.publish(format!("{topic} {what}").as_bytes()),
            ("Mezzenger", "") => {
                let pickle = python::message(topic, what);
                let frame = [topic.as_bytes(), b"|", &pickle].concat();
                let answer = send(&mut self.mezzenger, &frame);
                let left_out = (STANDARD.encode(pickle), String::new());
                Put { left_out, frame: Some(frame), answer }
            }
            other => panic!("nobody puts like {other:?}"),
        }
    }

    fn ask(&mut self, request: &str) -> Response {
        ask(&mut self.http, request)
    }

    fn publish(&mut self, text: &[u8]) -> Put {
        Put::answered(send(&mut self.o3one, text))
    }
}

fn request(topic: &str, message: &str) -> String {
    let topic = Value::from(topic);
    format!(r#"{{"action":"put","topic":{topic},"message":{message},"confirm":true}}"#)
}

fn said(response: &Response) -> Put {
    Put::answered(format!("{} {}", response.status, response.body))
}

/// Every byte of a text, for a form or a path.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A request over ØMQ, and its answer.
fn send(peer: &mut Peer, body: &[u8]) -> String {
    let len = u64::try_from(body.len()).unwrap().to_be_bytes();
    peer.send([b"\x01\0\x02", &len[..], body].concat());
    let head = peer.receive(4);
    assert_eq!(head[..3], *b"\x01\0\0");
    String::from_utf8(peer.receive(head[3].into())).unwrap()
}

/// A connection that puts these bytes where they are no message, and what it is answered.
pub fn refused(server: &Server, by: &str, how: &str, bytes: &[u8]) -> (Peer, String) {
    let put = |peer: &mut Peer, before: &str, behind: &str| {
        peer.send([before.as_bytes(), bytes, behind.as_bytes()].concat());
    };
    let mut peer = match by {
        "CoreMQ" => coremq_frames::Client::connect(coremq_frames::address(server)).peer,
        "O3one" => connect(address_of(server, "o3one sub"), "REQ"),
        "Mezzenger" => connect(address_of(server, "mezzenger recv"), "REQ"),
        _ => Peer::connect_silent(server.addr()),
    };
    let form = |field: &str| {
        let value: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
        format!("{field}{value}")
    };
    let answer = match (by, how) {
        ("JSON", "") => {
            put(&mut peer, r#"{"action":"put","topic":"o3","message":"#, "}");
            peer.receive_text()
        }
        ("HTTP", _) => {
            let kind = how.strip_prefix("as ").unwrap_or("application/x-www-form-urlencoded");
            let head = post("/t/o3", &"x".repeat(bytes.len()));
            let head = with(&head, &format!("Content-Type: {kind}"));
            put(&mut peer, head.strip_suffix(&"x".repeat(bytes.len())).unwrap(), "");
            response(&mut peer).body
        }
        ("RestMQ", "") => ask(&mut peer, post("/q/o3", &form("value="))).body,
        ("RestMQ", "at /queue") => {
            let command = [&b"{\"cmd\":\"add\",\"queue\":\"o3\",\"value\":"[..], bytes, b"}"];
            let command = encoded(str::from_utf8(&command.concat()).unwrap());
            ask(&mut peer, post("/queue", &format!("body={command}"))).body
        }
        ("CoreMQ", "") => {
            // What begins a character counts, also where it does not go on.
            let chars = 3 + bytes.iter().filter(|byte| **byte != b'\xc3').count();
            put(&mut peer, &format!("+{chars} o3 "), "");
            let text = coremq_frames::receive_text(&mut peer);
            text.split_once(' ').unwrap().1.to_owned()
        }
        ("O3one", "") => send(&mut peer, &[b"o3 ", bytes].concat()),
        ("Mezzenger", "as a frame without a pickle") => send(&mut peer, &[b"o3|", bytes].concat()),
        other => panic!("nobody is refused like {other:?}"),
    };
    (peer, answer)
}
