//! What the load generator says to dsmq: the requests of the JSON protocol and their replies.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;

use serde_json::{Value, json};

use super::{Amount, Laps, Part, Reply, Request, Step, Work, ask, blast, connect};

/// Asks whether all earlier puts of the connection are done.
pub const PING: &[u8] = br#"{"action":"ping"}"#;

/// The answer to a ping.
pub const OK: &[u8] = br#"{"ok":true}"#;

/// The message that is put: a text of `size` bytes.
pub fn message(size: usize) -> String {
    "x".repeat(size)
}

/// A put that is not answered.
pub fn put(topic: &str, size: usize) -> Vec<u8> {
    json!({ "action": "put", "topic": topic, "message": message(size) }).to_string().into_bytes()
}

/// A put that is answered with the message's id.
pub fn put_confirmed(topic: &str, size: usize) -> Work {
    let put = json!({
        "action": "put", "topic": topic, "message": message(size), "confirm": true
    });
    Work {
        request: put.to_string().into_bytes(),
        reply: Reply::between(br#"{"ok":true"#, b'}'),
        laps: None,
    }
}

/// A take of a message that was put so, under a lease of so many seconds if one is given. The
/// reply's id is what [`ack`] names.
pub fn take(topic: &str, size: usize, lease: Option<u32>) -> Step {
    let take = match lease {
        Some(seconds) => json!({ "action": "take", "topic": topic, "lease": seconds }),
        None => json!({ "action": "take", "topic": topic }),
    };
    let begin = format!(r#"{{"message":"{}","id":"#, message(size)).into_bytes();
    let parts = vec![Part::Exactly(begin), Part::Id(b','), Part::Until(b'}')];
    Step { request: Request::Same(take.to_string().into_bytes()), reply: Reply::Parts(parts) }
}

/// The end of a first delivery's lease.
pub fn ack(topic: &str) -> Step {
    let begin = format!(r#"{{"action":"ack","topic":"{topic}","id":"#).into_bytes();
    let end = br#","deliveries":1}"#.to_vec();
    Step { request: Request::Naming { begin, end }, reply: Reply::Is(OK.to_vec()) }
}

/// What a subscriber says first; [`OK`] is the answer.
pub fn subscribe(topic: &str) -> Vec<u8> {
    json!({ "action": "subscribe", "topic": topic }).to_string().into_bytes()
}

/// The next message of the session.
pub fn get(topic: &str) -> Vec<u8> {
    json!({ "action": "get", "topic": topic }).to_string().into_bytes()
}

/// The message after the one with the id `since`.
pub fn get_since(topic: &str, since: u64) -> Vec<u8> {
    json!({ "action": "get", "topic": topic, "since": since }).to_string().into_bytes()
}

/// A connection whose session has begun: it gets what is put from now on.
pub fn session(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = connect(host, port)?;
    ask(&stream, PING, OK)?;
    Ok(stream)
}

/// Puts `count` messages and returns when every session can get them.
pub fn fill(stream: &TcpStream, topic: &str, size: usize, count: u64) -> io::Result<()> {
    let streams = [stream.try_clone()?];
    let amount = Amount::Requests(count);
    blast(&streams, &put(topic, size), (PING, OK), amount, &AtomicU64::new(0)).map(drop)
}

/// Puts one message and returns its id.
pub fn mark(stream: &TcpStream, topic: &str, size: usize) -> io::Result<u64> {
    let (reply, _) = ask_json(stream, &put_confirmed(topic, size).request)?;
    reply.get("id").and_then(Value::as_u64).ok_or_else(|| not_due(&reply))
}

/// Fills a topic with `messages` and describes gets that read it from end to end, over and over.
/// What a reply must look like is learned from the first message, so that an empty one, or an
/// error, can never pass for it.
pub fn filled_gets(
    stream: &TcpStream,
    topic: &str,
    size: usize,
    messages: u64,
) -> io::Result<Work> {
    let since = mark(stream, topic, size)?;
    fill(stream, topic, size, messages)?;
    let first = get_since(topic, since);
    Ok(Work {
        request: get(topic),
        reply: Reply::Is(reply_to_get(stream, &first, size)?),
        laps: Some(Laps { length: messages, first: vec![first] }),
    })
}

/// The bytes of the reply to a get that has a message.
pub fn reply_to_get(stream: &TcpStream, get: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let (reply, bytes) = ask_json(stream, get)?;
    if reply != json!({ "message": message(size) }) {
        return Err(not_due(&reply));
    }
    Ok(bytes)
}

/// Sends one request and reads one reply, whole and as bytes.
fn ask_json(mut stream: &TcpStream, request: &[u8]) -> io::Result<(Value, Vec<u8>)> {
    stream.write_all(request)?;
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    // A byte at a time, so as not to read into the next reply. Not for what is measured.
    while byte != *b"}" {
        stream.read_exact(&mut byte)?;
        bytes.extend(byte);
    }
    Ok((serde_json::from_slice(&bytes)?, bytes))
}

fn not_due(reply: &Value) -> io::Error {
    io::Error::other(format!("not the reply that was due: {reply}"))
}
