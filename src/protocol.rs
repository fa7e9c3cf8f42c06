//! The protocols: each translates its bytes into the broker's words and writes what the broker
//! returns. None knows a socket: bytes in, bytes out. The server picks one by the address, or by the
//! first byte.

pub mod handler;
#[cfg(feature = "http")]
pub mod http;
pub mod json;
#[cfg(feature = "http")]
pub mod websocket;
