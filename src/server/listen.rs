//! Listening sockets, the options of accepted ones, and the limit of descriptors.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tracing::{debug, warn};

use super::StartError;
use super::wake::Wake;
use crate::compat::Endpoint;
use crate::limits;

/// Connections that the kernel queues until they are accepted.
pub const BACKLOG: i32 = 1024;
/// TCP probes a silent peer after this long, and then at each interval. If no probe is answered,
/// the connection ends.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// TCP ends a connection whose peer acknowledges no byte, or accepts none, for this long.
/// Keep-alive does not cover this case: it probes only while nothing is in flight.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(90);

pub fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(limits::WRITE_STALL))?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// One listener of a server.
pub struct Listener {
    pub socket: TcpListener,
    pub addr: SocketAddr,
    pub endpoint: Arc<Endpoint>,
    /// Wakes the thread that accepts from it.
    pub wake: Arc<Wake>,
}

/// Opens a listener for each endpoint.
pub fn listeners(endpoints: Vec<Endpoint>) -> Result<Vec<Arc<Listener>>, StartError> {
    let listeners = endpoints.into_iter().map(|endpoint| {
        let bound = bind(&endpoint.host, endpoint.port).and_then(|socket| {
            let wake = Wake::new();
            wake.prepare()?;
            Ok((socket.local_addr()?, socket, wake))
        });
        let (addr, socket, wake) = bound.map_err(|error| StartError::bind(&endpoint, error))?;
        Ok(Arc::new(Listener { socket, addr, endpoint: Arc::new(endpoint), wake }))
    });
    listeners.collect()
}

/// Listens on the first address of the host that works.
fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for addr in (host, port).to_socket_addrs()? {
        match listen(addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows this option would let another program take the port.
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

/// Raises the limit of open descriptors: a connection needs one, and a second one while it waits.
pub fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let needed = (connections as u64).saturating_add(64);
    let wanted = needed.saturating_add(connections as u64);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    // If it cannot be raised, the present limit may be enough.
    let _ = setrlimit(Resource::Nofile, limit);
    let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if have < needed {
        warn!(
            "the limit of {have} open files is too low: {connections} connections need {needed} (ulimit -n)"
        );
    } else if have < wanted {
        debug!(
            "{have} open files are allowed: not all of {connections} connections can wait at once"
        );
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_notice_a_vanished_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        set_options(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }
}
