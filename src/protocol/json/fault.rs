//! Text that cannot become a request, or not one within the limits: why, and what the error says; and
//! the check of a message or an object by itself.

use super::fields::Field;
#[cfg(feature = "http")]
use super::fields::FieldSpans;
#[cfg(feature = "http")]
use super::request::RequestText;
use super::scanner::{Scan, Scanner};
use crate::error::{Code, Error, Result};
use crate::limits;

/// Why text is refused before it is complete. Positions are bytes from the request's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No request begins like this. The connection cannot go on.
    NotJson { at: usize, expected: &'static str },
    /// Not UTF-8. The connection cannot go on.
    NotUtf8 { at: usize },
    /// A field is nested too deep. What follows of the request is passed over.
    TooDeep,
    /// A field is larger than it may be. What follows of the request is passed over.
    FieldTooLarge(Field),
    /// What stands beside the message is more than a request may have. What follows of it is
    /// passed over.
    RequestTooLarge,
}

pub fn fault_error(fault: &Fault, max_message: usize) -> Error {
    match fault {
        Fault::NotJson { at, expected } => {
            let text = format!(
                "this is no JSON request: at its byte {at} there must be {expected}; \
                 the connection is closed"
            );
            Error::new(Code::BadJson, text)
        }
        Fault::NotUtf8 { at } => {
            let text = format!(
                "this is no UTF-8: byte {at} of the request is part of no character; \
                 the connection is closed"
            );
            Error::new(Code::BadUtf8, text)
        }
        Fault::TooDeep => {
            let text =
                format!("nested too deep: a message has at most {} levels", limits::DEPTH_LEVELS);
            Error::new(Code::TooDeep, text)
        }
        Fault::FieldTooLarge(field) => field_too_large(*field, max_message),
        Fault::RequestTooLarge => request_too_large(),
    }
}

pub fn unknown_action(action: &str) -> Error {
    let action: String = action.chars().take(40).collect();
    let text = format!(
        "unknown action {action:?}: see docs/reference/protocol.md for those that there are"
    );
    Error::new(Code::UnknownAction, text)
}

pub fn missing(field: Field) -> Error {
    Error::new(Code::MissingField, format!("the request has no {:?}: add it", field.name()))
}

pub fn bad_field(field: Field, must_be: &str) -> Error {
    Error::new(Code::BadField, format!("{:?} must be {must_be}", field.name()))
}

/// A field that is larger than it can be.
pub fn field_too_large(field: Field, max_message: usize) -> Error {
    match field {
        Field::Message => message_too_large(max_message),
        Field::Topic => {
            let text =
                format!("the topic is too long: a name has at most {} bytes", limits::TOPIC_BYTES);
            Error::new(Code::BadTopic, text)
        }
        Field::Tag => {
            let text = format!("the tag is too long: it has at most {} bytes", limits::TAG_BYTES);
            Error::new(Code::BadField, text)
        }
        _ => bad_dedupe(),
    }
}

pub fn request_too_large() -> Error {
    let text = format!(
        "the request is too large: beside its message it has at most {} bytes",
        limits::REQUEST_OVERHEAD_BYTES
    );
    Error::new(Code::RequestTooLarge, text)
}

pub fn message_too_large(max_message: usize) -> Error {
    let text = format!("the message is too large: it has at most {max_message} bytes of JSON text");
    Error::new(Code::MessageTooLarge, text)
}

pub fn bad_dedupe() -> Error {
    bad_field(Field::Dedupe, "a string of at most 256 bytes")
}

/// A text that is one JSON value within the limits of a message, without the white space around it.
pub fn message(text: &[u8], max_message: usize) -> Result<&[u8]> {
    let text = text.trim_ascii();
    if text.len() > max_message {
        return Err(fault_error(&Fault::FieldTooLarge(Field::Message), max_message));
    }
    let request = [br#"{"message":"#, text, b"}"].concat();
    let mut scanner = Scanner::new(max_message);
    match scanner.scan(&request) {
        // And nothing else of a request with it.
        Ok(Scan::Done(len))
            if len == request.len()
                && scanner.fields().get(&request, Field::Message) == Some(text) =>
        {
            Ok(text)
        }
        Err(fault @ (Fault::TooDeep | Fault::FieldTooLarge(_) | Fault::RequestTooLarge)) => {
            Err(fault_error(&fault, max_message))
        }
        Err(Fault::NotUtf8 { .. }) => Err(Error::new(Code::BadUtf8, "the message is no UTF-8")),
        _ => Err(Error::new(Code::BadJson, "the message is not one JSON value")),
    }
}

/// The fields of a text that is one JSON object within the limits of a request.
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
        Err(Fault::NotUtf8 { .. }) => Err(Error::new(Code::BadUtf8, "the body is no UTF-8")),
        Err(fault) => Err(fault_error(&fault, max_message)),
    }
}
