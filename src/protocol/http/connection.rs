//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Site;
use super::handed::Deliveries;
use super::head_timer::{Arrivals, HeadTimer};
use super::stream::Stream;
use crate::broker::{Session, Speaking, Turned};
use crate::limits;
use crate::sync::lock;

/// What a handler can know of its connection: an extension of every request.
pub struct Connection {
    session: Mutex<Option<Session>>,
    deliveries: Deliveries,
    speaking: Arc<Speaking>,
}

impl Connection {
    /// The session that began when the connection was accepted, for who asks first: a WebSocket,
    /// or a stream of events.
    pub fn session(&self) -> Option<Session> {
        lock(&self.session).take()
    }

    /// Counts up whenever all that was given to be written has been.
    pub fn flushes(&self) -> watch::Receiver<u64> {
        self.deliveries.flushes()
    }

    /// It counts under what it turns to, a stream or a WebSocket, until that is dropped.
    pub fn turn(&self, protocol: &'static str) -> Turned {
        self.speaking.turn(protocol)
    }
}

/// Serves a connection to its end; `first` was read of it before, and `held` is dropped with it.
///
/// # Errors
///
/// Why it ended, if neither side wished it.
pub async fn serve(
    site: Arc<Site>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    first: Vec<u8>,
    session: Session,
    held: impl Send + Unpin + 'static,
) -> Result<(), hyper::Error> {
    let (arrivals, deliveries) = (Arrivals::default(), Deliveries::default());
    let session = Mutex::new(Some(session));
    let speaking = Arc::new(site.app.broker().speaking("http"));
    let connection = Connection { session, deliveries: deliveries.clone(), speaking };
    let connection = Arc::new(connection);
    let stopping = site.clone();
    let stream =
        TokioIo::new(Stream::new(first, stream, arrivals.clone(), deliveries.clone(), held));
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(connection.clone());
        let (site, deliveries) = (site.clone(), deliveries.clone());
        async move {
            let mut response = site.answer(request).await?;
            deliveries.follow(&mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(HeadTimer(arrivals))
        .header_read_timeout(limits::HTTP_IDLE)
        .max_header_size(limits::HTTP_HEADER_BYTES)
        .max_buf_size(limits::READ_BYTES)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut serving = pin!(serving);
    tokio::select! {
        ended = &mut serving => ended,
        () = stopping.app.stopping() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}
