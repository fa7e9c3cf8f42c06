//! The errors that every store returns in the same words.

use crate::error::{Code, Error};
use crate::limits;

/// Topics may use 1/4 of `--max-store`. They are never removed, so more would leave too little for messages.
pub const TOPICS_SHARE: u64 = 4;

/// The lease of an `ack` or `nack` does not exist.
pub fn gone() -> Error {
    let text = "there is no such lease: it has ended, or the message was removed; take again";
    Error::new(Code::Gone, text)
}

/// `--max-store` has been reached.
pub fn full(bound: u64) -> Error {
    let text = format!(
        "the store is full (--max-store, {bound} bytes): take or purge messages, then put again"
    );
    Error::new(Code::Full, text)
}

/// The disk of the store is full.
pub fn disk_full() -> Error {
    Error::new(Code::Full, "the disk is full: make room on it, then try again")
}

/// An imported message whose id is not above all ids of its topic.
pub fn not_behind() -> Error {
    let text = "the topic already has this message or newer ones: does another program put to it?";
    Error::new(Code::StoreFailed, text)
}

/// [`limits::TOPICS`] has been reached.
pub fn too_many_topics() -> Error {
    let text = format!("the store has its {} topics: put to one of them", limits::TOPICS);
    Error::new(Code::TooManyTopics, text)
}

/// The topics use their share of `--max-store`.
pub fn too_much_for_topics(bound: u64) -> Error {
    let text = format!(
        "topics take 1/{TOPICS_SHARE} of what the store may take (--max-store, {bound} \
         bytes): put to one that is there"
    );
    Error::new(Code::TooManyTopics, text)
}
