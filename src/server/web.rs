//! Moves HTTP connections from their threads to a small runtime, which ends with the server.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

pub use tokio::runtime::Runtime;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tracing::{debug, error};

use super::connections::Serving;
use crate::broker::{Broker, Caller, Session};
use crate::config::Config;
use crate::limits;
use crate::protocol::http::app::App;
use crate::protocol::http::{self, Site};

/// Maximum number of workers: more would take processor time from the threads of other connections.
const WORKERS_MAX: usize = 4;

/// Response to a connection for which no second descriptor is left.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The way of connections to the runtime, and the signal that the server stops.
#[derive(Clone)]
pub struct Web {
    runtime: Handle,
    stop: Arc<watch::Sender<bool>>,
}

/// The state of the HTTP handlers, and the signal that the server stops.
pub fn app(broker: &Arc<Broker>, config: &Config) -> (Arc<App>, watch::Sender<bool>) {
    let (stop, stops) = watch::channel(false);
    (Arc::new(App::new(broker.clone(), config.clone(), stops)), stop)
}

/// Starts the runtime.
pub fn start(stop: watch::Sender<bool>) -> io::Result<(Runtime, Web)> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(WORKERS_MAX));
    let runtime = Builder::new_multi_thread()
        .thread_name("http")
        .worker_threads(workers)
        .max_blocking_threads(limits::HTTP_BLOCKING_THREADS)
        .enable_io()
        .enable_time()
        .build()?;
    let web = Web { runtime: runtime.handle().clone(), stop: Arc::new(stop) };
    Ok((runtime, web))
}

/// Ends the remaining work before the deadline.
pub fn end(runtime: Runtime, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    // On a thread of its own, because the caller may be on another runtime.
    let ending = thread::Builder::new().spawn(move || runtime.shutdown_timeout(left));
    if ending.map(thread::JoinHandle::join).is_err() {
        error!("the threads for HTTP could not be ended");
    }
}

impl Web {
    /// Every connection finishes its current request; idle ones and streams end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Continues a connection of which `first` was read, until `serving` is dropped.
    pub fn hand_over(
        self,
        mut serving: Serving,
        stream: &TcpStream,
        first: Vec<u8>,
        peer: SocketAddr,
        session: Session,
        site: Arc<Site>,
    ) {
        serving.ends_when_told();
        let stream = stream.set_nonblocking(true).and_then(|()| stream.try_clone()).or_else(|e| {
            let mut stream = stream;
            stream.write_all(BUSY).and(Err(e))
        });
        self.runtime.spawn(async move {
            let serving = serving;
            let served = match stream.and_then(tokio::net::TcpStream::from_std) {
                Ok(stream) => {
                    let caller = Caller::new(peer.ip(), "http");
                    http::serve(site, stream, first, caller, session, serving).await
                }
                Err(error) => return debug!("{peer} cannot be served: {error}"),
            };
            match served {
                Ok(()) => debug!("{peer} ended"),
                Err(error) => debug!("{peer} ended: {error}"),
            }
        });
    }
}
