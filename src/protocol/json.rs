//! The JSON protocol, which defines dsmq's semantics on the wire; its contract is
//! docs/reference/protocol.md. It calls the broker and never sees the store or a socket.
//!
//! A put takes five forms on its way from the socket to the table:
//!
//! 1. bytes in the connection's read buffer (`server::buffer::Buffer`);
//! 2. the spans of its fields in these bytes, found by the `Scanner` (`FieldSpans`);
//! 3. a `Request`, which borrows the message from these bytes;
//! 4. an operation (`Op::Put`) and a copy of the message in the batch of the `Pipeline`;
//! 5. a row of the table `messages`.
//!
//! Its reply goes through the `ReplyBuffer` to the socket.

#[cfg(any(test, fuzzing))]
pub mod check;
mod fault;
mod fields;
mod handler;
mod pipeline;
mod reply;
mod reply_buffer;
mod request;
mod scanner;
#[cfg(test)]
mod tests;
mod values;

pub use self::fault::message;
#[cfg(feature = "http")]
pub use self::fault::{message_too_large, object, request_too_large};
pub use self::fields::text;
#[cfg(feature = "http")]
pub use self::fields::{Field, FieldSpans, NAMES};
pub use self::handler::JsonHandler;
pub use self::reply::error_reply;
#[cfg(feature = "http")]
pub use self::reply::{node, reply_bytes as reply};
#[cfg(feature = "http")]
pub use self::request::{Request, carry_out};
#[cfg(feature = "http")]
pub use self::values::{FieldSource, FieldValue, patterns};
