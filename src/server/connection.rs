//! One connection on its own thread: reads, lets its protocol handler work, writes. No other thread
//! writes its socket.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::table::Services;
use super::wake::Wake;
use crate::broker::{Broker, Caller, Session};
use crate::compat::{ListenerKind, ProtocolKind};
use crate::config::Config;
use crate::error::{Code, Error};
use crate::limits;
use crate::protocol::handler::{Next, ProtocolHandler};
#[cfg(feature = "http")]
use crate::protocol::http::Site;
use crate::protocol::json::{self, JsonHandler};
use crate::sync::lock;

/// A silent connection frees the memory that an idle one does not need after this long.
const SHRINK_AFTER: Duration = Duration::from_secs(1);

/// How the thread of a connection ends.
pub enum ConnOutcome {
    Closed,
    /// The connection goes on as HTTP: the bytes that were read, its session, and the routes.
    #[cfg(feature = "http")]
    Http(Vec<u8>, Session, Arc<Site>),
}

/// State of the server for its connections.
pub struct ServerContext<'a> {
    pub broker: &'a Arc<Broker>,
    pub config: &'a Config,
    pub services: &'a Services,
}

/// Serves a connection until it ends or turns out to be HTTP.
pub fn serve(
    stream: &TcpStream,
    peer: IpAddr,
    session: Session,
    server: &ServerContext<'_>,
    kind: &ListenerKind,
) -> io::Result<ConnOutcome> {
    let conn = ConnContext { stream, peer, server };
    match kind {
        ListenerKind::FirstByte => return conn.serve_by_first_byte(session),
        #[cfg(feature = "http")]
        ListenerKind::Http(site) => {
            return Ok(ConnOutcome::Http(Vec::new(), session, site.clone()));
        }
        #[cfg(feature = "http")]
        ListenerKind::HttpByFirstByte(site) => return conn.serve_http(session, site),
        ListenerKind::Protocol(handler) => conn.serve_protocol(handler, Buffer::new(), session)?,
    }
    Ok(ConnOutcome::Closed)
}

/// One connection and its server.
struct ConnContext<'a> {
    stream: &'a TcpStream,
    peer: IpAddr,
    server: &'a ServerContext<'a>,
}

impl ConnContext<'_> {
    fn caller(&self, protocol: &'static str) -> Arc<Caller> {
        Arc::new(Caller::new(self.peer, protocol))
    }

    /// The first byte selects the protocol of the connection.
    fn serve_by_first_byte(&self, session: Session) -> io::Result<ConnOutcome> {
        let mut buffer = Buffer::new();
        if buffer.read_from(self.stream)? == 0 {
            return Ok(ConnOutcome::Closed);
        }
        let text = match buffer.unread().first() {
            Some(b'{' | b' ' | b'\t' | b'\n' | b'\r') => {
                let (broker, max) = (self.server.broker.clone(), self.server.config.max_message);
                let wake = Wake::new();
                let waker = Waker::from(wake.clone());
                let caller = self.caller("json");
                let mut handler = JsonHandler::new(broker, caller.clone(), session, max, waker);
                self.drive(&caller, buffer, wake, &mut handler)?;
                return Ok(ConnOutcome::Closed);
            }
            #[cfg(feature = "http")]
            Some(b'A'..=b'Z') => {
                let site = self.server.services.site.clone();
                return Ok(ConnOutcome::Http(buffer.unread().to_vec(), session, site));
            }
            #[cfg(not(feature = "http"))]
            Some(b'A'..=b'Z') => "HTTP is not served by this build: send JSON requests",
            Some(0x16) => "TLS is not served by this version: send JSON requests as they are",
            Some(0xFF) => {
                self.serve_protocol(&self.server.services.zmtp, buffer, session)?;
                return Ok(ConnOutcome::Closed);
            }
            _ => "no protocol begins with this byte: send JSON requests, which begin with '{'",
        };
        let error = Error::new(Code::UnknownProtocol, format!("{text}; the connection is closed"));
        (&*self.stream).write_all(&json::error_reply(&error))?;
        close(self.stream)?;
        Ok(ConnOutcome::Closed)
    }

    /// Serves HTTP only: any other first byte closes the connection.
    #[cfg(feature = "http")]
    fn serve_http(&self, session: Session, site: &Arc<Site>) -> io::Result<ConnOutcome> {
        let mut buffer = Buffer::new();
        buffer.read_from(self.stream)?;
        if let Some(b'A'..=b'Z') = buffer.unread().first() {
            return Ok(ConnOutcome::Http(buffer.unread().to_vec(), session, site.clone()));
        }
        close(self.stream)?;
        Ok(ConnOutcome::Closed)
    }

    /// Serves a protocol that has a thread for each connection. `buffer` has the bytes that were
    /// read already.
    fn serve_protocol(
        &self,
        kind: &ProtocolKind,
        buffer: Buffer,
        session: Session,
    ) -> io::Result<()> {
        let wake = Wake::new();
        let caller = self.caller(kind.gauge);
        let handler = (kind.begin)(session, caller.clone(), Waker::from(wake.clone()));
        self.drive(&caller, buffer, wake, &mut *handler.map_err(io::Error::other)?)
    }

    /// Runs a protocol handler until the connection ends.
    fn drive<T: ProtocolHandler + ?Sized>(
        &self,
        caller: &Caller,
        buffer: Buffer,
        wake: Arc<Wake>,
        handler: &mut T,
    ) -> io::Result<()> {
        let _counted = self.server.broker.count_protocol(caller);
        let (stream, broker) = (self.stream, &**self.server.broker);
        let driver = Driver {
            stream,
            broker,
            caller,
            buffer,
            handler,
            wake,
            bulky: false,
            ended: false,
            gone: false,
        };
        driver.serve()
    }
}

/// A connection and its protocol handler.
struct Driver<'a, T: ?Sized> {
    stream: &'a TcpStream,
    broker: &'a Broker,
    caller: &'a Caller,
    buffer: Buffer,
    handler: &'a mut T,
    wake: Arc<Wake>,
    /// Whether reads have a time-out, after which memory is freed.
    bulky: bool,
    /// Whether the client has shut down its sending side.
    ended: bool,
    /// Whether the client is gone. Its requests are still carried out, without replies.
    gone: bool,
}

impl<T: ProtocolHandler + ?Sized> Driver<'_, T> {
    fn serve(mut self) -> io::Result<()> {
        loop {
            let (done, next) = self.handler.advance(self.buffer.unread());
            self.buffer.consume(done);
            self.write()?;
            match next {
                Next::Write => {}
                Next::Wait => self.wait()?,
                Next::Close => return close(self.stream),
                Next::Read if !self.ended => self.read()?,
                Next::Read => {
                    self.handler.end(self.buffer.unread());
                    self.write()?;
                    return self.push_to_the_end();
                }
            }
        }
    }

    /// Writes the replies. Messages that were taken and cannot be written return to their topics.
    fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        let mut failed = Ok(());
        while failed.is_ok()
            && !self.gone
            && let Some(rest @ [_, ..]) =
                self.handler.replies().get(written..self.handler.write_end(written))
        {
            let mut stream = self.stream;
            match stream.write(rest) {
                Ok(0) => self.gone = true,
                Ok(some) => written += some,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // Requests that arrived before can still be read.
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.gone = true,
                    _ => failed = Err(error),
                },
            }
        }
        if !self.handler.replies().is_empty() {
            self.handler.written(written);
        }
        failed
    }

    /// Reads once. Until there is something to read, it pushes. A silent connection frees memory.
    fn read(&mut self) -> io::Result<()> {
        if self.handler.is_subscribed() && !self.gone {
            return self.push_and_read();
        }
        self.set_bulky(self.buffer.is_bulky() || self.handler.is_bulky())?;
        let mut read = self.buffer.read_from(self.stream);
        if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.shrink();
            self.set_bulky(false)?;
            read = self.buffer.read_from(self.stream);
        }
        self.ended = match read {
            Ok(read) => read == 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.gone = true;
                true
            }
            Err(error) => return Err(error),
        };
        Ok(())
    }

    fn shrink(&mut self) {
        self.buffer.shrink();
        self.handler.shrink();
    }

    fn set_bulky(&mut self, bulky: bool) -> io::Result<()> {
        if self.bulky != bulky {
            self.stream.set_read_timeout(bulky.then_some(SHRINK_AFTER))?;
            self.bulky = bulky;
        }
        Ok(())
    }

    fn push_and_read(&mut self) -> io::Result<()> {
        self.set_bulky(false)?;
        loop {
            let more = self.handler.push();
            self.write()?;
            let bulky = self.buffer.is_bulky() || self.handler.is_bulky();
            let patience = if more { Some(Duration::ZERO) } else { bulky.then_some(SHRINK_AFTER) };
            let woken = self.wake.wait_readable(&self.stream, patience)?;
            if woken.readable || woken.hung_up {
                self.ended = self.buffer.read_from(self.stream)? == 0;
                return Ok(());
            }
            if !more && bulky && !woken.woken {
                self.shrink();
            }
        }
    }

    /// A subscriber that has shut down its sending side may still listen: pushes continue until it
    /// disconnects or the server closes.
    fn push_to_the_end(&mut self) -> io::Result<()> {
        while self.handler.is_subscribed()
            && !self.gone
            && self.broker.check_open(self.caller).is_ok()
        {
            let more = self.handler.push();
            self.write()?;
            let patience = more.then_some(Duration::ZERO);
            if self.wake.wait_hang_up(&self.stream, patience)?.hung_up {
                break;
            }
        }
        Ok(())
    }

    /// Sleeps until the waiting request has its reply; pushes continue. Bytes that arrive meanwhile
    /// are read, up to one buffer, and processed later.
    fn wait(&mut self) -> io::Result<()> {
        self.shrink();
        if let Err(error) = self.wake.prepare() {
            warn_seldom("a request cannot wait", &error);
            self.handler.refuse_wait();
        }
        while let Some(deadline) = self.handler.retry() {
            let more = self.handler.push();
            self.write()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Some(if more { Duration::ZERO } else { left });
            if self.ended || self.buffer.unread().len() >= limits::READ_BYTES {
                self.gone |= self.wake.wait_hang_up(&self.stream, left)?.hung_up;
            } else if self.wake.wait_readable(&self.stream, left)?.readable {
                // A broken connection has ended too.
                self.ended = self.buffer.read_from(self.stream).unwrap_or(0) == 0;
            }
            if self.ended || self.gone {
                self.handler.peer_ended(self.gone);
            }
        }
        Ok(())
    }
}

/// Logs an error that can happen to every connection, at most once a second.
fn warn_seldom(what: &str, error: &io::Error) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = lock(&LAST);
    if last.is_none_or(|last| last.elapsed() > Duration::from_secs(1)) {
        *last = Some(Instant::now());
        tracing::warn!("{what}: {error}");
    }
}

/// Closes a connection in a way that lets its client read everything that was written.
fn close(stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + limits::LINGER;
    let mut buffer = [0; 4096];
    let mut read = 0;
    while read < limits::LINGER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        let mut stream = stream;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
