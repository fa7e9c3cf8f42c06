//! RestMQ's consumers: connections that receive the messages of a queue and thereby remove them.
//! Comet (`/c/`) is an endless answer with a line for each message. A WebSocket (`/ws/`) has a text
//! frame for each message, and echoes what the client sends. Messages that could not be written go
//! back to the queue.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::iter::once;
use std::sync::{Arc, Mutex};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::exchange::{self, Ending, ObjectWriter, RequestFields};
use super::{key, on_one_line};
use crate::broker::{Broker, Caller, Consumer, Delivery, Received, UpgradeGuard};
use crate::error::Result;
use crate::ops::Topic;
use crate::protocol::http::app::{ForCaller, NotifyWaker};
use crate::protocol::http::connection::HttpConnection;
use crate::protocol::http::extract::Name;
use crate::protocol::http::failure::HttpResult;
use crate::protocol::websocket::{End, Incoming, Socket, Upgrade};
use crate::sync::lock;
use crate::wire::websocket::CloseCode;

/// A gathering stops after this many bytes of messages.
const GATHERED_BYTES: usize = 16 * 1024;

/// One consumer of a queue. It leaves the queue when it is dropped.
pub struct QueueReader {
    app: ForCaller,
    notify: Arc<NotifyWaker>,
    /// Shared with a blocking thread, which may wait for a disk. `None` only while it is dropped.
    state: Option<Arc<Mutex<ConsumerState>>>,
}

impl Drop for QueueReader {
    fn drop(&mut self) {
        let state = self.state.take();
        match Handle::try_current() {
            // If the runtime shuts down before the thread starts, the dropped closure drops the state.
            Ok(runtime) if self.app.broker().blocks() => {
                drop(runtime.spawn_blocking(|| drop(state)));
            }
            _ => drop(state),
        }
    }
}

/// The consumer in the broker, and the messages that it received but has not written.
struct ConsumerState {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    consumer: Option<Consumer>,
    unwritten: VecDeque<Delivery>,
    written: Vec<Delivery>,
    dismissed: bool,
}

impl QueueReader {
    /// Joins the queue. Waiting messages come first.
    pub async fn join(app: ForCaller, queue: Topic) -> Result<QueueReader> {
        let notify = NotifyWaker::new();
        let waker = notify.waker();
        let reader_app = app.clone();
        // Made inside the closure: if this future is dropped meanwhile, so is a complete reader.
        let reader = app.run(move |broker, caller| {
            let state = ConsumerState {
                broker: broker.clone(),
                caller: caller.clone(),
                consumer: Some(broker.consume(caller, &queue, waker)),
                unwritten: VecDeque::new(),
                written: Vec::new(),
                dismissed: false,
            };
            QueueReader { app: reader_app, notify, state: Some(Arc::new(Mutex::new(state))) }
        });
        reader.await
    }

    /// The next message to write, as an object; `None` if the connection is to be closed.
    pub async fn next(&self) -> Option<Vec<u8>> {
        tokio::select! {
            biased;
            () = self.app.stopping() => None,
            next = self.wait() => next,
        }
    }

    async fn wait(&self) -> Option<Vec<u8>> {
        let shared = self.state.as_ref()?;
        loop {
            {
                let state = lock(shared);
                if let Some(object) = state.object() {
                    return Some(object);
                }
                if state.dismissed {
                    return None;
                }
            }
            let state = shared.clone();
            let came = self.app.run(move |_, _| lock(&state).gather()).await.ok()?;
            if !came {
                self.notify.notified().await;
            }
        }
    }

    /// Marks the current message as written to the connection.
    pub fn written(&self) {
        let Some(state) = &self.state else { return };
        let mut state = lock(state);
        let written = state.unwritten.pop_front();
        state.written.extend(written);
    }
}

impl ConsumerState {
    /// Reports written messages to the broker and receives up to [`GATHERED_BYTES`] more. Returns
    /// true if there is something to write or the consumer was dismissed.
    fn gather(&mut self) -> bool {
        let Some(consumer) = &self.consumer else { return false };
        self.broker.reached(&self.caller, consumer, std::mem::take(&mut self.written));
        let mut bytes = 0;
        while bytes < GATHERED_BYTES {
            match self.broker.receive(&self.caller, consumer) {
                Received::Message(delivery) => {
                    bytes += delivery.message().body.len();
                    self.unwritten.push_back(delivery);
                }
                Received::Nothing => break,
                Received::Dismissed => {
                    self.dismissed = true;
                    return true;
                }
            }
        }
        !self.unwritten.is_empty()
    }

    fn object(&self) -> Option<Vec<u8>> {
        let (queue, message) = (self.consumer.as_ref()?.topic(), self.unwritten.front()?.message());
        let object = ObjectWriter::new().text("key", &key(queue, message.taken.id));
        Some(object.json("value", &on_one_line(&message.body)).end())
    }
}

impl Drop for ConsumerState {
    /// Returns the unwritten messages to the queue, which may wait for a disk.
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            self.broker.reached(&self.caller, &consumer, std::mem::take(&mut self.written));
            self.broker.leave(&self.caller, consumer, std::mem::take(&mut self.unwritten).into());
        }
    }
}

struct CometStream {
    reader: QueueReader,
    callback: Option<String>,
    flushes: watch::Receiver<u64>,
    /// The number of completed flushes when the last line was handed to the connection.
    given: Option<u64>,
    _upgraded: UpgradeGuard,
}

/// Comet: an endless answer with one line for each message.
pub async fn comet(
    app: ForCaller,
    Name(queue): Name,
    Extension(connection): Extension<Arc<HttpConnection>>,
    fields: RequestFields,
) -> HttpResult<Response> {
    let comet = CometStream {
        reader: QueueReader::join(app.over("comet"), queue).await?,
        callback: fields.callback().map(str::to_owned),
        flushes: connection.flushes(),
        given: None,
        _upgraded: connection.upgrade("comet"),
    };
    let lines = stream::unfold(comet, CometStream::next);
    Ok(exchange::response(exchange::TEXT, Body::from_stream(lines)))
}

impl CometStream {
    async fn next(mut self) -> Option<(std::result::Result<Bytes, Infallible>, CometStream)> {
        if let Some(given) = self.given {
            self.flushes.wait_for(|flushes| *flushes > given).await.ok()?;
            self.reader.written();
        }
        let object = self.reader.next().await?;
        let line = Ending::LINE.write(&object, self.callback.as_deref());
        self.given = Some(*self.flushes.borrow());
        Some((Ok(line.into()), self))
    }
}

/// A WebSocket with one text frame for each message.
pub async fn websocket(
    app: ForCaller,
    Name(queue): Name,
    mut request: Request,
) -> HttpResult<Response> {
    let upgrade = Upgrade::new(&mut request, "websocket")?;
    // Messages put from now on are received, even before the client has the answer.
    let reader = QueueReader::join(app.over("websocket"), queue).await?;
    let server = app.clone();
    Ok(upgrade.answer(&app, async move |socket| serve(server, socket, reader).await))
}

async fn serve(app: ForCaller, mut socket: Socket, reader: QueueReader) {
    let end = converse(&mut socket, &reader).await.unwrap_or_else(|| {
        match app.broker().check_open(&app.caller) {
            Ok(()) => End::Close(CloseCode::NORMAL, "the queue was purged, or you read too slowly"),
            Err(_) => End::Close(CloseCode::AWAY, "the server stops"),
        }
    });
    // Unwritten messages must be back in the queue before the peer sees the close.
    drop(reader);
    socket.close(end).await;
}

/// Runs until either side closes; `None` if the server does.
async fn converse(socket: &mut Socket, reader: &QueueReader) -> Option<End> {
    loop {
        tokio::select! {
            object = reader.next() => {
                let object = object?;
                if socket.send(once(object.as_slice())).await < object.len() {
                    return Some(End::Gone);
                }
                reader.written();
            }
            incoming = socket.receive() => match incoming {
                Incoming::Text(text) => {
                    socket.send(once(text.as_bytes())).await;
                }
                Incoming::Binary(bytes) => socket.send_binary(&bytes).await,
                Incoming::End(end) => return Some(end),
            },
        }
    }
}

#[cfg(test)]
mod tests;
