//! O3one's dashboard: `/api` gives the server's state in five texts, `/dump` shows the latest
//! messages.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::limits;
use crate::ops::{Id, Timestamp, Topic};
use crate::protocol::http::app::{App, ForCaller};
use crate::protocol::http::failure::{HttpResult, Json};
use crate::protocol::http::page::live::excerpt;
use crate::protocol::http::page::{HTML, document, escape};

pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api", get(api)).route("/dump", get(dump))
}

/// The server's state. The HTTP status 201 is O3one's.
async fn api(State(app): State<Arc<App>>) -> HttpResult<Response> {
    let look = app.monitor.latest(&app).await?;
    let stats = &look.stats;
    let status = json!({
        "instance_text": concat!("dsmq ", env!("CARGO_PKG_VERSION")),
        "health_text": look.health.as_str(),
        // A store in memory has no copy.
        "replication_text": if stats.store.kind == "memory" { "disabled" } else { "SQL " },
        "records_text": format!("{} / {}", stats.puts, stats.messages),
        "uptime_text": uptime(stats.uptime_seconds as u64),
    });
    Ok((StatusCode::CREATED, Json(status.to_string())).into_response())
}

fn uptime(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let time = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => time,
        1 => format!("1 day, {time}"),
        _ => format!("{days} days, {time}"),
    }
}

/// The latest messages of all topics as a page, newest first.
async fn dump(app: ForCaller) -> HttpResult<Response> {
    let rows = app.run(|broker, caller| broker.last(caller, limits::PAGE_MESSAGES, row)).await??;
    let mut page = include_str!("dump_head.html").to_owned();
    rows.iter().for_each(|(_, row)| page.push_str(row));
    page.push_str(if rows.is_empty() { "</table>\n<p>No messages.\n" } else { "</table>\n" });
    Ok(document(HTML, page))
}

fn row(topic: &Topic, id: Id, body: &[u8]) -> String {
    let (text, timestamp) = (excerpt(body), Timestamp(id));
    let cut = if text.len() < body.len() { "…" } else { "" };
    let mut row = format!("<tr><td>{timestamp}<td><bdi>");
    row.push_str(&escape(topic.as_str()));
    row.push_str("</bdi><td><pre>");
    row.push_str(&escape(&text));
    let _ = writeln!(row, "{cut}</pre>");
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uptime_has_pythons_format() {
        assert_eq!(uptime(59), "0:00:59");
        assert_eq!(uptime(86_399), "23:59:59");
        assert_eq!(uptime(86_400 + 3_661), "1 day, 1:01:01");
        assert_eq!(uptime(10 * 86_400), "10 days, 0:00:00");
    }

    proptest! {
        #[test]
        fn escaped_text_contains_no_markup(text in "[<>&\"'a-z;/= é]*") {
            let html = escape(&text);
            prop_assert!(!html.contains(['<', '>', '"', '\'']));
            let back = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
            let shown = back.iter().fold(html, |html, (entity, sign)| html.replace(entity, sign));
            prop_assert_eq!(shown, text);
        }
    }
}
