//! RestMQ's routes: every queue is a topic, every text a JSON string.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::app::App;
use super::extract::{Form, Name, Payload};
use super::failure::{Answer, Failure, Json};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::Id;
use crate::store::{Outcome, PutOptions};

pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/q/{queue}", get(take).post(add))
}

/// Adds a value; answers its key.
async fn add(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    Payload(body): Payload,
) -> Answer<String> {
    let form = Form::new(&body);
    let value = form.get("value").or_else(|| form.get("msg")).ok_or_else(|| {
        Error::new(Code::MissingField, "the form has no value: say value=… or msg=…")
    })?;
    let options = form.get("ttl").map(ttl).transpose()?;
    let message = serde_json::Value::from(value).to_string();
    match app.put(queue.clone(), message.as_bytes(), options).await? {
        Outcome::Stored { id, .. } => Ok(key(queue.as_str(), id) + "\r\n"),
        other => {
            Err(Failure::from(Error::new(Code::StoreFailed, format!("not stored: {other:?}"))))
        }
    }
}

/// Takes the oldest value.
async fn take(State(app): State<Arc<App>>, Name(queue): Name) -> Answer<Response> {
    let Some(handed) = app.take(queue.clone(), None).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let id = handed.taken().map_or(0, |taken| taken.id);
    let mut body = Vec::with_capacity(handed.text().len() + 64);
    body.extend_from_slice(b"{\"value\": ");
    body.extend_from_slice(handed.text());
    let key = serde_json::Value::from(key(queue.as_str(), id));
    body.extend_from_slice(format!(", \"key\": {key}, \"count\": 0}}\r\n").as_bytes());
    Ok(Json(handed.deliver(body)).into_response())
}

fn key(queue: &str, id: Id) -> String {
    format!("{queue}:{id}")
}

/// A time to live, in whole seconds.
fn ttl(text: &str) -> Result<Box<PutOptions>> {
    let seconds = text.parse().ok().filter(|s: &u64| *s <= limits::DURATION_MAX.as_secs());
    let seconds = seconds.ok_or_else(|| {
        Error::new(Code::BadField, "ttl must be a whole number of seconds, at most 100 years")
    })?;
    Ok(Box::new(PutOptions { ttl: Some(seconds * 1_000_000), ..PutOptions::default() }))
}
