//! WebSockets over HTTP: the opening handshake, and the connections after it.

pub mod driver;
pub mod socket;

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

pub use self::socket::{End, Incoming, Socket};
use super::http::app::{App, ForCaller};
use super::http::connection::HttpConnection;
use super::http::failure::{Failure, HttpResult};
use crate::broker::{Session, UpgradeGuard};
use crate::error::{Code, Error};
use crate::wire::websocket::accept;

const VERSION: &str = "13";

/// Whether the request asks for an upgrade to a WebSocket.
pub fn is_upgrade<B>(request: &axum::http::Request<B>) -> bool {
    has_token(request.headers(), &UPGRADE, "websocket")
}

/// The session that started when the connection was accepted.
fn session(app: &ForCaller, request: &Request) -> Session {
    let connection = connection(request);
    connection.and_then(|connection| connection.session()).unwrap_or_else(|| app.session())
}

fn connection(request: &Request) -> Option<&Arc<HttpConnection>> {
    request.extensions().get()
}

/// A valid opening handshake.
pub struct Upgrade {
    answer: Response,
    upgraded: OnUpgrade,
    guard: Option<UpgradeGuard>,
}

impl Upgrade {
    /// Checks the handshake and counts the connection as `protocol` from now on.
    pub fn new(request: &mut Request, protocol: &'static str) -> HttpResult<Upgrade> {
        let answer = handshake(request)?;
        let guard = connection(request).map(|connection| connection.upgrade(protocol));
        Ok(Upgrade { answer, upgraded: hyper::upgrade::on(request), guard })
    }

    /// Accepts the handshake; `serve` receives the socket once the response is written.
    pub fn answer<T>(self, app: &App, serve: impl FnOnce(Socket) -> T + Send + 'static) -> Response
    where
        T: Future<Output = ()> + Send,
    {
        let (upgraded, guard, max) = (self.upgraded, self.guard, app.body_max());
        tokio::spawn(async move {
            let _guard = guard;
            match upgraded.await {
                Ok(stream) => serve(Socket::new(TokioIo::new(stream), max)).await,
                Err(error) => tracing::debug!("cannot upgrade to a WebSocket: {error}"),
            }
        });
        self.answer
    }
}

/// The response to an opening handshake.
fn handshake(request: &Request) -> HttpResult<Response> {
    let headers = request.headers();
    let wrong = |text: &'static str| Failure::from(Error::new(Code::BadField, text));
    if request.method() != Method::GET || !is_upgrade(request) {
        return Err(upgrade_required("this path accepts only WebSockets: connect with ws://"));
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(wrong("the header Connection: Upgrade is missing"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err(upgrade_required("unsupported WebSocket version: use version 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let accepted = key.and_then(accept).and_then(|key| HeaderValue::try_from(key).ok());
    let accepted = accepted.ok_or_else(|| wrong("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accepted),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn upgrade_required(text: &'static str) -> Failure {
    Failure { status: StatusCode::UPGRADE_REQUIRED, error: Error::new(Code::BadField, text) }
}

/// Whether the header lists contain `token`.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}
