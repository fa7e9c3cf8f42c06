//! Encodes replies and pushes, appending them to an output buffer.

use std::io::Write;
use std::ops::Range;

#[cfg(feature = "http")]
use crate::broker::Page;
use crate::broker::{Stats, TopicStats};
use crate::error::Error;
use crate::ops::{Chunk, Encoded, Id, Message, Node, Policy, Taken, Timestamp, Topic};

/// A reply under construction. Writing to a `Vec` cannot fail, so the methods return no errors.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    tag: Option<&'a [u8]>,
}

impl<'a> Reply<'a> {
    /// A reply, appended to `out`, to the request with this tag.
    pub fn new(out: &'a mut Vec<u8>, tag: Option<&'a [u8]>) -> Reply<'a> {
        Reply { out, tag }
    }

    fn raw(self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    fn write(self, args: std::fmt::Arguments<'_>) -> Self {
        let _ = self.out.write_fmt(args);
        self
    }

    fn id(self, id: Id) -> Self {
        let digits = digits(id);
        let (seconds, micros) = digits.split_at(ID_DIGITS - MICROS_DIGITS);
        self.raw(b",\"id\":")
            .raw(trimmed(&digits))
            .raw(b",\"timestamp\":")
            .raw(trimmed(seconds))
            .raw(b".")
            .raw(micros)
    }

    /// The topic and id from which a dead letter was moved.
    fn origin(self, origin: Option<(&Topic, Id)>) -> Self {
        match origin {
            Some((topic, id)) => {
                let topic = json_string(topic.as_str());
                self.write(format_args!(",\"from\":{{\"topic\":{topic},\"id\":{id}}}"))
            }
            None => self,
        }
    }

    fn end(self) {
        if let Some(tag) = self.tag {
            self.out.extend_from_slice(b",\"tag\":");
            self.out.extend_from_slice(tag);
        }
        self.out.push(b'}');
    }

    pub fn message(self, message: Message<'_>, meta: bool) {
        let reply = self.raw(b"{\"message\":").raw(message.body);
        if meta { reply.id(message.id).end() } else { reply.end() }
    }

    /// The reply without a message; `empty_field` adds `"empty":true`.
    pub fn nothing(self, empty_field: bool) {
        let reply = self.raw(b"{\"message\":\"\"");
        if empty_field { reply.raw(b",\"empty\":true").end() } else { reply.end() }
    }

    pub fn taken(self, taken: &Taken, body: &[u8]) {
        self.taken_with(taken, body, "deliveries", taken.deliveries.into());
    }

    pub fn peeked(self, peeked: &Taken, body: &[u8], looks: u64) {
        self.taken_with(peeked, body, "looks", looks);
    }

    fn taken_with(self, taken: &Taken, body: &[u8], name: &str, count: u64) {
        self.raw(b"{\"message\":")
            .raw(body)
            .id(taken.id)
            .raw(b",\"")
            .raw(name.as_bytes())
            .write(format_args!("\":{count}"))
            .origin(taken.origin.as_deref().map(|(topic, id)| (topic, *id)))
            .end();
    }

    pub fn stored(self, id: Id, duplicate: bool) {
        self.raw(b"{\"ok\":true").id(id).duplicate(duplicate).end();
    }

    pub fn due(self, at: Id, duplicate: bool) {
        let at = Timestamp(at);
        self.write(format_args!("{{\"ok\":true,\"due\":{at}")).duplicate(duplicate).end();
    }

    fn duplicate(self, duplicate: bool) -> Self {
        if duplicate { self.raw(b",\"duplicate\":true") } else { self }
    }

    pub fn ok(self) {
        self.raw(b"{\"ok\":true").end();
    }

    pub fn deleted(self, deleted: bool) {
        self.write(format_args!("{{\"ok\":true,\"deleted\":{deleted}")).end();
    }

    pub fn purged(self, purged: u64) {
        self.write(format_args!("{{\"ok\":true,\"purged\":{purged}")).end();
    }

    pub fn state(self, stopped: bool) {
        let state = state(stopped);
        self.write(format_args!("{{\"ok\":true,\"state\":\"{state}\"")).end();
    }

    pub fn policy(self, policy: Option<Policy>) {
        let policy = json_policy(policy);
        self.write(format_args!("{{\"ok\":true,\"policy\":{policy}")).end();
    }

    /// The watermark of the session or the subscription.
    pub fn since(self, since: Id) {
        self.write(format_args!("{{\"ok\":true,\"since\":{since}")).end();
    }

    pub fn history(self, chunk: &Chunk) {
        self.raw(b"{\"messages\":[").messages(chunk, 0..chunk.len(), true).raw(b"]").end();
    }

    /// A page of messages, and the id after which to continue.
    #[cfg(feature = "http")]
    pub fn page(self, page: &Page) {
        let mut reply = self.raw(b"{\"messages\":[");
        for (index, (chunk, range)) in page.parts.iter().enumerate() {
            reply = reply.messages(chunk, range.clone(), index == 0);
        }
        reply.write(format_args!("],\"last\":{}", page.last)).end();
    }

    fn messages(self, chunk: &Chunk, range: Range<usize>, is_first: bool) -> Self {
        let (mut reply, start) = (self, range.start);
        for (index, message) in range.filter_map(|i| chunk.get(i).map(|m| (i, m))) {
            let first = is_first && index == start;
            let before: &[u8] = if first { b"{\"message\":" } else { b",{\"message\":" };
            reply = reply.raw(before).raw(message.body).id(message.id);
            reply = reply.origin(chunk.origin(index)).raw(b"}");
        }
        reply
    }

    /// Delayed messages: the ids of the chunk are due times.
    pub fn delayed(self, chunk: &Chunk) {
        let mut reply = self.raw(b"{\"messages\":[");
        for (index, message) in (0..chunk.len()).filter_map(|i| chunk.get(i).map(|m| (i, m))) {
            let before: &[u8] = if index == 0 { b"{\"message\":" } else { b",{\"message\":" };
            let due = Timestamp(message.id);
            reply = reply.raw(before).raw(message.body).write(format_args!(",\"due\":{due}}}"));
        }
        reply.raw(b"]").end();
    }

    pub fn topics(self, topics: &[TopicStats]) {
        let mut reply = self.raw(b"{\"topics\":[");
        for (index, topic) in topics.iter().enumerate() {
            reply = reply.raw(if index == 0 { b"" } else { b"," }).topic(topic);
        }
        reply.raw(b"]").end();
    }

    fn topic(self, stats: &TopicStats) -> Self {
        let counts = &stats.counts;
        let fields = serde_json::json!({
            "topic": stats.topic.as_str(),
            "length": counts.length,
            "bytes": counts.bytes,
            "oldest": stats.oldest,
            "newest": stats.newest,
            "leased": counts.leased,
            "delayed": counts.delayed,
            "dropped": counts.dropped,
            "put_rate": stats.put_rate,
            "take_rate": stats.take_rate,
            "consumers": stats.consumers,
            "policy": counts.policy.map(Policy::as_str),
            "state": state(counts.stopped),
        });
        self.write(format_args!("{fields}"))
    }

    pub fn stats(self, stats: &Stats) {
        let fields = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": stats.uptime_seconds,
            "connections": stats.connections,
            "waiting": stats.waiting,
            "topics": stats.topics,
            "messages": stats.messages,
            "bytes": stats.bytes,
            "leased": stats.leased,
            "delayed": stats.delayed,
            "puts": stats.puts,
            "takes": stats.takes,
            "dropped": stats.dropped,
            "store": stats.store.kind,
            "size": stats.store.bytes,
            "max_size": stats.store.max_bytes,
            "nodes": stats.nodes.iter().map(node).collect::<Vec<_>>(),
        });
        self.write(format_args!("{{\"stats\":{fields}")).end();
    }

    pub fn error(self, error: &Error) {
        let (text, code) = (json_string(&error.text), error.code.as_str());
        self.write(format_args!("{{\"error\":{text},\"code\":\"{code}\"")).end();
    }
}

/// The JSON object that describes a node of the store.
pub fn node(node: &Node) -> serde_json::Value {
    let (away, replicas) = (node.away.as_ref(), node.replicas.as_ref());
    serde_json::json!({
        "address": node.address,
        "parts": node.partitions,
        "away_seconds": away.map(|away| away.time.as_secs_f64()),
        "away_why": away.map(|away| &away.why),
        "round_trip_us": u64::try_from(node.round_trip.as_micros()).unwrap_or(u64::MAX),
        "replicas": replicas.map(|replicas| replicas.count),
        "replica_lag_bytes": replicas.map(|replicas| replicas.lag_bytes),
        "replica_lag_seconds": replicas.map(|replicas| replicas.lag.as_secs_f64()),
        "news_lag_seconds": node.news_lag.map(|lag| lag.as_secs_f64()),
    })
}

/// Digits of an id, which is below 2^53.
const ID_DIGITS: usize = 16;
const MICROS_DIGITS: usize = 6;

/// Bytes of a push after its message.
const PUSH_END_BYTES: usize = br#","id":1234567890123456,"timestamp":1234567890.123456}"#.len();

/// The decimal digits of an id, with leading zeros. Every message carries its id twice; the
/// standard library's formatter would take longer than the rest of the reply.
fn digits(id: Id) -> [u8; ID_DIGITS] {
    let (mut digits, mut left) = ([b'0'; ID_DIGITS], id);
    for digit in digits.iter_mut().rev() {
        *digit += (left % 10) as u8;
        left /= 10;
    }
    digits
}

/// Strips leading zeros, except from the last digit.
fn trimmed(digits: &[u8]) -> &[u8] {
    let all_but_last = digits.len().saturating_sub(1);
    let zeros = digits.iter().take(all_but_last).take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

/// Encodes all messages of a chunk as pushes.
pub fn pushes(topic: &Topic, chunk: &Chunk) -> Encoded {
    let mut encoded = Encoded::default();
    let begin = format!("{{\"topic\":{},\"message\":", json_string(topic.as_str()));
    encoded.ends.reserve_exact(chunk.len());
    encoded.bytes.reserve_exact(chunk.bytes() + chunk.len() * (begin.len() + PUSH_END_BYTES));
    for message in (0..chunk.len()).filter_map(|index| chunk.get(index)) {
        let push = Reply::new(&mut encoded.bytes, None);
        push.raw(begin.as_bytes()).raw(message.body).id(message.id).end();
        encoded.ends.push(encoded.bytes.len());
    }
    encoded
}

fn json_string(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

fn json_policy(policy: Option<Policy>) -> serde_json::Value {
    serde_json::Value::from(policy.map(Policy::as_str))
}

fn state(stopped: bool) -> &'static str {
    if stopped { "stopped" } else { "started" }
}

/// Encodes one reply into a new buffer.
pub fn reply_bytes(write: impl FnOnce(Reply<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(Reply::new(&mut out, None));
    out
}

/// Encodes an error for a connection without a handler.
pub fn error_reply(error: &Error) -> Vec<u8> {
    reply_bytes(|reply| reply.error(error))
}
