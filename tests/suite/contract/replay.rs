//! The frozen exchanges, replayed as the documents in docs/ are, except that the text of our own
//! errors is not compared.

use crate::suite::cli::config;
use crate::suite::compat::{coremq_document, restmq};
use crate::suite::durability::store_file;
use crate::suite::semantics::protocols::{self, Document};
use crate::suite::support::peer::ErrorTexts;
use crate::suite::web::http_document;
use crate::suite::wire::protocol_document;

macro_rules! contract {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/", $name))
    };
}

const PROTOCOLS: Document = Document(contract!("protocols.md"));
const STORE: &str = contract!("store.md");

#[test]
fn json_exchanges() {
    let name = "tests/contract/protocol.md";
    protocol_document::replay_all(name, contract!("protocol.md"), ErrorTexts::Masked);
}

#[test]
fn http_exchanges() {
    http_document::replay_all(contract!("http-native.md"), ErrorTexts::Masked);
}

#[test]
fn restmq_commands() {
    restmq::document::run_all(contract!("http-restmq.md"), ErrorTexts::Masked);
}

#[test]
fn coremq_exchanges() {
    coremq_document::replay_all(contract!("coremq.md"));
}

#[test]
fn puts_of_each_protocol_arrive_in_every_other() {
    protocols::check_puts(PROTOCOLS);
}

#[test]
fn refused_puts() {
    protocols::check_refusals(PROTOCOLS);
}

#[test]
fn names_of_topics() {
    protocols::check_topics(PROTOCOLS);
}

#[test]
#[ignore = "needs the sqlite3 command: make test installs it"]
fn sql_reads_a_store_in_use() {
    store_file::check_sql(STORE);
}

#[test]
#[ignore = "needs the sqlite3 and nc commands: make test installs them"]
fn shell_recipe_puts_a_store_into_another_server() {
    store_file::check_recipe(STORE);
}

#[test]
#[ignore = "needs the sqlite3 command: make test installs it"]
fn shell_recipe_follows_a_topic() {
    store_file::check_follow(STORE);
}

#[test]
fn settings_and_their_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/dsmq.toml");
    config::check_file_of_all_settings("contract", path);
}
