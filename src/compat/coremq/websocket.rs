//! CoreMQ over a WebSocket at `/ws`: each text frame is an object that names its queue under
//! `queue`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};

use super::object::{RawObject, json_string, names};
use super::{CoreMqHub, CoreMqSession};
use crate::error::Result;
use crate::protocol::handler::Next;
use crate::protocol::http::app::App;
use crate::protocol::http::failure::HttpResult;
use crate::protocol::http::guard::removing;
use crate::protocol::json;
use crate::protocol::websocket::driver::{self, Binary, Frames};

const UNKNOWN: &str = "Command not recognized";

pub fn routes(hub: Arc<CoreMqHub>) -> Router<Arc<App>> {
    Router::new().route("/ws", removing(get(upgrade))).layer(Extension(hub))
}

async fn upgrade(
    State(app): State<Arc<App>>,
    Extension(hub): Extension<Arc<CoreMqHub>>,
    request: Request,
) -> HttpResult<Response> {
    let max_message = app.config.max_message;
    driver::upgrade(&app, request, "coremq", move |broker, caller, session, waker| {
        let coremq = CoreMqSession::new(broker, caller, session, waker, hub, max_message)?;
        Ok(ObjectFrames { coremq, out: Vec::new() })
    })
}

/// A session and the text messages to be written.
struct ObjectFrames {
    coremq: CoreMqSession,
    out: Vec<String>,
}

impl Frames for ObjectFrames {
    const BINARY: Binary = Binary::Echo;

    fn receive(&mut self, text: &str, _done: usize) -> (usize, Next) {
        self.out.extend(receive(&mut self.coremq, text));
        (text.len(), Next::Read)
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> + Send {
        self.out.iter().map(String::as_bytes)
    }

    fn written(&mut self, _bytes: usize) {
        self.out = Vec::new();
    }

    /// Buffers messages for this connection.
    fn push(&mut self) -> Result<bool> {
        while let Some(direct) = self.coremq.next_direct() {
            self.out.extend(frame(&direct.queue, direct.json.as_bytes()));
        }
        let Some(messages) = self.coremq.next()? else { return Ok(false) };
        self.out.extend(messages.bodies().filter_map(|body| frame(messages.queue(), body)));
        Ok(true)
    }
}

/// Handles one text message and returns the answer, if it has one.
fn receive(coremq: &mut CoreMqSession, frame: &str) -> Option<String> {
    let error = |text: &str| Some(json!({ "error": text }).to_string());
    if let Err(refused) = json::message(frame.as_bytes(), coremq.max_request()) {
        return error(&refused.text);
    }
    let Some(object) = RawObject::new(frame) else { return error(UNKNOWN) };
    if let Some(queue) = object.get("queue") {
        let Some(queue) = json_string(queue) else { return error("a queue has a name") };
        let answer = coremq.receive(&queue, &object.without("queue"));
        return RawObject::new(&answer)
            .map(|answer| answer.with(&[("queue", coremq.id.as_str().into())]));
    }
    if let Some(queues) = object.get("coremq_subscribe") {
        let mut names = names(queues).unwrap_or_default();
        names.retain(|name| !name.is_empty());
        if names.is_empty() {
            return error("No queues found");
        }
        return coremq.subscribe(&names).err().and_then(|refused| error(&refused.text));
    }
    if object.get("corews_status").is_some() {
        let hub = &coremq.hub;
        let status = json!({ "connections": hub.connections(), "mq_server": hub.server() });
        return Some(status.to_string());
    }
    error(UNKNOWN)
}

/// Adds the queue to a message. Messages of other protocols that are not objects are wrapped in
/// one.
fn frame(queue: &str, body: &[u8]) -> Option<String> {
    let body = str::from_utf8(body).ok()?;
    let queue = Value::from(queue);
    Some(match RawObject::new(body) {
        Some(object) => object.with(&[("queue", queue)]),
        None => format!("{{\"coremq_string\":{body},\"queue\":{queue}}}"),
    })
}
