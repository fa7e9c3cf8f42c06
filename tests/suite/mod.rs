//! A module per concern; `support`, `process`, `peer`, `line`, `folder`, `random` and `ledger` are what
//! they share.

mod addresses;
mod cli;
mod client;
mod config;
#[cfg(all(feature = "bench", feature = "http", feature = "redis"))]
mod contract;
mod copy;
#[cfg(feature = "http")]
mod coremq;
mod coremq_client;
mod coremq_document;
mod coremq_frames;
mod coremq_settings;
mod damage;
mod examples;
#[cfg(target_os = "linux")]
mod faults;
mod folder;
#[cfg(feature = "http")]
mod hostile;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_document;
#[cfg(feature = "http")]
mod http_events;
#[cfg(feature = "http")]
mod http_native;
#[cfg(feature = "http")]
mod http_page;
#[cfg(feature = "http")]
mod http_waits;
mod kill;
mod languages;
#[cfg(target_os = "linux")]
mod ledger;
mod line;
#[cfg(unix)]
mod lost_file;
mod mezzenger;
mod o3one;
mod o3one_programs;
#[cfg(feature = "http")]
mod openapi;
mod peer;
#[cfg(target_os = "linux")]
mod power;
mod process;
mod protocol_document;
#[cfg(feature = "http")]
mod protocols;
mod put_back;
mod random;
#[cfg(feature = "redis")]
mod redis;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod resident;
#[cfg(feature = "http")]
mod restmq;
mod seed_clients;
mod server;
mod store_file;
mod support;
mod vocabulary;
#[cfg(feature = "http")]
mod websocket;
#[cfg(feature = "http")]
mod websocket_clients;
mod wire;
mod workers;
