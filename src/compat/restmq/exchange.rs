//! Request fields and answers in RestMQ's format: JSON with a space after each colon and comma,
//! plain or as the call of a JSONP callback.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::{check_callback, missing};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{PutOptions, Topic};
use crate::protocol::http::app::App;
use crate::protocol::http::extract::{self, Form};
use crate::protocol::http::failure::{Failure, HttpResult};

/// The most bytes of a form for one byte of a value, as `%XX`.
const FORM_BYTES_PER_BYTE: usize = 3;

/// The fields of the query and of the form. The form takes precedence.
pub struct RequestFields(Form);

impl FromRequest<Arc<App>> for RequestFields {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> HttpResult<RequestFields> {
        let query = Form::strict(request.uri().query().unwrap_or_default().as_bytes())?;
        let most = app.body_max().saturating_mul(FORM_BYTES_PER_BYTE);
        let body = extract::body(request, most).await?;
        let fields = RequestFields(query.and(Form::strict(&body)?));
        fields.callback().map_or(Ok(()), check_callback)?;
        Ok(fields)
    }
}

impl RequestFields {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// The JSONP callback, whose name has been checked.
    pub fn callback(&self) -> Option<&str> {
        self.get("callback")
    }

    /// The value to add, as JSON.
    pub fn message(&self) -> Result<String> {
        let text = self.get("value").or_else(|| self.get("msg"));
        let text = text.ok_or_else(|| missing("the form has no value: add value=… or msg=…"))?;
        Ok(serde_json::Value::from(text).to_string())
    }

    /// The queue, for routes whose path has none.
    pub fn queue(&self) -> Result<Topic> {
        Topic::new(self.get("queue").ok_or_else(|| missing("queue is missing: add queue=…"))?)
    }

    /// The put options: `ttl` in whole seconds.
    pub fn options(&self) -> Result<Option<Box<PutOptions>>> {
        let Some(text) = self.get("ttl") else { return Ok(None) };
        let seconds = text.parse().ok().filter(|s: &u64| *s <= limits::DURATION_MAX.as_secs());
        let seconds = seconds.ok_or_else(|| {
            Error::new(Code::BadField, "ttl must be a whole number of seconds, at most 100 years")
        })?;
        let ttl = Some(seconds * 1_000_000);
        Ok(Some(Box::new(PutOptions { ttl, ..PutOptions::default() })))
    }
}

/// Builds the text of an object.
pub struct ObjectWriter(Vec<u8>);

impl ObjectWriter {
    pub fn new() -> ObjectWriter {
        ObjectWriter(b"{".to_vec())
    }

    /// Appends a field; `value` is JSON.
    pub fn json(mut self, name: &str, value: &[u8]) -> ObjectWriter {
        if self.0.len() > 1 {
            self.0.extend_from_slice(b", ");
        }
        self.0.extend_from_slice(&string(name));
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self
    }

    pub fn text(self, name: &str, value: &str) -> ObjectWriter {
        self.json(name, &string(value))
    }

    pub fn number(self, name: &str, value: u64) -> ObjectWriter {
        self.json(name, value.to_string().as_bytes())
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// Encodes a text as a JSON string.
pub fn string(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// The characters after a plain answer, and those after a JSONP call.
#[derive(Clone, Copy)]
pub struct Ending(&'static str, &'static str);

impl Ending {
    pub const LINE: Ending = Ending("\r\n", ");\r\n");
    pub const STATS: Ending = Ending("", ")");
    pub const CONTROL: Ending = Ending("\r\n", ")\r\n");
    pub const COMMAND: Ending = Ending("", ");");

    /// Writes JSON as an answer, or as the call of `callback`.
    pub fn write(self, json: &[u8], callback: Option<&str>) -> Vec<u8> {
        match callback {
            Some(name) => [name.as_bytes(), b"(", json, self.1.as_bytes()].concat(),
            None => [json, self.0.as_bytes()].concat(),
        }
    }
}

const JSON: &str = "application/json";
const SCRIPT: &str = "text/javascript; charset=utf-8";
pub const TEXT: &str = "text/plain; charset=utf-8";

/// An answer of JSON.
pub fn json(json: &[u8], ending: Ending, fields: &RequestFields) -> Response {
    written(ending.write(json, fields.callback()), fields)
}

/// An answer whose body already has its ending.
pub fn written(answer: impl IntoResponse, fields: &RequestFields) -> Response {
    response(if fields.callback().is_some() { SCRIPT } else { JSON }, answer)
}

/// An answer of one line of text; with a callback the equivalent JSON.
pub fn line(text: &str, json: &[u8], fields: &RequestFields) -> Response {
    match fields.callback() {
        Some(_) => self::json(json, Ending::LINE, fields),
        None => response(TEXT, format!("{text}\r\n")),
    }
}

/// An answer that a browser displays without guessing its type, and does not cache.
pub fn response(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}
