//! Server-sent events: an endless stream of one or several topics. An event's id is its message's
//! id, so a client that reconnects with the last id continues after it.
//!
//! The events of a topic are encoded once for all clients at the same position and are sent without
//! another copy.

use std::convert::Infallible;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::{Instant, Interval, interval_at};

use super::super::app::{ForCaller, NotifyWaker};
use super::super::connection::HttpConnection;
use super::super::failure::HttpResult;
use super::input::Params;
use crate::broker::{From, Pattern, Pushes, Session, UpgradeGuard};
use crate::error::{Error, Result};
use crate::limits;
use crate::ops::{Chunk, Encoded, Encoding, Id, Topic};
use crate::protocol::json::{self, Field, FieldSource as _, FieldValue};

const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Streams the messages of topics. With `named`, each event names its topic.
pub async fn follow(
    app: &ForCaller,
    connection: &HttpConnection,
    topics: &[&str],
    named: bool,
    uri: &Uri,
    headers: &HeaderMap,
) -> HttpResult<Response> {
    let (patterns, from) = subscription(topics, uri, headers)?;
    let (app, notify) = (app.over("sse"), NotifyWaker::new());
    let waker = notify.waker();
    let mut session = connection.session().unwrap_or_else(|| app.session());
    let begin = app.run(move |broker, caller| {
        let now = broker.subscribe(caller, &mut session, patterns, from, &waker)?;
        Ok::<_, Error>((session, now))
    });
    let (session, now) = begin.await??;
    let first = (from == From::Now).then(|| start_event(now));
    let beat = interval_at(Instant::now() + limits::HEARTBEAT, limits::HEARTBEAT);
    let upgraded = connection.upgrade("sse");
    let events = EventStream {
        app,
        session: Some(session),
        notify,
        beat,
        first,
        named,
        _upgraded: upgraded,
    };
    let body = Body::from_stream(stream::unfold(events, EventStream::next));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // A proxy that buffers responses would delay events.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

/// The patterns to follow and the start position. `Last-Event-ID` overrides the query.
fn subscription(topics: &[&str], uri: &Uri, headers: &HeaderMap) -> Result<(Vec<Pattern>, From)> {
    let params = &Params::new(uri);
    let (from, patterns) = (params.from()?, json::patterns(topics)?);
    let since = last_event_id(headers.get(LAST_EVENT_ID)).unwrap_or_else(|| params.since())?;
    // Unused here, but a wrong value is refused as in a get.
    params.wait()?;
    Ok((patterns, since.map_or(from, From::Id)))
}

/// Parses `Last-Event-ID`; `None` if the header is missing or empty.
pub fn last_event_id(value: Option<&HeaderValue>) -> Option<Result<Option<Id>>> {
    let value = value?.to_str().unwrap_or("?");
    let id = || FieldValue::Text(value).id(Field::Since).map(Some);
    (!value.is_empty()).then(id)
}

/// A stream of events.
struct EventStream {
    app: ForCaller,
    /// `None` only during a call of the broker.
    session: Option<Session>,
    notify: Arc<NotifyWaker>,
    beat: Interval,
    /// Sent before all events.
    first: Option<Bytes>,
    /// Whether each event names its topic, because there may be several.
    named: bool,
    _upgraded: UpgradeGuard,
}

impl EventStream {
    /// Returns the next bytes of the stream; `None` once the server stops.
    async fn next(mut self) -> Option<(std::result::Result<Bytes, Infallible>, EventStream)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(first), self));
        }
        loop {
            if self.app.broker().check_open(&self.app.caller).is_err() {
                return None;
            }
            if let Some(bytes) = self.pushes().await.ok()? {
                return Some((Ok(bytes), self));
            }
            tokio::select! {
                () = self.notify.notified() => {}
                _ = self.beat.tick() => return Some((Ok(HEARTBEAT), self)),
            }
        }
    }

    /// Returns the next events, if there are any; an error once the session is lost.
    async fn pushes(&mut self) -> Result<Option<Bytes>> {
        let Some(mut session) = self.session.take() else { return Ok(None) };
        let named = self.named;
        let next = self.app.run(move |broker, caller| {
            let pushes = broker.pushes(caller, &mut session);
            (session, pushes.map(|pushes| pushes.map(|pushes| event_bytes(pushes, named))))
        });
        let (session, next) = next.await?;
        self.session = Some(session);
        Ok(next.unwrap_or_else(|error| Some(error_event(&error))))
    }
}

/// A range of a chunk's messages, encoded once for all clients.
struct EncodedRange {
    chunk: Arc<Chunk>,
    range: Range<usize>,
}

impl AsRef<[u8]> for EncodedRange {
    fn as_ref(&self) -> &[u8] {
        let all = |chunk: &Chunk| events(None, chunk, 0..chunk.len());
        self.chunk.encoded(Encoding::Event, all).part(&self.range)
    }
}

fn event_bytes(pushes: Pushes, named: bool) -> Bytes {
    let Pushes { topic, chunk, range } = pushes;
    match named {
        true => events(Some(&topic), &chunk, range).bytes.into(),
        false => Bytes::from_owner(EncodedRange { chunk, range }),
    }
}

/// Encodes messages as events. Line ends outside strings are white space in JSON; they are removed
/// because they would end the `data` line.
pub fn events(topic: Option<&Topic>, chunk: &Chunk, range: Range<usize>) -> Encoded {
    let mut encoded = Encoded::default();
    let out = &mut encoded.bytes;
    for message in range.filter_map(|index| chunk.get(index)) {
        if let Some(topic) = topic {
            let _ = writeln!(out, "event: {topic}");
        }
        let _ = write!(out, "id: {}\ndata: ", message.id);
        if message.body.iter().any(is_line_end) {
            out.extend(message.body.iter().filter(|byte| !is_line_end(byte)));
        } else {
            out.extend_from_slice(message.body);
        }
        out.extend_from_slice(b"\n\n");
        encoded.ends.push(out.len());
    }
    encoded
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// A block without data is not an event: it only sets the client's last event id.
fn start_event(id: Id) -> Bytes {
    format!("id: {id}\n\n").into()
}

/// Reports that messages cannot be read. The stream continues.
fn error_event(error: &Error) -> Bytes {
    let mut event = b"event: error\ndata: ".to_vec();
    event.extend(json::error_reply(error));
    event.extend_from_slice(b"\n\n");
    event.into()
}
