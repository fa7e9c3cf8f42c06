//! O3one MQ on its ports, in the bytes of its programs: publishing, subscribing, the WebSocket
//! bridge, the page, O3one.yaml, and peers that send half a message or do not read.

use std::net::SocketAddr;
use std::process::Stdio;

use dsmq::{Config, Server};

use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::{server, server_with};

/// A greeting as libzmq sends it.
fn greeting() -> Vec<u8> {
    let mut greeting = b"\xFF\0\0\0\0\0\0\0\x01\x7F\x03\x01NULL".to_vec();
    greeting.resize(64, 0);
    greeting
}

fn ready(socket: &str) -> Vec<u8> {
    let property = [b"\x0bSocket-Type\0\0\0", &[socket.len() as u8][..], socket.as_bytes()];
    let body = [&b"\x05READY"[..], &property.concat()].concat();
    [&[4, body.len() as u8], &body[..]].concat()
}

/// A message of one part.
pub fn message(text: &str) -> Vec<u8> {
    match u8::try_from(text.len()) {
        Ok(len) => [&[0, len], text.as_bytes()].concat(),
        Err(_) => [&[2], &(text.len() as u64).to_be_bytes()[..], text.as_bytes()].concat(),
    }
}

pub fn request(text: &str) -> Vec<u8> {
    [b"\x01\x00".to_vec(), message(text)].concat()
}

/// Connects with this socket type and completes the handshake.
pub fn connect(addr: SocketAddr, socket: &str) -> Peer {
    let mut peer = Peer::connect_silent(addr);
    peer.send([greeting(), ready(socket)].concat());
    assert_eq!(peer.receive(64)[..10], *b"\xFF\0\0\0\0\0\0\0\x01\x7F");
    let own = match socket {
        "REQ" => "REP",
        "DEALER" => "ROUTER",
        "PUSH" => "PULL",
        _ => "PUB",
    };
    let ready = ready(own);
    assert_eq!(peer.receive(ready.len()), ready);
    peer
}

/// Connects and subscribes. The answer to a ping shows that the subscription holds.
pub fn subscriber(addr: SocketAddr, prefix: &str) -> Peer {
    let mut peer = connect(addr, "SUB");
    peer.send(message(&format!("\x01{prefix}")));
    peer.send(b"\x04\x09\x04PING\x00\x0ahi");
    assert_eq!(peer.receive(9), b"\x04\x07\x04PONGhi");
    peer
}

pub fn expect(peer: &mut Peer, text: &str) {
    let expected = message(text);
    assert_eq!(peer.receive(expected.len()), expected);
}

/// The text of the next reply.
pub fn answer(peer: &mut Peer) -> String {
    assert_eq!(peer.receive(3), b"\x01\x00\x00");
    let len = peer.receive(1)[0].into();
    String::from_utf8(peer.receive(len)).unwrap()
}

#[test]
fn message_of_several_parts_is_refused() {
    let server = o3one();
    let publishers = address_of(&server, "o3one sub");
    let mut listener = subscriber(address_of(&server, "o3one pub"), "o3");
    let mut asks = connect(publishers, "REQ");
    asks.send([&b"\x01\x00"[..], b"\x01\x02o3", &message("x")].concat());
    assert_eq!(answer(&mut asks), "ERROR: a message has one part here");
    let mut pushes = connect(publishers, "PUSH");
    pushes.send([b"\x01\x05o3 no", &message("")[..]].concat());
    pushes.send(message("o3 yes"));
    expect(&mut listener, "o3 yes");
}

fn publish(peer: &mut Peer, text: &str) {
    peer.send(request(text));
    assert_eq!(peer.receive(6), b"\x01\x00\x00\x02OK");
}

fn o3one() -> Server {
    server_with(Config { o3one: Some([0, 0, 0].into()), ..Config::default() })
}

pub fn address_of(server: &Server, protocol: &str) -> SocketAddr {
    server.addresses().find(|(name, _)| *name == protocol).unwrap().1
}

#[test]
fn published_messages_reach_subscribers_on_the_other_port() {
    let server = o3one();
    let mut subscriber = subscriber(address_of(&server, "o3one pub"), "o3");
    let mut publisher = connect(address_of(&server, "o3one sub"), "REQ");
    publish(&mut publisher, "other topic");
    publish(&mut publisher, "o3 Hello 5");
    let long = format!("o3 {}", "é\"".repeat(1_000));
    publish(&mut publisher, &long);
    expect(&mut subscriber, "o3 Hello 5");
    expect(&mut subscriber, &long);
    let mut other = Peer::connect(server.addr());
    other.ask(
        r#"{"action":"take","topic":"o3"}"#,
        r#"{"message":"Hello 5","id":1234567890123456,"timestamp":1234567890.123456,"deliveries":1}"#,
    );
}

#[test]
fn own_port_recognises_zmtp_by_its_first_byte() {
    let server = server();
    let mut subscriber = subscriber(server.addr(), "o3");
    publish(&mut connect(server.addr(), "REQ"), "o3 over the same port");
    expect(&mut subscriber, "o3 over the same port");
    let mut json = Peer::connect(server.addr());
    json.send(r#"{"action":"put","topic":"o3","message":{"a": 1}}"#);
    expect(&mut subscriber, r#"o3 {"a": 1}"#);
}

#[test]
fn peer_may_greet_in_parts_and_wait_for_each_answer() {
    let server = o3one();
    for (_, addr) in server.addresses() {
        if addr == server.addr()
            || cfg!(feature = "http") && addr == address_of(&server, "o3one ws")
        {
            continue;
        }
        for parts in [&[10, 64][..], &[11, 64], &[10, 11, 12, 63, 64], &[64]] {
            let mut peer = Peer::connect_silent(addr);
            let mut sent = 0;
            for &part in parts {
                peer.send(&greeting()[sent..part]);
                if sent == 0 {
                    assert_eq!(peer.receive(64)[10..16], *b"\x03\x00NULL");
                }
                sent = part;
            }
            peer.send(ready("SUB"));
            let ready = ready("PUB");
            assert_eq!(peer.receive(ready.len()), ready);
        }
    }
}

#[test]
fn other_protocols_are_closed_and_peers_continue() {
    let server = o3one();
    let addr = address_of(&server, "o3one sub");
    let mut publisher = connect(addr, "REQ");
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"{\"action\":\"ping\"}",
        b"\xFF\0\0\0\0\0\0\0\x01\x7F\x01",
        b"\x01\x00",
    ] {
        let mut peer = Peer::connect_silent(addr);
        peer.send(bytes);
        assert_eq!(peer.receive(64)[10..16], *b"\x03\x00NULL");
        peer.expect_end();
    }
    for claimed in [u64::from(u32::MAX), 1 << 63, u64::MAX] {
        let mut peer = connect(addr, "REQ");
        peer.send([&[2], &claimed.to_be_bytes()[..]].concat());
        peer.expect_end();
    }
    publish(&mut publisher, "o3 still here");
}

#[test]
fn message_of_a_publisher_that_left_is_delivered() {
    let server = o3one();
    let mut subscriber = subscriber(address_of(&server, "o3one pub"), "o3");
    for number in 0..20 {
        let mut publisher = connect(address_of(&server, "o3one sub"), "REQ");
        publisher.send(request(&format!("o3 {number}")));
        drop(publisher);
        expect(&mut subscriber, &format!("o3 {number}"));
    }
}

#[test]
fn subscriber_that_never_reads_delays_no_other() {
    let server = server_with(Config {
        o3one: Some([0, 0, 0].into()),
        max_store: 4 << 20,
        ..Config::default()
    });
    let addr = address_of(&server, "o3one pub");
    let mut silent: Vec<_> = (0..5).map(|_| subscriber(addr, "o3")).collect();
    let mut reader = subscriber(addr, "o3");
    let mut publisher = connect(address_of(&server, "o3one sub"), "REQ");
    // More data than the sockets' buffers and the store hold together.
    let content = "x".repeat(100_000);
    for number in 0..300 {
        let text = format!("o3 {number} {content}");
        publish(&mut publisher, &text);
        expect(&mut reader, &text);
    }
    // The remaining messages are complete and in order.
    let first = silent[0].receive(message(&format!("o3 0 {content}")).len());
    assert_eq!(first, message(&format!("o3 0 {content}")));
}

#[cfg(feature = "http")]
#[test]
fn bridge_sends_messages_of_its_topics_as_text() {
    use crate::suite::wire::websocket::Client;
    let server = o3one();
    let addr = address_of(&server, "o3one ws");
    let mut clients = ["/", "/any/path?at=all"].map(|path| Client::connect(addr, path));
    let mut publisher = connect(address_of(&server, "o3one sub"), "REQ");
    clients[0].send("nobody reads this");
    for text in ["o3 one", "other two", "o3x three"] {
        publish(&mut publisher, text);
    }
    for client in &mut clients {
        assert_eq!(client.receive_text(), "o3 one");
        assert_eq!(client.receive_text(), "o3x three");
    }
    let mut plain = Peer::connect_silent(addr);
    plain.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(plain.receive_all().starts_with("HTTP/1.1 426 "));
    let mut foreign = Peer::connect_silent(addr);
    foreign.send(
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nUpgrade: websocket\r\n\
         Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert!(foreign.receive_all().starts_with("HTTP/1.1 403 "));
}

#[cfg(feature = "http")]
#[test]
fn page_has_a_listener_of_its_own() {
    let (mut process, _) = Process::server(&mut dsmq(&["--port", "0", "--o3one=0,0,0,0"]));
    let [.., publishers, _, page] =
        ["o3one pub", "o3one sub", "o3one ws", "o3one page"].map(|name| process.address_of(name));
    publish(&mut connect(publishers, "REQ"), "o3 shown");
    for (path, status, shown) in
        [("/", "200", "<title>"), ("/dump", "200", "shown"), ("/api", "201", "uptime_text")]
    {
        let mut browser = Peer::connect_silent(page);
        browser
            .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        let answer = browser.receive_all();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(shown),
            "{answer}"
        );
    }
}

/// Reads a topic's messages with `dsmq history`.
fn history(addr: SocketAddr, topic: &str) -> Vec<String> {
    run(&mut crate::suite::support::process::dsmq_at(addr, &["history", topic]), "").stdout
}

#[test]
fn o3one_yaml_is_read_and_unused_keys_are_logged() {
    let folder = Folder::new("o3one");
    let yaml = "port_pub: 0\nport_sub: 0\nport_ws: 0\ndashboard_enabled: no\nack_rep: thanks\n\
                log_path: ./logs/\ndb_path: ./db/\npersist_enabled: yes\n";
    std::fs::write(folder.path("O3one.yaml"), yaml).unwrap();
    std::fs::create_dir(folder.path("db")).unwrap();
    std::fs::write(folder.path("db/o3mq.db"), "old").unwrap();
    let serve = |log: &str| {
        let mut command = dsmq(&["--port", "0", "--o3one-conf", "O3one.yaml"]);
        command.current_dir(folder.path("")).stderr(folder.output(log));
        let (mut process, addr) = Process::server(&mut command);
        process.address_of("o3one pub");
        let publishers = process.address_of("o3one sub");
        (process, addr, publishers)
    };
    let (process, addr, publishers) = serve("first.log");
    let mut publisher = connect(publishers, "REQ");
    publisher.send(request("o3 kept"));
    assert_eq!(publisher.receive(10), b"\x01\x00\x00\x06thanks");
    assert_eq!(history(addr, "o3"), ["kept"]);
    let log = folder.text("first.log");
    for line in [
        "read the configuration file O3one.yaml",
        "O3one.yaml: log_path is not used: the log goes to standard error",
        "./db/o3mq.db is not read and stays unchanged",
        "messages are kept in ./db/dsmq.db",
    ] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    drop(process);
    let (_process, addr, _) = serve("second.log");
    assert_eq!(history(addr, "o3"), ["kept"]);
    assert_eq!(folder.text("db/o3mq.db"), "old");
}

#[test]
fn flags_environment_and_toml_override_o3one_yaml() {
    let folder = Folder::new("o3one-beneath");
    std::fs::write(
        folder.path("O3one.yaml"),
        "hostname: yaml.invalid\nack_rep: yaml\npriority_enabled: yes\n",
    )
    .unwrap();
    std::fs::write(
        folder.path("dsmq.toml"),
        "o3one-ack = 'toml'\no3one-priority = false\nstore = 'memory'\n",
    )
    .unwrap();
    let mut command = dsmq(&["--log", "debug", "--o3one=1,2,3"]);
    command.env("DSMQ_O3ONE_CONF", "O3one.yaml").env("DSMQ_HOST", "env.invalid");
    command.current_dir(folder.path("")).stderr(Stdio::piped());
    let ended = run(&mut command, "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for line in [
        "host: \"env.invalid\"",
        "subscribe: 1, publish: 2, websocket: 3, page: None",
        "o3one_ack: \"toml\", o3one_priority: false",
        "store: Memory",
    ] {
        assert!(ended.stderr.contains(line), "{line} is not in {}", ended.stderr);
    }
    assert!(!folder.path("db").exists());
}

#[test]
fn invalid_o3one_yaml_is_reported_in_one_line() {
    let folder = Folder::new("o3one-wrong");
    for (yaml, line) in [
        (
            Some("port_pub: many"),
            "O3one.yaml: wrong value for 'port_pub': expected a port from 0 to 65535",
        ),
        (Some("a: 1\nb: ["), "O3one.yaml, line "),
        (None, "cannot read O3one.yaml: No such file or directory (os error 2)"),
    ] {
        let path = folder.path("O3one.yaml");
        match yaml {
            Some(yaml) => std::fs::write(path, yaml).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        let mut command = dsmq(&["--o3one-conf", "O3one.yaml"]);
        let ended = run(command.current_dir(folder.path("")), "");
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("dsmq: {line}")), "{ended:?}");
    }
}

#[cfg(feature = "http")]
#[test]
fn bridge_closes_with_1001_when_the_server_stops() {
    let server = o3one();
    let mut client =
        crate::suite::wire::websocket::Client::connect(address_of(&server, "o3one ws"), "/");
    // The bridge only delivers messages put after its connection was accepted.
    publish(&mut connect(address_of(&server, "o3one sub"), "REQ"), "o3 one");
    assert_eq!(client.receive_text(), "o3 one");
    let stop = std::thread::spawn(|| server.stop());
    client.expect_close(1001);
    stop.join().unwrap();
}
