//! The JSON protocol over WebSockets: one frame for each reply, waits, pushes, limits and closing.
//! tungstenite checks well-formed traffic; malformed frames are sent as raw bytes.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use dsmq::{Config, limits};
use serde_json::Value;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Message, WebSocket, client};

use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::{PATIENCE, server, server_with};
use crate::suite::web::http::{ask, get};

/// A client whose reads have a timeout.
pub struct Client(WebSocket<TcpStream>);

impl Client {
    pub fn connect(addr: SocketAddr, path: &str) -> Client {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, response) = client(format!("ws://{addr}{path}"), stream).unwrap();
        assert!(response.headers().get("sec-websocket-extensions").is_none(), "{response:?}");
        Client(socket)
    }

    pub fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    pub fn send_binary(&mut self, bytes: &'static [u8]) {
        self.0.send(Message::binary(bytes)).unwrap();
    }

    pub fn receive(&mut self) -> Message {
        loop {
            match self.0.read() {
                // A stalled machine may exceed the timeout.
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                message => return message.unwrap(),
            }
        }
    }

    pub fn receive_text(&mut self) -> String {
        match self.receive() {
            Message::Text(text) => text.to_string(),
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn receive_json(&mut self) -> Value {
        serde_json::from_str(&self.receive_text()).unwrap()
    }

    pub fn ask(&mut self, request: &str) -> String {
        self.send(request);
        self.receive_text()
    }

    /// Asserts that the server closes with this code.
    pub fn expect_close(&mut self, code: u16) {
        match self.0.read().unwrap() {
            Message::Close(Some(CloseFrame { code: text, .. })) => {
                assert_eq!(u16::from(text), code)
            }
            other => panic!("{other:?} is no close with {code}"),
        }
        assert!(matches!(self.0.read(), Err(tungstenite::Error::ConnectionClosed)));
    }
}

/// A raw connection for frames that a client would not send.
struct Raw(Peer);

impl Raw {
    fn connect(addr: SocketAddr) -> Raw {
        let mut peer = Peer::connect_silent(addr);
        peer.send(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n\r\n") {
            header.extend(peer.receive(1));
        }
        let header = String::from_utf8(header).unwrap().to_lowercase();
        assert!(header.starts_with("http/1.1 101 "), "{header}");
        assert!(
            header.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{header}"
        );
        Raw(peer)
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes);
    }

    /// The next frame: its first byte and its payload.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let header = self.0.receive(2);
        let len = match header[1] {
            126 => u16::from_be_bytes(self.0.receive(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.0.receive(8).try_into().unwrap()),
            short => short.into(),
        };
        (header[0], self.0.receive(usize::try_from(len).unwrap()))
    }

    fn expect_close(&mut self, code: u16, after: &str) {
        let (first, payload) = self.receive();
        let text = u16::from_be_bytes([payload[0], payload[1]]);
        assert_eq!((first, text), (0x88, code), "{after}: {payload:?}");
        self.0.end();
        self.0.expect_end();
    }
}

/// A client frame with a zero mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[test]
fn each_reply_and_push_is_one_frame() {
    let server = server();
    let mut client = Client::connect(server.addr(), "/");
    let mut json = Peer::connect(server.addr());
    client.send(r#"{"action":"put","topic":"t","message":{"a": 1.50}}"#);
    assert_eq!(client.ask(r#"{"action":"ping"}"#), r#"{"ok":true}"#);
    json.ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":{"a": 1.50}}"#);
    let confirmed =
        client.ask(r#"{"action":"put","topic":"t","message":"é","confirm":true,"tag":7}"#);
    assert!(confirmed.starts_with(r#"{"ok":true,"id":"#) && confirmed.ends_with(r#","tag":7}"#));
    assert_eq!(client.ask(r#"{"action":"get","topic":"t"}"#), r#"{"message":{"a": 1.50}}"#);
    assert_eq!(client.ask(r#"{"action":"get_latest","topic":"t"}"#), r#"{"message":"é"}"#);
    assert_eq!(client.ask(r#"{"action":"get","topic":"t"}"#), r#"{"message":""}"#);
    // Several requests in one frame receive one frame each.
    client.send(r#"{"action":"take","topic":"t"} {"action":"dance"}{"action":"take","topic":"t","lease":9}"#);
    assert!(client.receive_text().starts_with(r#"{"message":{"a": 1.50},"id":"#));
    assert_eq!(client.receive_json()["code"], "unknown_action");
    let taken = client.receive_json();
    let (id, deliveries) = (&taken["id"], &taken["deliveries"]);
    let ack = format!(r#"{{"action":"ack","topic":"t","id":{id},"deliveries":{deliveries}}}"#);
    assert_eq!(client.ask(&ack), r#"{"ok":true}"#);
    assert_eq!(client.receive_json_of(r#"{"action":"topics"}"#)["topics"][0]["length"], 0);

    client.send(r#"{"action":"subscribe","topic":["a*","b"],"tag":1}"#);
    assert_eq!(client.receive_text(), r#"{"ok":true,"tag":1}"#);
    let puts = ["a1", "b", "a2"]
        .map(|topic| format!(r#"{{"action":"put","topic":"{topic}","message":"{topic}"}}"#));
    json.send(puts.concat().repeat(100));
    for expected in ["a1", "b", "a2"].iter().cycle().take(300) {
        let push = client.receive_json();
        assert_eq!((&push["topic"], &push["message"]), (&(*expected).into(), &(*expected).into()));
    }
}

impl Client {
    fn receive_json_of(&mut self, request: &str) -> Value {
        self.send(request);
        self.receive_json()
    }
}

#[test]
fn session_starts_when_the_connection_is_accepted() {
    let server = server();
    let mut json = Peer::connect(server.addr());
    json.ask(
        r#"{"action":"put","topic":"t","message":"before","confirm":true}"#,
        r#"{"ok":true,"id":1795216135066522,"timestamp":1795216135.066522}"#,
    );
    let mut raw = Peer::connect_silent(server.addr());
    raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.receive(1);
    json.ask(
        r#"{"action":"put","topic":"t","message":"between","confirm":true}"#,
        r#"{"ok":true,"id":1795216135066522,"timestamp":1795216135.066522}"#,
    );
    raw.send(
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    // Sent before the handshake's response: the reply may arrive together with it.
    raw.send(frame(0x81, br#"{"action":"get","topic":"t"}"#));
    let mut received = Vec::new();
    while !received.ends_with(br#"{"message":"between"}"#) {
        received.extend(raw.receive(1));
    }
}

#[test]
fn waiting_request_keeps_order_and_allows_pushes() {
    let server = server();
    let mut client = Client::connect(server.addr(), "/");
    let mut json = Peer::connect(server.addr());
    assert_eq!(client.ask(r#"{"action":"subscribe","topic":"news"}"#), r#"{"ok":true}"#);
    client.send(r#"{"action":"get","topic":"t","wait":600,"tag":1}{"action":"ping","tag":2}"#);
    client.send(r#"{"action":"ping","tag":3}"#);
    json.send(r#"{"action":"put","topic":"news","message":"a push"}"#);
    assert_eq!(client.receive_json()["message"], "a push");
    client.0.send(Message::Ping("still there?".into())).unwrap();
    assert_eq!(client.receive(), Message::Pong("still there?".into()));
    json.send(r#"{"action":"put","topic":"t","message":"at last"}"#);
    assert_eq!(client.receive_text(), r#"{"message":"at last","tag":1}"#);
    assert_eq!(client.receive_text(), r#"{"ok":true,"tag":2}"#);
    assert_eq!(client.receive_text(), r#"{"ok":true,"tag":3}"#);
    assert_eq!(client.ask(r#"{"action":"get","topic":"t","wait":0.01}"#), r#"{"message":""}"#);
}

/// A taker that closes or disconnects passes its place to the next.
#[test]
fn close_ends_a_waiting_take() {
    let server = server();
    let mut witness = Peer::connect(server.addr());
    let mut waiting = |count: u64| loop {
        witness.send(r#"{"action":"stats"}"#);
        if witness.receive_reply()["stats"]["waiting"] == count {
            break;
        }
    };
    let take = r#"{"action":"take","topic":"t","wait":600}"#;
    let mut closes = Client::connect(server.addr(), "/");
    closes.send(take);
    waiting(1);
    let mut lost = Client::connect(server.addr(), "/");
    lost.send(take);
    waiting(2);
    closes.send(r#"{"action":"put","topic":"u","message":"behind the wait"}"#);
    closes.0.close(None).unwrap();
    // The close is answered after the wait has ended and the later requests are carried out.
    while closes.0.read().is_ok() {}
    waiting(1);
    drop(lost);
    waiting(0);
    let mut taker = Client::connect(server.addr(), "/");
    taker.send(r#"{"action":"put","topic":"t","message":1}"#);
    assert!(taker.ask(take).starts_with(r#"{"message":1,"#));
    assert!(
        taker
            .ask(r#"{"action":"take","topic":"u"}"#)
            .starts_with(r#"{"message":"behind the wait","#)
    );
}

#[test]
fn unwritten_taken_message_is_requeued() {
    let server = server();
    let mut witness = Peer::connect(server.addr());
    // More than the socket buffers hold.
    let message = "x".repeat(12 << 20);
    witness.send(format!(r#"{{"action":"put","topic":"t","message":"{message}"}}"#));
    let mut deaf = Client::connect(server.addr(), "/");
    deaf.send(r#"{"action":"take","topic":"t","wait":600}"#);
    loop {
        witness.send(r#"{"action":"topics"}"#);
        if witness.receive_reply()["topics"][0]["length"] == 0 {
            break;
        }
    }
    let stream = deaf.0.get_ref();
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(deaf);
    witness.send(r#"{"action":"take","topic":"t","wait":600}"#);
    assert_eq!(witness.receive_reply()["message"].as_str().unwrap().len(), message.len());
}

#[test]
#[cfg(target_os = "linux")]
fn waiting_websocket_holds_no_thread() {
    let (process, addr) = Process::server(&mut dsmq(&["--port", "0"]));
    let threads = || std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap().count();
    let mut clients: Vec<_> = (0..100).map(|_| Client::connect(addr, "/")).collect();
    for client in &mut clients {
        client.send(r#"{"action":"get","topic":"t","wait":600}"#);
    }
    let mut putter = Client::connect(addr, "/");
    assert_eq!(putter.ask(r#"{"action":"ping"}"#), r#"{"ok":true}"#);
    // The threads that accepted the connections end by themselves.
    while threads() > 20 {
        assert_eq!(putter.ask(r#"{"action":"ping"}"#), r#"{"ok":true}"#);
    }
    putter.send(r#"{"action":"put","topic":"t","message":"all"}"#);
    for client in &mut clients {
        assert_eq!(client.receive_text(), r#"{"message":"all"}"#);
    }
}

#[test]
fn invalid_request_is_answered_and_closes() {
    let server = server();
    let connect = || Client::connect(server.addr(), "/");
    for text in ["hello", r#"{"action":"ping""#, r#"{"action":"put","topic":"t","message":"#, "[1]"]
    {
        let mut client = connect();
        client.send(text);
        let error = client.receive_json();
        assert_eq!(error["code"], "bad_json", "{text}: {error}");
        client.expect_close(1007);
    }
    // A request error keeps the connection open.
    let mut client = connect();
    let text = format!(r#"{{"action":"get","topic":"{}"}}"#, "x".repeat(limits::TOPIC_BYTES + 1));
    assert_eq!(client.receive_json_of(&text)["code"], "bad_topic");
    let text = r#"{"action":"put","topic":"t","message":"#.to_owned()
        + &"[".repeat(200)
        + &"]".repeat(200)
        + "}";
    assert_eq!(client.receive_json_of(&text)["code"], "too_deep");
    assert_eq!(client.ask(r#"{"action":"ping"}"#), r#"{"ok":true}"#);
    client.send_binary(br#"{"action":"put","topic":"t","message":1}"#);
    client.expect_close(1003);
    assert_eq!(connect().ask(r#"{"action":"take","topic":"t"}"#), r#"{"message":"","empty":true}"#);
}

#[test]
fn fragmented_messages_up_to_the_limit_pass() {
    let server = server_with(Config { max_message: 500_000, ..Config::default() });
    let mut raw = Raw::connect(server.addr());
    let request = br#"{"action":"ping"}"#;
    raw.send(frame(0x01, &request[..5]));
    raw.send(frame(0x89, b"ping"));
    assert_eq!(raw.receive(), (0x8a, b"ping".to_vec()));
    raw.send(frame(0x00, b""));
    for byte in frame(0x80, &request[5..]) {
        raw.send([byte]);
    }
    assert_eq!(raw.receive(), (0x81, br#"{"ok":true}"#.to_vec()));

    let mut client = Client::connect(server.addr(), "/");
    let message = "é".repeat(249_999);
    client.send(&format!(r#"{{"action":"put","topic":"t","message":"{message}"}}"#));
    assert_eq!(client.receive_json_of(r#"{"action":"take","topic":"t"}"#)["message"], message);
    let text = format!(r#"{{"action":"put","topic":"t","message":"x{message}"}}"#);
    assert_eq!(client.receive_json_of(&text)["code"], "message_too_large");
    // Within the amount that the server discards after a close.
    let most = 500_000 + limits::REQUEST_OVERHEAD_BYTES;
    let _ = client.0.send(Message::text(" ".repeat(most + 1)));
    client.expect_close(1009);
}

#[test]
fn protocol_violation_closes_with_its_code() {
    let server = server_with(Config { max_message: 1_000, ..Config::default() });
    let claim = |length: u64| [&[0x82, 0xff], &length.to_be_bytes()[..]].concat();
    let (protocol, too_large) = (1002, 1009);
    for (what, bytes, code) in [
        ("a frame without a mask", b"\x81\x02{}".to_vec(), protocol),
        ("reserved bits", frame(0xc1, b"{}"), protocol),
        ("a reserved kind of message", frame(0x83, b"{}"), protocol),
        ("a reserved kind of control frame", frame(0x8f, b""), protocol),
        ("a ping in fragments", frame(0x09, b""), protocol),
        ("a close in fragments", frame(0x08, b"\x03\xe8"), protocol),
        ("a ping that is too large", frame(0x89, &[b'x'; 126]), protocol),
        ("a fragment of nothing", frame(0x80, b"{}"), protocol),
        ("a message within a message", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), protocol),
        ("2^63 bytes", claim(1 << 63), too_large),
        ("2^64 - 1 bytes", claim(u64::MAX), too_large),
        ("one byte more than may be", claim(1_001 + 64 * 1024), too_large),
        ("no UTF-8", frame(0x81, b"\xff"), 1007),
        ("a close without a whole code", frame(0x88, b"\x03"), protocol),
        ("a close with a code that there is not", frame(0x88, b"\x03\xec"), protocol),
    ] {
        let mut raw = Raw::connect(server.addr());
        raw.send(bytes);
        raw.expect_close(code, what);
    }
    let mut raw = Raw::connect(server.addr());
    raw.send(frame(0x01, b"{"));
    let fragments = frame(0x00, &[b' '; 60_000]).repeat(2);
    raw.send(&fragments);
    raw.expect_close(too_large, "fragments without end");
}

#[test]
fn close_is_echoed() {
    let server = server();
    let mut raw = Raw::connect(server.addr());
    raw.send(frame(0x81, br#"{"action":"ping"}"#));
    raw.send(frame(0x88, b"\x0f\xa0bye"));
    assert_eq!(raw.receive(), (0x81, br#"{"ok":true}"#.to_vec()));
    assert_eq!(raw.receive(), (0x88, b"\x0f\xa0".to_vec()));
    raw.0.end();
    raw.0.expect_end();
    let mut client = Client::connect(server.addr(), "/");
    client.0.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).unwrap();
    client.expect_close(1000);
}

#[test]
fn invalid_handshake_is_refused() {
    let server = server();
    let asks = |change: &dyn Fn(String) -> String| {
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(change(request.to_owned()));
        String::from_utf8(peer.receive(12)).unwrap()
    };
    assert_eq!(asks(&|request| request), "HTTP/1.1 101");
    for (from, to, status) in [
        ("Version: 13", "Version: 8", "426"),
        ("Sec-WebSocket-Version: 13\r\n", "", "426"),
        ("GET", "POST", "426"),
        ("Connection: Upgrade", "Connection: close", "400"),
        ("dGhl", "dGh", "400"),
        ("dGhl", "!!!!", "400"),
        ("localhost", "evil.example", "421"),
        ("Host: localhost\r\n", "Host: localhost\r\nOrigin: http://evil.example\r\n", "403"),
        ("Host: localhost\r\n", "Host: localhost\r\nOrigin: null\r\n", "403"),
        ("GET / ", "GET /nowhere ", "404"),
    ] {
        assert_eq!(
            asks(&|request| request.replacen(from, to, 1)),
            format!("HTTP/1.1 {status}"),
            "{to}"
        );
    }
    let own =
        |request: String| request.replacen("\r\n\r\n", "\r\nOrigin: http://localhost\r\n\r\n", 1);
    assert_eq!(asks(&own), "HTTP/1.1 101");
    let refused = ask(&mut Peer::connect_silent(server.addr()), get("/ws"));
    for text in ["upgrade: websocket\r\n", "sec-websocket-version: 13\r\n"] {
        assert!(refused.header.contains(text), "{refused:?}");
    }
}

#[test]
fn server_stop_is_announced() {
    let server = server();
    let mut waits = Client::connect(server.addr(), "/");
    waits.send(r#"{"action":"take","topic":"t","wait":600}"#);
    let mut idle = Client::connect(server.addr(), "/");
    assert_eq!(idle.ask(r#"{"action":"ping"}"#), r#"{"ok":true}"#);
    let mut subscriber = Client::connect(server.addr(), "/");
    assert_eq!(subscriber.ask(r#"{"action":"subscribe","topic":"*"}"#), r#"{"ok":true}"#);
    let mut coremq = Client::connect(server.addr(), "/ws");
    assert!(coremq.ask(r#"{"corews_status":true}"#).starts_with(r#"{"connections":1,"#));
    let mut witness = Peer::connect(server.addr());
    loop {
        witness.send(r#"{"action":"stats"}"#);
        if witness.receive_reply()["stats"]["waiting"] == 1 {
            break;
        }
    }
    let stopping = std::thread::spawn(move || server.stop());
    assert_eq!(waits.receive_json()["code"], "closing");
    for client in [&mut waits, &mut idle, &mut subscriber, &mut coremq] {
        client.expect_close(1001);
    }
    stopping.join().unwrap();
}

#[test]
fn client_may_stop_the_server_if_allowed() {
    let shutdown = r#"{"action":"shutdown","topic":"","tag":1}"#;
    let refused = |reply: Value| {
        assert_eq!((&reply["code"], &reply["tag"]), (&"forbidden".into(), &1.into()))
    };
    let closed = server();
    refused(Client::connect(closed.addr(), "/").receive_json_of(shutdown));
    let mut json = Peer::connect(closed.addr());
    json.send(shutdown);
    refused(json.receive_reply());
    json.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);

    for over_websocket in [false, true] {
        let flags = ["--port", "0", "--allow-shutdown", "--log", "info"];
        let (process, addr) = Process::server(dsmq(&flags).stderr(Stdio::piped()));
        if over_websocket {
            let mut client = Client::connect(addr, "/");
            assert_eq!(client.ask(shutdown), r#"{"ok":true,"tag":1}"#);
            client.expect_close(1001);
        } else {
            let mut json = Peer::connect(addr);
            json.ask(shutdown, r#"{"ok":true,"tag":1}"#);
            json.expect_end();
        }
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("stopped by a client"), "{}", ended.stderr);
    }
}

/// A file store may wait for the disk, so requests run off the runtime threads; their order is
/// kept.
#[test]
fn file_store_keeps_request_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("queue.db").display().to_string();
    let (_process, addr) = Process::server(&mut dsmq(&["--port", "0", "--store", &store]));
    let mut client = Client::connect(addr, "/");
    for number in 0..50 {
        client
            .send(&format!(r#"{{"action":"put","topic":"t","message":{number},"confirm":true}}"#));
        client.send(r#"{"action":"take","topic":"t","wait":600}"#);
    }
    for number in 0..50 {
        assert!(client.receive_text().starts_with(r#"{"ok":true,"id":"#));
        assert!(client.receive_text().starts_with(&format!(r#"{{"message":{number},"#)));
    }
    let bytes = Bytes::from_static(b"x");
    client.0.send(Message::Ping(bytes.clone())).unwrap();
    assert_eq!(client.receive(), Message::Pong(bytes));
}
