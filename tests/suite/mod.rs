//! A module per concern; `support`, `process`, `peer`, `line`, `folder` and `random` are what they share.

mod cli;
mod client;
mod config;
mod damage;
mod examples;
mod folder;
#[cfg(feature = "http")]
mod http;
mod kill;
mod line;
mod peer;
mod process;
mod protocol_document;
mod random;
mod seed_clients;
mod server;
mod store_file;
mod support;
mod vocabulary;
mod wire;
mod workers;
