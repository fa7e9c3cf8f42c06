//! The older systems, one folder each: programs written for them work here unchanged. A folder
//! holds all of its system: TCP protocol, WebSocket, routes, page and configuration file. This
//! layer may use `protocol`, `broker` and `wire`, and must not know the store.

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

/// One address that the server listens on: a row of its listener table.
pub struct Endpoint {
    /// Names the address in the line that announces it.
    pub name: &'static str,
    pub host: String,
    pub port: u16,
    /// Shown when another program already uses the port.
    pub advice: &'static str,
    pub kind: ListenerKind,
}

/// How the server handles the connections of an address.
pub enum ListenerKind {
    /// The first byte of a connection selects its protocol.
    FirstByte,
    /// One protocol, with a thread for each connection.
    Protocol(ProtocolKind),
    /// HTTP with these routes.
    #[cfg(feature = "http")]
    Http(Arc<Site>),
    /// HTTP with these routes; closes a connection whose first byte cannot begin an HTTP request.
    #[cfg(feature = "http")]
    HttpByFirstByte(Arc<Site>),
}

/// A protocol with a thread for each connection.
#[derive(Clone)]
pub struct ProtocolKind {
    /// The label of these connections in the metrics.
    pub gauge: &'static str,
    pub begin: Arc<NewHandler>,
}

/// Creates the handler of one connection. The handler wakes the waker when it has something to
/// push, or when a waiting request has its reply.
pub type NewHandler =
    dyn Fn(Session, Arc<Caller>, Waker) -> Result<Box<dyn ProtocolHandler>> + Send + Sync;
