//! ZMTP 3.0 (ØMQ's wire, RFC 23) as a server speaks it, without security (NULL): bytes in, messages
//! out, and messages into frames. What is in the messages is a [`Dialect`]'s.

#[cfg(any(test, fuzzing))]
pub mod check;
mod frame;
mod greeting;
mod link;
mod ready;
#[cfg(test)]
mod tests;

pub use self::frame::{Message, write_frame, write_message};
pub use self::link::{Event, Link};
pub use self::ready::Peer;

/// Why a connection is closed: ZMTP has no words for it once the handshake is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub &'static str);
