//! Messages that were taken without a lease, did not reach their taker and were put back. Sessions that
//! passed their ids meanwhile get them, once.

use std::net::SocketAddr;

use dsmq::limits;
use serde_json::{Value, json};

use crate::suite::support::peer::{Peer, ask};
use crate::suite::support::server;

/// A take whose taker goes away in the middle of the reply.
pub const TAKE: &str = r#"{"action":"take","topic":"t"}"#;

fn put(peer: &mut Peer, message: &str) -> u64 {
    let reply = ask(peer, &json!({"action":"put","topic":"t","message":message,"confirm":true}));
    reply["id"].as_u64().unwrap()
}

fn id(reply: &Value) -> u64 {
    reply["id"].as_u64().unwrap_or_else(|| panic!("no id in {:.200}", reply.to_string()))
}

fn get(peer: &mut Peer) -> u64 {
    id(&ask(peer, &json!({"action":"get","topic":"t","meta":true,"wait":60})))
}

/// Takers and readers may be connected to different servers over one store.
pub fn sessions_get_what_they_passed(
    takers: SocketAddr,
    readers: SocketAddr,
    take: &str,
    follower: impl FnOnce() -> Box<dyn FnMut() -> u64>,
) {
    // More than sockets hold, so that its reply is not written as long as nobody reads it.
    let large = "x".repeat(limits::MESSAGE_BYTES / 2);
    let [mut had, mut polls, mut waits] = [(); 3].map(|()| Peer::connect(readers));
    let (mut puts, mut taker) = (Peer::connect(takers), Peer::connect_silent(takers));
    let first = put(&mut puts, &large);
    assert_eq!(get(&mut had), first);
    taker.send(take);
    assert_eq!(taker.receive(9).len(), 9, "it is taken");
    let second = put(&mut puts, "passes it");
    for peer in [&mut had, &mut polls, &mut waits] {
        assert_eq!(get(peer), second);
    }
    let mut pushed = follower();
    assert_eq!(pushed(), second);
    waits.send(json!({"action":"get","topic":"t","meta":true,"wait":60}).to_string());
    drop(taker);
    assert_eq!(id(&waits.receive_reply()), first);
    assert_eq!(get(&mut polls), first);
    assert_eq!(pushed(), first);
    let last = put(&mut puts, "once");
    for peer in [&mut had, &mut polls, &mut waits] {
        assert_eq!(get(peer), last);
    }
    assert_eq!(pushed(), last);
}

/// Follows the topic from its beginning.
pub fn subscriber(addr: SocketAddr) -> Box<dyn FnMut() -> u64> {
    let mut peer = Peer::connect(addr);
    let subscribe = json!({"action":"subscribe","topic":"t","from":"oldest"});
    peer.ask(&subscribe.to_string(), r#"{"ok":true}"#);
    Box::new(move || id(&peer.receive_reply()))
}

/// The same with the client of this library.
fn client(addr: SocketAddr) -> Box<dyn FnMut() -> u64> {
    let mut client = dsmq::Client::connect(addr).unwrap();
    client.subscribe(&["t"], dsmq::client::Start::Oldest).unwrap();
    Box::new(move || client.next_push(crate::suite::support::PATIENCE).unwrap().unwrap().message.id)
}

#[test]
fn sessions_get_a_message_that_its_taker_did_not_read() {
    let server = server();
    sessions_get_what_they_passed(server.addr(), server.addr(), TAKE, || subscriber(server.addr()));
}

#[test]
fn so_does_the_client_of_this_library() {
    let server = server();
    sessions_get_what_they_passed(server.addr(), server.addr(), TAKE, || client(server.addr()));
}

/// Over HTTP, and to a reader of server-sent events.
#[cfg(feature = "http")]
#[test]
fn sessions_get_a_message_that_its_taker_over_http_did_not_read() {
    use crate::suite::web::http::{get, post};
    use crate::suite::web::http_events::Reader;

    let server = server();
    let addr = server.addr();
    sessions_get_what_they_passed(addr, addr, &post("/t/t/take", ""), || {
        let mut reader = Reader::open(addr, &get("/t/t?from=oldest"));
        Box::new(move || {
            let event = reader.block().unwrap();
            let id = event.strip_prefix("id: ").and_then(|event| event.lines().next());
            id.unwrap().parse().unwrap()
        })
    });
}
