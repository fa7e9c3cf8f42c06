//! Messages with their JSON text, and the results of puts.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Origin, Result};
use crate::text;

/// A message as it was put.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id, higher than the ids of all messages put before it.
    pub id: u64,
    /// When it was put, in seconds since 1970, by the server's clock.
    pub timestamp: f64,
    /// Where it was before it became a dead letter. Take, peek and history of a topic that ends in
    /// `.dead` report it.
    pub from: Option<Origin>,
    pub(super) json: Box<str>,
}

impl Message {
    /// The JSON text, byte for byte as it was put.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The message as a JSON value.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](super::Error::Json) for values that serde_json cannot hold: half a surrogate
    /// pair, a number beyond the range of `f64`, more than 127 levels.
    pub fn value(&self) -> Result<Value> {
        self.decode()
    }

    /// The message as a `T`.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](super::Error::Json) if the message does not have that shape.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put("points", &[1.5, 2.5])?;
    /// let message = client.get("points")?.ok_or("nothing there")?;
    /// assert_eq!(message.decode::<(f64, f64)>()?, (1.5, 2.5));
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(&self.json)?)
    }

    /// The message if it is a JSON string. Half a surrogate pair becomes U+FFFD.
    pub fn text(&self) -> Option<String> {
        text::of_json(self.json.as_bytes())
    }
}

/// The result of a confirmed put: the message is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receipt {
    /// The id of the message.
    pub id: u64,
    /// When it was put, in seconds since 1970, by the server's clock.
    pub timestamp: f64,
}

/// The result of a put with options: the server has stored the message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confirmed {
    /// The id of the message. A delayed message has none until it is due.
    pub id: Option<u64>,
    /// When it was put, or will be due, in seconds since 1970, by the server's clock.
    pub timestamp: f64,
    /// Whether the message was not stored because one with the same dedupe key was put before. The
    /// id and the time are those of the earlier one.
    pub duplicate: bool,
}

/// A message that this client has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The topic that it was taken from.
    pub topic: String,
    /// The message.
    pub message: Message,
    /// Number of deliveries, including this one: 1 the first time.
    pub deliveries: u64,
}

/// A message of a subscribed topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The topic that it was put into.
    pub topic: String,
    /// The message.
    pub message: Message,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Message {
        Message { id: 1, timestamp: 1e-6, from: None, json: json.into() }
    }

    #[test]
    fn a_string_is_text() {
        assert_eq!(message(r#""a \"b\" \u00e9 \ud83d\ude00 é""#).text().unwrap(), "a \"b\" é 😀 é");
        assert_eq!(message(r#""""#).text().unwrap(), "");
    }

    #[test]
    fn half_a_surrogate_pair_is_one_replacement_character() {
        assert_eq!(message(r#""a\ud83d""#).text().unwrap(), "a\u{FFFD}");
        assert_eq!(message(r#""\ude00\ud83db""#).text().unwrap(), "\u{FFFD}\u{FFFD}b");
        assert!(message(r#""\ud83d""#).value().is_err());
    }

    #[test]
    fn what_is_no_string_is_no_text() {
        for json in ["null", "1", "[]", "{}", "true", r#"["a"]"#] {
            assert_eq!(message(json).text(), None, "{json}");
        }
    }

    #[test]
    fn a_message_decodes() {
        assert_eq!(message("[1, 2]").decode::<Vec<u8>>().unwrap(), [1, 2]);
        assert_eq!(message("[1, 2]").value().unwrap(), serde_json::json!([1, 2]));
        assert!(message("[1, 2]").decode::<String>().is_err());
    }
}
