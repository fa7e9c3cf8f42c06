//! XML-RPC, with the two methods of RestMQ: set(queue, value) and get(queue).

mod parse;

use axum::extract::Request;
use axum::response::Response;

use self::parse::{Call, parse};
use super::{exchange, key, not_done};
use crate::error::{Code, Error, Result};
use crate::ops::{Outcome, Topic};
use crate::protocol::http::app::ForCaller;
use crate::protocol::http::extract;
use crate::protocol::http::failure::{Failure, HttpResult};
use crate::protocol::json;

/// In XML a byte takes up to six: `&quot;`.
const XML_BYTES_PER_BYTE: usize = 6;

const XML: &str = "text/xml; charset=utf-8";

/// Answers a call, with a fault if it fails.
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
        _ => Err(Error::new(Code::UnknownAction, "there are the methods set and get")),
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

/// Takes the oldest value: what is a JSON string as its text, all else as JSON text.
async fn get(app: &ForCaller, queue: &str) -> Result<Response> {
    let queue = Topic::new(queue)?;
    let handed = app.take(queue.clone(), None).await?;
    let handed = handed.ok_or_else(|| Error::new(Code::NotFound, "empty queue"))?;
    let id = handed.taken().map_or(0, |taken| taken.id);
    let members = member("key", &format!("<string>{}</string>", xml(&key(&queue, id))))
        + &member("value", &format!("<string>{}</string>", xml(&json::text(handed.text()))))
        + &member("count", "<int>0</int>");
    let answer = response(&format!("<struct>\n{members}</struct>"));
    Ok(exchange::response(XML, handed.respond(answer.into_bytes())))
}

fn response(value: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\n\
         </param>\n</params>\n</methodResponse>\n"
    )
}

/// A fault has the status that the error has elsewhere as its code.
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

/// A text as XML that stands for it; for what XML has no words for stands U+FFFD.
fn xml(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // As it is, a parser would take it for the end of a line.
            '\r' => xml.push_str("&#13;"),
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                xml.push(char::REPLACEMENT_CHARACTER);
            }
            other => xml.push(other),
        }
    }
    xml
}

#[cfg(test)]
mod tests;
