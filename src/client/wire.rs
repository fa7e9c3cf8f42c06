//! The words on the wire: requests as bytes, replies as values.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Error, Message, Receipt, Result};

/// Requests that are sent before the first of their replies is read. Their replies are small
/// enough (or the requests are) for the buffers of two sockets, so that a server which writes and
/// a client which writes never wait for each other.
pub(super) const FLIGHT_REQUESTS: usize = 256;

/// Bytes of requests that are sent before the first of their replies is read; one larger request
/// goes alone.
const FLIGHT_BYTES: usize = 32 * 1024;

/// The tag of puts that ask for no reply. Requests that do carry a number.
const PUT_TAG: &str = "put";

/// Requests, encoded, and how much of them has been sent.
#[derive(Default)]
pub(super) struct Requests {
    bytes: Vec<u8>,
    /// Where each request ends in `bytes`.
    ends: Vec<usize>,
    sent: usize,
}

impl Requests {
    /// Adds a put, confirmed if it has a tag of its own. One that fails adds nothing.
    pub(super) fn put<M>(&mut self, topic: &str, message: &M, tag: Option<u64>) -> Result<()>
    where
        M: Serialize + ?Sized,
    {
        let start = self.bytes.len();
        // The tag goes before the message: an error that need not wait for the message's end
        // can then carry it.
        let tag = match tag {
            Some(tag) => format!("{tag},\"confirm\":true"),
            None => format!("\"{PUT_TAG}\""),
        };
        let encoded = self.encode_put(topic, message, &tag);
        match encoded {
            Ok(()) => self.ends.push(self.bytes.len()),
            Err(_) => self.bytes.truncate(start),
        }
        encoded
    }

    fn encode_put<M>(&mut self, topic: &str, message: &M, tag: &str) -> Result<()>
    where
        M: Serialize + ?Sized,
    {
        self.text("{\"action\":\"put\",\"tag\":");
        self.text(tag);
        self.text(",\"topic\":");
        self.json(topic)?;
        self.text(",\"message\":");
        self.json(message)?;
        self.text("}");
        Ok(())
    }

    /// Adds a get or a get_latest.
    pub(super) fn get(
        &mut self,
        action: &str,
        topic: &str,
        wait: Duration,
        since: Option<u64>,
        tag: u64,
    ) -> Result<()> {
        self.text(&format!("{{\"action\":\"{action}\",\"tag\":{tag},\"meta\":true"));
        if !wait.is_zero() {
            self.text(&format!(",\"wait\":{}", wait.as_secs_f64()));
        }
        if let Some(since) = since {
            self.text(&format!(",\"since\":{since}"));
        }
        self.text(",\"topic\":");
        self.json(topic)?;
        self.text("}");
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Adds a ping that asks where the session began.
    pub(super) fn ping(&mut self, tag: u64) {
        self.text(&format!("{{\"action\":\"ping\",\"tag\":{tag},\"meta\":true}}"));
        self.ends.push(self.bytes.len());
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        Ok(serde_json::to_writer(&mut self.bytes, value)?)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether as much waits to be sent as may be on its way at a time.
    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= FLIGHT_REQUESTS || self.bytes.len() >= FLIGHT_BYTES
    }

    /// How many requests were sent to their last byte; the server has not seen the others.
    pub(super) fn whole(&self) -> usize {
        self.ends.partition_point(|end| *end <= self.sent)
    }

    /// Goes back to the start of the first request that was not sent to its last byte.
    pub(super) fn rewind(&mut self) {
        let whole = self.whole();
        self.sent = whole.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
    }

    /// Goes back to the first request.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
    }

    /// Writes what has not been sent, and keeps count of it.
    pub(super) fn send(&mut self, mut socket: impl Write) -> std::io::Result<()> {
        while let Some(rest) = self.bytes.get(self.sent..)
            && !rest.is_empty()
        {
            match socket.write(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whose reply it is.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Tag {
    /// Nobody's: the server speaks of the connection.
    #[default]
    None,
    /// The refusal of a put that asked for no reply.
    Put,
    Request(u64),
    Unknown,
}

impl From<Value> for Tag {
    fn from(tag: Value) -> Tag {
        match (tag.as_u64(), tag.as_str()) {
            (Some(number), _) => Tag::Request(number),
            (_, Some(PUT_TAG)) => Tag::Put,
            _ => Tag::Unknown,
        }
    }
}

/// A reply of any kind; which fields it has is up to the request.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) tag: Tag,
    error: Option<String>,
    code: Option<String>,
    message: Option<Box<RawValue>>,
    empty: bool,
    id: Option<u64>,
    timestamp: Option<f64>,
    since: Option<u64>,
}

impl Reply {
    /// The server's refusal, if this is one: its code and what to do about it.
    pub(super) fn refusal(&mut self) -> Option<(String, String)> {
        let text = self.error.take()?;
        Some((self.code.take().unwrap_or_default(), text))
    }

    fn accepted(mut self) -> Result<Reply> {
        match self.refusal() {
            Some((code, text)) => Err(Error::Server { code, text }),
            None => Ok(self),
        }
    }

    /// The reply to a get.
    pub(super) fn message(self) -> Result<Option<Message>> {
        match self.accepted()? {
            Reply { empty: true, .. } => Ok(None),
            Reply { message: Some(json), id: Some(id), timestamp: Some(timestamp), .. } => {
                Ok(Some(Message { id, timestamp, json: json.into() }))
            }
            reply => Err(reply.unexpected("a get")),
        }
    }

    /// The reply to a confirmed put.
    pub(super) fn receipt(self) -> Result<Receipt> {
        match self.accepted()? {
            Reply { id: Some(id), timestamp: Some(timestamp), .. } => Ok(Receipt { id, timestamp }),
            reply => Err(reply.unexpected("a put")),
        }
    }

    /// The reply to a ping: the place where the session began.
    pub(super) fn since(self) -> Result<u64> {
        match self.accepted()? {
            Reply { since: Some(since), .. } => Ok(since),
            reply => Err(reply.unexpected("a ping")),
        }
    }

    pub(super) fn unexpected(&self, request: &str) -> Error {
        Error::Protocol(format!("its reply is not one to {request}"))
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reply, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Reply;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reply")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reply, A::Error> {
        let mut reply = Reply::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "tag" => reply.tag = Tag::from(map.next_value::<Value>()?),
                "error" => reply.error = Some(map.next_value()?),
                "code" => reply.code = Some(map.next_value()?),
                "message" => reply.message = Some(map.next_value()?),
                "empty" => reply.empty = map.next_value()?,
                "id" => reply.id = Some(map.next_value()?),
                "timestamp" => reply.timestamp = Some(map.next_value()?),
                "since" => reply.since = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(requests: &Requests) -> &str {
        std::str::from_utf8(&requests.bytes).unwrap()
    }

    #[test]
    fn requests_are_json() {
        let mut requests = Requests::default();
        requests.put("a \"b\"", "Hello!", None).unwrap();
        assert_eq!(
            text(&requests),
            r#"{"action":"put","tag":"put","topic":"a \"b\"","message":"Hello!"}"#
        );
        let mut requests = Requests::default();
        requests.put("t", &[1, 2], Some(7)).unwrap();
        assert_eq!(
            text(&requests),
            r#"{"action":"put","tag":7,"confirm":true,"topic":"t","message":[1,2]}"#
        );
        let mut requests = Requests::default();
        requests.get("get_latest", "t", Duration::from_millis(1500), Some(3), 8).unwrap();
        assert_eq!(
            text(&requests),
            r#"{"action":"get_latest","tag":8,"meta":true,"wait":1.5,"since":3,"topic":"t"}"#
        );
    }

    #[test]
    fn a_message_that_is_no_json_adds_nothing() {
        let keys_must_be_text = std::collections::HashMap::from([((1, 2), 3)]);
        let mut requests = Requests::default();
        requests.put("t", "a", None).unwrap();
        let before = text(&requests).to_owned();
        assert!(matches!(requests.put("t", &keys_must_be_text, None), Err(Error::Json(_))));
        assert_eq!((text(&requests), requests.len()), (before.as_str(), 1));
    }

    /// Takes a few bytes and then no more.
    struct Narrow(usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let taken = bytes.len().min(self.0).min(5);
            self.0 -= taken;
            if taken == 0 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_not_wholly_sent_is_sent_again() {
        let mut requests = Requests::default();
        requests.ping(1);
        requests.ping(2);
        requests.ping(3);
        let length = requests.bytes.len() / 3;
        for sent in 0..3 * length {
            requests.restart();
            requests.send(Narrow(sent)).unwrap_err();
            assert_eq!(requests.whole(), sent / length);
            requests.rewind();
            let mut rest = Vec::new();
            requests.send(&mut rest).unwrap();
            assert_eq!(rest, requests.bytes[sent / length * length..]);
            assert_eq!(requests.whole(), 3);
        }
    }

    #[test]
    fn a_null_is_a_message_too() {
        let reply = r#"{"message": null, "id": 5, "timestamp": 5e-6, "tag": 1, "new": [{}]}"#;
        let reply: Reply = serde_json::from_str(reply).unwrap();
        assert_eq!(reply.tag, Tag::Request(1));
        let message = reply.message().unwrap().unwrap();
        assert_eq!((message.id, message.json()), (5, "null"));
    }

    #[test]
    fn a_reply_of_another_kind_is_no_dsmq() {
        let reply: Reply = serde_json::from_str(r#"{"ok":true}"#).unwrap();
        assert!(matches!(reply.message(), Err(Error::Protocol(_))));
    }
}
