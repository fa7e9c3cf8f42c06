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
