//! O3one's WebSocket bridge: each client receives the messages of all topics that begin with `o3`,
//! as texts of the form `topic content`. The server ignores what a client sends.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;

use super::write;
use crate::broker::{Broker, Caller, From, Pattern, Session};
use crate::error::Result;
use crate::protocol::handler::Next;
use crate::protocol::http::app::App;
use crate::protocol::http::failure::HttpResult;
use crate::protocol::websocket::driver::{self, Binary, Frames};

/// The prefix of the bridged topics.
const PREFIX: &str = "o3";

/// Serves the bridge at every path.
pub fn routes() -> Router<Arc<App>> {
    Router::new().fallback(upgrade)
}

async fn upgrade(State(app): State<Arc<App>>, request: Request) -> HttpResult<Response> {
    driver::upgrade(&app, request, "o3one", |broker, caller, mut session, waker| {
        let topics = vec![Pattern::Prefix(PREFIX.into())];
        // Includes messages that were put after the connection was accepted.
        broker.subscribe(&caller, &mut session, topics, From::Start, &waker)?;
        Ok(Bridge { broker, caller, session, out: Vec::new() })
    })
}

struct Bridge {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    session: Session,
    /// Text messages to be written.
    out: Vec<Vec<u8>>,
}

impl Frames for Bridge {
    const BINARY: Binary = Binary::Ignore;

    fn receive(&mut self, text: &str, _done: usize) -> (usize, Next) {
        (text.len(), Next::Read)
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> + Send {
        self.out.iter().map(Vec::as_slice)
    }

    fn written(&mut self, _bytes: usize) {
        self.out = Vec::new();
    }

    fn push(&mut self) -> Result<bool> {
        let Some(pushes) = self.broker.pushes(&self.caller, &mut self.session)? else {
            return Ok(false);
        };
        let messages = pushes.range.clone().filter_map(|index| pushes.chunk.get(index));
        self.out.extend(messages.map(|message| {
            let mut text = Vec::new();
            write(&mut text, &pushes.topic, message);
            text
        }));
        Ok(true)
    }
}
