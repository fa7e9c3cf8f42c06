//! Typed values of a request's fields, one function for each kind. JSON requests and HTTP
//! parameters share these functions, so both report the same error for a wrong value.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::fault::{bad_field, missing};
use super::fields::{self, Field};
use crate::broker::{From, Pattern};
use crate::error::Result;
use crate::limits;
use crate::ops::{ID_END, Id, PRIORITY_DEFAULT, PRIORITY_MAX, Policy, PutOptions, Topic};

/// The value of a field as received.
#[derive(Clone, Copy)]
pub enum FieldValue<'a> {
    /// JSON text without surrounding white space.
    Json(&'a [u8]),
    /// Text from a form, a path or a header: strings are unquoted, numbers and booleans are written
    /// as in JSON.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only HTTP sends such values"))]
    Text(&'a str),
}

impl<'a> FieldValue<'a> {
    /// The bytes from which a number or a boolean is parsed.
    fn raw(self) -> &'a [u8] {
        match self {
            FieldValue::Json(json) => json,
            FieldValue::Text(text) => text.trim_matches([' ', '\t', '\n', '\r']).as_bytes(),
        }
    }

    /// The value as JSON text, if it was sent as JSON.
    pub fn json(self) -> Option<&'a [u8]> {
        match self {
            FieldValue::Json(json) => Some(json),
            FieldValue::Text(_) => None,
        }
    }

    /// The value as a string, if it is one.
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            FieldValue::Json(json) => text_of(json),
            FieldValue::Text(text) => Some(Cow::Borrowed(text)),
        }
    }

    /// Whether this is the string `word`. A JSON string with escapes never matches.
    fn is(self, word: &str) -> bool {
        match self {
            FieldValue::Json([b'"', inside @ .., b'"']) => inside == word.as_bytes(),
            FieldValue::Json(_) => false,
            FieldValue::Text(text) => text == word,
        }
    }

    /// Parses the value as `T`.
    fn number<T: DeserializeOwned>(self) -> Option<T> {
        serde_json::from_slice(self.raw()).ok()
    }

    /// The value as an id; the error names `field`.
    pub fn id(self, field: Field) -> Result<Id> {
        let must_be = "a message's id: a whole number from 0 to 2^53 - 1";
        let id = self.number().filter(|id| *id < ID_END);
        id.ok_or_else(|| bad_field(field, must_be))
    }
}

/// The fields of one request, from JSON text or from HTTP.
pub trait FieldSource<'a>: Copy {
    /// The value of a field; it may be null.
    fn field(self, field: Field) -> Option<FieldValue<'a>>;

    /// The value of an optional field. Null counts as absent.
    fn option(self, field: Field) -> Option<FieldValue<'a>> {
        self.field(field).filter(|value| !matches!(value, FieldValue::Json(b"null")))
    }

    /// The action as bytes: it is only compared, so its UTF-8 needs no check.
    fn action(self) -> Result<Cow<'a, [u8]>> {
        let action = match self.field(Field::Action).ok_or_else(|| missing(Field::Action))? {
            FieldValue::Json(json) => bytes_of(json),
            FieldValue::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
        };
        action.ok_or_else(|| bad_field(Field::Action, "a string such as \"put\""))
    }

    fn name(self) -> Result<Cow<'a, str>> {
        let topic = self.field(Field::Topic).ok_or_else(|| missing(Field::Topic))?;
        topic.text().ok_or_else(|| bad_field(Field::Topic, "a string without unpaired surrogates"))
    }

    fn topic(self) -> Result<Topic> {
        self.name().and_then(|name| Topic::new(&name))
    }

    fn patterns(self) -> Result<Vec<Pattern>> {
        let topics = self.field(Field::Topic).ok_or_else(|| missing(Field::Topic))?;
        match topics.text() {
            Some(name) => Ok(vec![Pattern::new(&name)?]),
            None => patterns(&topics.number::<Vec<String>>().unwrap_or_default()),
        }
    }

    fn put_options(self) -> Result<Option<Box<PutOptions>>> {
        let fields = [Field::Priority, Field::Ttl, Field::Delay, Field::Dedupe];
        if fields.iter().all(|field| self.option(*field).is_none()) {
            return Ok(None);
        }
        let priority = self.priority()?;
        let (ttl, delay) = (self.micros(Field::Ttl)?, self.micros(Field::Delay)?);
        let dedupe = self.option(Field::Dedupe).map(dedupe_key).transpose()?;
        Ok(Some(Box::new(PutOptions { priority, ttl, delay, dedupe })))
    }

    fn priority(self) -> Result<u8> {
        let Some(value) = self.option(Field::Priority) else { return Ok(PRIORITY_DEFAULT) };
        let priority = value.number().filter(|priority| *priority <= PRIORITY_MAX);
        priority.ok_or_else(|| bad_field(Field::Priority, "a whole number from 0 to 9"))
    }

    /// The policy to set; `None` asks for the present one.
    fn policy(self) -> Result<Option<Policy>> {
        let Some(value) = self.option(Field::Policy) else { return Ok(None) };
        let policy =
            [Policy::Broadcast, Policy::RoundRobin].into_iter().find(|p| value.is(p.as_str()));
        let must_be = r#""broadcast" or "roundrobin""#;
        policy.map(Some).ok_or_else(|| bad_field(Field::Policy, must_be))
    }

    fn from(self) -> Result<From> {
        let Some(value) = self.option(Field::From) else { return Ok(From::Now) };
        match value.number::<i64>() {
            _ if value.is("now") => Ok(From::Now),
            _ if value.is("oldest") => Ok(From::Oldest),
            Some(last @ -1_000..=-1) => Ok(From::Last(last.unsigned_abs() as usize)),
            Some(id) if (0..ID_END.cast_signed()).contains(&id) => Ok(From::Id(id.cast_unsigned())),
            _ => Err(bad_field(Field::From, r#""now", "oldest", an id, or -1 to -1000"#)),
        }
    }

    fn limit(self, default: usize) -> Result<usize> {
        let Some(value) = self.option(Field::Limit) else { return Ok(default) };
        let limit = value.number().filter(|limit| (1..=limits::HISTORY_MESSAGES).contains(limit));
        limit.ok_or_else(|| bad_field(Field::Limit, "a whole number from 1 to 1000"))
    }

    fn flag(self, field: Field, default: bool) -> Result<bool> {
        match self.option(field).map(FieldValue::raw) {
            None => Ok(default),
            Some(b"false") => Ok(false),
            Some(b"true") => Ok(true),
            Some(_) => Err(bad_field(field, "true or false")),
        }
    }

    fn id(self) -> Result<Id> {
        self.option(Field::Id).ok_or_else(|| missing(Field::Id))?.id(Field::Id)
    }

    fn since(self) -> Result<Option<Id>> {
        self.option(Field::Since).map(|value| value.id(Field::Since)).transpose()
    }

    fn deliveries(self) -> Result<u32> {
        let value = self.field(Field::Deliveries).ok_or_else(|| missing(Field::Deliveries))?;
        let must_be = "the number that the take returned";
        value.number().ok_or_else(|| bad_field(Field::Deliveries, must_be))
    }

    fn wait(self) -> Result<Duration> {
        let wait = self.seconds(Field::Wait, limits::WAIT_MAX)?;
        Ok(wait.unwrap_or(Duration::ZERO))
    }

    fn micros(self, field: Field) -> Result<Option<u64>> {
        let duration = self.seconds(field, limits::DURATION_MAX)?;
        Ok(duration.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    fn seconds(self, field: Field, most: Duration) -> Result<Option<Duration>> {
        let Some(value) = self.option(field) else { return Ok(None) };
        let seconds: Option<f64> = value.number();
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        duration.filter(|duration| *duration <= most).map(Some).ok_or_else(|| {
            bad_field(field, &format!("a number of seconds from 0 to {}", most.as_secs()))
        })
    }
}

pub fn patterns<S: AsRef<str>>(names: &[S]) -> Result<Vec<Pattern>> {
    if names.is_empty() || names.len() > limits::SUBSCRIPTIONS {
        return Err(bad_field(Field::Topic, "a name, or a list of up to 1000"));
    }
    names.iter().map(|name| Pattern::new(name.as_ref())).collect()
}

fn dedupe_key(value: FieldValue<'_>) -> Result<Box<str>> {
    let key = value.text().filter(|key| key.len() <= limits::DEDUPE_BYTES);
    key.map(|key| key.as_ref().into()).ok_or_else(super::fault::bad_dedupe)
}

/// Decodes a JSON string; `None` for any other value or an unpaired surrogate.
fn text_of(json: &[u8]) -> Option<Cow<'_, str>> {
    match bytes_of(json)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// Like [`text_of`], without checking that the bytes are UTF-8.
fn bytes_of(json: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inside = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inside.contains(&b'\\') {
        return fields::unescape(inside).map(|text| Cow::Owned(text.into_bytes()));
    }
    Some(Cow::Borrowed(inside))
}
