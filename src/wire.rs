//! Codecs: bytes in, messages out, and messages into bytes. They know `limits` and `error` alone.

pub mod pickle;
#[cfg(feature = "http")]
pub mod websocket;
pub mod zmtp;
