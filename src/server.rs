//! THE server: listen, accept, one thread per connection.
//!
//! `bind` makes the listener with socket2; `accept` runs on one thread, begins a session for every
//! connection and gives it a thread of its own, which [`connection`] runs; `stop` ends them all.

mod buffer;
mod connection;
mod wake;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tracing::{debug, error, info, warn};

use self::wake::Wake;
use crate::broker::{Broker, Session};
use crate::config::Config;
use crate::error::{Code, Error};
use crate::protocol::json;
use crate::{limits, store};

/// Connections that the kernel holds for us while we are busy accepting others.
const BACKLOG: i32 = 1024;

/// A connection's thread needs little; what it does not touch costs nothing.
const STACK_BYTES: usize = 256 * 1024;

/// A silent peer is asked after this long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// After a failed accept the next waits this long, then twice as long, up to a second.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(5);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Starts a server and serves until SIGINT or SIGTERM.
///
/// Prints `dsmq listening on ADDRESS (json)` to standard output once it listens.
///
/// # Errors
///
/// If it cannot listen at `host` and `port`, say because another program does.
///
/// ```no_run
/// dsmq::run("127.0.0.1", 30008)?;
/// # Ok::<(), dsmq::StartError>(())
/// ```
pub fn run(host: &str, port: u16) -> Result<(), StartError> {
    run_config(Config { host: host.to_owned(), port, ..Config::default() })
}

/// [`run`], with a whole configuration.
pub(crate) fn run_config(config: Config) -> Result<(), StartError> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(StartError::Signals)?;
    let server = Server::start(config)?;
    let mut stdout = io::stdout();
    let listening = writeln!(stdout, "dsmq listening on {} (json)", server.addr());
    if let Err(error) = listening.and_then(|()| stdout.flush()) {
        warn!("standard output does not take the address: {error}");
    }
    let signal = signals.forever().next();
    info!("stopping at signal {}", signal.unwrap_or_default());
    server.stop();
    Ok(())
}

/// A running server. Dropping it stops it.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What the threads of a server share.
struct Shared {
    broker: Arc<Broker>,
    config: Config,
    wake: Arc<Wake>,
    connections: Mutex<Connections>,
    /// Told whenever a connection ends.
    ended: Condvar,
}

#[derive(Default)]
struct Connections {
    last_number: u64,
    streams: HashMap<u64, Arc<TcpStream>>,
}

impl Server {
    /// Listens, and serves on threads of its own. With port 0 it takes a free port.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on, or the store cannot be opened.
    pub fn start(config: Config) -> Result<Server, StartError> {
        let rules = store::Rules { dead_letter_after: config.dead_letter_after };
        let store = store::in_memory(rules).map_err(StartError::Store)?;
        raise_descriptor_limit(config.max_connections);
        let listener = bind(&config)?;
        let addr = listener.local_addr().map_err(|e| StartError::bind(&config, e))?;
        if !addr.ip().is_loopback() {
            warn!("{addr} can be reached from other machines, and there are no access rules");
        }
        let shared = Arc::new(Shared {
            broker: Arc::new(Broker::new(store)),
            wake: Wake::new(),
            connections: Mutex::default(),
            ended: Condvar::new(),
            config,
        });
        let mut server = Server { addr, shared: shared.clone(), threads: Vec::new() };
        let timing = shared.clone();
        server.spawn("timer", move || timing.broker.run_timer())?;
        server.spawn("accept", move || shared.accept(&listener))?;
        info!("listening on {addr}");
        Ok(server)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        self.threads.push(thread.map_err(StartError::Thread)?);
        Ok(())
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, finishes the requests in hand, answers who waits with `closing`, and
    /// returns when every connection has ended: within 5 seconds.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let deadline = Instant::now() + limits::STOP;
        self.shared.broker.close();
        self.shared.wake.wake();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread of the server had failed");
            }
        }
        self.shared.close_connections(deadline);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Shared {
    /// Accepts until the server stops. An error costs a pause, never the server.
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut backoff = ACCEPT_BACKOFF;
        while self.broker.check_open().is_ok() {
            match listener.accept() {
                Ok((stream, peer)) => {
                    backoff = ACCEPT_BACKOFF;
                    self.begin(stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.wake.wait_readable(listener, None) {
                        warn!("cannot wait for connections: {error}");
                    }
                }
                Err(error) => {
                    warn!("cannot accept a connection, trying again in {backoff:?}: {error}");
                    let _ = self.wake.wait(Some(backoff));
                    backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
                }
            }
        }
    }

    /// Begins a session, and its thread.
    fn begin(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let session = self.broker.session();
        debug!("{peer} connected");
        if let Err(error) = set_options(&stream) {
            debug!("{peer} has gone already: {error}");
            return;
        }
        let stream = Arc::new(stream);
        let Some(number) = self.register(&stream) else {
            let most = self.config.max_connections;
            warn!("{peer} refused: {most} connections are served (--max-connections)");
            return refuse(&stream, "all connections are taken: try again later");
        };
        let thread =
            thread::Builder::new().name("connection".into()).stack_size(STACK_BYTES).spawn({
                let (shared, stream) = (self.clone(), stream.clone());
                move || shared.serve(number, &stream, peer, session)
            });
        if let Err(error) = thread {
            warn!("{peer} refused: no thread can be made: {error}");
            refuse(&stream, "the server has no thread left: try again later");
            self.unregister(number);
        }
    }

    fn serve(&self, number: u64, stream: &TcpStream, peer: SocketAddr, session: Session) {
        let ended = connection::serve(stream, &self.broker, session, &self.config);
        match ended {
            Ok(()) => debug!("{peer} ended"),
            Err(error) => debug!("{peer} ended: {error}"),
        }
        // Whoever stops us may count on every socket being closed, though the accepting thread or
        // the stopping one still holds this one for a moment.
        let _ = stream.shutdown(Shutdown::Both);
        self.unregister(number);
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for the connection; `None` if there are as many as there may be.
    fn register(&self, stream: &Arc<TcpStream>) -> Option<u64> {
        let mut connections = self.connections();
        if connections.streams.len() >= self.config.max_connections {
            return None;
        }
        connections.last_number += 1;
        let number = connections.last_number;
        connections.streams.insert(number, stream.clone());
        Some(number)
    }

    fn unregister(&self, number: u64) {
        let stream = self.connections().streams.remove(&number);
        drop(stream);
        self.ended.notify_all();
    }

    /// Lets every connection finish what has arrived; the socket of one that does not is closed.
    fn close_connections(&self, deadline: Instant) {
        let grace = deadline - limits::STOP / 2;
        for (how, until) in [(Shutdown::Read, grace), (Shutdown::Both, deadline)] {
            let mut connections = self.connections();
            for stream in connections.streams.values() {
                // One that has ended by itself meanwhile is as good as shut down.
                let _ = stream.shutdown(how);
            }
            while !connections.streams.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.ended.wait_timeout(connections, left);
                connections = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let left = self.connections().streams.len();
        if left > 0 {
            warn!("{left} connections did not end in time");
        }
    }
}

/// Answers a connection that cannot be served, and lets go of it.
fn refuse(stream: &TcpStream, text: &'static str) {
    let reply = json::error_reply(&Error::new(Code::Busy, text));
    // It is told as far as its socket takes it; a fresh socket takes so little at once.
    let _ = (&*stream).write_all(&reply);
    let _ = stream.shutdown(Shutdown::Write);
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(limits::WRITE_STALL))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// A listener at the first of the host's addresses that takes one.
fn bind(config: &Config) -> Result<TcpListener, StartError> {
    let addrs = (config.host.as_str(), config.port).to_socket_addrs();
    let addrs = addrs.map_err(|e| StartError::bind(config, e))?;
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for addr in addrs {
        match listen(addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(StartError::bind(config, failed))
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows this option would let another program take the port from us.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if addr.ip() == IpAddr::from([0u16; 8]) {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A connection needs a descriptor, and a second one while it waits.
fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let needed = (connections as u64).saturating_add(64);
    let wanted = needed.saturating_add(connections as u64);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    // Where it cannot be raised, what is there may still do.
    let _ = setrlimit(Resource::Nofile, limit);
    let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if have < needed {
        warn!("{have} open files are allowed: {needed} are needed for {connections} connections");
    }
}

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    Bind {
        /// As configured, `host:port`.
        addr: String,
        /// What the system says.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[allow(private_interfaces)]
    Store(Error),
    /// The system gives no thread or no descriptor.
    Thread(io::Error),
    /// The signals that stop the server cannot be watched.
    Signals(io::Error),
}

impl StartError {
    fn bind(config: &Config, source: io::Error) -> StartError {
        StartError::Bind { addr: format!("{}:{}", config.host, config.port), source }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { addr, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "{addr} is in use by another program: stop it, or choose a --port")
            }
            StartError::Bind { addr, source } => write!(f, "cannot listen on {addr}: {source}"),
            StartError::Store(error) => write!(f, "cannot open the store: {}", error.text),
            StartError::Thread(error) => write!(f, "the system lends no thread: {error}"),
            StartError::Signals(error) => write!(f, "cannot watch for signals: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
