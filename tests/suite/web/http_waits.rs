//! Waiting readers and takers over HTTP: their order, their memory of no thread each, and the
//! requeue of messages whose taker is gone.

use std::time::Instant;

use dsmq::limits;
use serde_json::Value;

use super::http::{ask, get, post, response};
use super::http_native::{connect, expect, id_in, with};
use crate::suite::support::peer::Peer;
#[cfg(target_os = "linux")]
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::{PATIENCE, server};

/// The number of waiting takers.
fn waiting(peer: &mut Peer) -> u64 {
    let stats: Value = serde_json::from_str(&ask(peer, get("/t/?stats")).body).unwrap();
    stats["stats"]["waiting"].as_u64().unwrap()
}

fn until_waiting(peer: &mut Peer, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while waiting(peer) != count {
        assert!(Instant::now() < deadline, "{count} takers never wait");
    }
}

#[test]
fn waiting_reader_receives_the_next_put() {
    let server = server();
    let (mut waiting_peer, mut puts) = (connect(&server), connect(&server));
    let mut since = 0;
    for n in 0..200 {
        waiting_peer.send(get(&format!("/t/t?since={since}&wait=60")));
        since = id_in(&ask(&mut puts, post("/t/t", &n.to_string())));
        let page = response(&mut waiting_peer);
        let expected = format!("{{\"messages\":[{{\"message\":{n},\"id\":{since},");
        assert!(page.status == 200 && page.body.starts_with(&expected), "{page:?}");
        assert!(page.body.ends_with(&format!("],\"last\":{since}}}")), "{page:?}");
    }
    let none = format!("{{\"messages\":[],\"last\":{since}}}");
    expect(&mut waiting_peer, &get(&format!("/t/t?since={since}&wait=0.01")), 200, &none);
}

#[test]
fn takers_are_served_first_come_first_served() {
    let server = server();
    let mut witness = connect(&server);
    let mut takers: Vec<Peer> = Vec::new();
    for count in 1..=5 {
        let mut taker = connect(&server);
        taker.send(post("/t/t/take?wait=60", ""));
        until_waiting(&mut witness, count);
        takers.push(taker);
    }
    // A disconnected taker leaves the queue.
    drop(takers.remove(1));
    until_waiting(&mut witness, 4);
    for n in 0..4 {
        ask(&mut witness, post("/t/t", &n.to_string()));
    }
    for (n, taker) in takers.iter_mut().enumerate() {
        let taken = response(taker);
        assert!(taken.body.starts_with(&format!("{{\"message\":{n},")), "{taken:?}");
    }
    expect(
        &mut witness,
        &post("/t/t/take?wait=0.01", ""),
        200,
        "{\"message\":\"\",\"empty\":true}",
    );
}

/// The message exceeds the socket buffers, so the server knows that it was not read.
#[test]
fn unread_taken_message_goes_to_the_next_taker() {
    let server = server();
    let large = "x".repeat(limits::MESSAGE_BYTES - 2);
    let mut next = connect(&server);
    assert_eq!(ask(&mut next, with(&post("/t/t", &large), "Content-Type: text/plain")).status, 200);
    for take in ["/t/t/take", "/t/t/take?wait=60", "/t/t/take?lease=3600"] {
        let mut taker = connect(&server);
        taker.send(post(take, ""));
        assert_eq!(taker.receive(9), b"HTTP/1.1 ");
        drop(taker);
        let taken = ask(&mut next, post("/t/t/take?wait=60&lease=3600", ""));
        assert_eq!(taken.body.len(), large.len() + 81);
        assert!(taken.body.ends_with(",\"deliveries\":1}"));
        let ids: String = taken.body.rsplit("\"id\":").next().unwrap().chars().take(16).collect();
        let nack = post("/t/t/nack", &format!("id={ids}&deliveries=1"));
        assert_eq!(ask(&mut next, nack).status, 200);
        // The requeued message counts as a first delivery again.
        let taken = ask(&mut next, post("/t/t/take", ""));
        assert!(taken.body.ends_with(",\"deliveries\":2}"));
        ask(&mut next, with(&post("/t/t", &large), "Content-Type: text/plain"));
    }
}

#[test]
fn waiting_clients_receive_closing_on_stop() {
    let server = server();
    let (mut reader, mut taker, mut witness) =
        (connect(&server), connect(&server), connect(&server));
    reader.send(get("/t/t?wait=60"));
    taker.send(post("/t/t/take?wait=60", ""));
    until_waiting(&mut witness, 1);
    server.stop();
    for peer in [&mut reader, &mut taker] {
        let told = response(peer);
        assert_eq!((told.status, told.code().as_str()), (503, "closing"));
        peer.expect_end();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn waiting_holds_no_thread() {
    const WAITING: u64 = 300;
    let (server, addr) = Process::server(&mut dsmq(&["--port", "0", "--log", "error"]));
    let mut witness = Peer::connect_silent(addr);
    let wait = |n: u64| {
        let mut peer = Peer::connect_silent(addr);
        let takes = n.is_multiple_of(2);
        peer.send(if takes { post("/t/t/take?wait=60", "") } else { get("/t/t?wait=60") });
        peer
    };
    let peers: Vec<Peer> = (0..WAITING).map(wait).collect();
    until_waiting(&mut witness, WAITING / 2);
    // The thread that accepted a connection ends once the runtime has it.
    while threads(server.id()) > 20 {}
    drop(peers);
    until_waiting(&mut witness, 0);
}

#[cfg(target_os = "linux")]
fn threads(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/task")).unwrap().count()
}
