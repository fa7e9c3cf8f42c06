//! Answers as RestMQ writes them: JSON with a space behind each colon and comma, by itself or as a
//! call of the function that a page has named.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::fields::Fields;

/// An object that is being written.
pub struct Object(Vec<u8>);

impl Object {
    pub fn new() -> Object {
        Object(b"{".to_vec())
    }

    /// A field whose value is JSON text.
    pub fn json(mut self, name: &str, value: &[u8]) -> Object {
        if self.0.len() > 1 {
            self.0.extend_from_slice(b", ");
        }
        self.0.extend_from_slice(&string(name));
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self
    }

    pub fn text(self, name: &str, value: &str) -> Object {
        self.json(name, &string(value))
    }

    pub fn number(self, name: &str, value: u64) -> Object {
        self.json(name, value.to_string().as_bytes())
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// A text as a JSON string.
pub fn string(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// What stands behind an answer, and behind one that is a call.
#[derive(Clone, Copy)]
pub struct Ending(&'static str, &'static str);

impl Ending {
    pub const LINE: Ending = Ending("\r\n", ");\r\n");
    pub const STATS: Ending = Ending("", ")");
    pub const CONTROL: Ending = Ending("\r\n", ")\r\n");
    pub const COMMAND: Ending = Ending("", ");");

    /// An answer that is JSON.
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

/// JSON as an answer.
pub fn json(json: &[u8], ending: Ending, fields: &Fields) -> Response {
    written(ending.write(json, fields.callback()), fields)
}

/// The same, where it is written already.
pub fn written(answer: impl IntoResponse, fields: &Fields) -> Response {
    response(if fields.callback().is_some() { SCRIPT } else { JSON }, answer)
}

/// A line of text as it is; a call is given it as this JSON.
pub fn line(text: &str, json: &[u8], fields: &Fields) -> Response {
    match fields.callback() {
        Some(_) => self::json(json, Ending::LINE, fields),
        None => response(TEXT, format!("{text}\r\n")),
    }
}

/// A browser takes it for what it is, and shows it as it comes.
pub fn response(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}
