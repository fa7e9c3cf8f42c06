//! The systems that others built, one folder for each: programs written for them work here unchanged.
//! A folder has everything of its system: what it speaks over TCP and WebSocket, its routes, its page
//! and its configuration file. It may use `protocol`, and knows no store.

pub mod coremq;
#[cfg(feature = "http")]
pub mod dsmq1;
pub mod mezzenger;
pub mod o3one;
#[cfg(feature = "http")]
pub mod restmq;
pub mod zmq;

use std::sync::Arc;
use std::task::Waker;

use crate::broker::{Caller, Session};
use crate::error::Result;
use crate::protocol::handler::ProtocolHandler;
#[cfg(feature = "http")]
use crate::protocol::http::Site;

/// An address that the server listens on: a row of its table of listeners.
pub struct Endpoint {
    /// Names the address on the line that announces it.
    pub name: &'static str,
    pub host: String,
    pub port: u16,
    /// What to do if another program has the port.
    pub advice: &'static str,
    pub kind: ListenerKind,
}

/// How the connections of an address are served.
pub enum ListenerKind {
    /// The first byte of a connection selects its protocol.
    FirstByte,
    /// One protocol, with a thread for each connection.
    Protocol(ProtocolKind),
    /// HTTP, with these routes.
    #[cfg(feature = "http")]
    Http(Arc<Site>),
    /// The same; a connection whose first byte begins no HTTP request is closed.
    #[cfg(feature = "http")]
    HttpByFirstByte(Arc<Site>),
}

/// A protocol with a thread for each connection.
#[derive(Clone)]
pub struct ProtocolKind {
    /// Its connections are counted under this name.
    pub gauge: &'static str,
    pub begin: Arc<NewHandler>,
}

/// Begins the talk of a caller's connection. The waker is woken when there is something to push, or
/// when a request that waits has its reply.
pub type NewHandler =
    dyn Fn(Session, Arc<Caller>, Waker) -> Result<Box<dyn ProtocolHandler>> + Send + Sync;
