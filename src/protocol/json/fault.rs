//! What is said to text that cannot become a request, or not one within the limits.

use super::fields::Field;
use super::scanner::Fault;
use crate::error::{Code, Error};
use crate::limits;

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
    let text = format!("unknown action {action:?}: see docs/protocol.md for those that there are");
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
