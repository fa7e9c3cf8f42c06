//! What every store says to a request that a rule refuses.

use crate::error::{Code, Error};
use crate::limits;

/// Topics take at most this share of the bound by themselves: they are never removed.
pub const TOPICS_SHARE: u64 = 4;

/// There is no such lease.
pub fn gone() -> Error {
    let text = "there is no such lease: it has ended, or the message was removed; take again";
    Error::new(Code::Gone, text)
}

/// No room for another message.
pub fn full(bound: u64) -> Error {
    let text = format!(
        "the store is full (--max-store, {bound} bytes): take or purge messages, then put again"
    );
    Error::new(Code::Full, text)
}

/// No room on the disk.
pub fn disk_full() -> Error {
    Error::new(Code::Full, "the disk is full: make room on it, then try again")
}

/// A message of another store whose place is behind others.
pub fn not_behind() -> Error {
    let text = "the topic has this message already, or newer ones: who else puts there?";
    Error::new(Code::StoreFailed, text)
}

/// No other topic can be made.
pub fn too_many_topics() -> Error {
    let text = format!("the store has its {} topics: put to one of them", limits::TOPICS);
    Error::new(Code::TooManyTopics, text)
}

/// No other topic can be made in a store of this size.
pub fn too_much_for_topics(bound: u64) -> Error {
    let text = format!(
        "topics take 1/{TOPICS_SHARE} of what the store may take (--max-store, {bound} \
         bytes): put to one that is there"
    );
    Error::new(Code::TooManyTopics, text)
}
