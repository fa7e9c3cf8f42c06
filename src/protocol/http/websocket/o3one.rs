//! O3one's bridge: whoever connects is sent what is published to the topics that begin with `o3`, each
//! message as one text, `topic content`. What it sends is not read by anyone.

use std::future::ready;
use std::sync::Arc;

use super::super::app::App;
use super::super::bell::Bell;
use super::socket::{End, Incoming, Socket};
use crate::broker::{From, Pattern, Session};
use crate::error::Result;
use crate::protocol::o3one::write;
use crate::protocol::websocket::CloseCode;

/// What its topics begin with.
const PREFIX: &str = "o3";

/// Serves a socket to its end.
pub async fn talk(app: Arc<App>, session: Session, socket: Socket) {
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
