//! O3one's bridge: whoever connects is sent what is published to the topics that begin with `o3`, each
//! message as one text, `topic content`. What it sends is not read by anyone.

use std::future::ready;
use std::sync::Arc;

use super::write;
use crate::broker::{From, Pattern, Session};
use crate::error::Result;
use crate::protocol::http::app::App;
use crate::protocol::http::bell::Bell;
use crate::protocol::http::failure::Answer;
use crate::protocol::websocket::socket::{End, Incoming, Socket};
use crate::protocol::websocket::{Upgrade, session};
use crate::wire::websocket::CloseCode;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;

/// What its topics begin with.
const PREFIX: &str = "o3";

/// The bridge, at every path.
pub fn routes() -> Router<Arc<App>> {
    Router::new().fallback(upgrade)
}

async fn upgrade(State(app): State<Arc<App>>, mut request: Request) -> Answer<Response> {
    let session = session(&app, &request);
    let upgrade = Upgrade::new(&mut request, "o3one")?;
    let talker = app.clone();
    Ok(upgrade.answer(&app, async move |socket| talk(talker, session, socket).await))
}

/// Serves a socket to its end.
async fn talk(app: Arc<App>, session: Session, socket: Socket) {
    let bell = Bell::new();
    let mut talker = Talker { app, socket, session: Some(Box::new(session)), bell };
    let end = talker.serve().await.unwrap_or_else(|error| {
        tracing::error!("a WebSocket has to end: {error}");
        End::Close(CloseCode::FAILED, "the server has failed")
    });
    talker.socket.close(end).await;
}

struct Talker {
    app: Arc<App>,
    socket: Socket,
    /// Always there, except while a thread for blocking calls has it.
    session: Option<Box<Session>>,
    /// Rung when there is a message.
    bell: Arc<Bell>,
}

impl Talker {
    async fn serve(&mut self) -> Result<End> {
        self.subscribe().await?;
        loop {
            let more = self.push().await?;
            tokio::select! {
                biased;
                incoming = self.socket.receive() => if let Incoming::End(end) = incoming {
                    return Ok(end);
                },
                () = self.app.stopping() => {
                    return Ok(End::Close(CloseCode::AWAY, "the server stops"));
                }
                () = ready(()), if more => {}
                () = self.bell.rung() => {}
            }
        }
    }

    async fn subscribe(&mut self) -> Result<()> {
        let (broker, waker) = (self.app.broker().clone(), self.bell.waker());
        let subscribe = move |session: &mut Session| {
            // Nothing is missed that came since it connected.
            broker.subscribe(session, vec![Pattern::Prefix(PREFIX.into())], From::Start, &waker)
        };
        self.app.lend(&mut self.session, subscribe).await?.map(drop)
    }

    /// Sends what was published; true if there may be more.
    async fn push(&mut self) -> Result<bool> {
        let broker = self.app.broker().clone();
        let next = move |session: &mut Session| broker.pushes(session);
        let pushes = self.app.lend(&mut self.session, next).await?;
        let Some(pushes) = pushes? else { return Ok(false) };
        let messages = pushes.range.clone().filter_map(|index| pushes.run.get(index));
        let texts = messages.map(|message| {
            let mut text = Vec::new();
            write(&mut text, &pushes.topic, message);
            text
        });
        let texts: Vec<_> = texts.collect();
        self.socket.send(texts.iter().map(Vec::as_slice)).await;
        Ok(true)
    }
}
