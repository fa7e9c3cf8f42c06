//! Codecs: they read messages from bytes and write messages as bytes. They may use `limits` and
//! `error` only, and know no sockets.

pub mod pickle;
#[cfg(feature = "http")]
pub mod websocket;
pub mod zmtp;
