//! dsmq 1.4.1: JSON requests over a WebSocket at `/` of the server's own port, documented in
//! docs/reference/dsmq1.md. A message holds one or more requests; each reply or push is one
//! message. May use `protocol`, must not know the store.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{self, from_fn};
use axum::response::IntoResponse;
use axum::routing::MethodRouter;
use tokio::time::Instant;

use crate::error::Result;
use crate::protocol::handler::{Next, ProtocolHandler as _};
use crate::protocol::http::app::App;
use crate::protocol::json::JsonHandler;
use crate::protocol::websocket::driver::{Binary, Frames, upgrade};
use crate::protocol::websocket::is_upgrade;

/// The route `/`: a WebSocket upgrade starts the JSON protocol, any other request goes to `page`.
pub fn root(app: Arc<App>, page: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    page.layer(from_fn(move |request: Request, next: middleware::Next| {
        let app = app.clone();
        async move {
            if !is_upgrade(&request) {
                return next.run(request).await;
            }
            let max = app.config.max_message;
            let begin = move |broker, caller, session, waker| {
                Ok(Requests(JsonHandler::new(broker, caller, session, max, waker).in_frames()))
            };
            upgrade(&app, request, "websocket", begin).into_response()
        }
    }))
}

struct Requests(JsonHandler);

impl Frames for Requests {
    const BINARY: Binary = Binary::Refuse;

    fn receive(&mut self, text: &str, done: usize) -> (usize, Next) {
        let unread = text.as_bytes().get(done..).unwrap_or_default();
        let (used, next) = self.0.advance(unread);
        let next = match next {
            Next::Read => self.0.end_frame(unread.get(used..).unwrap_or_default()),
            next => next,
        };
        (done + used, next)
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> + Send {
        self.0.frames()
    }

    fn written(&mut self, bytes: usize) {
        self.0.written(bytes);
    }

    fn push(&mut self) -> Result<bool> {
        Ok(self.0.push())
    }

    fn is_subscribed(&self) -> bool {
        self.0.is_subscribed()
    }

    fn is_bulky(&self) -> bool {
        self.0.is_bulky()
    }

    fn shrink(&mut self) {
        self.0.shrink();
    }

    fn retry(&mut self) -> Option<Instant> {
        self.0.retry().map(Instant::from_std)
    }

    fn peer_gone(&mut self) {
        self.0.peer_ended(true);
    }
}
