//! A module per concern; `support`, `process`, `peer`, `line`, `folder`, `random` and `ledger` are what
//! they share.

mod addresses;
mod cli;
mod client;
mod config;
mod damage;
mod examples;
#[cfg(target_os = "linux")]
mod faults;
mod folder;
#[cfg(feature = "http")]
mod http;
mod kill;
#[cfg(target_os = "linux")]
mod ledger;
mod line;
mod peer;
#[cfg(target_os = "linux")]
mod power;
mod process;
mod protocol_document;
mod random;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod resident;
mod seed_clients;
mod server;
mod store_file;
mod support;
mod vocabulary;
mod wire;
mod workers;
