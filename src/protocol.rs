//! dsmq's own protocols. Each decodes requests, calls the broker and encodes the results.
//!
//! A protocol handles bytes and never a socket. The server picks the protocol by the listener or by
//! a connection's first byte.

pub mod handler;
#[cfg(feature = "http")]
pub mod http;
pub mod json;
#[cfg(feature = "http")]
pub mod websocket;
