//! A request as the broker's words: what stands in the fields, checked.

use std::borrow::Cow;
use std::time::Duration;

use super::scanner::{Field, Fields};
use super::string;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::{ID_END, Id};

/// One request, borrowed from the text it came in.
#[derive(Debug)]
pub enum Request<'a> {
    Put { topic: Cow<'a, str>, message: &'a [u8], confirm: bool },
    Get { topic: Cow<'a, str>, latest: bool, since: Option<Id>, wait: Duration, meta: bool },
    Ping { meta: bool },
}

/// A request's text with its fields' places.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    request: &'a [u8],
    fields: &'a Fields,
}

impl<'a> Text<'a> {
    pub fn new(request: &'a [u8], fields: &'a Fields) -> Text<'a> {
        Text { request, fields }
    }

    /// The request's tag, as it goes into the reply.
    pub fn tag(self) -> Result<Option<&'a [u8]>> {
        let tag = self.field(Field::Tag);
        if tag.is_some_and(|tag| tag.len() > limits::TAG_BYTES) {
            let text = format!("the tag is too long: it has at most {} bytes", limits::TAG_BYTES);
            return Err(Error::new(Code::BadField, text));
        }
        Ok(tag)
    }

    /// Whether this is a put that asked for no reply.
    pub fn is_unconfirmed_put(self) -> bool {
        self.field(Field::Action) == Some(br#""put""#)
            && self.field(Field::Confirm) != Some(b"true")
    }

    pub fn decode(self, max_message: usize) -> Result<Request<'a>> {
        match &*self.action()? {
            "put" => self.put(max_message),
            "get" => self.get(false),
            "get_latest" => self.get(true),
            "ping" => Ok(Request::Ping { meta: self.flag(Field::Meta)? }),
            other => {
                let other: String = other.chars().take(40).collect();
                let text = format!(
                    "unknown action {other:?}: this server knows put, get, get_latest and ping"
                );
                Err(Error::new(Code::UnknownAction, text))
            }
        }
    }

    fn put(self, max_message: usize) -> Result<Request<'a>> {
        let topic = self.topic()?;
        let message = self.field(Field::Message).ok_or_else(|| missing("message"))?;
        if message.len() > max_message {
            return Err(message_too_large(max_message));
        }
        let later = [Field::Priority, Field::Ttl, Field::Delay, Field::Dedupe];
        if later.iter().any(|&field| self.field(field).is_some()) {
            let text = "priority, ttl, delay and dedupe are not supported by this version: \
                        leave them out";
            return Err(Error::new(Code::Unsupported, text));
        }
        Ok(Request::Put { topic, message, confirm: self.flag(Field::Confirm)? })
    }

    fn get(self, latest: bool) -> Result<Request<'a>> {
        Ok(Request::Get {
            topic: self.topic()?,
            latest,
            since: self.since()?,
            wait: self.wait()?,
            meta: self.flag(Field::Meta)?,
        })
    }

    fn field(self, field: Field) -> Option<&'a [u8]> {
        self.fields.get(self.request, field)
    }

    fn action(self) -> Result<Cow<'a, str>> {
        let action = self.field(Field::Action).ok_or_else(|| missing("action"))?;
        text_of(action).ok_or_else(|| bad_field("action", "a string such as \"put\""))
    }

    fn topic(self) -> Result<Cow<'a, str>> {
        let topic = self.field(Field::Topic).ok_or_else(|| missing("topic"))?;
        text_of(topic).ok_or_else(|| bad_field("topic", "a string of whole characters"))
    }

    fn flag(self, field: Field) -> Result<bool> {
        match self.field(field) {
            None | Some(b"false" | b"null") => Ok(false),
            Some(b"true") => Ok(true),
            Some(_) => {
                let name = if field == Field::Confirm { "confirm" } else { "meta" };
                Err(bad_field(name, "true or false"))
            }
        }
    }

    fn since(self) -> Result<Option<Id>> {
        let Some(since) = self.field(Field::Since) else { return Ok(None) };
        match serde_json::from_slice::<Id>(since) {
            Ok(id) if id < ID_END => Ok(Some(id)),
            _ => Err(bad_field("since", "a message's id: a whole number from 0 to 2^53 - 1")),
        }
    }

    fn wait(self) -> Result<Duration> {
        let Some(wait) = self.field(Field::Wait) else { return Ok(Duration::ZERO) };
        let seconds = serde_json::from_slice::<f64>(wait).ok();
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|wait| *wait <= limits::WAIT_MAX)
            .ok_or_else(|| {
                let most = limits::WAIT_MAX.as_secs();
                Error::new(
                    Code::BadField,
                    format!("\"wait\" must be a number of seconds from 0 to {most}"),
                )
            })
    }
}

/// The text of a JSON string; `None` if it is another value, or holds half a surrogate pair.
fn text_of(json: &[u8]) -> Option<Cow<'_, str>> {
    let inside = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inside.contains(&b'\\') {
        return string::unescape(inside).map(Cow::Owned);
    }
    std::str::from_utf8(inside).ok().map(Cow::Borrowed)
}

fn missing(name: &str) -> Error {
    Error::new(Code::MissingField, format!("the request has no {name:?}: add it"))
}

fn bad_field(name: &str, must_be: &str) -> Error {
    Error::new(Code::BadField, format!("{name:?} must be {must_be}"))
}

pub fn message_too_large(max_message: usize) -> Error {
    let text = format!("the message is too large: it has at most {max_message} bytes of JSON text");
    Error::new(Code::MessageTooLarge, text)
}
