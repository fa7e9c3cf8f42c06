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
    /// What the route says. It goes before the body, and the body before the query.
    path: Vec<(Field, String)>,
    /// The fields of a body that is a JSON object.
    json: Vec<u8>,
    fields: FieldSpans,
    /// The fields of the query, then those of a body that is a form: the last counts.
    form: Form,
}

impl Params {
    /// The parameters of the query; unknown ones are ignored.
    pub fn new(uri: &Uri) -> Params {
        let form = Form::new(uri.query().unwrap_or_default().as_bytes());
        Params { form, ..Params::default() }
    }

    /// Adds those of a body that is a JSON object, a form, or empty.
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

    /// Adds a parameter that the route says.
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

/// What is to be read in a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BodyKind {
    Json,
    Text,
    /// JSON if it is some, else text: nobody said, or a tool said what it always says.
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

    /// The body as JSON text.
    pub fn message(self, body: &[u8], max_message: usize) -> Result<Cow<'_, [u8]>> {
        let text = || -> Result<Cow<'_, [u8]>> {
            let text = str::from_utf8(body).map_err(|error| {
                Error::new(Code::BadUtf8, format!("the body is no text in UTF-8: {error}"))
            })?;
            Ok(Value::from(text).to_string().into_bytes().into())
        };
        match self {
            BodyKind::Text => text(),
            BodyKind::Json => json::message(body, max_message).map(Cow::Borrowed),
            // More likely a body that was forgotten than a message.
            BodyKind::Either if body.is_empty() => {
                let text = "the body is empty: send the message, or an empty text as text/plain";
                Err(Error::new(Code::MissingField, text))
            }
            BodyKind::Either => match json::message(body, max_message) {
                Err(error) if error.code == Code::BadJson => text(),
                message => message.map(Cow::Borrowed),
            },
        }
    }
}
