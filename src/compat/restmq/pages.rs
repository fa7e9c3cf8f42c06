//! RestMQ's pages: the list of queues, the messages of one, and a form for commands. Names and
//! messages are always escaped.

use std::fmt::Write;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::{exchange, key, queue};
use crate::ops::Topic;
use crate::protocol::http::app::ForCaller;
use crate::protocol::http::extract::Name;
use crate::protocol::http::failure::HttpResult;
use crate::protocol::http::page::escape;

/// Pages run no scripts and load nothing; forms submit only to this server.
const POLICY: &str =
    "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HTML: &str = "text/html; charset=utf-8";

/// A page shows this many of the latest messages, each cut to [`SHOWN_CHARS`].
const LATEST: usize = 10;
const SHOWN_CHARS: usize = 200;

/// The list of queues. As in RestMQ, a queue's link takes a value from it; the second link only
/// shows it.
pub async fn queues(app: ForCaller) -> HttpResult<Response> {
    let all = app.run(|broker, caller| broker.topics(caller)).await??;
    let items: String = all
        .iter()
        .map(|stats| {
            let (name, path) = (escape(stats.topic.as_str()), path(&stats.topic));
            let length = stats.counts.length;
            format!(
                "<li><a href=\"/q/{path}\">/q/{name}</a> \
                 (<a href=\"/j/{path}\">{length} in it</a>)</li>\n"
            )
        })
        .collect();
    let hint = "<p>Opening a queue removes its oldest value.</p>";
    Ok(page("Queues", &format!("{hint}\n<ul>\n{items}</ul>")))
}

/// The messages of a queue.
pub async fn jobs(app: ForCaller, Name(queue): Name) -> HttpResult<Response> {
    let counts =
        queue::topic_stats(&app, &queue).await?.map(|stats| stats.counts).unwrap_or_default();
    let name = queue.clone();
    let latest =
        app.run(move |broker, caller| broker.history(caller, name.as_str(), LATEST)).await??;
    let mut items = String::new();
    for message in (0..latest.len()).rev().filter_map(|index| latest.get(index)) {
        let text = String::from_utf8_lossy(message.body);
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        let (key, shown) = (escape(&key(&queue, message.id)), escape(&shown));
        let _ = writeln!(items, "<li>{key} <code>{shown}{more}</code></li>");
    }
    let (name, waiting) = (escape(queue.as_str()), counts.length.saturating_sub(counts.leased));
    let length = counts.length;
    let text = format!(
        "<p>queue name: {name}<br>\nqueue objects: {length}<br>\njob count: {waiting}</p>\n\
         <p>latest {LATEST} jobs</p>\n<ul>\n{items}</ul>"
    );
    Ok(page("Jobs in a queue", &text))
}

/// A form for commands, which posts to its own address.
pub async fn form() -> Response {
    let text = "<form method=\"post\">\n\
         <p><label for=\"body\">A command, such as \
         <code>{\"cmd\": \"add\", \"queue\": \"genesis\", \"value\": \"abacab\"}</code>:</label></p>\n\
         <p><textarea id=\"body\" name=\"body\" rows=\"8\" cols=\"60\"></textarea></p>\n\
         <p><button>Send</button></p>\n</form>";
    page("Commands", text)
}

fn page(title: &str, text: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n</head>\n\
         <body>\n<h1>{title}</h1>\n{text}\n</body>\n</html>\n"
    );
    let policy = [(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))];
    (policy, exchange::response(HTML, html)).into_response()
}

/// A queue's name as part of a path.
fn path(queue: &Topic) -> String {
    percent_encoding::utf8_percent_encode(queue.as_str(), percent_encoding::NON_ALPHANUMERIC)
        .to_string()
}
