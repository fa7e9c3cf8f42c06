//! The routes of our own HTTP interface, one for each action of the JSON protocol. Handlers decode
//! parameters, call the broker and encode its results.

mod events;
mod input;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Path};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use tokio::time::{Instant, timeout_at};

use self::input::{BodyKind, Params};
use super::app::{App, ForCaller, NotifyWaker};
use super::connection::HttpConnection;
use super::extract::{Form, Name, Payload};
use super::failure::{HttpResult, Json};
use crate::broker::{Page, look_again};
use crate::error::{Code, Error, Result};
use crate::ops::{Id, Outcome, Topic};
use crate::protocol::json::{self, Field, FieldSource as _, Request};

/// The description of the routes for programs.
const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));

/// Default `limit` of a page.
const LIMIT_DEFAULT: usize = 100;

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/t/", get(topics_or_events))
        .route("/t/{topic}", get(messages_or_events).post(put).delete(purge))
        .route("/t/{topic}/take", post(take::take))
        .route("/t/{topic}/ack", post_action("ack"))
        .route("/t/{topic}/nack", post_action("nack"))
        .route("/t/{topic}/peek", post_action("peek"))
        .route("/t/{topic}/stop", post_action("stop"))
        .route("/t/{topic}/start", post_action("start"))
        .route("/t/{topic}/policy", post_action("policy").get(policy))
        .route("/t/{topic}/history", get(history))
        .route("/t/{topic}/{id}", delete(delete_one))
        .route("/openapi.json", get(async || Json(OPENAPI)))
}

/// Carries out an action that takes one call of the broker.
async fn carry_out(app: &ForCaller, action: &str, params: Params) -> HttpResult<Json<Vec<u8>>> {
    let params = params.path(Field::Action, action);
    let done =
        app.run(move |broker, caller| json::carry_out(broker, caller, Request::decode(&params)?));
    Ok(Json(done.await??))
}

/// The route of an action with POST; its fields are in the query or the body.
fn post_action(action: &'static str) -> MethodRouter<Arc<App>> {
    let posted =
        async move |app: ForCaller, Name(topic): Name, uri: Uri, Payload(body): Payload| {
            let params = Params::new(&uri).body(&body, app.config.max_message)?;
            carry_out(&app, action, params.path(Field::Topic, topic.as_str())).await
        };
    post(posted)
}

async fn purge(app: ForCaller, Name(topic): Name) -> HttpResult<Json<Vec<u8>>> {
    carry_out(&app, "purge", Params::default().path(Field::Topic, topic.as_str())).await
}

/// Returns the policy. POST sets it.
async fn policy(app: ForCaller, Name(topic): Name) -> HttpResult<Json<Vec<u8>>> {
    carry_out(&app, "policy", Params::default().path(Field::Topic, topic.as_str())).await
}

async fn history(app: ForCaller, Name(topic): Name, uri: Uri) -> HttpResult<Json<Vec<u8>>> {
    carry_out(&app, "history", Params::new(&uri).path(Field::Topic, topic.as_str())).await
}

async fn delete_one(
    app: ForCaller,
    Path((topic, id)): Path<(String, String)>,
) -> HttpResult<Json<Vec<u8>>> {
    let params = Params::default().path(Field::Topic, Topic::new(&topic)?.as_str());
    carry_out(&app, "delete", params.path(Field::Id, &id)).await
}

/// The messages of a topic, as a page or as events.
async fn messages_or_events(
    app: ForCaller,
    Name(topic): Name,
    uri: Uri,
    headers: HeaderMap,
    Extension(connection): Extension<Arc<HttpConnection>>,
) -> HttpResult<Response> {
    if wants_events(&headers) {
        let named = topic.as_str().ends_with('*');
        return events::follow(&app, &connection, &[topic.as_str()], named, &uri, &headers).await;
    }
    Ok(read(&app, topic, &uri).await?.into_response())
}

/// All topics, or the events of the named ones; with `stats`, the totals of the server.
async fn topics_or_events(
    app: ForCaller,
    uri: Uri,
    headers: HeaderMap,
    Extension(connection): Extension<Arc<HttpConnection>>,
) -> HttpResult<Response> {
    let query = Form::new(uri.query().unwrap_or_default().as_bytes());
    let topics: Vec<&str> = query.all("topic").collect();
    if !topics.is_empty() {
        return events::follow(&app, &connection, &topics, true, &uri, &headers).await;
    }
    if wants_events(&headers) {
        let text = "the query does not name a topic to follow: add topic=… once or more";
        return Err(Error::new(Code::MissingField, text).into());
    }
    let action = if query.get("stats").is_some() { "stats" } else { "topics" };
    Ok(carry_out(&app, action, Params::default()).await?.into_response())
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let is_events = parts.next().is_some_and(|k| k.eq_ignore_ascii_case("text/event-stream"));
        is_events && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

async fn read(app: &ForCaller, topic: Topic, uri: &Uri) -> HttpResult<Json<Vec<u8>>> {
    let params = &Params::new(uri);
    let (since, wait, limit) = (params.since()?, params.wait()?, params.limit(LIMIT_DEFAULT)?);
    // Unused here, but a wrong value is refused as in a history.
    params.flag(Field::Delayed, false)?;
    let since = since.unwrap_or(0);
    let page = wait_for_page(app, topic, since, wait, limit).await?;
    Ok(Json(json::reply(|reply| reply.page(&page))))
}

async fn wait_for_page(
    app: &ForCaller,
    topic: Topic,
    since: Id,
    wait: Duration,
    limit: usize,
) -> Result<Page> {
    let deadline = Instant::now() + wait;
    let notify = NotifyWaker::new();
    // The watch starts before the first read, so no put is missed in between.
    let _watch =
        (!wait.is_zero()).then(|| app.broker().watch(&app.caller, topic.clone(), notify.waker()));
    let mut waits = false;
    loop {
        let topic = topic.clone();
        let read = app.run(move |broker, caller| broker.read(caller, topic.as_str(), since, limit));
        let read = read.await?;
        if let Err(error) = &read
            && waits
            && let Some(again) = look_again(error, deadline.into())
        {
            app.broker().check_open(&app.caller)?;
            let _ = timeout_at(again.into(), notify.notified()).await;
            continue;
        }
        let page = read?;
        waits = true;
        if !page.parts.is_empty() || Instant::now() >= deadline {
            return Ok(page);
        }
        app.broker().check_open(&app.caller)?;
        // After the deadline the loop reads once more.
        let _ = timeout_at(deadline, notify.notified()).await;
    }
}

/// Puts the body, and returns its id if `confirm` is set.
async fn put(
    app: ForCaller,
    Name(topic): Name,
    uri: Uri,
    headers: HeaderMap,
    Payload(body): Payload,
) -> HttpResult<(StatusCode, Json<Vec<u8>>)> {
    let params = Params::new(&uri);
    let (confirm, options) = ((&params).flag(Field::Confirm, true)?, (&params).put_options()?);
    let kind = headers.get(header::CONTENT_TYPE).map_or(Ok(""), |kind| kind.to_str());
    let message = BodyKind::new(kind.unwrap_or("?")).message(&body, app.config.max_message)?;
    let outcome = app.put_or_accept(topic, &message, options, confirm).await?;
    let reply = json::reply(|reply| match outcome {
        _ if !confirm => reply.ok(),
        Outcome::Stored { id, duplicate, .. } => reply.stored(id, duplicate),
        Outcome::Due { at, duplicate } => reply.due(at, duplicate),
        _ => reply.ok(),
    });
    let status = if confirm { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(reply)))
}
