//! Errors of text that is not a valid request, with their messages, and the check of a single
//! message or object.

use super::fields::Field;
#[cfg(feature = "http")]
use super::fields::FieldSpans;
#[cfg(feature = "http")]
use super::request::RequestText;
use super::scanner::{Scan, Scanner};
use crate::error::{Code, Error, Result};
use crate::limits;

/// Why the scanner refuses a request before its end. Positions are bytes from the request's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not JSON. The connection closes.
    NotJson { at: usize, expected: &'static str },
    /// Not UTF-8. The connection closes.
    NotUtf8 { at: usize },
    /// Nested too deeply. The rest of the request is skipped.
    TooDeep,
    /// A field exceeds its limit. The rest of the request is skipped.
    FieldTooLarge(Field),
    /// The request without its message exceeds the limit. The rest of it is skipped.
    RequestTooLarge,
}

pub fn fault_error(fault: &Fault, max_message: usize) -> Error {
    match fault {
        Fault::NotJson { at, expected } => {
            let text = format!(
                "invalid JSON at byte {at} of the request: expected {expected}; \
                 the connection is closed"
            );
            Error::new(Code::BadJson, text)
        }
        Fault::NotUtf8 { at } => {
            let text =
                format!("invalid UTF-8 at byte {at} of the request; the connection is closed");
            Error::new(Code::BadUtf8, text)
        }
        Fault::TooDeep => {
            let text = format!(
                "nested too deep: a message can have at most {} levels",
                limits::DEPTH_LEVELS
            );
            Error::new(Code::TooDeep, text)
        }
        Fault::FieldTooLarge(field) => field_too_large(*field, max_message),
        Fault::RequestTooLarge => request_too_large(),
    }
}

pub fn unknown_action(action: &str) -> Error {
    let action: String = action.chars().take(40).collect();
    let text = format!(
        "unknown action {action:?}: see docs/reference/protocol.md for the list of actions"
    );
    Error::new(Code::UnknownAction, text)
}

pub fn missing(field: Field) -> Error {
    Error::new(Code::MissingField, format!("the field {:?} is missing: add it", field.name()))
}

pub fn bad_field(field: Field, must_be: &str) -> Error {
    Error::new(Code::BadField, format!("{:?} must be {must_be}", field.name()))
}

/// The error for a field that exceeds its limit.
pub fn field_too_large(field: Field, max_message: usize) -> Error {
    match field {
        Field::Message => message_too_large(max_message),
        Field::Topic => {
            let text = format!(
                "the topic is too long: a name can have at most {} bytes",
                limits::TOPIC_BYTES
            );
            Error::new(Code::BadTopic, text)
        }
        Field::Tag => {
            let text =
                format!("the tag is too long: it can have at most {} bytes", limits::TAG_BYTES);
            Error::new(Code::BadField, text)
        }
        _ => bad_dedupe(),
    }
}

pub fn request_too_large() -> Error {
    let text = format!(
        "the request is too large: without its message it can have at most {} bytes",
        limits::REQUEST_OVERHEAD_BYTES
    );
    Error::new(Code::RequestTooLarge, text)
}

pub fn message_too_large(max_message: usize) -> Error {
    let text =
        format!("the message is too large: it can have at most {max_message} bytes of JSON text");
    Error::new(Code::MessageTooLarge, text)
}

pub fn bad_dedupe() -> Error {
    bad_field(Field::Dedupe, "a string of at most 256 bytes")
}

/// Checks that `text` is one JSON value within the limits of a message; returns it without
/// surrounding white space.
pub fn message(text: &[u8], max_message: usize) -> Result<&[u8]> {
    let text = text.trim_ascii();
    if text.len() > max_message {
        return Err(fault_error(&Fault::FieldTooLarge(Field::Message), max_message));
    }
    let request = [br#"{"message":"#, text, b"}"].concat();
    let mut scanner = Scanner::new(max_message);
    match scanner.scan(&request) {
        // The message must be the whole field: `1,"action":…` would add another.
        Ok(Scan::Done(len))
            if len == request.len()
                && scanner.fields().get(&request, Field::Message) == Some(text) =>
        {
            Ok(text)
        }
        Err(fault @ (Fault::TooDeep | Fault::FieldTooLarge(_) | Fault::RequestTooLarge)) => {
            Err(fault_error(&fault, max_message))
        }
        Err(Fault::NotUtf8 { .. }) => Err(Error::new(Code::BadUtf8, "the message is not UTF-8")),
        _ => Err(Error::new(Code::BadJson, "the message is not one JSON value")),
    }
}

/// Parses a text that is one JSON object within the limits of a request.
#[cfg(feature = "http")]
pub fn object(text: &[u8], max_message: usize) -> Result<FieldSpans> {
    let mut scanner = Scanner::new(max_message);
    match scanner.scan(text) {
        Ok(Scan::Done(len)) if len == text.len() => {
            RequestText::new(text, scanner.fields()).check_size(max_message)?;
            Ok(scanner.fields().clone())
        }
        Ok(_) | Err(Fault::NotJson { .. }) => {
            Err(Error::new(Code::BadJson, "the body is not one JSON object"))
        }
        Err(Fault::NotUtf8 { .. }) => Err(Error::new(Code::BadUtf8, "the body is not UTF-8")),
        Err(fault) => Err(fault_error(&fault, max_message)),
    }
}
