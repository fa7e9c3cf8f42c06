//! A message by itself, for protocols that have it in other words than a request of this one.

use super::fault::fault_error;
use super::fields::Field;
#[cfg(feature = "http")]
use super::fields::Fields;
#[cfg(feature = "http")]
use super::request::Text;
use super::scanner::{Fault, Scan, Scanner};
use crate::error::{Code, Error, Result};

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
pub fn object(text: &[u8], max_message: usize) -> Result<Fields> {
    let mut scanner = Scanner::new(max_message);
    match scanner.scan(text) {
        Ok(Scan::Done(len)) if len == text.len() => {
            Text::new(text, scanner.fields()).check_size(max_message)?;
            Ok(scanner.fields().clone())
        }
        Ok(_) | Err(Fault::NotJson { .. }) => {
            Err(Error::new(Code::BadJson, "the body is not one JSON object"))
        }
        Err(Fault::NotUtf8 { .. }) => Err(Error::new(Code::BadUtf8, "the body is no UTF-8")),
        Err(fault) => Err(fault_error(&fault, max_message)),
    }
}
