//! Replies as bytes: written onto the end of what is to be sent.

use std::io::Write;

use crate::error::Error;
use crate::message::{Id, Message, Timestamp};

/// Closes a reply's object, with the request's tag if it had one.
fn end(out: &mut Vec<u8>, tag: Option<&[u8]>) {
    if let Some(tag) = tag {
        out.extend_from_slice(b",\"tag\":");
        out.extend_from_slice(tag);
    }
    out.push(b'}');
}

fn id(out: &mut Vec<u8>, id: Id) {
    // A Vec takes every byte that it is given.
    let _ = write!(out, ",\"id\":{id},\"timestamp\":{}", Timestamp(id));
}

pub fn message(out: &mut Vec<u8>, message: Message<'_>, meta: bool, tag: Option<&[u8]>) {
    out.extend_from_slice(b"{\"message\":");
    out.extend_from_slice(message.body);
    if meta {
        id(out, message.id);
    }
    end(out, tag);
}

pub fn no_message(out: &mut Vec<u8>, meta: bool, tag: Option<&[u8]>) {
    out.extend_from_slice(b"{\"message\":\"\"");
    if meta {
        out.extend_from_slice(b",\"empty\":true");
    }
    end(out, tag);
}

pub fn stored(out: &mut Vec<u8>, message: Id, tag: Option<&[u8]>) {
    out.extend_from_slice(b"{\"ok\":true");
    id(out, message);
    end(out, tag);
}

/// The answer to a ping; `since` is the place at which the session began.
pub fn pong(out: &mut Vec<u8>, since: Option<Id>, tag: Option<&[u8]>) {
    out.extend_from_slice(b"{\"ok\":true");
    if let Some(since) = since {
        let _ = write!(out, ",\"since\":{since}");
    }
    end(out, tag);
}

pub fn error(out: &mut Vec<u8>, error: &Error, tag: Option<&[u8]>) {
    let text = serde_json::Value::from(&*error.text);
    let _ = write!(out, "{{\"error\":{text},\"code\":\"{}\"", error.code.as_str());
    end(out, tag);
}
