//! Takes, immediate or waiting. When a waiting client disconnects it leaves the queue, and its
//! message goes to the next taker.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout_at};

use super::super::app::{ForCaller, NotifyWaker};
use super::super::delivery::Delivery;
use super::super::extract::{Name, Payload};
use super::super::failure::{HttpResult, Json};
use super::input::Params;
use crate::broker::{Broker, Caller, TakeWaiter};
use crate::error::Result;
use crate::ops::{Requeue, Topic};
use crate::protocol::json::{self, Field, FieldSource as _};

pub async fn take(
    app: ForCaller,
    Name(topic): Name,
    uri: Uri,
    Payload(body): Payload,
) -> HttpResult<Response> {
    let params = &Params::new(&uri).body(&body, app.config.max_message)?;
    let (lease, wait) = (params.micros(Field::Lease)?, params.wait()?);
    let delivery = match wait.is_zero() {
        true => app.take(topic, lease).await?,
        false => wait_to_take(&app, topic, lease, wait).await?,
    };
    let body = json::reply(|reply| match delivery.as_ref().and_then(|h| Some((h, h.taken()?))) {
        Some((delivery, taken)) => reply.taken(taken, delivery.text()),
        None => reply.nothing(true),
    });
    Ok(match delivery {
        Some(delivery) => Json(delivery.respond(body)).into_response(),
        None => Json(body).into_response(),
    })
}

/// A taker in the wait queue. Dropping it frees its place and passes a message it received to the
/// next taker.
struct QueuedTaker {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    lease: Option<u64>,
    waiting: Option<TakeWaiter>,
}

impl QueuedTaker {
    fn join(
        broker: &Arc<Broker>,
        caller: &Arc<Caller>,
        topic: &Topic,
        lease: Option<u64>,
        waker: Waker,
    ) -> QueuedTaker {
        let waiting = broker.wait_to_take(caller, topic, lease, waker);
        QueuedTaker {
            broker: broker.clone(),
            caller: caller.clone(),
            lease,
            waiting: Some(waiting),
        }
    }

    fn received(&mut self) -> Option<Result<Delivery>> {
        let waiting = self.waiting.as_mut()?;
        let (topic, message) = (waiting.topic().clone(), waiting.handed()?);
        Some(message.map(|message| self.new_delivery(topic, message)))
    }

    /// Leaves the queue; returns the message if one was handed over before.
    fn leave(mut self) -> Option<Result<Delivery>> {
        let waiting = self.waiting.take()?;
        let (topic, message) = (waiting.topic().clone(), waiting.leave()?);
        Some(message.map(|message| self.new_delivery(topic, message)))
    }

    fn new_delivery(&self, topic: Topic, message: Requeue) -> Delivery {
        let (broker, caller) = (self.broker.clone(), self.caller.clone());
        Delivery::new(broker, caller, topic, message.taken, message.body, self.lease)
    }
}

impl Drop for QueuedTaker {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.broker.give_up(&self.caller, waiting);
        }
    }
}

async fn wait_to_take(
    app: &ForCaller,
    topic: Topic,
    lease: Option<u64>,
    wait: Duration,
) -> Result<Option<Delivery>> {
    let deadline = Instant::now() + wait;
    let notify = NotifyWaker::new();
    let waker = notify.waker();
    let mut taker = app
        .run(move |broker, caller| QueuedTaker::join(broker, caller, &topic, lease, waker))
        .await?;
    loop {
        if let Some(delivery) = taker.received() {
            return delivery.map(Some);
        }
        if Instant::now() >= deadline || app.broker().check_open(&app.caller).is_err() {
            break;
        }
        let _ = timeout_at(deadline, notify.notified()).await;
    }
    match app.run(move |_, _| taker.leave()).await? {
        Some(delivery) => delivery.map(Some),
        None => app.broker().check_open(&app.caller).map(|()| None),
    }
}
