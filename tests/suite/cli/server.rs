//! The server as a process: how it starts, what it refuses, how it ends.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dsmq::{Config, limits};

use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Ended, Process, dsmq, run};
use crate::suite::support::{PATIENCE, server, server_with};

const PING: &str = r#"{"action":"ping"}"#;
/// Bytes that a pipe takes before its reader reads, on Linux.
const PIPE: usize = 64 * 1024;
const OK: &str = r#"{"ok":true}"#;

fn kill(signal: &str, process: &Process) {
    let status = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_ends_it_with_exit_code_0() {
    for signal in ["-TERM", "-INT"] {
        let (process, addr) = Process::server(&mut dsmq(&["--port", "0"]));
        let mut silent = Peer::connect_silent(addr);
        let mut talked = Peer::connect(addr);
        let mut waiting = Peer::connect(addr);
        let wait = r#"{"action":"get","topic":"t","wait":60,"tag":5}"#;
        waiting.send(PING.to_owned() + wait + PING);
        waiting.expect(OK);
        kill(signal, &process);
        assert_eq!(waiting.expect_error("closing")["tag"], 5);
        waiting.expect(OK);
        waiting.expect_end();
        silent.expect_end();
        talked.expect_end();
        assert_eq!(process.end().code, Some(0));
    }
}

#[test]
fn a_stop_carries_out_what_has_arrived() {
    for _ in 0..20 {
        let server = server();
        let mut peer = Peer::connect(server.addr());
        let mut silent = Peer::connect_silent(server.addr());
        silent.send(r#"{"action":"put","topic":"t","message":1,"confirm":true}"#);
        peer.send(r#"{"action":"put","topic":"t","message":1,"confirm":true}"#.repeat(100));
        server.stop();
        assert_eq!(peer.receive_all().matches("\"ok\":true").count(), 100);
        assert_eq!(silent.receive_all().matches("\"ok\":true").count(), 1);
    }
}

#[test]
fn without_a_descriptor_left_a_connection_is_told_so_and_the_server_goes_on() {
    let dsmq = env!("CARGO_BIN_EXE_dsmq");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 40 && exec \"$0\" --port 0 --log off", dsmq]);
    let (process, addr) = Process::server(&mut limited);
    let mut peers: Vec<Peer> = (0..60).map(|_| Peer::connect_silent(addr)).collect();
    let (mut served, mut busy) = (0, 0);
    for peer in &mut peers {
        peer.send(PING);
        match peer.receive_reply() {
            reply if reply["ok"] == true => served += 1,
            reply => {
                assert_eq!(reply["code"], "busy");
                busy += 1;
            }
        }
    }
    assert!(served >= 20 && busy >= 20, "{served} served, {busy} busy");
    // One that waits needs a descriptor more; there may be one that the last refusal left.
    let wait = r#"{"action":"get","topic":"t","wait":0.01,"tag":1}"#;
    let mut refused = 0;
    for peer in &mut peers[..3] {
        peer.send(wait.to_owned() + PING);
        let reply = peer.receive_reply();
        assert_eq!(reply["tag"], 1);
        refused += usize::from(reply["code"] == "busy");
        peer.expect(OK);
    }
    assert!(refused >= 2, "{refused} refused");
    drop(peers);
    let deadline = Instant::now() + PATIENCE;
    while {
        let mut peer = Peer::connect_silent(addr);
        peer.send(PING);
        peer.receive_reply()["ok"] != true
    } {
        assert!(Instant::now() < deadline, "descriptors are free, and it is still busy");
    }
    kill("-TERM", &process);
    assert_eq!(process.end().code, Some(0));
}

#[test]
fn a_configuration_outside_its_range_is_refused() {
    for config in [
        Config { max_connections: 0, ..Config::default() },
        Config { max_message: 1, ..Config::default() },
        Config { max_message: usize::MAX, ..Config::default() },
    ] {
        let refused = dsmq::Server::start(Config { port: 0, ..config }).unwrap_err();
        assert!(refused.to_string().contains("must be"), "{refused}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    // Its standard error is a pipe that stays full: nobody reads it before the end.
    let args = ["--port", "0", "--log", "trace", "--max-connections", "1"];
    let (process, addr) = Process::server(dsmq(&args).stderr(Stdio::piped()));
    let mut served = Peer::connect(addr);
    for _ in 0..1_000 {
        let mut refused = Peer::connect_silent(addr);
        refused.expect_error("busy");
    }
    served.ask(PING, OK);
    kill("-TERM", &process);
    served.expect_end();
    let ended = process.end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.len() >= PIPE, "{} bytes do not fill a pipe", ended.stderr.len());
}

#[test]
fn a_stop_does_not_wait_for_who_never_ends() {
    let server = server();
    let addr = server.addr();
    // One never stops sending, one is in the middle of a request, one never reads.
    let flood = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        let puts = r#"{"action":"put","topic":"t","message":1}"#.repeat(1_000);
        while stream.write_all(puts.as_bytes()).is_ok() {}
    });
    let mut half = Peer::connect(addr);
    half.send(r#"{"action":"pi"#);
    let mut deaf = Peer::connect(addr);
    let message =
        format!(r#"{{"action":"put","topic":"big","message":"{}"}}"#, "x".repeat(1 << 20));
    deaf.send(message.repeat(16));
    deaf.send(r#"{"action":"get","topic":"big"}"#.repeat(16));
    let before = Instant::now();
    server.stop();
    assert!(before.elapsed() < limits::STOP + Duration::from_secs(1));
    half.expect_error("closing");
    flood.join().unwrap();
}

#[test]
fn its_port_can_be_taken_again_at_once() {
    let server = server();
    let addr = server.addr();
    let mut peer = Peer::connect(addr);
    server.stop();
    peer.expect_end();
    let again = dsmq::Server::start(Config { port: addr.port(), ..Config::default() }).unwrap();
    assert_eq!(again.addr(), addr);
    Peer::connect(addr).ask(PING, OK);
}

#[test]
fn a_port_in_use_is_one_clear_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let Ended { code, stdout, stderr: text } = run(&mut dsmq(&["--port", &port]), "");
    assert_eq!(code, Some(1));
    let expected = format!("dsmq: 127.0.0.1:{port} is in use by another program");
    assert!(text.starts_with(&expected) && text.lines().count() == 1, "{text}");
    assert!(stdout.is_empty());
}

#[test]
fn what_cannot_be_listened_on_is_said() {
    let Ended { code, stderr: text, .. } = run(&mut dsmq(&["--host", "no.such.host.invalid"]), "");
    assert_eq!(code, Some(1));
    assert!(text.starts_with("dsmq: cannot listen on no.such.host.invalid:30008"), "{text}");
}

#[test]
fn flags_come_before_the_environment_and_it_before_the_defaults() {
    let help = run(&mut dsmq(&["--help"]), "");
    assert_eq!(help.code, Some(0));
    let help = help.stdout.join("\n");
    for (flag, variable) in [
        ("--host", "DSMQ_HOST"),
        ("--port", "DSMQ_PORT"),
        ("--max-connections", "DSMQ_MAX_CONNECTIONS"),
        ("--max-message", "DSMQ_MAX_MESSAGE"),
        ("--log", "DSMQ_LOG"),
    ] {
        assert!(help.contains(flag) && help.contains(variable), "{flag} in {help}");
    }
    let version = run(&mut dsmq(&["--version"]), "");
    assert_eq!(version.stdout, [format!("dsmq {}", env!("CARGO_PKG_VERSION"))]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = run(dsmq(&[]).env("DSMQ_PORT", &port), "").stderr;
    assert!(text.contains(&format!("127.0.0.1:{port} is in use")), "{text}");
    let mut by_flag = Process::spawn(dsmq(&["--port", "0"]).env("DSMQ_PORT", &port));
    let line = by_flag.line();
    assert!(line.starts_with("dsmq listening on 127.0.0.1:"), "{line}");
}

#[test]
fn a_wrong_flag_says_what_is_right() {
    for args in [["--prot", "1"], ["--port", "65536"], ["--log", "loud"], ["--max-message", "0"]] {
        let ended = run(&mut dsmq(&args), "");
        assert_eq!(ended.code, Some(2), "{args:?}");
        assert!(!ended.stderr.is_empty());
    }
}

#[test]
fn one_connection_too_many_is_busy_and_the_next_is_served_when_one_has_ended() {
    let server = server_with(Config { max_connections: 3, ..Config::default() });
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::connect(server.addr())).collect();
    let mut refused = Peer::connect_silent(server.addr());
    refused.expect_error("busy");
    refused.expect_end();
    peers[0].ask(PING, OK);
    drop(peers.pop());
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the place of one that has ended is not free");
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(PING);
        if peer.receive(OK.len()) == OK.as_bytes() {
            break;
        }
    }
}

#[test]
fn many_connections_are_served_at_a_time() {
    let server = server();
    let mut peers: Vec<Peer> = (0..1_000).map(|_| Peer::connect(server.addr())).collect();
    for (i, peer) in peers.iter_mut().enumerate() {
        peer.send(format!(r#"{{"action":"put","topic":"t","message":{i}}}{PING}"#));
        peer.expect(OK);
    }
    for peer in &mut peers {
        peer.ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":0}"#);
    }
}

#[test]
fn host_names_and_ipv6_addresses_are_listened_on() {
    let server = server_with(Config { host: "localhost".to_owned(), ..Config::default() });
    Peer::connect(server.addr()).ask(PING, OK);
    if TcpListener::bind("[::1]:0").is_ok() {
        let server = server_with(Config { host: "::1".to_owned(), ..Config::default() });
        assert!(server.addr().is_ipv6());
        Peer::connect(server.addr()).ask(PING, OK);
    }
}

#[test]
#[ignore = "takes limits::WRITE_STALL, twice: make test runs it"]
fn a_peer_that_never_reads_is_let_go() {
    let (process, addr) = Process::server(&mut dsmq(&["--port", "0"]));
    let mut deaf = Peer::connect(addr);
    let message =
        format!(r#"{{"action":"put","topic":"big","message":"{}"}}"#, "x".repeat(1 << 20));
    deaf.send(message.repeat(64));
    deaf.send(r#"{"action":"get","topic":"big"}"#.repeat(64));
    let mut healthy = Peer::connect(addr);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", process.id())).map(Iterator::count);
    let before = threads().expect("this test reads /proc, which only Linux has");
    // The write that fills the socket moves bytes at first: it is the next one that moves none.
    let deadline = Instant::now() + 2 * limits::WRITE_STALL + PATIENCE;
    while threads().unwrap() == before {
        assert!(Instant::now() < deadline, "the connection is kept for ever");
        healthy.ask(PING, OK);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    kill("-TERM", &process);
    assert_eq!(process.end().code, Some(0));
}
