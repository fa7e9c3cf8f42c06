//! JSON objects whose keys keep their order and whose values keep their exact text, and CoreMQ's
//! answers.

use std::fmt;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::{Code, Error, Result};
use crate::limits;

pub struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// `None` if the text is not a JSON object.
    pub fn new(text: &'a str) -> Option<RawObject<'a>> {
        let mut json = serde_json::Deserializer::from_str(text);
        let object = json.deserialize_map(Entries).ok()?;
        json.end().ok().map(|()| object)
    }

    /// The value of a key; of a repeated key the last value.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// Removes a key.
    #[cfg(feature = "http")]
    pub fn without(mut self, key: &str) -> RawObject<'a> {
        self.0.retain(|(name, _)| name != key);
        self
    }

    /// The object as JSON, with the `added` keys at the end in place of any earlier values.
    pub fn with(&self, added: &[(&str, Value)]) -> String {
        let mut text = ObjectText::default();
        let kept = self.0.iter().filter(|(key, _)| added.iter().all(|(name, _)| name != key));
        kept.for_each(|(key, value)| text.add(key, value.get()));
        added.iter().for_each(|(key, value)| text.add(key, &value.to_string()));
        text.end()
    }
}

/// Builds the text of an object.
#[derive(Default)]
pub struct ObjectText(String);

impl ObjectText {
    /// Appends a key. `value` is JSON.
    pub fn add(&mut self, key: &str, value: &str) {
        let before = if self.0.is_empty() { '{' } else { ',' };
        self.0.push(before);
        self.0 += &Value::from(key).to_string();
        self.0.push(':');
        self.0 += value;
    }

    pub fn end(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = RawObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<RawObject<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawObject(entries))
    }
}

/// Reads a queue's name or a list of names.
pub fn names(value: &RawValue) -> Result<Vec<String>> {
    if let Some(name) = json_string(value) {
        return Ok(vec![name]);
    }
    let names: Vec<String> = serde_json::from_str(value.get())
        .map_err(|_| bad_field("queues are a name, or a list of names"))?;
    if names.len() > limits::SUBSCRIPTIONS {
        return Err(bad_field("these are more than 1000 queues"));
    }
    Ok(names)
}

/// The value of a JSON string; `None` for any other JSON.
pub fn json_string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// An answer of the form `{"response": text}`.
pub fn response(text: &str) -> String {
    json!({ "response": text }).to_string()
}

pub fn error_response(error: &Error) -> String {
    response(&format!("ERROR: {}", error.text))
}

pub fn bad_field(text: &'static str) -> Error {
    Error::new(Code::BadField, text)
}
