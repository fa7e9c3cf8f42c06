//! The suite, grouped by concern. `support` is what the other groups share.

/// The frozen contract of tests/contract/.
#[cfg(all(feature = "bench", feature = "http", feature = "redis"))]
mod contract;

/// The pages of docs/reference: complete, and their links lead somewhere.
mod reference;

/// The JSON protocol as bytes: over TCP, over WebSocket, and as its document shows it.
mod wire {
    pub mod json;
    pub mod protocol_document;
    #[cfg(feature = "http")]
    pub mod websocket;
}

/// What put, take, ack and subscribe mean, and that every protocol reads what every other puts.
mod semantics {
    #[cfg(feature = "http")]
    pub mod protocols;
    pub mod put_back;
    pub mod vocabulary;
    pub mod workers;
}

/// The store in a file: kills, power cuts, failed writes, damaged and lost files.
mod durability {
    pub mod damage;
    #[cfg(target_os = "linux")]
    pub mod faults;
    pub mod kill;
    #[cfg(target_os = "linux")]
    pub mod ledger;
    #[cfg(unix)]
    pub mod lost_file;
    #[cfg(target_os = "linux")]
    pub mod power;
    pub mod store_file;
}

/// The older systems: their bytes, their configuration files and their own programs.
mod compat {
    #[cfg(feature = "http")]
    pub mod coremq;
    pub mod coremq_client;
    pub mod coremq_document;
    pub mod coremq_frames;
    pub mod coremq_settings;
    pub mod mezzenger;
    pub mod o3one;
    pub mod o3one_programs;
    #[cfg(feature = "http")]
    pub mod restmq;
    pub mod seed_clients;
    #[cfg(feature = "http")]
    pub mod websocket_clients;
}

/// HTTP: the native routes, server-sent events, the page, and hostile requests.
#[cfg(feature = "http")]
mod web {
    pub mod hostile;
    pub mod http;
    pub mod http_document;
    pub mod http_events;
    pub mod http_native;
    pub mod http_page;
    pub mod http_waits;
    pub mod openapi;
}

/// A store in Redis or in a Redis Cluster, shared by several servers.
#[cfg(feature = "redis")]
mod cluster;

/// The programs that a user runs: the command, its configuration, the clients and the examples.
mod cli {
    pub mod addresses;
    pub mod client;
    pub mod commands;
    pub mod config;
    pub mod copy;
    #[cfg(target_os = "linux")]
    pub mod environment;
    pub mod examples;
    pub mod languages;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub mod resident;
    pub mod server;
}

mod support;
