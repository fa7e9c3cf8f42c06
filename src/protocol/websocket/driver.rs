//! Drives a protocol over a WebSocket: reads messages, carries them out, writes replies and pushes
//! until one side ends. A protocol is an implementation of [`Frames`].

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::time::{Instant, sleep, sleep_until};

use super::{End, Incoming, Socket, Upgrade, session};
use crate::broker::{Broker, Caller, Session};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::protocol::handler::Next;
use crate::protocol::http::app::{App, ForCaller, NotifyWaker};
use crate::protocol::http::failure::HttpResult;
use crate::wire::websocket::CloseCode;

/// A connection that is idle for this long frees the memory that it does not need.
const SHRINK_AFTER: Duration = Duration::from_secs(1);

/// The reaction to a binary message.
#[derive(Clone, Copy)]
pub enum Binary {
    /// Close the connection.
    Refuse,
    /// Send the same message back.
    Echo,
    Ignore,
}

/// A protocol in text messages, without its socket. The methods may wait for a disk, so the driver
/// calls those that change state through [`App::run`].
pub trait Frames: Send + Sized + 'static {
    const BINARY: Binary;

    /// Carries out a text message from byte `done` on. Returns the new position, and [`Next::Read`]
    /// once the message is complete.
    fn receive(&mut self, text: &str, done: usize) -> (usize, Next);

    /// The pending frames, one text message each.
    fn frames(&self) -> impl Iterator<Item = &[u8]> + Send;

    /// Reports that complete frames with `bytes` bytes were written. The others never will be.
    fn written(&mut self, bytes: usize);

    /// Appends pushes to the frames; returns true if more may follow.
    fn push(&mut self) -> Result<bool>;

    fn is_subscribed(&self) -> bool {
        true
    }

    /// Whether the protocol holds memory that an idle connection does not need.
    fn is_bulky(&self) -> bool {
        false
    }

    /// Frees that memory.
    fn shrink(&mut self) {}

    /// Retries the waiting request after [`Next::Wait`]. Returns `None` once a reply is ready,
    /// otherwise the time at which to call again.
    fn retry(&mut self) -> Option<Instant> {
        None
    }

    /// Reports that the peer is gone while a request waits.
    fn peer_gone(&mut self) {}
}

/// Accepts the opening handshake and starts the driver; the connection counts under `gauge`.
/// `begin` creates the protocol with its waker, which must be woken when there is something to
/// push.
pub fn upgrade<F: Frames>(
    app: &Arc<App>,
    mut request: Request,
    gauge: &'static str,
    begin: impl FnOnce(Arc<Broker>, Arc<Caller>, Session, Waker) -> Result<F> + Send + 'static,
) -> HttpResult<Response> {
    let for_caller = ForCaller::new(app, request.extensions())?.over(gauge);
    let session = session(&for_caller, &request);
    let upgrade = Upgrade::new(&mut request, gauge)?;
    let driver_app = app.clone();
    Ok(upgrade.answer(app, async move |socket| {
        let notify = NotifyWaker::new();
        let waker = notify.waker();
        let begin = move |broker: &Arc<Broker>, caller: &Arc<Caller>| {
            begin(broker.clone(), caller.clone(), session, waker)
        };
        let frames = for_caller.run(begin).await;
        match frames.flatten() {
            Ok(frames) => Driver::new(driver_app, socket, frames, notify).run().await,
            Err(error) => socket.close(internal_error(&error)).await,
        }
    }))
}

fn internal_error(error: &Error) -> End {
    tracing::error!("closing a WebSocket after an internal error: {error}");
    End::Close(CloseCode::FAILED, "internal error")
}

struct Driver<F> {
    app: Arc<App>,
    socket: Socket,
    /// `None` only while a thread for blocking calls has it.
    frames: Option<Box<F>>,
    /// Notified when the broker has something for this connection.
    notify: Arc<NotifyWaker>,
    /// Messages read while a request waits, and the sum of their bytes.
    inbox: VecDeque<String>,
    unread_bytes: usize,
    /// The end of the connection, once the inbox is carried out.
    end: Option<End>,
}

impl<F: Frames> Driver<F> {
    fn new(app: Arc<App>, socket: Socket, frames: F, notify: Arc<NotifyWaker>) -> Driver<F> {
        let frames = Some(Box::new(frames));
        Driver { app, socket, frames, notify, inbox: VecDeque::new(), unread_bytes: 0, end: None }
    }

    async fn run(mut self) {
        let end = self.serve().await.unwrap_or_else(|error| internal_error(&error));
        // Unwritten messages are requeued before the peer learns of the end. That may wait for a
        // disk.
        let Driver { app, socket, frames, .. } = self;
        if let Err(error) = app.run(move |_| drop(frames)).await {
            tracing::debug!("cannot end a WebSocket cleanly: {error}");
        }
        socket.close(end).await;
    }

    /// Carries out messages and sends pushes until the end.
    async fn serve(&mut self) -> Result<End> {
        loop {
            if let Some(text) = self.inbox.pop_front() {
                self.unread_bytes -= text.len();
                if self.carry_out(text).await? == Next::Close {
                    return Ok(End::Close(
                        CloseCode::INVALID,
                        "a text message must be a JSON request",
                    ));
                }
            } else if let Some(end) = self.end {
                return Ok(end);
            } else {
                let more = self.push().await?;
                self.listen(more).await?;
            }
        }
    }

    /// Calls the broker through [`App::run`], so that no runtime thread blocks.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut F) -> T + Send + 'static,
    ) -> Result<T> {
        let lost = || Error::new(Code::StoreFailed, "the state of the connection is lost");
        let mut frames = self.frames.take().ok_or_else(lost)?;
        let run = self.app.run(move |_| {
            let result = work(&mut frames);
            (frames, result)
        });
        let (frames, result) = run.await?;
        self.frames = Some(frames);
        Ok(result)
    }

    async fn carry_out(&mut self, mut text: String) -> Result<Next> {
        let mut done = 0;
        loop {
            let receive = move |frames: &mut F| {
                let (done, next) = frames.receive(&text, done);
                (text, done, next)
            };
            let next;
            (text, done, next) = self.with(receive).await?;
            self.write().await;
            match next {
                Next::Wait => self.wait().await?,
                Next::Write => {}
                Next::Read | Next::Close => return Ok(next),
            }
        }
    }

    /// Writes the pending frames. Taken messages that cannot be written are requeued.
    async fn write(&mut self) {
        let Some(frames) = &mut self.frames else { return };
        if frames.frames().next().is_none() {
            return;
        }
        let written = self.socket.send(frames.frames()).await;
        frames.written(written);
    }

    /// Writes pushes; returns true if more may follow.
    async fn push(&mut self) -> Result<bool> {
        if !self.frames.as_ref().is_some_and(|frames| frames.is_subscribed()) {
            return Ok(false);
        }
        let more = self.with(F::push).await??;
        self.write().await;
        Ok(more && self.end.is_none())
    }

    /// Waits for a message or a push. When the server stops, the messages that have arrived are
    /// carried out before the end.
    async fn listen(&mut self, more: bool) -> Result<()> {
        let bulky = self.frames.as_ref().is_some_and(|frames| frames.is_bulky());
        tokio::select! {
            biased;
            incoming = self.socket.receive() => self.accept_incoming(incoming).await,
            () = self.app.stopping() => {
                self.end = Some(End::Close(CloseCode::AWAY, "the server stops"));
            }
            () = ready(()), if more => {}
            () = self.notify.notified() => {}
            () = sleep(SHRINK_AFTER), if bulky => self.shrink(),
        }
        Ok(())
    }

    fn shrink(&mut self) {
        if let Some(frames) = &mut self.frames {
            frames.shrink();
        }
    }

    async fn accept_incoming(&mut self, incoming: Incoming) {
        match (incoming, F::BINARY) {
            (Incoming::Text(text), _) => {
                self.unread_bytes += text.len();
                self.inbox.push_back(text);
            }
            (Incoming::Binary(_), Binary::Refuse) => {
                let text = "binary messages are not supported: send text";
                self.end = Some(End::Close(CloseCode::UNSUPPORTED, text));
            }
            (Incoming::Binary(bytes), Binary::Echo) => self.socket.send_binary(&bytes).await,
            (Incoming::Binary(_), Binary::Ignore) => {}
            (Incoming::End(end), _) => self.end = Some(end),
        }
    }

    /// Sleeps until the waiting request has its reply; pushes continue. Messages that arrive
    /// meanwhile are read, up to one buffer, and kept for later.
    async fn wait(&mut self) -> Result<()> {
        self.shrink();
        while let Some(deadline) = self.with(F::retry).await? {
            if self.end.is_some() {
                // After a close the client reads no more replies.
                self.with(F::peer_gone).await?;
                break;
            }
            let more = self.push().await?;
            let room = self.unread_bytes < limits::READ_BYTES;
            tokio::select! {
                biased;
                incoming = self.socket.receive(), if room => self.accept_incoming(incoming).await,
                () = ready(()), if more => {}
                () = self.notify.notified() => {}
                () = sleep_until(deadline) => {}
            }
        }
        self.write().await;
        Ok(())
    }
}
