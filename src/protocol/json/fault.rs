//! What is said to text that cannot become a request, or not one within the limits.

use super::request;
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
        Fault::FieldTooLarge(field) => request::field_too_large(*field, max_message),
        Fault::RequestTooLarge => request::request_too_large(),
    }
}
