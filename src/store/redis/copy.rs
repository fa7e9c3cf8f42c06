//! What goes from store to store, as scripts are given it and answer it.

use redis::{Cmd, Value};

use super::scripts::{optional, senseless, text};
use crate::error::Result;
use crate::ops::{PRIORITY_DEFAULT, PRIORITY_MAX, ScanCursor, StoredMessage, Topic};

/// The word by which the script knows what it is to do with a message.
pub fn word(message: &StoredMessage) -> &'static str {
    match message.place {
        ScanCursor::Log(_) => "i",
        ScanCursor::Delayed { .. } => "l",
    }
}

/// Adds a message to the call of the script.
pub fn write(call: &mut Cmd, message: &StoredMessage) {
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
    call.arg(&**body);
}

/// What is kept of a topic behind this place, by what `read` answers to how it is asked, and with
/// which numbers.
pub fn kept(
    after: ScanCursor,
    read: impl Fn(&str, &[u64]) -> Result<Value>,
) -> Result<Vec<StoredMessage>> {
    let (due, number) = match after {
        ScanCursor::Log(id) => {
            let some = all(read("kept", &[id])?, in_log)?;
            if !some.is_empty() {
                return Ok(some);
            }
            (0, 0)
        }
        ScanCursor::Delayed { due, number } => (due, number),
    };
    all(read("later", &[due, number])?, for_later)
}

fn all(answer: Value, read: fn(Told) -> Option<StoredMessage>) -> Result<Vec<StoredMessage>> {
    let Value::Array(answer) = answer else { return Err(senseless()) };
    let read = |told| match told {
        Value::Array(told) => read(Told(told.into_iter())),
        _ => None,
    };
    answer.into_iter().map(|told| read(told).ok_or_else(senseless)).collect()
}

/// What is told of a message, one after the other.
struct Told(std::vec::IntoIter<Value>);

impl Told {
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

fn in_log(mut told: Told) -> Option<StoredMessage> {
    let place = ScanCursor::Log(told.number()?);
    let expires = told.number().map(|at| (at > 0).then_some(at))?;
    let (body, priority) = (told.text()?, told.priority()?);
    let (deliveries, looks) = (u32::try_from(told.number()?).ok()?, told.number()?);
    let (topic, id) = (told.text()?, told.number()?);
    let topic = std::str::from_utf8(&topic).ok().and_then(|name| Topic::new(name).ok());
    let origin = topic.map(|topic| Box::new((topic, id)));
    Some(StoredMessage { place, body, priority, deliveries, expires, origin, looks })
}

fn for_later(mut told: Told) -> Option<StoredMessage> {
    let place = ScanCursor::Delayed { due: told.number()?, number: told.number()? };
    let (body, priority) = (told.text()?, told.priority()?);
    // None is less than 0.
    let expires = told.number();
    Some(StoredMessage { place, body, priority, deliveries: 0, expires, origin: None, looks: 0 })
}
