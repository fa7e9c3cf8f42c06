//! Topic names in each protocol: which names it can express, and how its programs see a message of them.

use serde_json::json;

use super::Server;
use super::readers::zmtp;
use super::writers::encoded;
use crate::suite::compat::coremq_frames;
use crate::suite::compat::o3one::{address_of, subscriber};
use crate::suite::support::peer::Peer;
use crate::suite::web::http::{ask, get, post};
use crate::suite::wire::websocket;

/// The topic of a message behind which nothing is to come any more.
pub const END: &str = "the-end";

/// One who has subscribed, or knows where to look: finds out, once `[1]` was put to the topic and
/// something to [`END`], whether it has read that under its name.
pub type Listener = Box<dyn FnOnce() -> bool>;

pub fn listener(who: &str, server: &Server, topic: &str) -> Listener {
    let addr = server.addr();
    let topic = topic.to_owned();
    match who {
        "JSON" => {
            let mut peer = Peer::connect(addr);
            Box::new(move || {
                peer.send(format!(r#"{{"action":"get","topic":{}}}"#, json!(topic)));
                peer.receive_text() == r#"{"message":[1]}"#
            })
        }
        "HTTP" => Box::new(move || {
            let request = get(&format!("/t/{}", encoded(&topic)));
            ask(&mut Peer::connect_silent(addr), request).body.contains(r#""message":[1],"#)
        }),
        "RestMQ" => Box::new(move || {
            let request = post(&format!("/queue/{}", encoded(&topic)), r#"body={"cmd":"get"}"#);
            ask(&mut Peer::connect_silent(addr), request).body.contains(r#""value": [1], "#)
        }),
        "CoreMQ" => {
            let mut client = coremq_frames::Client::connect(coremq_frames::address(server));
            client.subscribe(json!([topic, END]));
            heard(topic, move || {
                first(coremq_frames::receive_text(&mut client.peer).as_bytes(), ' ')
            })
        }
        "CoreMQ at `/ws`" => {
            let mut client = websocket::Client::connect(addr, "/ws");
            client.send(&json!({ "coremq_subscribe": [topic, END] }).to_string());
            assert!(client.ask(r#"{"corews_status":true}"#).starts_with(r#"{"connections":"#));
            heard(topic, move || client.receive_json()["queue"].as_str().unwrap().to_owned())
        }
        "O3one" => {
            let mut peer = subscriber(address_of(server, "o3one pub"), "");
            heard(topic, move || first(&zmtp(&mut peer), ' '))
        }
        "Mezzenger" => {
            let mut peer = subscriber(address_of(server, "mezzenger pub"), "");
            heard(topic, move || first(&zmtp(&mut peer), '|'))
        }
        other => panic!("nobody listens like {other:?}"),
    }
}

/// Hears names until the last one.
fn heard(topic: String, mut name: impl FnMut() -> String + 'static) -> Listener {
    Box::new(move || {
        let names = std::iter::from_fn(|| Some(name()).filter(|name| name != END));
        names.collect::<Vec<_>>().contains(&topic)
    })
}

/// The text before the first of these, as programs split it.
fn first(message: &[u8], separator: char) -> String {
    let message = String::from_utf8_lossy(message);
    message.split(separator).next().unwrap().to_owned()
}
