//! Stand-ins for what our own HTTP has, until it is there: to be thrown away.

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{Notify, mpsc};

use super::live::Events;
use crate::broker::{From, Pattern};
use crate::message::Topic;
use crate::protocol::http::app::App;
use crate::protocol::http::extract::{Form, Name};
use crate::protocol::http::failure::{Answer, Json};
use crate::store::{Op, Outcome, lock};

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/t/{topic}", get(follow).delete(purge))
        .route("/t/{topic}/stop", post(stop))
        .route("/t/{topic}/start", post(start))
}

struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

async fn follow(
    State(app): State<Arc<App>>,
    Name(topic): Name,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let form = Form::new(query.unwrap_or_default().as_bytes());
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let since = last.or(form.get("since")).and_then(|id| id.parse().ok());
    let (events, body) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let woken = Arc::new(Woken(Notify::new()));
        let waker = Waker::from(woken.clone());
        let session = Arc::new(Mutex::new(app.broker().session()));
        let from = since.map_or(From::Now, From::Id);
        let patterns = vec![Pattern::Topic(topic)];
        let _ = app.broker().subscribe(&mut lock(&session), patterns, from, &waker);
        if events.send(": here\n\n".into()).await.is_err() {
            return;
        }
        loop {
            let text = {
                let mut session = lock(&session);
                app.broker().pushes(&mut session).ok().flatten().map(|pushes| {
                    let run = pushes.run;
                    let messages = pushes.range.filter_map(|i| run.get(i));
                    let one = |m: crate::message::Message<'_>| {
                        format!("id: {}\ndata: {}\n\n", m.id, String::from_utf8_lossy(m.body))
                    };
                    messages.map(one).collect::<String>()
                })
            };
            match text {
                Some(text) => {
                    if events.send(text.into()).await.is_err() {
                        return;
                    }
                }
                None => tokio::select! {
                    () = woken.0.notified() => {}
                    () = events.closed() => return,
                    () = app.stopping() => return,
                },
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    Ok((headers, Body::new(Events(body))).into_response())
}

async fn purge(State(app): State<Arc<App>>, Name(topic): Name) -> Answer<Json<String>> {
    match app.apply(Op::Purge { topic }).await? {
        Outcome::Purged(purged) => Ok(Json(format!("{{\"ok\":true,\"purged\":{purged}}}"))),
        _ => Ok(Json("{}".to_owned())),
    }
}

async fn stop(app: State<Arc<App>>, name: Name) -> Answer<Json<String>> {
    set(app, name, true).await
}

async fn start(app: State<Arc<App>>, name: Name) -> Answer<Json<String>> {
    set(app, name, false).await
}

async fn set(
    State(app): State<Arc<App>>,
    Name(topic): Name,
    stopped: bool,
) -> Answer<Json<String>> {
    let state = if stopped { "stopped" } else { "started" };
    app.apply(Op::SetStopped { topic: Topic::new(topic.as_str())?, stopped }).await?;
    Ok(Json(format!("{{\"ok\":true,\"state\":\"{state}\"}}")))
}
