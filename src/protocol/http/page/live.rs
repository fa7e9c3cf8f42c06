//! The data of the page: the server's state once a second as one event stream, and the last
//! messages of a topic on request.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::RawQuery;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::monitor::{RatePoint, Snapshot};
use crate::broker::{Busy, rules};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Id, Policy, Topic};
use crate::protocol::http::app::ForCaller;
use crate::protocol::http::connection::HttpConnection;
use crate::protocol::http::extract::Form;
use crate::protocol::http::failure::{HttpResult, Json};
use crate::protocol::json::node;

/// The topics that a page shows: those whose names contain `part`, and the open one.
struct LiveQuery {
    part: String,
    open: Option<String>,
}

/// The stream of server-sent events, one a second.
pub async fn live(
    app: ForCaller,
    Extension(connection): Extension<Arc<HttpConnection>>,
    RawQuery(query): RawQuery,
) -> HttpResult<Response> {
    let form = Form::new(query.unwrap_or_default().as_bytes());
    let query = LiveQuery {
        part: form.get("filter").unwrap_or_default().to_owned(),
        open: form.get("topic").map(str::to_owned),
    };
    let snapshots = app.monitor.snapshots(&app).await?;
    let app = app.over("sse");
    // A channel of one event: a slow reader stops the production of events.
    let (events, mut body) = mpsc::channel(1);
    tokio::spawn(async move {
        let _upgraded = connection.upgrade("sse");
        tokio::select! {
            () = send_snapshots(&app, &query, snapshots, &events) => {}
            () = app.stopping() => {}
        }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let body =
        stream::poll_fn(move |cx| body.poll_recv(cx).map(|event| event.map(Ok::<_, Infallible>)));
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Sends an event for each snapshot until the reader disconnects.
async fn send_snapshots(
    app: &ForCaller,
    query: &LiveQuery,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    events: &mpsc::Sender<Bytes>,
) {
    let mut event = "retry: 1000\n".to_owned();
    let mut first = true;
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let _ = write!(event, "data: {}\n\n", snapshot_json(app, query, &snapshot, first));
        if events.send(std::mem::take(&mut event).into()).await.is_err() {
            return;
        }
        first = false;
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = events.closed() => return,
        }
    }
}

/// Encodes a snapshot. The first event of a stream also holds the chart's past points and the
/// health rules.
fn snapshot_json(app: &ForCaller, query: &LiveQuery, snapshot: &Snapshot, first: bool) -> Value {
    let (topics, matching) = app.broker().busiest(&app.caller, &query.part, limits::PAGE_TOPICS);
    let open = query.open.as_deref().and_then(|name| app.broker().busy_topic(&app.caller, name));
    let stats = &snapshot.stats;
    let mut event = json!({
        "number": snapshot.number,
        "point": snapshot.points.back().map(point),
        "health": snapshot.health.as_str(),
        "why": snapshot.why,
        "wait": snapshot.wait.as_secs_f64(),
        "uptime": stats.uptime_seconds,
        "topic_count": stats.topics,
        "messages": stats.messages,
        "bytes": stats.bytes,
        "leased": stats.leased,
        "delayed": stats.delayed,
        "puts": stats.puts,
        "takes": stats.takes,
        "reads": stats.reads,
        "dropped": stats.dropped,
        "waiting": stats.waiting,
        "connections": stats.connections,
        "max_connections": app.config.max_connections,
        "protocols": snapshot.protocol_counts,
        "store": stats.store.kind,
        "size": stats.store.bytes,
        "max_size": stats.store.max_bytes,
        "nodes": stats.nodes.iter().map(node).collect::<Vec<_>>(),
        "topics": topics.iter().map(topic_json).collect::<Vec<_>>(),
        "matching": matching,
        "open": open.as_ref().map(topic_json),
    });
    if first && let Some(event) = event.as_object_mut() {
        event.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        event.insert("points".into(), snapshot.points.iter().map(point).collect());
        let rules = rules().into_iter().map(|(health, rule)| json!([health.as_str(), rule]));
        event.insert("rules".into(), rules.collect());
    }
    event
}

fn point(point: &RatePoint) -> Value {
    json!([point.at, point.put, point.out])
}

fn topic_json(topic: &Busy) -> Value {
    let counts = &topic.counts;
    json!({
        "topic": topic.topic.as_str(),
        "length": counts.length,
        "bytes": counts.bytes,
        "leased": counts.leased,
        "delayed": counts.delayed,
        "put_rate": topic.put_rate,
        "take_rate": topic.take_rate,
        "consumers": topic.consumers,
        "policy": counts.policy.map(Policy::as_str),
        "stopped": counts.stopped,
    })
}

/// Returns the last messages of a topic, oldest first.
pub async fn topic(app: ForCaller, RawQuery(query): RawQuery) -> HttpResult<Response> {
    let form = Form::new(query.unwrap_or_default().as_bytes());
    let name = form.get("name").ok_or_else(|| {
        Error::new(
            Code::MissingField,
            "the query does not name a topic: request /api/topic?name=TOPIC",
        )
    })?;
    let topic = Topic::new(name)?;
    let messages: Result<Value> = app
        .run(move |broker, caller| {
            let since = broker.last_id(caller, topic.as_str());
            let chunk = broker.history(caller, topic.as_str(), limits::PAGE_MESSAGES)?;
            let messages = (0..chunk.len()).filter_map(|index| chunk.get(index));
            let messages: Vec<_> = messages.map(|m| message_json(m.id, m.body)).collect();
            // Following the topic after this id misses no message.
            let last = if chunk.is_empty() { since } else { chunk.last_id() };
            Ok(json!({ "topic": topic.as_str(), "messages": messages, "last": last }))
        })
        .await?;
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Json(messages?.to_string())).into_response())
}

/// A message, with the beginning of its JSON text as a string: a browser that parsed it would
/// reformat numbers and spaces.
fn message_json(id: Id, body: &[u8]) -> Value {
    json!({ "id": id, "bytes": body.len(), "text": excerpt(body) })
}

/// The beginning of a text, as far as the page shows it.
pub fn excerpt(text: &[u8]) -> String {
    let shown = text.get(..limits::PAGE_MESSAGE_BYTES).unwrap_or(text);
    // Drops a character that is cut in two.
    let valid = shown.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    valid.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(excerpt("\"é\"".as_bytes()), "\"é\"");
        let most = limits::PAGE_MESSAGE_BYTES;
        for plain in [most - 2, most - 1, most] {
            let long = "x".repeat(plain) + "éé";
            let shown = excerpt(long.as_bytes());
            assert!(
                long.starts_with(&shown) && (most - 1..=most).contains(&shown.len()),
                "{plain}"
            );
        }
    }
}
