//! Requests as bytes, and how much of them has been sent.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use serde::ser::Serialize;

use super::Result;
use super::reply::PUT_TAG;

/// Requests that are sent before the first of their replies is read. They, or their replies, fit
/// into the buffers of two sockets, so that a writing server and a writing client never wait for
/// each other.
const FLIGHT_REQUESTS: usize = 256;

/// Bytes of requests that are sent before the first of their replies is read; one larger request
/// goes alone.
const FLIGHT_BYTES: usize = 32 * 1024;

/// Encoded requests, and how much of them has been sent.
#[derive(Default)]
pub(super) struct Requests {
    bytes: Vec<u8>,
    /// The end of each request in `bytes`.
    ends: Vec<usize>,
    sent: usize,
}

impl Requests {
    /// Adds a request. If its fields fail, nothing is added.
    pub(super) fn add(
        &mut self,
        action: &str,
        tag: u64,
        fields: impl FnOnce(&mut Fields) -> Result<()>,
    ) -> Result<()> {
        self.encode(action, tag, fields)
    }

    /// Adds an unconfirmed put.
    pub(super) fn put<M>(&mut self, topic: &str, message: &M) -> Result<()>
    where
        M: Serialize + ?Sized,
    {
        self.encode("put", format_args!("\"{PUT_TAG}\""), |put| {
            put.json("topic", topic)?;
            put.json("message", message)
        })
    }

    /// The tag comes first, so that an error found before the end of the message can carry it.
    fn encode(
        &mut self,
        action: &str,
        tag: impl Display,
        fields: impl FnOnce(&mut Fields) -> Result<()>,
    ) -> Result<()> {
        let start = self.bytes.len();
        let head = format!("{{\"action\":\"{action}\",\"tag\":{tag}");
        self.bytes.extend_from_slice(head.as_bytes());
        let encoded = fields(&mut Fields(&mut self.bytes));
        match encoded {
            Ok(()) => {
                self.bytes.push(b'}');
                self.ends.push(self.bytes.len());
            }
            Err(_) => self.bytes.truncate(start),
        }
        encoded
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether as much waits to be sent as may be in flight.
    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= FLIGHT_REQUESTS || self.bytes.len() >= FLIGHT_BYTES
    }

    /// Bytes that were sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Requests that were sent completely. The server has not seen the others.
    pub(super) fn whole(&self) -> usize {
        self.ends.partition_point(|end| *end <= self.sent)
    }

    /// Goes back to the start of the first request that was not sent completely.
    pub(super) fn rewind(&mut self) {
        let whole = self.whole();
        self.sent = whole.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
    }

    /// Goes back to the first request.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
    }

    /// Writes the bytes that were not sent yet, and counts them.
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

/// The fields of a request after its action and tag.
pub(super) struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    /// Adds a field whose value is JSON as displayed: a number or a boolean.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) {
        self.0.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    }

    pub(super) fn seconds(&mut self, name: &str, duration: Duration) {
        self.plain(name, duration.as_secs_f64());
    }

    pub(super) fn json<T>(&mut self, name: &str, value: &T) -> Result<()>
    where
        T: Serialize + ?Sized,
    {
        self.0.extend_from_slice(format!(",\"{name}\":").as_bytes());
        Ok(serde_json::to_writer(&mut *self.0, value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::*;

    fn text(requests: &Requests) -> &str {
        std::str::from_utf8(&requests.bytes).unwrap()
    }

    fn ping(requests: &mut Requests, tag: u64) {
        requests.add("ping", tag, |_| Ok(())).unwrap();
    }

    #[test]
    fn requests_are_json() {
        let mut requests = Requests::default();
        requests.put("a \"b\"", "Hello!").unwrap();
        assert_eq!(
            text(&requests),
            r#"{"action":"put","tag":"put","topic":"a \"b\"","message":"Hello!"}"#
        );
        let mut requests = Requests::default();
        let add = |fields: &mut Fields| {
            fields.plain("meta", true);
            fields.seconds("wait", Duration::from_millis(1500));
            fields.plain("since", 3);
            fields.json("topic", "t")
        };
        requests.add("get_latest", 8, add).unwrap();
        assert_eq!(
            text(&requests),
            r#"{"action":"get_latest","tag":8,"meta":true,"wait":1.5,"since":3,"topic":"t"}"#
        );
    }

    #[test]
    fn a_message_that_is_no_json_adds_nothing() {
        let keys_must_be_text = std::collections::HashMap::from([((1, 2), 3)]);
        let mut requests = Requests::default();
        requests.put("t", "a").unwrap();
        let before = text(&requests).to_owned();
        assert!(matches!(requests.put("t", &keys_must_be_text), Err(Error::Json(_))));
        assert_eq!((text(&requests), requests.len()), (before.as_str(), 1));
    }

    /// Accepts this many bytes and then no more.
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
        ping(&mut requests, 1);
        ping(&mut requests, 2);
        ping(&mut requests, 3);
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
}
