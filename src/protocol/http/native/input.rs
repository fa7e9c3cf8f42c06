//! The input of our own routes: parameters from path, query and body, and a body as a message. The
//! JSON protocol's functions read the values, so its rules and its errors hold here as well.

use std::borrow::Cow;

use axum::http::Uri;
use serde_json::Value;

use super::super::extract::Form;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::protocol::json::{self, Field, FieldSource, FieldSpans, FieldValue};

/// The parameters of one request.
#[derive(Default)]
pub struct Params {
    /// Parameters set by the route. They override the body, and the body overrides the query.
    path: Vec<(Field, String)>,
    /// A body that is a JSON object, with the spans of its fields.
    json: Vec<u8>,
    fields: FieldSpans,
    /// The fields of the query, then those of a form body: the last one counts.
    form: Form,
}

impl Params {
    /// The parameters of the query. Unknown names are ignored.
    pub fn new(uri: &Uri) -> Params {
        let form = Form::new(uri.query().unwrap_or_default().as_bytes());
        Params { form, ..Params::default() }
    }

    /// Adds the parameters of a body that is a JSON object, a form, or empty.
    pub fn body(mut self, body: &[u8], max_message: usize) -> Result<Params> {
        let body = body.trim_ascii();
        if body.first() == Some(&b'{') {
            self.fields = json::object(body, max_message)?;
            self.json = body.to_vec();
        } else {
            self.form = self.form.and(Form::new(body));
            let values = json::NAMES.iter().filter_map(|name| self.form.get(name));
            if values.map(str::len).sum::<usize>() > limits::REQUEST_OVERHEAD_BYTES {
                return Err(json::request_too_large());
            }
        }
        Ok(self)
    }

    /// Adds a parameter set by the route.
    pub fn path(mut self, field: Field, value: &str) -> Params {
        self.path.push((field, value.to_owned()));
        self
    }
}

impl<'a> FieldSource<'a> for &'a Params {
    fn field(self, field: Field) -> Option<FieldValue<'a>> {
        let path = self.path.iter().find(|(name, _)| *name == field).map(|(_, value)| &**value);
        let json = || self.fields.get(&self.json, field).map(FieldValue::Json);
        let form = || self.form.get(field.name()).map(FieldValue::Text);
        path.map(FieldValue::Text).or_else(json).or_else(form)
    }
}

/// How to read a message from a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BodyKind {
    Json,
    Text,
    /// JSON if it is valid, otherwise text: the type is missing or a tool's default.
    Either,
}

impl BodyKind {
    pub fn new(content_type: &str) -> BodyKind {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*kind {
            "" | "application/x-www-form-urlencoded" => BodyKind::Either,
            kind if kind == "application/json" || kind.ends_with("+json") => BodyKind::Json,
            _ => BodyKind::Text,
        }
    }

    /// Returns the body as JSON text.
    pub fn message(self, body: &[u8], max_message: usize) -> Result<Cow<'_, [u8]>> {
        let text = || -> Result<Cow<'_, [u8]>> {
            let text = str::from_utf8(body).map_err(|error| {
                Error::new(Code::BadUtf8, format!("the body is not UTF-8: {error}"))
            })?;
            Ok(Value::from(text).to_string().into_bytes().into())
        };
        match self {
            BodyKind::Text => text(),
            BodyKind::Json => json::message(body, max_message).map(Cow::Borrowed),
            // An empty body is probably a mistake, not an empty message.
            BodyKind::Either if body.is_empty() => {
                let text = "the body is empty: send a message, or an empty text as text/plain";
                Err(Error::new(Code::MissingField, text))
            }
            BodyKind::Either => match json::message(body, max_message) {
                Err(error) if error.code == Code::BadJson => text(),
                message => message.map(Cow::Borrowed),
            },
        }
    }
}
