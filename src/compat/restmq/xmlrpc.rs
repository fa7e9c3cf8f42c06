//! RestMQ's XML-RPC with the methods set(queue, value) and get(queue). The parser accepts only the
//! elements of a call with strings: no document types, no entities but XML's own, so that neither
//! depth nor size can grow beyond the body.

use axum::extract::Request;
use axum::response::Response;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

use super::{exchange, key, not_done};
use crate::error::{Code, Error, Result};
use crate::ops::{Outcome, Topic};
use crate::protocol::http::app::ForCaller;
use crate::protocol::http::extract;
use crate::protocol::http::failure::{Failure, HttpResult};
use crate::protocol::json;

/// The most bytes of XML for one byte of a value: `&quot;`.
const XML_BYTES_PER_BYTE: usize = 6;

const XML: &str = "text/xml; charset=utf-8";

/// Answers a call; an error is a fault.
pub async fn call(app: ForCaller, request: Request) -> HttpResult<Response> {
    let most = app.body_max().saturating_mul(XML_BYTES_PER_BYTE);
    let body = extract::body(request, most).await?;
    let answered = match parse(&body) {
        Ok(call) => carry_out(&app, call).await,
        Err(error) => Err(error),
    };
    Ok(answered.unwrap_or_else(|error| exchange::response(XML, fault(error))))
}

async fn carry_out(app: &ForCaller, call: Call) -> Result<Response> {
    let mut params = call.params.into_iter();
    match (call.method.as_str(), params.next(), params.next(), params.next()) {
        ("set", Some(queue), Some(value), None) => set(app, &queue, &value).await,
        ("get", Some(queue), None, None) => get(app, &queue).await,
        ("set" | "get", ..) => {
            Err(Error::new(Code::BadField, "call set(queue, value) or get(queue)"))
        }
        _ => Err(Error::new(Code::UnknownAction, "unknown method: use set or get")),
    }
}

async fn set(app: &ForCaller, queue: &str, value: &str) -> Result<Response> {
    let queue = Topic::new(queue)?;
    let message = serde_json::Value::from(value).to_string();
    match app.put(queue.clone(), message.as_bytes(), None).await? {
        Outcome::Stored { id, .. } => {
            let key = format!("<string>{}</string>", xml(&key(&queue, id)));
            Ok(exchange::response(XML, response(&key)))
        }
        other => Err(not_done(&other)),
    }
}

/// Takes the oldest value. A JSON string is returned as its text, any other JSON as it is.
async fn get(app: &ForCaller, queue: &str) -> Result<Response> {
    let queue = Topic::new(queue)?;
    let delivery = app.take(queue.clone(), None).await?;
    let delivery = delivery.ok_or_else(|| Error::new(Code::NotFound, "empty queue"))?;
    let id = delivery.taken().map_or(0, |taken| taken.id);
    let members = member("key", &format!("<string>{}</string>", xml(&key(&queue, id))))
        + &member("value", &format!("<string>{}</string>", xml(&json::text(delivery.text()))))
        + &member("count", "<int>0</int>");
    let answer = response(&format!("<struct>\n{members}</struct>"));
    Ok(exchange::response(XML, delivery.respond(answer.into_bytes())))
}

fn response(value: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\n\
         </param>\n</params>\n</methodResponse>\n"
    )
}

/// A fault. Its code is the error's HTTP status.
fn fault(error: Error) -> String {
    let Failure { status, error } = Failure::from(error);
    let members = member("faultCode", &format!("<int>{}</int>", status.as_u16()))
        + &member("faultString", &format!("<string>{}</string>", xml(&error.text)));
    format!(
        "<?xml version=\"1.0\"?>\n<methodResponse>\n<fault>\n<value><struct>\n{members}</struct>\
         </value>\n</fault>\n</methodResponse>\n"
    )
}

fn member(name: &str, value: &str) -> String {
    format!("<member>\n<name>{name}</name>\n<value>{value}</value>\n</member>\n")
}

/// Escapes a text. Characters that XML cannot hold become U+FFFD.
fn xml(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // XML parsers normalise a plain carriage return to a line feed.
            '\r' => xml.push_str("&#13;"),
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                xml.push(char::REPLACEMENT_CHARACTER);
            }
            other => xml.push(other),
        }
    }
    xml
}

/// A method and its parameters.
#[derive(Debug, Default, PartialEq)]
struct Call {
    method: String,
    params: Vec<String>,
}

/// The two paths to a text. Each element must continue one of them.
const METHOD: [&str; 2] = ["methodCall", "methodName"];
const VALUE: [&str; 5] = ["methodCall", "params", "param", "value", "string"];

/// A bound on parameters; every method takes fewer.
const PARAMS_MAX: usize = 8;

fn parse(body: &[u8]) -> Result<Call> {
    let text = str::from_utf8(body).map_err(|_| bad("the call is not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let mut parser = Parser::default();
    loop {
        match reader.read_event().map_err(|error| bad(format!("the call is not XML: {error}")))? {
            Event::Start(element) => parser.enter(element.name().as_ref())?,
            Event::End(_) => parser.leave()?,
            Event::Empty(element) => {
                parser.enter(element.name().as_ref())?;
                parser.leave()?;
            }
            Event::Text(text) => parser.text(&text.xml10_content()),
            Event::CData(text) => parser.text(&text.xml10_content()),
            Event::GeneralRef(entity) => parser.text(&resolved(&entity)?),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err(bad("a call must not have a document type")),
            Event::Eof => return parser.end(),
        }
    }
}

#[derive(Default)]
struct Parser {
    call: Call,
    /// The open elements.
    path: Vec<&'static str>,
    text: String,
    /// The text of a `string` inside the current `value`.
    string: Option<String>,
    ended: bool,
}

impl Parser {
    fn enter(&mut self, name: &str) -> Result<()> {
        let depth = self.path.len();
        let next = [&METHOD[..], &VALUE[..]].into_iter().find_map(|way| {
            let next = way.get(depth).filter(|next| **next == name)?;
            way.starts_with(&self.path).then_some(*next)
        });
        match next {
            Some(next) if !self.ended => self.path.push(next),
            None if self.path.last() == Some(&"value") => {
                return Err(bad("queues and values must be strings"));
            }
            _ => return Err(bad("this is not a method call with strings")),
        }
        self.text.clear();
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        match self.path.pop() {
            Some("methodName") => self.call.method = self.text.trim().to_owned(),
            Some("string") => self.string = Some(std::mem::take(&mut self.text)),
            Some("value") => {
                if self.call.params.len() == PARAMS_MAX {
                    return Err(bad("too many parameters"));
                }
                let text = std::mem::take(&mut self.text);
                self.call.params.push(self.string.take().unwrap_or(text));
            }
            _ => self.ended = self.path.is_empty(),
        }
        Ok(())
    }

    /// Text outside of these elements is ignored.
    fn text(&mut self, text: &str) {
        if matches!(self.path.last(), Some(&("methodName" | "string" | "value"))) {
            self.text.push_str(text);
        }
    }

    fn end(self) -> Result<Call> {
        if self.ended { Ok(self.call) } else { Err(bad("the call is incomplete")) }
    }
}

/// The text of a character or entity reference.
fn resolved(entity: &BytesRef<'_>) -> Result<String> {
    let character =
        entity.resolve_char_ref().map_err(|error| bad(format!("the call is not XML: {error}")))?;
    match (character, resolve_xml_entity(entity)) {
        (Some(character), _) => Ok(character.into()),
        (None, Some(text)) => Ok(text.to_owned()),
        (None, None) => Err(bad("unknown entity: only those of XML itself are allowed")),
    }
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::BadField, text)
}

#[cfg(test)]
mod tests;
