//! Our own routes, for what no other protocol over HTTP has: the words of the JSON protocol.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `fields` | a request of the JSON protocol, from path, query and body |
//! | `put` | what a body is, and that it is stored |
//! | `read` | messages behind an id, now or as soon as there is one |
//! | `events` | the same as server-sent events, without end |
//! | `take` | takers, who may wait in line |

mod events;
mod fields;
mod put;
mod read;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use serde_json::Value;

use self::fields::Fields;
use super::app::App;
use super::connection::Connection;
use super::extract::{Form, Name, Payload};
use super::failure::{Answer, Json};
use crate::error::{Code, Error};
use crate::ops::Topic;

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

/// A request that its fields and its topic say all of.
async fn carry_out(
    app: &Arc<App>,
    fields: Fields,
    action: &str,
    topic: &Topic,
) -> Answer<Json<Vec<u8>>> {
    let request = fields.request(app.config.max_message, action, topic.as_str())?;
    Ok(Json(app.run(move |broker| request.carry_out(broker)).await??))
}

/// A word that is posted, with its fields in the query or in the body.
fn word(action: &'static str) -> MethodRouter<Arc<App>> {
    let posted = async move |State(app): State<Arc<App>>,
                             Name(topic): Name,
                             uri: Uri,
                             Payload(body): Payload| {
        let fields = Fields::new().query(&uri).body(&body)?;
        carry_out(&app, fields, action, &topic).await
    };
    post(posted)
}

async fn purge(State(app): State<Arc<App>>, Name(topic): Name) -> Answer<Json<Vec<u8>>> {
    carry_out(&app, Fields::new(), "purge", &topic).await
}

/// Only tells it: to set it is another method.
async fn policy(State(app): State<Arc<App>>, Name(topic): Name) -> Answer<Json<Vec<u8>>> {
    carry_out(&app, Fields::new(), "policy", &topic).await
}

async fn history(
    State(app): State<Arc<App>>,
    Name(topic): Name,
    uri: Uri,
) -> Answer<Json<Vec<u8>>> {
    carry_out(&app, Fields::new().query(&uri), "history", &topic).await
}

async fn delete_one(
    State(app): State<Arc<App>>,
    Path((topic, id)): Path<(String, String)>,
) -> Answer<Json<Vec<u8>>> {
    let fields = Fields::new().value("id", &id);
    carry_out(&app, fields, "delete", &Topic::new(&topic)?).await
}

/// The topic's messages: a page of them, or events.
async fn look(
    State(app): State<Arc<App>>,
    Name(topic): Name,
    uri: Uri,
    headers: HeaderMap,
    Extension(connection): Extension<Arc<Connection>>,
) -> Answer<Response> {
    if wants_events(&headers) {
        return events::follow(&app, &connection, Value::from(topic.as_str()), &uri, &headers)
            .await;
    }
    Ok(read::read(&app, topic, &uri).await?.into_response())
}

/// All topics, or events of those that are named; with `stats`, the server's sums.
async fn list(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    Extension(connection): Extension<Arc<Connection>>,
) -> Answer<Response> {
    let query = Form::new(uri.query().unwrap_or_default().as_bytes());
    let topics: Vec<&str> = query.all("topic").collect();
    if !topics.is_empty() {
        return events::follow(&app, &connection, Value::from(topics), &uri, &headers).await;
    }
    if wants_events(&headers) {
        let text = "the query names no topic to follow: say topic=… once or more";
        return Err(Error::new(Code::MissingField, text).into());
    }
    let action = if query.get("stats").is_some() { "stats" } else { "topics" };
    let request = Fields::new().request(app.config.max_message, action, Value::Null)?;
    Ok(Json(app.run(move |broker| request.carry_out(broker)).await??).into_response())
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let is_events = parts.next().is_some_and(|k| k.eq_ignore_ascii_case("text/event-stream"));
        is_events && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}
