//! The state of every handler: the broker, calls of it that block no runtime thread, and a
//! [`NotifyWaker`] for waiting.

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Wake, Waker};

use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;
use tokio::sync::{Notify, watch};
use tokio::task;

use super::connection::HttpConnection;
use super::delivery::Delivery;
use super::failure::{Failure, HttpResult};
use super::page::monitor::Monitor;
use crate::broker::{Broker, Caller, Session};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Batch, Op, Outcome, PutOptions, Topic};
use crate::protocol::json;

/// The state of the routes.
pub struct App {
    broker: Arc<Broker>,
    pub config: Config,
    pub monitor: Monitor,
    stop: watch::Receiver<bool>,
}

impl App {
    pub fn new(broker: Arc<Broker>, config: Config, stop: watch::Receiver<bool>) -> App {
        App { broker, config, monitor: Monitor::default(), stop }
    }

    /// The broker, for calls that never wait for a disk.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Calls the broker: on this thread, or on a blocking one if the store may wait for a disk.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Broker>) -> T + Send + 'static,
    ) -> Result<T> {
        if !self.broker.blocks() {
            return Ok(work(&self.broker));
        }
        let broker = self.broker.clone();
        let done = task::spawn_blocking(move || work(&broker)).await;
        done.map_err(|error| {
            Error::new(Code::StoreFailed, format!("the request was not carried out: {error}"))
        })
    }

    /// Largest body of a request, in bytes.
    pub fn body_max(&self) -> usize {
        self.config.max_message.saturating_add(limits::REQUEST_OVERHEAD_BYTES)
    }

    /// Completes when the server stops; endless streams must end then.
    pub async fn stopping(&self) {
        // An error means that the server is gone.
        let _ = self.stop.clone().wait_for(|stops| *stops).await;
    }
}

/// The [`App`] of one request: calls the broker on behalf of the request's caller.
#[derive(Clone)]
pub struct ForCaller {
    app: Arc<App>,
    pub caller: Arc<Caller>,
}

impl Deref for ForCaller {
    type Target = Arc<App>;

    fn deref(&self) -> &Arc<App> {
        &self.app
    }
}

impl FromRequestParts<Arc<App>> for ForCaller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> HttpResult<ForCaller> {
        ForCaller::new(app, &parts.extensions)
    }
}

impl ForCaller {
    /// `extensions` belong to the request and hold its connection.
    pub fn new(app: &Arc<App>, extensions: &Extensions) -> HttpResult<ForCaller> {
        let connection: Option<&Arc<HttpConnection>> = extensions.get();
        let unknown = || Error::new(Code::StoreFailed, "the connection of the request is unknown");
        let caller = connection.ok_or_else(unknown)?.caller().clone();
        Ok(ForCaller { app: app.clone(), caller })
    }

    /// The same caller after the connection became a WebSocket or a stream.
    pub fn over(&self, protocol: &'static str) -> ForCaller {
        ForCaller { app: self.app.clone(), caller: Arc::new(self.caller.over(protocol)) }
    }

    /// Calls the broker, as [`App::run`] does.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Broker>, &Arc<Caller>) -> T + Send + 'static,
    ) -> Result<T> {
        let caller = self.caller.clone();
        self.app.run(move |broker| work(broker, &caller)).await
    }

    /// Carries out one operation other than a take, and returns its outcome.
    pub async fn apply(&self, op: Op) -> Result<Outcome> {
        let mut batch = Batch::default();
        batch.ops.push(op);
        self.run(move |broker, caller| only(broker, caller, batch)).await?
    }

    /// Puts a message, given as JSON text, and returns once the store guarantees it.
    pub async fn put(
        &self,
        topic: Topic,
        message: &[u8],
        options: Option<Box<PutOptions>>,
    ) -> Result<Outcome> {
        self.put_or_accept(topic, message, options, true).await
    }

    /// Puts a message; without `confirm`, returns before the store guarantees it.
    pub async fn put_or_accept(
        &self,
        topic: Topic,
        message: &[u8],
        options: Option<Box<PutOptions>>,
        confirm: bool,
    ) -> Result<Outcome> {
        if message.len() > self.config.max_message {
            return Err(json::message_too_large(self.config.max_message));
        }
        let mut batch = Batch::default();
        batch.put(topic, message, options);
        if confirm {
            batch.confirm();
        }
        self.run(move |broker, caller| only(broker, caller, batch)).await?
    }

    /// Takes the next message of the topic, if there is one. It is requeued unless
    /// [`Delivery::respond`] writes it.
    pub async fn take(&self, topic: Topic, lease: Option<u64>) -> Result<Option<Delivery>> {
        self.run(move |broker, caller| {
            let mut batch = Batch::default();
            batch.ops.push(Op::Take { topic: topic.clone(), lease });
            broker.apply(caller, &mut batch);
            match batch.only()? {
                Outcome::Taken(Some(taken)) => {
                    let body = batch.taken_body(&taken).into();
                    Ok(Some(Delivery::new(
                        broker.clone(),
                        caller.clone(),
                        topic,
                        taken,
                        body,
                        lease,
                    )))
                }
                _ => Ok(None),
            }
        })
        .await?
    }

    /// A new session, for a connection that has none.
    pub fn session(&self) -> Session {
        self.broker.session(&self.caller)
    }
}

fn only(broker: &Broker, caller: &Caller, mut batch: Batch) -> Result<Outcome> {
    broker.apply(caller, &mut batch);
    batch.only()
}

/// A waker for one task. A wake-up before the task waits is kept; several count as one.
#[derive(Default)]
pub struct NotifyWaker(Notify);

impl NotifyWaker {
    pub fn new() -> Arc<NotifyWaker> {
        Arc::default()
    }

    pub fn waker(self: &Arc<NotifyWaker>) -> Waker {
        Waker::from(self.clone())
    }

    pub async fn notified(&self) {
        self.0.notified().await;
    }
}

impl Wake for NotifyWaker {
    fn wake(self: Arc<NotifyWaker>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<NotifyWaker>) {
        self.0.notify_one();
    }
}
