//! Encodes and decodes whole messages for copies between stores.

use redis::{Cmd, Value};

use super::scripts::{bad_reply, optional, text};
use crate::error::Result;
use crate::ops::{PRIORITY_DEFAULT, PRIORITY_MAX, ScanCursor, StoredMessage, Topic};

/// The `apply` command that imports the message.
pub fn word(message: &StoredMessage) -> &'static str {
    match message.place {
        ScanCursor::Log(_) => "i",
        ScanCursor::Delayed { .. } => "l",
    }
}

/// Adds a message to a call.
pub fn write<'c>(call: &'c mut Cmd, message: &StoredMessage) -> &'c mut Cmd {
    let StoredMessage { place, body, priority, deliveries, expires, origin, looks } = message;
    let rank = (*priority != PRIORITY_DEFAULT).then(|| u64::from(PRIORITY_MAX - priority));
    match place {
        ScanCursor::Log(id) => {
            call.arg(*id);
            optional(call, rank);
            optional(call, *expires);
            call.arg(*deliveries).arg(*looks);
            text(call, origin.as_ref().map(|origin| origin.0.as_str()));
            optional(call, origin.as_ref().map(|origin| origin.1));
        }
        ScanCursor::Delayed { due, .. } => {
            call.arg(*due);
            optional(call, rank);
            optional(call, *expires);
        }
    }
    call.arg(&**body)
}

/// Some of a topic's messages after a cursor. `read` calls the `read` script with a mode and
/// numbers.
pub fn scan(
    after: ScanCursor,
    read: impl Fn(&str, &[u64]) -> Result<Value>,
) -> Result<Vec<StoredMessage>> {
    let (due, number) = match after {
        ScanCursor::Log(id) => {
            let some = parse_all(read("kept", &[id])?, parse_logged)?;
            if !some.is_empty() {
                return Ok(some);
            }
            (0, 0)
        }
        ScanCursor::Delayed { due, number } => (due, number),
    };
    parse_all(read("later", &[due, number])?, parse_delayed)
}

fn parse_all(
    answer: Value,
    read: fn(MessageFields) -> Option<StoredMessage>,
) -> Result<Vec<StoredMessage>> {
    let Value::Array(answer) = answer else { return Err(bad_reply()) };
    let read = |fields| match fields {
        Value::Array(fields) => read(MessageFields(fields.into_iter())),
        _ => None,
    };
    answer.into_iter().map(|fields| read(fields).ok_or_else(bad_reply)).collect()
}

/// The fields of one message in a reply, in order.
struct MessageFields(std::vec::IntoIter<Value>);

impl MessageFields {
    fn number(&mut self) -> Option<u64> {
        match self.0.next()? {
            Value::Int(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<Box<[u8]>> {
        match self.0.next()? {
            Value::BulkString(text) => Some(text.into()),
            _ => None,
        }
    }

    fn priority(&mut self) -> Option<u8> {
        PRIORITY_MAX.checked_sub(u8::try_from(self.number()?).ok()?)
    }
}

fn parse_logged(mut fields: MessageFields) -> Option<StoredMessage> {
    let place = ScanCursor::Log(fields.number()?);
    let expires = fields.number().map(|at| (at > 0).then_some(at))?;
    let (body, priority) = (fields.text()?, fields.priority()?);
    let (deliveries, looks) = (u32::try_from(fields.number()?).ok()?, fields.number()?);
    let (topic, id) = (fields.text()?, fields.number()?);
    let topic = std::str::from_utf8(&topic).ok().and_then(|name| Topic::new(name).ok());
    let origin = topic.map(|topic| Box::new((topic, id)));
    Some(StoredMessage { place, body, priority, deliveries, expires, origin, looks })
}

fn parse_delayed(mut fields: MessageFields) -> Option<StoredMessage> {
    let place = ScanCursor::Delayed { due: fields.number()?, number: fields.number()? };
    let (body, priority) = (fields.text()?, fields.priority()?);
    // A negative number means that it does not expire.
    let expires = fields.number();
    Some(StoredMessage { place, body, priority, deliveries: 0, expires, origin: None, looks: 0 })
}
