//! The JSON protocol over a WebSocket: a text frame is a request, and each reply or push is one.
//! What dsmq 1.x speaks.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::broker::Session;
use crate::error::Result;
use crate::limits;
use crate::protocol::http::app::App;
use crate::protocol::http::bell::Bell;
use crate::protocol::http::failure::Answer;
use crate::protocol::json::Conversation;
use crate::protocol::talk::{Step, Talk as _};
use crate::protocol::websocket::socket::{End, Incoming, Socket};
use crate::protocol::websocket::{Upgrade, asked_for, session};
use crate::wire::websocket::CloseCode;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

/// A connection that holds more memory than an idle one needs gives it back after this long.
const SHRINK_AFTER: Duration = Duration::from_secs(1);

/// The methods of `/`, where a request for a WebSocket begins the JSON protocol; others go to `page`.
pub fn root(app: Arc<App>, page: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    page.layer(from_fn(move |request: Request, next: Next| {
        let app = app.clone();
        async move {
            match asked_for(&request) {
                true => upgrade(app, request).await.into_response(),
                false => next.run(request).await,
            }
        }
    }))
}

/// The JSON protocol, one request a frame.
async fn upgrade(app: Arc<App>, mut request: Request) -> Answer<Response> {
    let session = session(&app, &request);
    let upgrade = Upgrade::new(&mut request, "websocket")?;
    let talker = app.clone();
    Ok(upgrade.answer(&app, async move |socket| talk(talker, session, socket).await))
}

/// Serves a socket to its end.
async fn talk(app: Arc<App>, session: Session, socket: Socket) {
    let bell = Bell::new();
    let waker = bell.waker();
    let talk = app.conversation(session, waker).in_frames();
    let talker = Talker {
        app,
        socket,
        talk: Some(Box::new(talk)),
        bell,
        inbox: VecDeque::new(),
        ahead: 0,
        end: None,
    };
    talker.run().await;
}

struct Talker {
    app: Arc<App>,
    socket: Socket,
    /// Always there, except while a thread for blocking calls has it.
    talk: Option<Box<Conversation>>,
    /// Rung when the broker has something for this connection.
    bell: Arc<Bell>,
    /// Requests that were read while another waits, and their bytes.
    inbox: VecDeque<String>,
    ahead: usize,
    /// How the connection ends, once what has arrived is carried out.
    end: Option<End>,
}

impl Talker {
    async fn run(mut self) {
        let end = match self.serve().await {
            Ok(end) => end,
            Err(error) => {
                tracing::error!("a WebSocket has to end: {error}");
                End::Close(CloseCode::FAILED, "the server has failed")
            }
        };
        // What it has not been given goes back before the peer is told of the end.
        self.talk = None;
        self.socket.close(end).await;
    }

    /// Carries out what comes, and pushes, until the end.
    async fn serve(&mut self) -> Result<End> {
        loop {
            if let Some(text) = self.inbox.pop_front() {
                self.ahead -= text.len();
                if self.carry_out(text).await? == Step::Close {
                    return Ok(End::Close(CloseCode::INVALID, "a text must be a JSON request"));
                }
            } else if let Some(end) = self.end {
                return Ok(end);
            } else {
                let more = self.push().await?;
                self.listen(more).await?;
            }
        }
    }

    /// Does what calls the broker where that blocks no runtime.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Conversation) -> T + Send + 'static,
    ) -> Result<T> {
        self.app.lend(&mut self.talk, work).await
    }

    /// Carries out the requests of one frame.
    async fn carry_out(&mut self, mut text: String) -> Result<Step> {
        let mut done = 0;
        loop {
            let advance = move |talk: &mut Conversation| {
                let unread = text.as_bytes().get(done..).unwrap_or_default();
                let (used, step) = talk.advance(unread);
                let end = step == Step::Read;
                let unread = unread.get(used..).unwrap_or_default();
                let step = if end { talk.end_frame(unread) } else { step };
                (text, done + used, step, end)
            };
            let (rest, used, step, end) = self.with(advance).await?;
            (text, done) = (rest, used);
            self.write().await;
            match step {
                Step::Close => return Ok(Step::Close),
                Step::Wait => self.wait().await?,
                _ if end => return Ok(Step::Read),
                _ => {}
            }
        }
    }

    /// Writes what there is. What was taken and cannot be written goes back.
    async fn write(&mut self) {
        let Some(talk) = &mut self.talk else { return };
        if talk.replies().is_empty() {
            return;
        }
        let written = self.socket.send(talk.frames()).await;
        talk.written(written);
    }

    /// Writes pushes; true if there may be more.
    async fn push(&mut self) -> Result<bool> {
        if !self.talk.as_ref().is_some_and(|talk| talk.is_subscribed()) {
            return Ok(false);
        }
        let more = self.with(Conversation::push).await?;
        self.write().await;
        Ok(more && self.end.is_none())
    }

    /// Waits for a request, or for something to push. What has arrived when the server stops is
    /// carried out before it ends.
    async fn listen(&mut self, more: bool) -> Result<()> {
        let bulky = self.talk.as_ref().is_some_and(|talk| talk.is_bulky());
        tokio::select! {
            biased;
            incoming = self.socket.receive() => self.take_in(incoming),
            () = self.app.stopping() => {
                self.end = Some(End::Close(CloseCode::AWAY, "the server stops"));
            }
            () = ready(()), if more => {}
            () = self.bell.rung() => {}
            () = sleep(SHRINK_AFTER), if bulky => self.shrink(),
        }
        Ok(())
    }

    fn shrink(&mut self) {
        if let Some(talk) = &mut self.talk {
            talk.shrink();
        }
    }

    fn take_in(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Text(text) => {
                self.ahead += text.len();
                self.inbox.push_back(text);
            }
            Incoming::Binary(_) => {
                let text = "requests are text, and not binary";
                self.end = Some(End::Close(CloseCode::UNSUPPORTED, text));
            }
            Incoming::End(end) => self.end = Some(end),
        }
    }

    /// Sleeps until the request that waits has its reply; pushes go on. What arrives meanwhile is
    /// read, up to a buffer full, and left for later.
    async fn wait(&mut self) -> Result<()> {
        self.shrink();
        while let Some(deadline) = self.with(Conversation::retry).await? {
            if self.end.is_some() {
                // After a close nobody reads a reply.
                self.with(|talk| talk.peer_ended(true)).await?;
                break;
            }
            let more = self.push().await?;
            let room = self.ahead < limits::READ_BYTES;
            tokio::select! {
                biased;
                incoming = self.socket.receive(), if room => self.take_in(incoming),
                () = ready(()), if more => {}
                () = self.bell.rung() => {}
                () = sleep_until(Instant::from_std(deadline)) => {}
            }
        }
        self.write().await;
        Ok(())
    }
}
