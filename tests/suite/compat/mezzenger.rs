//! Mezzenger on its ports: the bytes of its programs, the programs of its README, and restarts
//! after a kill.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use dsmq::{Config, Server};

use super::o3one::{address_of, answer, connect, expect, message, request, subscriber};
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Ended, Process, dsmq, run};
use crate::suite::support::server_with;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/");

/// The number of unacknowledged messages in the store.
const KEPT: usize = 10_000;

fn server() -> Server {
    server_with(Config {
        mezzenger: Some([0, 0]),
        mezzenger_resend: Duration::from_millis(200),
        ..Config::default()
    })
}

/// A message as Python 2 sends it: a pickle of protocol 0, which is text.
pub fn frame(name: &str, payload: &str, ack: u8, checksum: &str) -> String {
    format!(
        "{name}|(dp1\nS'ack'\np2\nI{ack}\nsS'timestamp'\np3\nF1353491234.56\nsS'checksum'\np4\n\
         S'{checksum}'\np5\nsS'name'\np6\nS'{name}'\np7\nsS'payload'\np8\n{payload}s."
    )
}

fn send(peer: &mut Peer, frame: &str) {
    peer.send(request(frame));
    assert_eq!(peer.receive(6), b"\x01\x00\x00\x02OK");
}

#[test]
fn frames_arrive_unchanged_and_others_read_json() {
    let server = server();
    let mut listener = subscriber(address_of(&server, "mezzenger pub"), "greet");
    let mut json = Peer::connect(server.addr());
    json.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    let mut sender = connect(address_of(&server, "mezzenger recv"), "REQ");
    send(&mut sender, &frame("ping", "S'ping'\n", 0, "a"));
    send(&mut sender, &frame("other", "S'not for it'\n", 0, "b"));
    let tuple = frame("greetings", "(I1\n(S'two'\nNtt", 0, "c");
    send(&mut sender, &tuple);
    expect(&mut listener, &tuple);
    json.ask(r#"{"action":"get","topic":"greetings"}"#, r#"{"message":[1,["two",null]]}"#);
    json.ask(r#"{"action":"get","topic":"ping"}"#, r#"{"message":""}"#);

    json.send(r#"{"action":"put","topic":"greetings","message":"from elsewhere"}"#);
    let beginning = b"greetings|\x80\x02}(X\x04\0\0\0nameX\x09\0\0\0greetingsX\x07\0\0\0payloadX\x0e\0\0\0from elsewhereX";
    let mut received = listener.receive(2 + beginning.len());
    assert_eq!(received.split_off(2), beginning);
}

#[test]
fn message_is_sent_again_until_acknowledged() {
    let server = server();
    let mut listeners = [(); 2].map(|()| subscriber(address_of(&server, "mezzenger pub"), "job"));
    let mut sender = connect(address_of(&server, "mezzenger recv"), "REQ");
    let job = frame("job", "I1\n", 1, "one");
    send(&mut sender, &job);
    for _ in 0..3 {
        listeners.iter_mut().for_each(|listener| expect(listener, &job));
    }
    send(&mut sender, &frame("ack", "S'one'\n", 0, "of the ack"));
    let mut json = Peer::connect(server.addr());
    let nothing = r#"{"messages":[]}"#;
    json.ask(r#"{"action":"history","topic":"mezzenger.unacked"}"#, nothing);
    json.ask(
        r#"{"action":"take","topic":"job"}"#,
        r#"{"message":1,"id":1234567890123456,"timestamp":1234567890.123456,"deliveries":1}"#,
    );
    json.ask(r#"{"action":"take","topic":"job"}"#, r#"{"message":"","empty":true}"#);
}

/// Deep nesting must not overflow the small stack of a connection's thread.
#[test]
fn deep_and_recursive_pickles_are_refused() {
    let server = server();
    let recv = address_of(&server, "mezzenger recv");
    let nested = |depth: usize| {
        let payload = format!("{}N{}", "(dS'a'\n".repeat(depth), "s".repeat(depth));
        frame("deep", &payload, 0, "deep")
    };
    for (what, frame) in [
        ("a dict in itself", "k|\x28dp0\nS'name'\nS'k'\nsS'payload'\ng0\ns.".to_owned()),
        ("a list in itself", "k|(dS'name'\nS'k'\nsS'payload'\n(lp0\ng0\nas.".to_owned()),
        ("deeper than a message may be", nested(200)),
        ("very deep", nested(100_000)),
    ] {
        let mut sender = connect(recv, "REQ");
        sender.send(request(&frame));
        assert!(answer(&mut sender).starts_with("ERROR: "), "{what}");
    }
    let mut sender = connect(recv, "REQ");
    sender.send(request(&nested(100)));
    assert_eq!(answer(&mut sender), "OK");
}

#[test]
fn incomplete_messages_block_no_other_sender() {
    let server = server();
    let recv = address_of(&server, "mezzenger recv");
    let whole = request(&frame("job", "I1\n", 0, "one"));
    let mut stopped = Vec::new();
    for len in [1, 2, 3, 4, 5, 10, whole.len() - 1] {
        let mut peer = connect(recv, "REQ");
        peer.send(whole.get(..len).unwrap());
        stopped.push(peer);
    }
    let mut sender = connect(recv, "REQ");
    // The pickle is cut off, the ØMQ frame is complete.
    for len in [0, 3, 4, 5, 20] {
        let frame = frame("job", "I1\n", 0, "one");
        sender.send(request(frame.get(..len).unwrap()));
        let answer = sender.receive(4);
        assert_eq!(answer[..3], *b"\x01\x00\x00");
        assert!(sender.receive(answer[3].into()).starts_with(b"ERROR: "), "{len}");
    }
    send(&mut sender, &frame("job", "I1\n", 0, "one"));
    // Peers that continue are served.
    for (peer, len) in stopped.iter_mut().zip([1, 2, 3, 4, 5, 10, whole.len() - 1]) {
        peer.send(whole.get(len..).unwrap());
        assert_eq!(peer.receive(6), b"\x01\x00\x00\x02OK");
    }
}

#[test]
fn subscriber_that_never_reads_delays_no_other() {
    let server = server();
    let _deaf = subscriber(address_of(&server, "mezzenger pub"), "");
    let mut listener = subscriber(address_of(&server, "mezzenger pub"), "job");
    let mut sender = connect(address_of(&server, "mezzenger recv"), "REQ");
    let payload = format!("S'{}'\n", "x".repeat(100_000));
    for number in 0..100 {
        let job = frame("job", &payload, 1, &number.to_string());
        send(&mut sender, &job);
        send(&mut sender, &frame("ack", &format!("S'{number}'\n"), 0, "of the ack"));
        // The message may have been sent again before the acknowledgement.
        let expected = message(&job);
        let mut received = listener.receive(expected.len());
        while received != expected {
            received = listener.receive(expected.len());
        }
    }
}

#[test]
fn listeners_are_announced_and_closed_with_the_server() {
    let mut command = dsmq(&["--port", "0", "--mezzenger=0,0"]);
    let (mut process, main) = Process::server(&mut command);
    let further = ["mezzenger pub", "mezzenger recv"].map(|name| process.address_of(name));
    let mut sender = connect(further[1], "REQ");
    send(&mut sender, &frame("job", "I1\n", 1, "one"));
    assert!(further.iter().all(|addr| addr.ip().is_loopback() && *addr != main));
    let kill = Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(kill.success());
    sender.expect_end();
    assert_eq!(process.end(), Ended { code: Some(0), stdout: vec![], stderr: String::new() });

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ended = run(&mut dsmq(&["--port", "0", &format!("--mezzenger={port},0")]), "");
    let line = format!(
        "dsmq: 127.0.0.1:{port} is in use by another program: stop it, or choose other ports with \
         --mezzenger=PUB,RECV\n"
    );
    assert_eq!(ended, Ended { code: Some(1), stdout: vec![], stderr: line });
}

fn python(script: &str) -> Command {
    let python = std::env::var_os("DSMQ_TEST_PYTHON")
        .expect("DSMQ_TEST_PYTHON names a Python that has pyzmq: make test sets it");
    let mut command = Command::new(python);
    command.arg("-u").arg(format!("{FOLDER}{script}"));
    command
}

/// Runs a task of `mezzenger.py`.
fn carry_out(pub_: SocketAddr, recv: SocketAddr, main: SocketAddr, task: &[&str], folder: &Folder) {
    let mut command = python("mezzenger.py");
    command.args([pub_, recv, main].map(|addr| addr.port().to_string())).args(task);
    command.env("MEZZENGER_FOLDER", folder.path("."));
    let ended = run(&mut command, "");
    assert_eq!(ended, Ended { code: Some(0), stdout: vec![], stderr: String::new() });
}

#[test]
#[ignore = "needs Python with pyzmq from PyPI: make test installs it"]
fn python_clients_pass() {
    let server = server();
    let folder = Folder::new("mezzenger");
    let [pub_, recv] = ["pub", "recv"].map(|end| address_of(&server, &format!("mezzenger {end}")));
    for task in ["talk", "acknowledge"] {
        carry_out(pub_, recv, server.addr(), &[task], &folder);
    }
}

#[test]
#[ignore = "needs Python with pyzmq from PyPI: make test installs it"]
fn unacknowledged_messages_survive_a_killed_server() {
    let folder = Folder::new("mezzenger-killed");
    let store = folder.path("queue.db");
    let count = KEPT.to_string();
    for task in ["keep", "drain"] {
        let store = store.to_str().unwrap();
        let args = ["--port", "0", "--mezzenger=0,0", "--mezzenger-resend", "1s", "--store", store];
        let (mut process, main) = Process::server(&mut dsmq(&args));
        let [pub_, recv] = ["mezzenger pub", "mezzenger recv"].map(|end| process.address_of(end));
        carry_out(pub_, recv, main, &[task, &count], &folder);
        // Dropping the server kills it.
    }
}

#[test]
#[ignore = "needs Python with pyzmq from PyPI: make test installs it"]
fn programs_of_the_readme_run() {
    let server = server();
    let ports = ["pub", "recv"].map(|end| address_of(&server, &format!("mezzenger {end}")).port());
    let ports = format!("{},{}", ports[0], ports[1]);
    let mut programs = ["mezzenger_listen.py", "mezzenger_greet.py"]
        .map(|program| Process::spawn(python(program).env("MEZZENGER_PORTS", &ports)));
    let greetings: Vec<String> =
        ["John", "David", "Lucy"].map(|name| format!("Hello {name}!")).into();
    for _ in 0..2 {
        let line = programs[0].line();
        assert!(greetings.contains(&line), "{line}");
    }
}

#[test]
fn ack_of_a_message_is_a_number_or_a_boolean() {
    let server = server();
    let mut sender = connect(address_of(&server, "mezzenger recv"), "REQ");
    let mut json = Peer::connect(server.addr());
    let with_ack = |ack: &str| frame("job", "I1\n", 7, "one").replace("I7\n", ack);
    let kept = |json: &mut Peer| {
        json.send(r#"{"action":"history","topic":"mezzenger.unacked"}"#);
        json.receive_reply()["messages"].as_array().unwrap().len()
    };
    send(&mut sender, &with_ack("I00\n"));
    send(&mut sender, &with_ack("N"));
    assert_eq!(kept(&mut json), 0);
    // `I01` is True in protocol 0.
    send(&mut sender, &with_ack("I01\n"));
    assert_eq!(kept(&mut json), 1);
    sender.send(request(&with_ack("S'yes'\n")));
    assert!(answer(&mut sender).starts_with("ERROR: "));
    assert_eq!(kept(&mut json), 1);
}
