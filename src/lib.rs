//! dsmq: a dead simple message queue. One binary, one port, one table.
//!
//! This file is the map of the crate. Arrows run one way:
//! `main -> cli -> server -> compat -> protocol -> broker -> store`.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`client`] | [`Client`]: blocking, std and serde_json only |
//! | `cli` | the `dsmq` command: the server, the client verbs, the load generator |
//! | `config` | one `Config`: defaults, then `dsmq.toml`, then `DSMQ_*`, then flags |
//! | `server` | listen, accept, one thread per connection; HTTP ones share a small runtime |
//! | `compat` | the systems that others built: a folder for each, with all that belongs to it |
//! | `protocol` | translate bytes into the broker's words and back; decide nothing |
//! | `broker` | what one server knows: sessions and their places, who waits, what is due |
//! | `store` | what must be atomic: ids, order, priority, leases, delay, in SQLite or Redis |
//! | `wire` | codecs over bytes: ZMTP, WebSocket, pickle |
//! | `ops` | what passes between the layers: topics, ids, messages, batches, outcomes |
//! | `error`, `limits` | every error's code; every limit, with its unit |
//!
//! An embedded server and a client of it:
//!
//! ```
//! # #[cfg(feature = "server")] {
//! let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
//! let mut client = dsmq::Client::connect(server.addr())?;
//! client.put("greetings", "Hello!")?;
//! let message = client.get("greetings")?.expect("put before it was asked for");
//! assert_eq!(message.text(), Some("Hello!".into()));
//! server.stop();
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod client;
pub use client::Client;

#[cfg(feature = "server")]
mod broker;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "server")]
mod compat;
#[cfg(feature = "server")]
mod config;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
pub mod limits;
#[cfg(feature = "server")]
mod ops;
#[cfg(feature = "server")]
mod protocol;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod store;
#[cfg(feature = "server")]
mod sync;
mod text;
#[cfg(feature = "server")]
mod wire;

#[cfg(feature = "server")]
pub use config::{Config, CoreMqPort, O3onePorts, RedisUrl, StoreLocation, SyncMode, WhenFull};
#[cfg(feature = "server")]
pub use server::{Server, StartError, run};

#[cfg(fuzzing)]
pub mod fuzz;
