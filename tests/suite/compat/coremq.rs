//! CoreMQ's WebSocket at /ws.

use dsmq::Config;
use serde_json::{Value, json};

use crate::suite::support::peer::Peer;
use crate::suite::support::{server, server_with};
use crate::suite::wire::websocket::Client;

fn ask(client: &mut Client, object: &Value) -> Value {
    client.send(&object.to_string());
    client.receive_json()
}

/// The connection's id, taken from an answer.
fn id(client: &mut Client) -> String {
    let answer = ask(client, &json!({ "queue": "x", "coremq_options": {} }));
    assert_eq!(answer["response"], "OK: Options set");
    answer["queue"].as_str().unwrap().to_owned()
}

/// Subscribes and waits until the subscription holds, since it has no answer.
fn subscribe(client: &mut Client, queues: Value) {
    client.send(&json!({ "coremq_subscribe": queues }).to_string());
    id(client);
}

#[test]
fn messages_pass_between_clients_and_other_protocols() {
    let server = server();
    let mut a = Client::connect(server.addr(), "/ws");
    let mut b = Client::connect(server.addr(), "/ws");
    let mut json = Peer::connect(server.addr());
    let (a_id, b_id) = (id(&mut a), id(&mut b));
    assert_ne!(a_id, b_id);
    subscribe(&mut a, json!("q"));
    subscribe(&mut b, json!(["q", "r"]));
    let status = ask(&mut a, &json!({ "corews_status": true }));
    let name = format!(":{}", server.addr().port());
    assert_eq!(status["connections"], 2);
    assert!(status["mq_server"].as_str().unwrap().ends_with(&name), "{status}");

    a.send(r#"{"queue":"q","price":1.50,"what":"é"}"#);
    assert_eq!(a.receive_json(), json!({ "response": "OK: Message sent", "queue": a_id }));
    let text = b.receive_text();
    let begins = format!(r#"{{"price":1.50,"what":"é","coremq_sender":"{a_id}","coremq_sent":"#);
    assert!(text.starts_with(&begins) && text.ends_with(r#","queue":"q"}"#), "{text}");
    json.send(r#"{"action":"get","topic":"q"}"#);
    assert_eq!(json.receive_reply()["message"]["coremq_sender"], *a_id);

    // The sender does not receive its own message, so the next message is another one.
    json.send(r#"{"action":"put","topic":"q","message":{"from": "json", "queue": "forged"}}"#);
    for client in [&mut a, &mut b] {
        assert_eq!(client.receive_text(), r#"{"from":"json","queue":"q"}"#.replace(": ", ":"));
    }
    json.send(r#"{"action":"put","topic":"r","message":["no","object"]}"#);
    assert_eq!(b.receive_text(), r#"{"coremq_string":["no","object"],"queue":"r"}"#);

    assert_eq!(ask(&mut b, &json!({ "queue": a_id, "to": "a" }))["response"], "OK: Message sent");
    let direct = a.receive_json();
    assert_eq!((&direct["to"], &direct["queue"]), (&json!("a"), &json!(a_id)));
    let history = ask(&mut b, &json!({ "queue": "x", "coremq_gethistory": ["r", "none"] }));
    assert_eq!(history, json!({ "history": { "r": [["no", "object"]] }, "queue": b_id }));
}

#[test]
fn unknown_commands_are_answered_with_an_error() {
    let server = server_with(Config { max_message: 1_000, ..Config::default() });
    let mut client = Client::connect(server.addr(), "/ws");
    for (text, error) in [
        (r#"{"a":1}"#, "Command not recognized"),
        ("[]", "Command not recognized"),
        ("7", "Command not recognized"),
        (r#"{"coremq_subscribe":[]}"#, "No queues found"),
        (r#"{"coremq_subscribe":""}"#, "No queues found"),
        (r#"{"coremq_subscribe":null}"#, "No queues found"),
        (r#"{"queue":7}"#, "a queue has a name"),
        ("{", "the message is not one JSON value"),
    ] {
        client.send(text);
        assert_eq!(client.receive_json(), json!({ "error": error }), "{text}");
    }
    let large = json!({ "queue": "q", "text": "x".repeat(1_000) });
    let refused = ask(&mut client, &large)["response"].as_str().unwrap().to_owned();
    assert!(refused.starts_with("ERROR: the message is too large: "), "{refused}");
    client.send_binary(b"\x00\xff");
    assert_eq!(client.receive().into_data(), b"\x00\xff".as_slice());
    let answer = ask(&mut client, &json!({ "queue": "x", "coremq_replicant": "other" }));
    assert_eq!(answer["response"], "ERROR: Not allowed to be a replicant");
}

#[test]
fn allowed_origins_may_connect() {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nOrigin: https://good.example\r\n\
                   Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let closed = server();
    let open = vec!["https://good.example".to_owned()];
    let open = server_with(Config { allow_origin: open, ..Config::default() });
    for (server, status) in [(closed, "403"), (open, "101")] {
        let mut peer = Peer::connect_silent(server.addr());
        peer.send(upgrade);
        assert_eq!(peer.receive(12), format!("HTTP/1.1 {status}").as_bytes());
    }
}
