//! WebSockets over HTTP: the upgrade, and who talks at which path.

mod coremq;
mod json;
mod socket;

use std::sync::Arc;
use std::task::{Wake, Waker};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use self::socket::Socket;
use super::app::App;
use super::connection::Connection;
use super::failure::{Answer, Failure};
use crate::broker::Session;
use crate::error::{Code, Error};
use crate::limits;
use crate::protocol::websocket::accept;

const VERSION: &str = "13";

/// The path of the JSON protocol, where others are answered with a page.
pub const JSON_PATH: &str = "/";

pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/ws", get(coremq))
}

/// The JSON protocol, one request a frame.
pub async fn json(app: Arc<App>, mut request: Request) -> Response {
    let session = session(&app, &request);
    let max = app.config.max_message.saturating_add(limits::REQUEST_OVERHEAD_BYTES);
    let upgraded = upgrade(&mut request, max, async move |socket| {
        json::talk(app, session, socket).await;
    });
    upgraded.into_response()
}

/// CoreMQ's.
async fn coremq(State(app): State<Arc<App>>, mut request: Request) -> Answer<Response> {
    let session = session(&app, &request);
    let max = app.config.max_message.saturating_add(limits::REQUEST_OVERHEAD_BYTES);
    upgrade(&mut request, max, async move |socket| coremq::talk(app, session, socket).await)
}

/// Whether this asks for a WebSocket.
pub fn asked_for<B>(request: &axum::http::Request<B>) -> bool {
    has_token(request.headers(), &UPGRADE, "websocket")
}

/// The session that began when the connection was accepted.
fn session(app: &App, request: &Request) -> Session {
    let connection = request.extensions().get::<Arc<Connection>>();
    connection.and_then(|connection| connection.session()).unwrap_or_else(|| app.session())
}

/// Answers the handshake, and lets `talk` have the socket once that is done. A message from it has
/// at most `max` bytes.
fn upgrade<T>(
    request: &mut Request,
    max: usize,
    talk: impl FnOnce(Socket) -> T + Send + 'static,
) -> Answer<Response>
where
    T: Future<Output = ()> + Send,
{
    let answer = handshake(request)?;
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => talk(Socket::new(TokioIo::new(stream), max)).await,
            Err(error) => tracing::debug!("a WebSocket did not begin: {error}"),
        }
    });
    Ok(answer)
}

/// The answer to an opening handshake.
fn handshake(request: &Request) -> Answer<Response> {
    let headers = request.headers();
    let wrong = |text: &'static str| Failure::from(Error::new(Code::BadField, text));
    if request.method() != Method::GET || !asked_for(request) {
        return Err(upgrade_required("this path is for WebSockets: connect with ws://"));
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(wrong("a WebSocket begins with the header Connection: Upgrade"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err(upgrade_required("this server speaks version 13 of WebSocket"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let accepted = key.and_then(accept).and_then(|key| HeaderValue::try_from(key).ok());
    let accepted = accepted.ok_or_else(|| wrong("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    Ok(response)
}

fn upgrade_required(text: &'static str) -> Failure {
    Failure { status: StatusCode::UPGRADE_REQUIRED, error: Error::new(Code::BadField, text) }
}

/// Whether the header's lists hold this word.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// What wakes a task that waits for the broker.
#[derive(Default)]
struct Bell(Notify);

impl Bell {
    /// It, and what the broker is given.
    fn new() -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell::default());
        (bell.clone(), Waker::from(bell))
    }

    /// Returns once it was rung since this returned before.
    async fn rung(&self) {
        self.0.notified().await;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}
