//! CoreMQ over TCP: frames, commands, delivery, and the end of a connection.

use std::net::SocketAddr;
use std::thread;

use dsmq::{Config, CoreMqPort, Server};
use serde_json::{Value, json};

use crate::suite::support::peer::Peer;
use crate::suite::support::server_with;

pub fn config() -> Config {
    Config { coremq: Some(CoreMqPort::Port(0)), ..Config::default() }
}

pub fn address(server: &Server) -> SocketAddr {
    server.addresses().find(|(name, _)| *name == "coremq").unwrap().1
}

pub fn frame(queue: &str, json: &str) -> String {
    let text = format!("{queue} {json}");
    format!("+{} {text}", text.chars().count())
}

pub fn response(text: &str) -> Value {
    json!({ "response": text })
}

/// A connection and its id.
pub struct Client {
    pub peer: Peer,
    pub id: String,
    pub name: String,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        let mut peer = Peer::connect_silent(addr);
        let (id, welcome) = receive(&mut peer);
        assert_eq!(welcome["response"], "OK: Welcome to CoreMQ server");
        let name = welcome["server"].as_str().unwrap().to_owned();
        Client { peer, id, name }
    }

    pub fn send(&mut self, queue: &str, object: &Value) {
        self.peer.send(frame(queue, &object.to_string()));
    }

    /// The next frame's queue and JSON.
    pub fn receive(&mut self) -> (String, Value) {
        receive(&mut self.peer)
    }

    /// Sends a command to the connection's own queue, as the client library does.
    pub fn ask(&mut self, object: Value) -> Value {
        let id = self.id.clone();
        self.ask_at(&id, object)
    }

    pub fn ask_at(&mut self, queue: &str, object: Value) -> Value {
        self.send(queue, &object);
        self.answer()
    }

    pub fn answer(&mut self) -> Value {
        let (queue, answer) = self.receive();
        assert_eq!(queue, self.id);
        answer
    }

    pub fn subscribe(&mut self, queues: Value) {
        let answer = self.ask(json!({ "coremq_subscribe": queues }));
        assert_eq!(answer, response("OK: Subscribe successful"));
    }
}

fn receive(peer: &mut Peer) -> (String, Value) {
    let text = receive_text(peer);
    let (queue, json) = text.split_once(' ').unwrap();
    assert!(json.is_ascii(), "{json}");
    (queue.to_owned(), serde_json::from_str(json).unwrap())
}

/// Reads the text of the next frame: as many characters as its header says.
pub fn receive_text(peer: &mut Peer) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b" ") {
        head.extend(peer.receive(1));
        assert!(head.len() <= 10, "{head:?}");
    }
    let head = String::from_utf8(head).unwrap();
    let length: usize = head.strip_prefix('+').unwrap().trim_end().parse().unwrap();
    let mut bytes = peer.receive(length);
    loop {
        // Longer characters need more bytes.
        let more = length - bytes.iter().filter(|byte| !matches!(byte, 0x80..=0xBF)).count();
        match str::from_utf8(&bytes) {
            Ok(text) if more == 0 => return text.to_owned(),
            Ok(_) => bytes.extend(peer.receive(more)),
            Err(_) => bytes.extend(peer.receive(more.max(1))),
        }
    }
}

#[test]
fn message_reaches_subscribers_but_not_its_sender() {
    let server = server_with(config());
    let [mut a, mut b, mut c] = [(); 3].map(|()| Client::connect(address(&server)));
    a.subscribe(json!("q"));
    b.subscribe(json!(["q", "r"]));
    let sent = a.ask_at("q", json!({ "price": 1.5, "what": "é😀", "coremq_sender": "forged" }));
    assert_eq!(sent, response("OK: Message sent"));
    let (queue, message) = b.receive();
    let object = message.as_object().unwrap();
    assert_eq!(queue, "q");
    assert_eq!((&message["price"], &message["what"]), (&json!(1.5), &json!("é😀")));
    assert_eq!(message["coremq_sender"], *a.id);
    assert!(message["coremq_sent"].as_f64().unwrap() > 1.7e9);
    let port = address(&server).port();
    assert_eq!(message["coremq_server"], format!("{}:{port}", b.name));
    assert_eq!(object.len(), 5);

    // A direct message needs no subscription. The next message for `a` is not its own.
    assert_eq!(c.ask_at(&a.id, json!({ "to": "a" })), response("OK: Message sent"));
    let (queue, message) = a.receive();
    assert_eq!((queue, &message["to"]), (a.id.clone(), &json!("a")));

    assert_eq!(
        b.ask(json!({ "coremq_unsubscribe": ["q"] })),
        response("OK: Unsubscribe successful")
    );
    c.ask_at("q", json!({}));
    c.ask_at("r", json!({ "last": true }));
    assert_eq!(b.receive().1["last"], true);
}

#[test]
fn lists_are_delivered_unchanged_and_strings_wrapped() {
    let server = server_with(config());
    let [mut a, mut b] = [(); 2].map(|()| Client::connect(address(&server)));
    a.subscribe(json!("q"));
    b.subscribe(json!("q"));
    assert_eq!(a.ask_at("q", json!([1, "é"])), response("OK: Message sent"));
    assert_eq!(a.ask_at("q", json!([])), response("OK: Message sent"));
    assert_eq!(b.receive(), ("q".to_owned(), json!([1, "é"])));
    assert_eq!(b.receive(), ("q".to_owned(), json!([])));
    a.ask_at("q", json!({ "coremq_string": "text" }));
    assert_eq!(b.receive().1["coremq_string"], "text");
    b.ask_at("q", json!({ "next": 1 }));
    assert_eq!(a.receive().1["next"], 1, "none of its own has come back");

    let mut json = Peer::connect(server.addr());
    for (message, passed_on) in [
        ("\"é\"", json!({ "coremq_string": "é" })),
        ("7", json!({ "coremq_string": 7 })),
        ("{}", json!({})),
    ] {
        json.send(format!(r#"{{"action":"put","topic":"q","message":{message}}}"#));
        for client in [&mut a, &mut b] {
            assert_eq!(client.receive(), ("q".to_owned(), passed_on.clone()));
        }
    }
}

#[test]
fn every_command_is_answered() {
    let server = server_with(config());
    let [mut a, _b] = [(); 2].map(|()| Client::connect(address(&server)));
    assert_eq!(
        a.ask(json!({ "coremq_options": { "x": 1, "y": null } })),
        response("OK: Options set")
    );
    // Commands work on any queue; the first key in the fixed order decides.
    let both = json!({ "coremq_status": 1, "coremq_subscribe": "q" });
    assert_eq!(a.ask_at("any", both), response("OK: Subscribe successful"));
    let (id, name) = (a.id.clone(), a.name.clone());
    let status = a.ask(json!({ "coremq_status": true }));
    let known = json!({ "coremq_fwdto": id, "master": name, "replicants": [], "connections": 2 });
    assert_eq!(status, known);
    for (object, why) in [
        (json!({ "coremq_replicant": "other" }), "Not allowed to be a replicant"),
        (json!({ "coremq_subscribe": 7 }), "queues are a name, or a list of names"),
        (json!({ "coremq_unsubscribe": {} }), "queues are a name, or a list of names"),
        (json!({ "coremq_subscribe": "" }), "the topic is empty: give it a name"),
        (json!({ "coremq_options": [] }), "options are an object"),
        (json!({ "coremq_gethistory": 1 }), "queues are a name, or a list of names"),
    ] {
        assert_eq!(a.ask(object), response(&format!("ERROR: {why}")));
    }
    for (text, why) in [
        ("q 7", "a message is an object or a list"),
        ("q \"text\"", "a message is an object or a list"),
        ("q {", "the message is not one JSON value"),
        ("q {} {}", "the message is not one JSON value"),
        ("q", "a frame has a queue, a space and an object"),
        (" {}", "a frame has a queue, a space and an object"),
        ("", "a frame has a queue, a space and an object"),
    ] {
        a.peer.send(format!("+{} {text}", text.len()));
        assert_eq!(a.answer(), response(&format!("ERROR: {why}")), "{text:?}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    a.peer.send(frame("q", &deep));
    assert!(a.answer()["response"].as_str().unwrap().starts_with("ERROR: nested too deep"));
    // The connection survives all of these errors.
    assert_eq!(a.ask_at("r", json!({})), response("OK: Message sent"));
}

#[test]
fn history_has_the_latest_ten_of_each_queue() {
    let server = server_with(config());
    let mut a = Client::connect(address(&server));
    for number in 0..12 {
        a.ask_at("q", json!({ "number": number }));
    }
    a.ask_at("é", json!({ "one": "é" }));
    let history = a.ask(json!({ "coremq_gethistory": ["q", "none", "é"] }));
    let queues = history["history"].as_object().unwrap();
    let numbers: Vec<_> = queues["q"].as_array().unwrap().iter().map(|m| &m["number"]).collect();
    assert_eq!(json!(numbers), json!([2, 3, 4, 5, 6, 7, 8, 9, 10, 11]));
    assert_eq!((queues.len(), &queues["é"][0]["one"]), (2, &json!("é")));
}

#[test]
fn frames_may_be_split_and_joined_anywhere() {
    let server = server_with(config());
    let mut reader = Client::connect(address(&server));
    reader.subscribe(json!("café"));
    let stream: String =
        (0..3).map(|n| frame("café", &format!(r#"{{"n":{n},"text":"é😀"}}"#))).collect();
    for cut in 0..stream.len() {
        let mut sender = Client::connect(address(&server));
        // Two writes usually arrive as two segments.
        sender.peer.send(&stream.as_bytes()[..cut]);
        sender.peer.send(&stream.as_bytes()[cut..]);
        for number in 0..3 {
            assert_eq!(sender.answer(), response("OK: Message sent"));
            let (queue, message) = reader.receive();
            assert_eq!((queue.as_str(), &message["n"]), ("café", &json!(number)));
            assert_eq!(message["text"], "é😀");
        }
    }
    let mut sender = Client::connect(address(&server));
    for byte in stream.as_bytes() {
        sender.peer.send([*byte]);
    }
    (0..3).for_each(|_| assert_eq!(sender.answer(), response("OK: Message sent")));
}

#[test]
fn invalid_frame_closes_only_its_own_connection() {
    let server = server_with(Config { max_message: 1_000, ..config() });
    let mut other = Client::connect(address(&server));
    for (text, begin) in [
        ("x", "ERROR: this is no frame"),
        ("{\"action\":\"ping\"}", "ERROR: this is no frame"),
        ("GET / HTTP/1.1\r\n", "ERROR: this is no frame"),
        ("+q", "ERROR: this is no frame"),
        ("+ q", "ERROR: this is no frame"),
        ("+123456789 ", "ERROR: this is no frame"),
        ("+99999999 ", "ERROR: the frame is too large"),
    ] {
        let mut client = Client::connect(address(&server));
        client.peer.send(text);
        let answer = client.answer();
        assert!(answer["response"].as_str().unwrap().starts_with(begin), "{text}: {answer}");
        client.peer.expect_end();
    }
    let large = other.ask_at("q", json!({ "text": "x".repeat(1_000) }));
    assert!(large["response"].as_str().unwrap().starts_with("ERROR: the message is too large"));
    assert_eq!(other.ask_at("q", json!({})), response("OK: Message sent"));
}

#[test]
fn incomplete_frames_block_no_other_connection() {
    let server = server_with(config());
    let mut other = Client::connect(address(&server));
    let whole = frame("q", r#"{"a":1}"#);
    let stopped: Vec<Client> = (1..whole.len())
        .map(|len| {
            let mut client = Client::connect(address(&server));
            client.peer.send(&whole[..len]);
            client
        })
        .collect();
    assert_eq!(other.ask_at("q", json!({ "b": 2 })), response("OK: Message sent"));
    for mut client in stopped {
        client.peer.end();
        assert_eq!(client.answer(), response("ERROR: the connection ended inside a frame"));
    }
    let history = other.ask(json!({ "coremq_gethistory": ["q"] }));
    assert_eq!(history["history"]["q"].as_array().unwrap().len(), 1);
}

#[test]
fn clients_receive_bye_when_the_server_stops() {
    let server = server_with(config());
    let addr = address(&server);
    let mut clients = [(); 3].map(|()| Client::connect(addr));
    clients[0].subscribe(json!("q"));
    clients[1].peer.send("+100 q {");
    server.stop();
    for mut client in clients {
        assert_eq!(client.answer(), response("BYE"));
        client.peer.expect_end();
    }
}

#[test]
fn many_senders_reach_many_subscribers_completely() {
    const SENDERS: usize = 5;
    const LISTENERS: usize = 20;
    const MESSAGES: usize = 200;
    let server = server_with(config());
    let addr = address(&server);
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|_| {
            let mut listener = Client::connect(addr);
            listener.subscribe(json!("stress"));
            thread::spawn(move || {
                let mut next = [0; SENDERS];
                for _ in 0..SENDERS * MESSAGES {
                    let (_, message) = listener.receive();
                    let sender = usize::try_from(message["sender"].as_u64().unwrap()).unwrap();
                    assert_eq!(message["number"], next[sender]);
                    next[sender] += 1;
                }
            })
        })
        .collect();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let mut client = Client::connect(addr);
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    let message = json!({ "sender": sender, "number": number });
                    assert_eq!(client.ask_at("stress", message), response("OK: Message sent"));
                }
            })
        })
        .collect();
    senders.into_iter().chain(listeners).for_each(|thread| thread.join().unwrap());
}

/// Half of the subscribers never read more data than all buffers hold. The others, and the sender,
/// must receive everything.
#[test]
fn subscribers_that_never_read_delay_no_other() {
    const HALF: usize = 500;
    const MESSAGES: usize = 20;
    let server = server_with(Config { max_connections: 2_000, ..config() });
    let addr = address(&server);
    let subscriber = || {
        let mut client = Client::connect(addr);
        client.subscribe(json!("q"));
        client
    };
    let silent: Vec<_> = (0..HALF).map(|_| subscriber()).collect();
    let mut readers: Vec<_> = (0..HALF).map(|_| subscriber()).collect();
    let mut sender = Client::connect(addr);
    let text = "x".repeat(10_000);
    for number in 0..MESSAGES {
        let sent = sender.ask_at("q", json!({ "number": number, "text": text }));
        assert_eq!(sent, response("OK: Message sent"));
    }
    for reader in &mut readers {
        for number in 0..MESSAGES {
            assert_eq!(reader.receive().1["number"], number);
        }
    }
    assert_eq!(sender.ask(json!({ "coremq_status": 1 }))["connections"], 2 * HALF + 1);
    drop(silent);
}

#[test]
fn exceeded_limits_are_errors_and_keep_the_connection() {
    let server = server_with(config());
    let mut client = Client::connect(address(&server));
    let refused = |answer: Value| {
        assert!(answer["response"].as_str().unwrap().starts_with("ERROR: "), "{answer}");
    };
    let queues: Vec<String> = (0..=dsmq::limits::SUBSCRIPTIONS).map(|n| format!("q{n}")).collect();
    refused(client.ask(json!({ "coremq_subscribe": queues })));
    // The history exceeds 16 MiB.
    let text = "x".repeat(10 << 20);
    for queue in ["a", "b"] {
        let sent = client.ask_at(queue, json!({ "text": text }));
        assert_eq!(sent, response("OK: Message sent"));
    }
    refused(client.ask(json!({ "coremq_gethistory": ["a", "b"] })));
    assert_eq!(client.ask_at("q", json!({})), response("OK: Message sent"));
}
