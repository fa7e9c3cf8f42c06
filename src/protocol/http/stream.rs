//! The bytes of a connection: those that were read before it came here, then its own. A write that
//! stalls ends it, and at its end the peer can read to the last byte what was written.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::handed::Deliveries;
use super::head_timer::Arrivals;
use crate::limits;

pub struct Stream<S, H> {
    /// What was read before.
    first: Cursor<Vec<u8>>,
    stream: S,
    arrivals: Arrivals,
    deliveries: Deliveries,
    /// Runs while a write moves nothing.
    stall: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
    /// Dropped when the connection is: who counts it knows then.
    _held: H,
}

/// The end of a connection, while its peer may still be sending.
struct Linger {
    until: Pin<Box<Sleep>>,
    read: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin, H> Stream<S, H> {
    pub fn new(
        first: Vec<u8>,
        stream: S,
        arrivals: Arrivals,
        deliveries: Deliveries,
        held: H,
    ) -> Stream<S, H> {
        let first = Cursor::new(first);
        Stream { first, stream, arrivals, deliveries, stall: None, linger: None, _held: held }
    }

    /// A write's outcome, unless nothing has moved for too long.
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

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for Stream<S, H> {
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
        this.arrivals.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Unpin> AsyncWrite for Stream<S, H> {
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

    /// hyper asks for it when it has written all that it had.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        // hyper flushes when it has nothing left to write.
        this.deliveries.flushed();
        Poll::Ready(Ok(()))
    }

    /// Ends this side, then reads for a while what the peer is still sending: else it might never
    /// see what was written.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(|| Linger {
            until: Box::pin(tokio::time::sleep_until(Instant::now() + limits::LINGER)),
            read: 0,
        });
        let mut bytes = [0; 4096];
        while linger.read < limits::LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    linger.read += buffer.filled().len();
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(linger.until.as_mut().poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
