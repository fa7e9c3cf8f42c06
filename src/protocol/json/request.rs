//! A request as the broker's words: what stands in the fields, checked.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::fields::{Field, Fields};
use super::pipeline::Answer;
use super::string;
use crate::broker::{From, Pattern};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{ID_END, Id, Op, PRIORITY_DEFAULT, PRIORITY_MAX, Policy, PutOptions, Topic};

/// Messages of a history that does not say how many.
const HISTORY_DEFAULT: usize = 10;

/// One request, borrowed from the text it came in. Leases and delays are microseconds.
#[derive(Debug)]
pub enum Request<'a> {
    Put { topic: Cow<'a, str>, message: &'a [u8], options: Option<Box<PutOptions>>, confirm: bool },
    Get { topic: Cow<'a, str>, latest: bool, since: Option<Id>, wait: Duration, meta: bool },
    Take { topic: Cow<'a, str>, lease: Option<u64>, wait: Duration },
    Ack { topic: Topic, id: Id, deliveries: u32 },
    Nack { topic: Topic, id: Id, deliveries: u32, delay: u64 },
    Subscribe { patterns: Vec<Pattern>, from: From, meta: bool },
    Unsubscribe { patterns: Vec<Pattern> },
    History { topic: Topic, limit: usize, delayed: bool },
    Peek { topic: Topic },
    Delete { topic: Topic, id: Id },
    Purge { topic: Topic },
    SetStopped { topic: Topic, stopped: bool },
    SetPolicy { topic: Topic, policy: Policy },
    Policy { topic: Topic },
    Topics,
    Stats,
    Ping { meta: bool },
    Shutdown,
}

impl Request<'_> {
    /// Whether it is carried out together with others of its kind, in their order.
    pub fn gathers(&self) -> bool {
        match self {
            Request::Take { wait, .. } => wait.is_zero(),
            Request::Put { .. }
            | Request::Ack { .. }
            | Request::Nack { .. }
            | Request::Peek { .. }
            | Request::Delete { .. }
            | Request::Purge { .. }
            | Request::SetStopped { .. }
            | Request::SetPolicy { .. } => true,
            _ => false,
        }
    }
}

impl<'a> Request<'a> {
    /// As an operation of the store, and how that is answered; itself if it is another request.
    pub fn into_op(self) -> std::result::Result<(Op, Answer), Request<'a>> {
        Ok(match self {
            Request::Ack { topic, id, deliveries } => {
                (Op::Ack { topic, id, deliveries }, Answer::Ok)
            }
            Request::Nack { topic, id, deliveries, delay } => {
                (Op::Nack { topic, id, deliveries, delay }, Answer::Ok)
            }
            Request::Peek { topic } => (Op::Peek { topic }, Answer::Ok),
            Request::Delete { topic, id } => (Op::Delete { topic, id }, Answer::Ok),
            Request::Purge { topic } => (Op::Purge { topic }, Answer::Ok),
            Request::SetStopped { topic, stopped } => {
                (Op::SetStopped { topic, stopped }, Answer::State(stopped))
            }
            Request::SetPolicy { topic, policy } => {
                (Op::SetPolicy { topic, policy }, Answer::Policy(policy))
            }
            other => return Err(other),
        })
    }
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
            return Err(field_too_large(Field::Tag, 0));
        }
        Ok(tag)
    }

    /// Whether this is a put that asked for no reply.
    pub fn is_unconfirmed_put(self) -> bool {
        self.field(Field::Action) == Some(br#""put""#)
            && self.field(Field::Confirm) != Some(b"true")
    }

    pub fn decode(self, max_message: usize) -> Result<Request<'a>> {
        let message = self.field(Field::Message).map_or(0, <[u8]>::len);
        if message > max_message {
            return Err(message_too_large(max_message));
        }
        if self.request.len() - message > limits::REQUEST_OVERHEAD_BYTES {
            return Err(request_too_large());
        }
        Ok(match &*self.action()? {
            b"put" => return self.put(),
            b"get" => return self.get(false),
            b"get_latest" => return self.get(true),
            b"take" => Request::Take {
                topic: self.name()?,
                lease: self.micros(Field::Lease, "lease")?,
                wait: self.wait()?,
            },
            b"ack" => {
                let (id, deliveries) = (self.id()?, self.deliveries()?);
                Request::Ack { topic: self.topic()?, id, deliveries }
            }
            b"nack" => {
                let (id, deliveries) = (self.id()?, self.deliveries()?);
                let delay = self.micros(Field::Delay, "delay")?.unwrap_or(0);
                Request::Nack { topic: self.topic()?, id, deliveries, delay }
            }
            b"subscribe" => {
                let (from, meta) = (self.from()?, self.flag(Field::Meta, "meta")?);
                Request::Subscribe { patterns: self.patterns()?, from, meta }
            }
            b"unsubscribe" => Request::Unsubscribe { patterns: self.patterns()? },
            b"history" => Request::History {
                topic: self.topic()?,
                limit: self.limit()?,
                delayed: self.flag(Field::Delayed, "delayed")?,
            },
            b"peek" => Request::Peek { topic: self.topic()? },
            b"delete" => Request::Delete { topic: self.topic()?, id: self.id()? },
            b"purge" => Request::Purge { topic: self.topic()? },
            b"stop" => Request::SetStopped { topic: self.topic()?, stopped: true },
            b"start" => Request::SetStopped { topic: self.topic()?, stopped: false },
            b"policy" => return self.policy(),
            b"topics" => Request::Topics,
            b"stats" => Request::Stats,
            b"ping" => Request::Ping { meta: self.flag(Field::Meta, "meta")? },
            b"shutdown" => Request::Shutdown,
            other => return Err(unknown_action(&String::from_utf8_lossy(other))),
        })
    }

    fn put(self) -> Result<Request<'a>> {
        let topic = self.name()?;
        let message = self.field(Field::Message).ok_or_else(|| missing("message"))?;
        let confirm = self.flag(Field::Confirm, "confirm")?;
        Ok(Request::Put { topic, message, options: self.put_options()?, confirm })
    }

    fn put_options(self) -> Result<Option<Box<PutOptions>>> {
        let fields = [Field::Priority, Field::Ttl, Field::Delay, Field::Dedupe];
        if fields.iter().all(|field| self.option(*field).is_none()) {
            return Ok(None);
        }
        let priority = self.number(Field::Priority).filter(|priority| *priority <= PRIORITY_MAX);
        let priority = match self.option(Field::Priority) {
            None => PRIORITY_DEFAULT,
            Some(_) => {
                priority.ok_or_else(|| bad_field("priority", "a whole number from 0 to 9"))?
            }
        };
        let (ttl, delay) = (self.micros(Field::Ttl, "ttl")?, self.micros(Field::Delay, "delay")?);
        let dedupe = self.option(Field::Dedupe).map(dedupe_key).transpose()?;
        Ok(Some(Box::new(PutOptions { priority, ttl, delay, dedupe })))
    }

    fn get(self, latest: bool) -> Result<Request<'a>> {
        Ok(Request::Get {
            topic: self.name()?,
            latest,
            since: self.since()?,
            wait: self.wait()?,
            meta: self.flag(Field::Meta, "meta")?,
        })
    }

    fn policy(self) -> Result<Request<'a>> {
        let topic = self.topic()?;
        let policy = match self.option(Field::Policy) {
            None => return Ok(Request::Policy { topic }),
            Some(br#""broadcast""#) => Policy::Broadcast,
            Some(br#""roundrobin""#) => Policy::RoundRobin,
            Some(_) => return Err(bad_field("policy", r#""broadcast" or "roundrobin""#)),
        };
        Ok(Request::SetPolicy { topic, policy })
    }

    fn field(self, field: Field) -> Option<&'a [u8]> {
        self.fields.get(self.request, field)
    }

    /// A field that may be left out, or be null, which is the same.
    fn option(self, field: Field) -> Option<&'a [u8]> {
        self.field(field).filter(|text| *text != b"null")
    }

    /// A field's value, if it is one of this type.
    fn number<T: DeserializeOwned>(self, field: Field) -> Option<T> {
        self.field(field).and_then(|text| serde_json::from_slice(text).ok())
    }

    /// As bytes: what is compared need not be checked to be text.
    fn action(self) -> Result<Cow<'a, [u8]>> {
        let action = self.field(Field::Action).ok_or_else(|| missing("action"))?;
        bytes_of(action).ok_or_else(|| bad_field("action", "a string such as \"put\""))
    }

    fn name(self) -> Result<Cow<'a, str>> {
        let topic = self.field(Field::Topic).ok_or_else(|| missing("topic"))?;
        text_of(topic).ok_or_else(|| bad_field("topic", "a string of whole characters"))
    }

    fn topic(self) -> Result<Topic> {
        self.name().and_then(|name| Topic::new(&name))
    }

    fn patterns(self) -> Result<Vec<Pattern>> {
        let topics = self.field(Field::Topic).ok_or_else(|| missing("topic"))?;
        if let Some(name) = text_of(topics) {
            return Ok(vec![Pattern::new(&name)?]);
        }
        let names: Option<Vec<String>> = self.number(Field::Topic);
        let names = names.filter(|names| !names.is_empty() && names.len() <= limits::SUBSCRIPTIONS);
        let names = names.ok_or_else(|| bad_field("topic", "a name, or a list of up to 1000"))?;
        names.iter().map(|name| Pattern::new(name)).collect()
    }

    fn from(self) -> Result<From> {
        match (self.option(Field::From), self.number::<i64>(Field::From)) {
            (None | Some(br#""now""#), _) => Ok(From::Now),
            (Some(br#""oldest""#), _) => Ok(From::Oldest),
            (_, Some(last @ -1_000..=-1)) => Ok(From::Last(last.unsigned_abs() as usize)),
            (_, Some(id)) if (0..ID_END.cast_signed()).contains(&id) => {
                Ok(From::Id(id.cast_unsigned()))
            }
            _ => Err(bad_field("from", r#""now", "oldest", an id, or -1 to -1000"#)),
        }
    }

    fn limit(self) -> Result<usize> {
        let Some(_) = self.option(Field::Limit) else { return Ok(HISTORY_DEFAULT) };
        let limit = self.number(Field::Limit);
        limit
            .filter(|limit| (1..=limits::HISTORY_MESSAGES).contains(limit))
            .ok_or_else(|| bad_field("limit", "a whole number from 1 to 1000"))
    }

    fn flag(self, field: Field, name: &str) -> Result<bool> {
        match self.option(field) {
            None | Some(b"false") => Ok(false),
            Some(b"true") => Ok(true),
            Some(_) => Err(bad_field(name, "true or false")),
        }
    }

    fn id(self) -> Result<Id> {
        self.id_in(Field::Id, "id")?.ok_or_else(|| missing("id"))
    }

    fn since(self) -> Result<Option<Id>> {
        self.id_in(Field::Since, "since")
    }

    fn id_in(self, field: Field, name: &str) -> Result<Option<Id>> {
        let Some(_) = self.option(field) else { return Ok(None) };
        let id = self.number(field).filter(|id| *id < ID_END);
        let must_be = "a message's id: a whole number from 0 to 2^53 - 1";
        id.map(Some).ok_or_else(|| bad_field(name, must_be))
    }

    fn deliveries(self) -> Result<u32> {
        let Some(_) = self.field(Field::Deliveries) else { return Err(missing("deliveries")) };
        let deliveries = self.number(Field::Deliveries);
        deliveries.ok_or_else(|| bad_field("deliveries", "the number that the take told"))
    }

    fn wait(self) -> Result<Duration> {
        let wait = self.seconds(Field::Wait, "wait", limits::WAIT_MAX)?;
        Ok(wait.unwrap_or(Duration::ZERO))
    }

    fn micros(self, field: Field, name: &str) -> Result<Option<u64>> {
        let duration = self.seconds(field, name, limits::DURATION_MAX)?;
        Ok(duration.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    fn seconds(self, field: Field, name: &str, most: Duration) -> Result<Option<Duration>> {
        let Some(_) = self.option(field) else { return Ok(None) };
        let seconds: Option<f64> = self.number(field);
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        duration.filter(|duration| *duration <= most).map(Some).ok_or_else(|| {
            let text = format!("{name:?} must be a number of seconds from 0 to {}", most.as_secs());
            Error::new(Code::BadField, text)
        })
    }
}

fn dedupe_key(json: &[u8]) -> Result<Box<str>> {
    let key = text_of(json).filter(|key| key.len() <= limits::DEDUPE_BYTES);
    let must_be = || bad_field("dedupe", "a string of at most 256 bytes");
    key.map(|key| key.as_ref().into()).ok_or_else(must_be)
}

/// The text of a JSON string; `None` if it is another value, or holds half a surrogate pair.
fn text_of(json: &[u8]) -> Option<Cow<'_, str>> {
    match bytes_of(json)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// The same as bytes.
fn bytes_of(json: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inside = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inside.contains(&b'\\') {
        return string::unescape(inside).map(|text| Cow::Owned(text.into_bytes()));
    }
    Some(Cow::Borrowed(inside))
}

fn unknown_action(action: &str) -> Error {
    let action: String = action.chars().take(40).collect();
    let text = format!("unknown action {action:?}: see docs/protocol.md for those that there are");
    Error::new(Code::UnknownAction, text)
}

fn missing(name: &str) -> Error {
    Error::new(Code::MissingField, format!("the request has no {name:?}: add it"))
}

fn bad_field(name: &str, must_be: &str) -> Error {
    Error::new(Code::BadField, format!("{name:?} must be {must_be}"))
}

/// A field that is larger than it can be.
pub fn field_too_large(field: Field, max_message: usize) -> Error {
    match field {
        Field::Message => message_too_large(max_message),
        Field::Topic => {
            let text =
                format!("the topic is too long: a name has at most {} bytes", limits::TOPIC_BYTES);
            Error::new(Code::BadTopic, text)
        }
        Field::Tag => {
            let text = format!("the tag is too long: it has at most {} bytes", limits::TAG_BYTES);
            Error::new(Code::BadField, text)
        }
        _ => bad_field("dedupe", "a string of at most 256 bytes"),
    }
}

pub fn request_too_large() -> Error {
    let text = format!(
        "the request is too large: beside its message it has at most {} bytes",
        limits::REQUEST_OVERHEAD_BYTES
    );
    Error::new(Code::RequestTooLarge, text)
}

fn message_too_large(max_message: usize) -> Error {
    let text = format!("the message is too large: it has at most {max_message} bytes of JSON text");
    Error::new(Code::MessageTooLarge, text)
}
