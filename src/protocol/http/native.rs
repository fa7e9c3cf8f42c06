//! Our own routes, for what no other protocol over HTTP has.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;

use super::app::App;
use super::extract::{Name, Payload};
use super::failure::{Answer, Json};
use crate::error::{Code, Error};
use crate::protocol::json;
use crate::store::Outcome;

pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/t/{topic}", post(put))
}

/// Puts the body: the JSON value that it is, or, unless it is said to be JSON, its text as a string.
async fn put(
    State(app): State<Arc<App>>,
    Name(topic): Name,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Answer<Json<Vec<u8>>> {
    let outcome = if is_json(&headers) {
        let message = json::message(&body, app.config.max_message)?;
        app.put(topic, message, None).await?
    } else {
        let text = str::from_utf8(&body).map_err(|error| {
            Error::new(Code::BadUtf8, format!("the body is no text in UTF-8: {error}"))
        })?;
        let message = serde_json::Value::from(text).to_string();
        app.put(topic, message.as_bytes(), None).await?
    };
    match outcome {
        Outcome::Stored { id, duplicate, .. } => Ok(Json(json::stored_reply(id, duplicate))),
        other => Err(Error::new(Code::StoreFailed, format!("not stored: {other:?}")).into()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}
