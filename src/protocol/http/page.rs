//! Monitoring for people and programs: the page, its data, the metrics and the health check.

pub mod live;
mod metrics;
pub mod monitor;

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::app::{App, ForCaller};
use super::failure::{Failure, HttpResult};
use crate::error::{Code, Error};

/// The files of the page. uplot.js is uPlot 1.6.32 from npm (`dist/uPlot.iife.min.js`), unchanged
/// except for the licence at its top.
const FILES: [(&str, &str, &str); 9] = [
    ("page.css", CSS, include_str!("page/page.css")),
    ("page.js", JS, include_str!("page/page.js")),
    ("chart.js", JS, include_str!("page/chart.js")),
    ("topics.js", JS, include_str!("page/topics.js")),
    ("topic.js", JS, include_str!("page/topic.js")),
    ("nodes.js", JS, include_str!("page/nodes.js")),
    ("show.js", JS, include_str!("page/show.js")),
    ("uplot.js", JS, include_str!("page/uplot.js")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];
const INDEX: &str = include_str!("page/index.html");
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";

/// The page runs only this server's scripts, appears in no frame, and cannot turn text into HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // Another version of the server may have other files.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/page/{file}", get(file))
        .route("/api/live", get(live::live))
        .route("/api/topic", get(live::topic))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(healthz))
}

/// Tells load balancers and monitors whether the server can be used.
async fn healthz(app: ForCaller) -> HttpResult<&'static str> {
    app.broker().check_store(&app.caller)?;
    Ok("ok")
}

pub async fn index() -> Response {
    document(HTML, INDEX)
}

async fn file(Path(requested): Path<String>) -> HttpResult<Response> {
    let file = FILES.iter().find(|(name, ..)| *name == requested);
    let Some((_, kind, text)) = file else {
        let error = Error::new(Code::NotFound, "the page has no such file: see /");
        return Err(Failure::from(error));
    };
    Ok(document(kind, *text))
}

/// A response for browsers, with the security headers.
pub fn document(kind: &'static str, text: impl IntoResponse) -> Response {
    (HEADERS, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// Escapes untrusted text for HTML.
pub fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}
