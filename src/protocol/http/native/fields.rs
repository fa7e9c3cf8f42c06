//! The fields of a request of the JSON protocol, from where HTTP has them: the path, the query, the
//! body. So every rule for a field, and what is said of one that is wrong, is that protocol's.

use std::io::Write;

use axum::http::{HeaderValue, Uri};
use serde_json::Value;

use super::super::extract::Form;
use crate::error::{Code, Error, Result};
use crate::protocol::json::Single;

/// Fields that are numbers, or true or false.
const VALUES: [&str; 12] = [
    "priority",
    "ttl",
    "delay",
    "confirm",
    "since",
    "wait",
    "limit",
    "lease",
    "id",
    "deliveries",
    "delayed",
    "from",
];

/// Fields that are text, whatever they look like.
const TEXTS: [&str; 2] = ["dedupe", "policy"];

/// A request that is being put together. Of a field that is there twice, the last counts.
pub struct Fields(Vec<u8>);

impl Fields {
    pub fn new() -> Fields {
        Fields(b"{".to_vec())
    }

    /// A field that is JSON text.
    pub fn field(mut self, name: &str, json: impl std::fmt::Display) -> Fields {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // A Vec takes every byte that it is given.
        let _ = write!(self.0, "{comma}\"{name}\":{json}");
        self
    }

    /// What stands behind the `?`; what this protocol does not know is passed over.
    pub fn query(self, uri: &Uri) -> Fields {
        self.form(&Form::new(uri.query().unwrap_or_default().as_bytes()))
    }

    fn form(self, form: &Form) -> Fields {
        let fields = VALUES.iter().map(|name| (name, false)).chain(TEXTS.iter().map(|n| (n, true)));
        let given = fields.filter_map(|(name, text)| Some((name, text, form.get(name)?)));
        given.fold(self, |fields, (name, text, value)| match text {
            true => fields.field(name, Value::from(value)),
            false => fields.value(name, value),
        })
    }

    /// A field that is a number or a flag if it looks like one; else it is text, and said to be wrong
    /// where no text may be.
    pub fn value(self, name: &str, text: &str) -> Fields {
        match serde_json::from_str(text) {
            Ok(Value::Number(_) | Value::Bool(_)) => self.field(name, text),
            _ => self.field(name, Value::from(text)),
        }
    }

    /// A body that is a JSON object, a form, or empty.
    pub fn body(mut self, body: &[u8]) -> Result<Fields> {
        let body = body.trim_ascii();
        let Some(inside) = body.strip_prefix(b"{") else {
            return Ok(self.form(&Form::new(body)));
        };
        let inside = inside.strip_suffix(b"}").map(<[u8]>::trim_ascii).ok_or_else(|| {
            Error::new(Code::BadJson, "the body begins like a JSON object and is none")
        })?;
        if !inside.is_empty() {
            self.0.extend_from_slice(if self.0.len() > 1 { b"," } else { b"" });
            self.0.extend_from_slice(inside);
        }
        Ok(self)
    }

    /// The id of the last event that a reader had.
    pub fn last_event_id(self, value: Option<&HeaderValue>) -> Fields {
        match value.map(|value| value.to_str().unwrap_or("?")) {
            None | Some("") => self,
            Some(id) => self.value("since", id),
        }
    }

    /// The request for this action on what is named, one topic or several.
    pub fn request(
        self,
        max_message: usize,
        action: &str,
        topic: impl Into<Value>,
    ) -> Result<Single> {
        let whole = self.field("topic", topic.into()).field("action", Value::from(action));
        Single::new([&whole.0[..], b"}"].concat(), max_message)
    }
}
