//! A module per concern; `support`, `process` and `peer` are what they share.

mod cli;
mod client;
mod config;
mod examples;
mod peer;
mod process;
mod protocol_document;
mod seed_clients;
mod server;
mod store_file;
mod support;
mod vocabulary;
mod wire;
mod workers;
