//! One HTTP connection from its first byte to its end: its bytes, the time limits of request
//! headers, and stalled writes. It knows no routes.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use hyper::rt::{self, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::Site;
use super::delivery::DeliveryTracker;
use crate::broker::{Caller, ProtocolGuard, Session, UpgradeGuard};
use crate::limits;
use crate::sync::lock;

/// The connection of a request, as an extension of every request.
pub struct HttpConnection {
    session: Mutex<Option<Session>>,
    caller: Arc<Caller>,
    deliveries: DeliveryTracker,
    protocol: Arc<ProtocolGuard>,
}

impl HttpConnection {
    /// The caller of this connection while it speaks HTTP.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Takes the session that started when the connection was accepted: for the first WebSocket or
    /// event stream.
    pub fn session(&self) -> Option<Session> {
        lock(&self.session).take()
    }

    /// A counter that increases whenever all pending bytes have been written.
    pub fn flushes(&self) -> watch::Receiver<u64> {
        self.deliveries.flushes()
    }

    /// Counts the connection as `protocol`, a stream or a WebSocket, until the guard is dropped.
    pub fn upgrade(&self, protocol: &'static str) -> UpgradeGuard {
        self.protocol.upgrade(protocol)
    }
}

/// Serves a connection until it ends. `first` holds the bytes that are already read; `held` is
/// dropped with the connection.
///
/// # Errors
///
/// The reason, if the connection ended against the will of both sides.
pub async fn serve(
    site: Arc<Site>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    first: Vec<u8>,
    caller: Caller,
    session: Session,
    held: impl Send + Unpin + 'static,
) -> Result<(), hyper::Error> {
    let (read_count, deliveries) = (ReadCount::default(), DeliveryTracker::default());
    let session = Mutex::new(Some(session));
    let protocol = Arc::new(site.app.broker().count_protocol(&caller));
    let (caller, deliver) = (Arc::new(caller), deliveries.clone());
    let connection = Arc::new(HttpConnection { session, caller, deliveries: deliver, protocol });
    let stopping = site.clone();
    let stream =
        TokioIo::new(HttpStream::new(first, stream, read_count.clone(), deliveries.clone(), held));
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(connection.clone());
        let (site, deliveries) = (site.clone(), deliveries.clone());
        async move {
            let mut response = site.answer(request).await?;
            deliveries.track(&mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(HeadTimer(read_count))
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

struct HttpStream<S, H> {
    /// The bytes that were read before.
    first: Cursor<Vec<u8>>,
    stream: S,
    read_count: ReadCount,
    deliveries: DeliveryTracker,
    /// Runs while a write makes no progress.
    stall: Option<Pin<Box<Sleep>>>,
    drain: Option<PeerDrain>,
    /// Dropped with the connection, for whatever counts it.
    _held: H,
}

/// The draining of a connection whose peer may still be sending.
struct PeerDrain {
    until: Pin<Box<Sleep>>,
    read: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin, H> HttpStream<S, H> {
    fn new(
        first: Vec<u8>,
        stream: S,
        read_count: ReadCount,
        deliveries: DeliveryTracker,
        held: H,
    ) -> HttpStream<S, H> {
        let first = Cursor::new(first);
        HttpStream { first, stream, read_count, deliveries, stall: None, drain: None, _held: held }
    }

    /// Returns the result of a write, or an error after [`limits::WRITE_STALL`] without progress.
    fn unless_stalled<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall =
            self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::WRITE_STALL)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for HttpStream<S, H> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.first).poll_read(cx, buffer))?;
        if buffer.filled().len() == before {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        }
        this.read_count.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Unpin> AsyncWrite for HttpStream<S, H> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.unless_stalled(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.unless_stalled(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        // hyper flushes once it has nothing left to write.
        this.deliveries.flushed();
        Poll::Ready(Ok(()))
    }

    /// Closes this side, then discards for a while what the peer still sends: a reset would destroy
    /// unread responses.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.drain.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let drain = this.drain.get_or_insert_with(|| PeerDrain {
            until: Box::pin(tokio::time::sleep_until(Instant::now() + limits::LINGER)),
            read: 0,
        });
        let mut bytes = [0; 4096];
        while drain.read < limits::LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    drain.read += buffer.filled().len();
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(drain.until.as_mut().poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Counts the reads of a connection that returned data.
type ReadCount = Arc<AtomicU64>;

/// The connection's timer, which hyper uses only for the timeout of a request header.
///
/// hyper supports one duration, counted from the end of the previous request. This timer allows
/// [`limits::HTTP_IDLE`] until the first byte arrives and [`limits::HTTP_HEADER`] from then on.
struct HeadTimer(ReadCount);

impl Timer for HeadTimer {
    fn sleep(&self, _: std::time::Duration) -> Pin<Box<dyn rt::Sleep>> {
        let seen = self.0.load(Ordering::Relaxed);
        let sleep = Box::pin(tokio::time::sleep(limits::HTTP_IDLE));
        Box::pin(HeadSleep { read_count: self.0.clone(), seen: Some(seen), sleep })
    }

    fn sleep_until(&self, _: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(limits::HTTP_IDLE)
    }
}

struct HeadSleep {
    read_count: ReadCount,
    /// The count when the timer started; `None` once more has arrived.
    seen: Option<u64>,
    sleep: Pin<Box<Sleep>>,
}

impl rt::Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    /// hyper polls the timer after each read that leaves a header incomplete.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.seen.is_some_and(|seen| seen != self.read_count.load(Ordering::Relaxed)) {
            self.seen = None;
            self.sleep.as_mut().reset(Instant::now() + limits::HTTP_HEADER);
        }
        self.sleep.as_mut().poll(cx)
    }
}
