//! The server: listens, accepts, and gives each connection a thread.
//!
//! `listen` opens a listener for each row of the [`table`]. A thread for each listener accepts
//! connections, starts their sessions and gives each a thread of its own, which [`connection`]
//! runs. HTTP connections go on from there to the runtime of `web`. `stop` ends all of them.

mod buffer;
mod connection;
mod connections;
mod error;
mod listen;
mod open;
#[cfg(feature = "http")]
mod router;
mod run;
mod table;
mod wake;
#[cfg(feature = "http")]
mod web;

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use tracing::{debug, error, info, warn};

use self::connection::{ConnOutcome, ServerContext};
use self::connections::Connections;
pub use self::error::StartError;
use self::listen::{BACKLOG, Listener, listeners, raise_descriptor_limit, set_options};
pub use self::open::open;
pub use self::run::run;
pub(crate) use self::run::run_config;
use self::table::{Services, Table};
use crate::broker::{Broker, Caller, Session};
use crate::compat::coremq::settings::CoreMqSettings;
use crate::compat::{Endpoint, ListenerKind, coremq};
use crate::config::Config;
use crate::error::{Code, Error};
use crate::limits;
use crate::protocol::json;

/// Stack of a connection's thread. Pages that it never touches cost nothing.
const STACK_BYTES: usize = 1024 * 1024;

/// Pause after a failed accept; it doubles up to a second.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(5);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A running server. Dropping it stops it.
pub struct Server {
    addr: SocketAddr,
    listeners: Vec<Arc<Listener>>,
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
    #[cfg(feature = "http")]
    runtime: Option<web::Runtime>,
}

/// State that the threads of a server share.
struct Shared {
    broker: Arc<Broker>,
    config: Config,
    connections: Arc<Connections>,
    services: Services,
    #[cfg(feature = "http")]
    web: web::Web,
}

impl Server {
    /// Listens, and serves on threads of its own. With port 0 it takes a free port.
    ///
    /// # Errors
    ///
    /// If it cannot listen on the address, cannot open the store, or a value of the configuration
    /// is outside its range.
    ///
    /// `allow_shutdown` has no effect here, only in [`run`]: the program decides when this server
    /// stops.
    pub fn start(config: Config) -> Result<Server, StartError> {
        Server::start_with(Config { allow_shutdown: false, ..config }, || {})
    }

    /// [`Server::start`]; calls `stop` when a client stops the server.
    fn start_with(
        config: Config,
        stop: impl Fn() + Send + Sync + 'static,
    ) -> Result<Server, StartError> {
        config.check().map_err(StartError::Config)?;
        let coremq = CoreMqSettings::read(&config).map_err(StartError::Config)?;
        let broker = Arc::new(Broker::new(open(&config)?));
        if config.allow_shutdown {
            broker.allow_shutdown(stop);
        }
        #[cfg(feature = "http")]
        let (app, stopping) = web::app(&broker, &config);
        let table = Table::new(
            &config,
            coremq.as_ref(),
            &broker,
            #[cfg(feature = "http")]
            &app,
        )?;
        let listeners = listeners(table.endpoints)?;
        raise_descriptor_limit(config.max_connections);
        let addr = announce(&listeners, &table.coremq)?;
        #[cfg(feature = "http")]
        let (runtime, web) = web::start(stopping).map_err(StartError::Thread)?;
        let shared = Arc::new(Shared {
            #[cfg(feature = "http")]
            web,
            broker,
            connections: Arc::new(Connections::new(config.max_connections)),
            services: table.services,
            config,
        });
        let mut server = Server {
            addr,
            listeners,
            shared: shared.clone(),
            threads: Vec::new(),
            #[cfg(feature = "http")]
            runtime: Some(runtime),
        };
        for part in 0..shared.broker.timers() {
            let timing = shared.clone();
            server.spawn("timer", move || timing.broker.run_timer(part))?;
        }
        if let Some(hub) = table.mezzenger {
            server.spawn("mezzenger", move || hub.run())?;
        }
        for listener in server.listeners.clone() {
            let shared = shared.clone();
            server.spawn("accept", move || shared.accept(&listener))?;
        }
        let Config { store, max_store: max, .. } = &server.shared.config;
        let held = server.shared.broker.held();
        info!("listening on {addr}; messages are kept in {store} ({held}), at most {max} bytes");
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

    /// All addresses that it listens on, each with the name of its protocols, such as `o3one pub`.
    /// The first is `json, http`.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.listeners.iter().map(|listener| (listener.endpoint.name, listener.addr))
    }

    /// Stops accepting, finishes the requests that have arrived, answers waiting ones with
    /// `closing`, and returns when every connection has ended: within 5 seconds.
    pub fn stop(self) {
        drop(self);
    }
}

/// Warns of addresses that other machines can reach. Returns the server's own address.
fn announce(
    listeners: &[Arc<Listener>],
    coremq: &coremq::CoreMqHub,
) -> Result<SocketAddr, StartError> {
    let Some(own) = listeners.first() else {
        return Err(StartError::Config("there is no address to listen on".to_owned()));
    };
    for Listener { addr, .. } in listeners.iter().map(AsRef::as_ref) {
        if !addr.ip().is_loopback() {
            warn!(
                "{addr} is reachable from other machines and there are no access rules: anyone can read and write"
            );
        }
    }
    let frames = listeners.iter().find(|other| other.endpoint.name == coremq::NAME);
    coremq.set_port(frames.unwrap_or(own).addr.port());
    Ok(own.addr)
}

impl Drop for Server {
    fn drop(&mut self) {
        let deadline = Instant::now() + limits::STOP;
        self.shared.broker.close();
        self.listeners.iter().for_each(|listener| listener.wake.wake());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread of the server panicked");
            }
        }
        #[cfg(feature = "http")]
        self.shared.web.stop();
        self.shared.connections.close(deadline);
        #[cfg(feature = "http")]
        if let Some(runtime) = self.runtime.take() {
            web::end(runtime, deadline);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Shared {
    /// Accepts until the server stops. An error causes a pause and never ends the server.
    fn accept(self: &Arc<Self>, listener: &Listener) {
        let Listener { socket, wake, .. } = listener;
        let mut backoff = ACCEPT_BACKOFF;
        // A spare descriptor. When no other is left, it is closed to accept a connection and refuse
        // it with a reason.
        let mut spare = socket.try_clone().ok();
        let mut refusals = Refusals::default();
        while self.broker.check_open(&Caller::server()).is_ok() {
            match socket.accept() {
                Ok((stream, peer)) => {
                    backoff = ACCEPT_BACKOFF;
                    if let Err(why) = self.begin(stream, peer, &listener.endpoint) {
                        refusals.add(&why);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = wake.wait_readable(socket, None) {
                        refusals.add(&error.to_string());
                    }
                }
                Err(error) if is_out_of_descriptors(&error) => {
                    // Accept fails so even when no connection waits.
                    let there = wake.wait_readable(socket, Some(ACCEPT_BACKOFF_MAX));
                    if there.is_ok_and(|there| there.readable) {
                        drop(spare.take());
                        if let Ok((stream, _)) = socket.accept() {
                            refuse(
                                &stream,
                                &listener.endpoint.kind,
                                "the server has no descriptor left: try again later",
                            );
                            refusals.add(&error.to_string());
                        }
                    }
                    if spare.is_none() {
                        spare = socket.try_clone().ok();
                    }
                    if spare.is_none() {
                        let _ = wake.wait(Some(backoff));
                    }
                }
                Err(error) => {
                    refusals.add(&error.to_string());
                    let _ = wake.wait(Some(backoff));
                    backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
                }
            }
        }
        // A client that connected before the stop may have sent a request already.
        for _ in 0..BACKLOG {
            let Ok((stream, peer)) = socket.accept() else { break };
            let _ = self.begin(stream, peer, &listener.endpoint);
        }
    }

    /// Starts a session and its thread. The error is why the connection was refused.
    fn begin(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        endpoint: &Arc<Endpoint>,
    ) -> Result<(), String> {
        let session = self.broker.session(&Caller::new(peer.ip(), "none_yet"));
        debug!("{peer} connected");
        if let Err(error) = set_options(&stream) {
            debug!("{peer} disconnected before it was served: {error}");
            return Ok(());
        }
        let stream = Arc::new(stream);
        let Some(mut serving) = self.connections.begin(&stream) else {
            let most = self.config.max_connections;
            refuse(
                &stream,
                &endpoint.kind,
                &format!("all {most} connections are taken: try again later"),
            );
            return Err(format!("{most} connections are served (--max-connections)"));
        };
        let thread = thread::Builder::new().name("connection".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn({
            let (shared, stream, endpoint) = (self.clone(), stream.clone(), endpoint.clone());
            move || {
                serving.begin();
                // After the last connection has ended, the server alone must hold the store.
                let serving = serving;
                let (shared, endpoint) = (shared, endpoint);
                let outcome = shared.serve(&stream, peer, session, &endpoint.kind);
                drop(endpoint);
                match outcome {
                    ConnOutcome::Closed => {
                        drop(shared);
                        drop(serving);
                    }
                    #[cfg(feature = "http")]
                    ConnOutcome::Http(first, session, site) => {
                        let web = shared.web.clone();
                        drop(shared);
                        web.hand_over(serving, &stream, first, peer, session, site);
                    }
                }
            }
        });
        thread.map(|_| ()).map_err(|error| {
            refuse(&stream, &endpoint.kind, "the server has no thread left: try again later");
            format!("no thread can be made: {error}")
        })
    }

    fn serve(
        &self,
        stream: &TcpStream,
        peer: SocketAddr,
        session: Session,
        kind: &ListenerKind,
    ) -> ConnOutcome {
        let Shared { broker, config, services, .. } = self;
        let known = ServerContext { broker, config, services };
        let outcome = connection::serve(stream, peer.ip(), session, &known, kind);
        match &outcome {
            Ok(ConnOutcome::Closed) => debug!("{peer} ended"),
            #[cfg(feature = "http")]
            Ok(ConnOutcome::Http(..)) => debug!("{peer} speaks HTTP"),
            Err(error) => debug!("{peer} ended: {error}"),
        }
        outcome.unwrap_or(ConnOutcome::Closed)
    }
}

/// Refused connections, logged at most once a second.
#[derive(Default)]
struct Refusals {
    logged: Option<Instant>,
    silent: u64,
}

impl Refusals {
    fn add(&mut self, why: &str) {
        if self.logged.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            self.silent += 1;
            return;
        }
        let more = std::mem::take(&mut self.silent);
        warn!("refused a connection, and {more} since the last such line: {why}");
        self.logged = Some(Instant::now());
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

/// Answers a connection that cannot be served, and closes it. Only JSON and HTTP have an answer;
/// clients of the other protocols reconnect later.
fn refuse(stream: &TcpStream, kind: &ListenerKind, text: &str) {
    if matches!(kind, ListenerKind::FirstByte) {
        let reply = json::error_reply(&Error::new(Code::Busy, text.to_owned()));
        // A new socket accepts this much at once; if not, the client gets less.
        let _ = (&*stream).write_all(&reply);
    }
    let _ = stream.shutdown(Shutdown::Write);
}
