//! What people and their monitoring look at.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::app::App;

pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(async || "ok"))
}

/// The page itself.
pub async fn index() -> Response {
    "dsmq\r\n".into_response()
}
