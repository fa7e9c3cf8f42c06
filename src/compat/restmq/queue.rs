//! A queue as a resource: add to it, take from it, purge it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::answer::{self, Ending, Object};
use super::fields::Fields;
use super::{key, not_done};
use crate::error::{Code, Error, Result};
use crate::ops::{Outcome, Topic};
use crate::protocol::http::app::App;
use crate::protocol::http::extract::{Form, Name};
use crate::protocol::http::failure::Answer;
use crate::protocol::http::page;

pub async fn add(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    fields: Fields,
) -> Answer<Response> {
    put(&app, queue, &fields).await
}

pub async fn add_to_named(State(app): State<Arc<App>>, fields: Fields) -> Answer<Response> {
    put(&app, fields.queue()?, &fields).await
}

/// Adds a value; answers its key.
async fn put(app: &App, queue: Topic, fields: &Fields) -> Answer<Response> {
    let (message, options) = (fields.message()?, fields.options()?);
    match app.put(queue.clone(), message.as_bytes(), options).await? {
        Outcome::Stored { id, .. } => {
            let key = key(&queue, id);
            Ok(answer::line(&key, &answer::string(&key), fields))
        }
        other => Err(not_done(&other).into()),
    }
}

pub async fn take(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    fields: Fields,
) -> Answer<Response> {
    let taken = take_from(&app, queue, &fields).await?;
    Ok(taken.unwrap_or_else(|| StatusCode::NO_CONTENT.into_response()))
}

/// Whether the query names a queue.
pub fn is_named(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| Form::new(query.as_bytes()).get("queue").is_some())
}

/// Takes from the queue that the query names; if it names none, somebody is just looking.
pub async fn take_or_page(State(app): State<Arc<App>>, fields: Fields) -> Answer<Response> {
    if fields.get("queue").is_none() {
        return Ok(page::index().await);
    }
    let taken = take_from(&app, fields.queue()?, &fields).await?;
    Ok(taken.ok_or_else(|| Error::new(Code::NotFound, "the queue is empty: nothing to take"))?)
}

/// Takes the oldest value.
async fn take_from(app: &App, queue: Topic, fields: &Fields) -> Result<Option<Response>> {
    let Some(handed) = app.take(queue.clone(), None).await? else { return Ok(None) };
    let id = handed.taken().map_or(0, |taken| taken.id);
    let object = Object::new().json("value", handed.text());
    let object = object.text("key", &key(&queue, id)).number("count", 0).end();
    let body = Ending::LINE.write(&object, fields.callback());
    Ok(Some(answer::written(handed.deliver(body), fields)))
}

/// Removes what is in the queue, and disconnects its consumers.
pub async fn purge(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    fields: Fields,
) -> Answer<Response> {
    let purged = queue.clone();
    let waited = app.run(move |broker| broker.purge_and_dismiss(&purged)).await??;
    let object = Object::new().text("queue", queue.as_str());
    let object = object.number("status", u64::from(waited)).end();
    Ok(answer::json(&object, Ending::LINE, &fields))
}
