//! RestMQ: HTTP routes on the server's own port, documented in docs/reference/restmq.md. A queue is
//! a topic, a text value is a JSON string. May use `protocol` and `wire`, must not know the store.

mod commands;
mod consumers;
mod exchange;
mod pages;
mod queue;
mod xmlrpc;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use crate::error::{Code, Error, Result};
use crate::ops::{Id, Topic};
use crate::protocol::http::app::App;
use crate::protocol::http::guard::{removing, removing_if};

/// The route `/`. A browser's GET without a queue receives the page.
pub fn root() -> MethodRouter<Arc<App>> {
    removing_if(queue::is_named, get(queue::take_or_page).post(queue::add_to_named))
}

/// The other routes. A queue's name may contain slashes, plain or percent-encoded.
pub fn routes() -> Router<Arc<App>> {
    let queue = get(queue::take).post(queue::add).delete(queue::purge);
    Router::new()
        // Listing removes nothing, but RestMQ has no HEAD here either.
        .route("/q/", removing(get(pages::queues)))
        .route("/q/{*queue}", removing(queue))
        .route("/c/{*queue}", removing(get(consumers::comet)))
        .route("/ws/{*queue}", removing(get(consumers::websocket)))
        .route("/p/{*queue}", get(queue::policy).post(queue::set_policy))
        .route("/j/{*queue}", get(pages::jobs))
        .route("/stats/", get(queue::all_stats))
        .route("/stats/{*queue}", get(queue::stats))
        .route("/control/", get(queue::all_states))
        .route("/control/{*queue}", get(queue::state).post(queue::set_state))
        .route("/queue", get(pages::form).post(commands::carry_out))
        .route("/queue/{*queue}", get(pages::form).post(commands::carry_out))
        .route("/xmlrpc", post(xmlrpc::call))
}

/// A message's key in answers.
fn key(queue: &Topic, id: Id) -> String {
    format!("{queue}:{id}")
}

/// The id in a key; `None` if the key belongs to another queue.
fn id_of(queue: &Topic, key: &str) -> Option<Id> {
    let id = key.strip_prefix(queue.as_str())?.strip_prefix(':')?;
    id.parse().ok().filter(|number: &Id| number.to_string() == id)
}

fn not_done(what: &impl std::fmt::Debug) -> Error {
    Error::new(Code::StoreFailed, format!("unexpected outcome from the store: {what:?}"))
}

fn missing(text: &'static str) -> Error {
    Error::new(Code::MissingField, text)
}

/// Removes line ends, which have no meaning between JSON tokens. All other bytes stay as they were
/// put.
fn on_one_line(json: &[u8]) -> Vec<u8> {
    json.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect()
}

/// Checks the name of a JSONP callback. Anything but dotted identifiers could run code in the page.
fn check_callback(name: &str) -> Result<()> {
    let is_part = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '$'))
            && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
    };
    if name.len() <= CALLBACK_BYTES && name.split('.').all(is_part) {
        return Ok(());
    }
    let text = "callback must be a function's name: letters, digits, _ and $, separated by dots";
    Err(Error::new(Code::BadField, text))
}

/// The longest name of a callback.
const CALLBACK_BYTES: usize = 128;

#[cfg(test)]
mod tests;
