//! CoreMQ over a WebSocket: a text frame is an object, its queue under the key `queue`.

use std::future::ready;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Hub, Object, Talk, names, text};
use crate::broker::Session;
use crate::error::Result;
use crate::limits;
use crate::protocol::http::app::App;
use crate::protocol::http::bell::Bell;
use crate::protocol::http::failure::Answer;
use crate::protocol::http::guard::removing;
use crate::protocol::json;
use crate::protocol::websocket::socket::{End, Incoming, Socket};
use crate::protocol::websocket::{Upgrade, session};
use crate::wire::websocket::CloseCode;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};

const UNKNOWN: &str = "Command not recognized";

pub fn routes(hub: Arc<Hub>) -> Router<Arc<App>> {
    Router::new().route("/ws", removing(get(upgrade))).layer(Extension(hub))
}

/// CoreMQ's.
async fn upgrade(
    State(app): State<Arc<App>>,
    Extension(hub): Extension<Arc<Hub>>,
    mut request: Request,
) -> Answer<Response> {
    let session = session(&app, &request);
    let upgrade = Upgrade::new(&mut request, "coremq")?;
    let talker = app.clone();
    Ok(upgrade.answer(&app, async move |socket| talk(talker, hub, session, socket).await))
}

/// Serves a socket to its end.
async fn talk(app: Arc<App>, hub: Arc<Hub>, session: Session, socket: Socket) {
    let bell = Bell::new();
    let (waker, max) = (bell.waker(), app.config.max_message);
    let begun = app.run(move |broker| Talk::new(broker.clone(), session, waker, hub, max)).await;
    let mut talker = match begun.flatten() {
        Ok(talk) => Talker { app, socket, talk: Some(Box::new(talk)), bell },
        Err(error) => return tracing::error!("CoreMQ is not spoken: {error}"),
    };
    let end = talker.serve().await.unwrap_or_else(|error| {
        tracing::error!("a WebSocket has to end: {error}");
        End::Close(CloseCode::FAILED, "the server has failed")
    });
    let Talker { app, socket, talk, .. } = talker;
    // Its end may wait for a disk.
    if let Err(error) = app.run(move |_| drop(talk)).await {
        tracing::debug!("a queue stays: {error}");
    }
    socket.close(end).await;
}

struct Talker {
    app: Arc<App>,
    socket: Socket,
    /// Always there, except while a thread for blocking calls has it.
    talk: Option<Box<Talk>>,
    /// Rung when there is a message.
    bell: Arc<Bell>,
}

impl Talker {
    async fn serve(&mut self) -> Result<End> {
        loop {
            let more = self.push().await?;
            tokio::select! {
                biased;
                incoming = self.socket.receive() => match incoming {
                    Incoming::Text(text) => self.answer(text).await?,
                    Incoming::Binary(bytes) => self.socket.send_binary(&bytes).await,
                    Incoming::End(end) => return Ok(end),
                },
                () = self.app.stopping() => {
                    return Ok(End::Close(CloseCode::AWAY, "the server stops"));
                }
                () = ready(()), if more => {}
                () = self.bell.rung() => {}
            }
        }
    }

    /// Does what calls the broker where that blocks no runtime.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Talk) -> T + Send + 'static,
    ) -> Result<T> {
        self.app.lend(&mut self.talk, work).await
    }

    async fn answer(&mut self, text: String) -> Result<()> {
        let max_message = self.app.config.max_message;
        if let Some(answer) = self.with(move |talk| receive(talk, &text, max_message)).await? {
            self.socket.send(std::iter::once(answer.as_bytes())).await;
        }
        Ok(())
    }

    /// Sends what others have sent; true if there may be more.
    async fn push(&mut self) -> Result<bool> {
        while let Some(letter) = self.talk.as_ref().and_then(|talk| talk.letter()) {
            let frame = frame(&letter.queue, letter.json.as_bytes()).unwrap_or_default();
            self.socket.send(std::iter::once(frame.as_bytes())).await;
        }
        let Some(messages) = self.with(Talk::next).await?? else { return Ok(false) };
        let bodies = messages.bodies();
        let frames: Vec<_> = bodies.filter_map(|body| frame(messages.queue(), body)).collect();
        self.socket.send(frames.iter().map(String::as_bytes)).await;
        Ok(true)
    }
}

/// What a text comes to, and what answers it.
fn receive(talk: &mut Talk, frame: &str, max_message: usize) -> Option<String> {
    let says = |text: &str| Some(json!({ "error": text }).to_string());
    // With room for the queue's name: the message is checked when it is put.
    let most = max_message.saturating_add(limits::REQUEST_OVERHEAD_BYTES);
    if let Err(error) = json::message(frame.as_bytes(), most) {
        return says(&error.text);
    }
    let Some(object) = Object::new(frame) else { return says(UNKNOWN) };
    if let Some(queue) = object.get("queue") {
        let Some(queue) = text(queue) else { return says("a queue has a name") };
        let answer = talk.receive(&queue, &object.without("queue"));
        return Object::new(&answer).map(|answer| answer.with(&[("queue", talk.id().into())]));
    }
    if let Some(queues) = object.get("coremq_subscribe") {
        let mut names = names(queues).unwrap_or_default();
        names.retain(|name| !name.is_empty());
        if names.is_empty() {
            return says("No queues found");
        }
        return talk.subscribe(&names).err().and_then(|error| says(&error.text));
    }
    if object.get("corews_status").is_some() {
        let hub = talk.hub();
        let status = json!({ "connections": hub.connections(), "mq_server": hub.server() });
        return Some(status.to_string());
    }
    says(UNKNOWN)
}

/// A message with its queue. What another protocol put and is no object goes into one.
fn frame(queue: &str, body: &[u8]) -> Option<String> {
    let body = str::from_utf8(body).ok()?;
    let queue = Value::from(queue);
    Some(match Object::new(body) {
        Some(object) => object.with(&[("queue", queue)]),
        None => format!("{{\"coremq_string\":{body},\"queue\":{queue}}}"),
    })
}
