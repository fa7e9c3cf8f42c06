//! Our own routes, for what no other protocol over HTTP has: the words of the JSON protocol.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `params` | the parameters of path, query and body, as typed values |
//! | `put` | what a body is, and that it is stored |
//! | `read` | messages behind an id, now or as soon as there is one |
//! | `events` | the same as server-sent events, without end |
//! | `take` | takers, who may wait in line |

mod events;
mod params;
mod put;
mod read;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};

use self::params::Params;
use super::app::{App, ForCaller};
use super::connection::Connection;
use super::extract::{Form, Name, Payload};
use super::failure::{Answer, Json};
use crate::error::{Code, Error};
use crate::ops::Topic;
use crate::protocol::json::{self, Field, Request};

/// What there is, for programs that ask.
const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/t/", get(list))
        .route("/t/{topic}", get(look).post(put::put).delete(purge))
        .route("/t/{topic}/take", post(take::take))
        .route("/t/{topic}/ack", word("ack"))
        .route("/t/{topic}/nack", word("nack"))
        .route("/t/{topic}/peek", word("peek"))
        .route("/t/{topic}/stop", word("stop"))
        .route("/t/{topic}/start", word("start"))
        .route("/t/{topic}/policy", word("policy").get(policy))
        .route("/t/{topic}/history", get(history))
        .route("/t/{topic}/{id}", delete(delete_one))
        .route("/openapi.json", get(async || Json(OPENAPI)))
}

/// Carries out an action that is one call of the broker.
async fn carry_out(app: &ForCaller, action: &str, params: Params) -> Answer<Json<Vec<u8>>> {
    let params = params.path(Field::Action, action);
    let done =
        app.run(move |broker, caller| json::carry_out(broker, caller, Request::decode(&params)?));
    Ok(Json(done.await??))
}

/// A word that is posted, with its fields in the query or in the body.
fn word(action: &'static str) -> MethodRouter<Arc<App>> {
    let posted =
        async move |app: ForCaller, Name(topic): Name, uri: Uri, Payload(body): Payload| {
            let params = Params::new(&uri).body(&body, app.config.max_message)?;
            carry_out(&app, action, params.path(Field::Topic, topic.as_str())).await
        };
    post(posted)
}

async fn purge(app: ForCaller, Name(topic): Name) -> Answer<Json<Vec<u8>>> {
    carry_out(&app, "purge", Params::default().path(Field::Topic, topic.as_str())).await
}

/// Only tells it: to set it is another method.
async fn policy(app: ForCaller, Name(topic): Name) -> Answer<Json<Vec<u8>>> {
    carry_out(&app, "policy", Params::default().path(Field::Topic, topic.as_str())).await
}

async fn history(app: ForCaller, Name(topic): Name, uri: Uri) -> Answer<Json<Vec<u8>>> {
    carry_out(&app, "history", Params::new(&uri).path(Field::Topic, topic.as_str())).await
}

async fn delete_one(
    app: ForCaller,
    Path((topic, id)): Path<(String, String)>,
) -> Answer<Json<Vec<u8>>> {
    let params = Params::default().path(Field::Topic, Topic::new(&topic)?.as_str());
    carry_out(&app, "delete", params.path(Field::Id, &id)).await
}

/// The topic's messages: a page of them, or events.
async fn look(
    app: ForCaller,
    Name(topic): Name,
    uri: Uri,
    headers: HeaderMap,
    Extension(connection): Extension<Arc<Connection>>,
) -> Answer<Response> {
    if wants_events(&headers) {
        let named = topic.as_str().ends_with('*');
        return events::follow(&app, &connection, &[topic.as_str()], named, &uri, &headers).await;
    }
    Ok(read::read(&app, topic, &uri).await?.into_response())
}

/// All topics, or events of those that are named; with `stats`, the server's sums.
async fn list(
    app: ForCaller,
    uri: Uri,
    headers: HeaderMap,
    Extension(connection): Extension<Arc<Connection>>,
) -> Answer<Response> {
    let query = Form::new(uri.query().unwrap_or_default().as_bytes());
    let topics: Vec<&str> = query.all("topic").collect();
    if !topics.is_empty() {
        return events::follow(&app, &connection, &topics, true, &uri, &headers).await;
    }
    if wants_events(&headers) {
        let text = "the query names no topic to follow: say topic=… once or more";
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
