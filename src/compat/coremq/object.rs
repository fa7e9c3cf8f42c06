//! A JSON object as it was written: its keys in their order, its values untouched.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::{Code, Error, Result};
use crate::limits;

pub struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// `None` if the text is no object.
    pub fn new(text: &'a str) -> Option<RawObject<'a>> {
        serde_json::from_str(text).ok()
    }

    /// The value of a key. Of one that is there twice, the last counts.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// Without a key.
    #[cfg(feature = "http")]
    pub fn without(mut self, key: &str) -> RawObject<'a> {
        self.0.retain(|(name, _)| name != key);
        self
    }

    /// As text, with these keys at its end and nowhere else.
    pub fn with(&self, added: &[(&str, Value)]) -> String {
        let mut text = ObjectText::default();
        let kept = self.0.iter().filter(|(key, _)| added.iter().all(|(name, _)| name != key));
        kept.for_each(|(key, value)| text.add(key, value.get()));
        added.iter().for_each(|(key, value)| text.add(key, &value.to_string()));
        text.end()
    }
}

/// The text of an object that is being written.
#[derive(Default)]
pub struct ObjectText(String);

impl ObjectText {
    /// `value` is JSON text.
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

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<RawObject<'a>, D::Error> {
        deserializer.deserialize_map(Entries)
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

/// A queue's name, or a list of them.
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

/// The text of a JSON string.
pub fn json_string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A response that says how it went.
pub fn response(text: &str) -> String {
    json!({ "response": text }).to_string()
}

pub fn error_response(error: &Error) -> String {
    response(&format!("ERROR: {}", error.text))
}

pub fn bad_field(text: &'static str) -> Error {
    Error::new(Code::BadField, text)
}
