//! A proxy between a server and its Redis that can fail in several ways.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the proxy does with the traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Open,
    /// Refuses new connections and closes existing ones.
    Refuses,
    /// Discards everything in both directions, for good.
    Swallows,
    /// Delivers only the beginning of a reply.
    Breaks,
}

pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    redis: PathBuf,
    way: Mutex<Way>,
    ended: AtomicBool,
    connections: Mutex<Vec<Arc<Connection>>>,
}

struct Connection {
    server: TcpStream,
    redis: UnixStream,
    /// Once bytes of this connection were discarded, all are.
    mute: AtomicBool,
}

impl Proxy {
    /// To the Redis that listens on this socket.
    pub fn start(redis: PathBuf) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            redis,
            way: Mutex::new(Way::Open),
            ended: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for server in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                accepting.connect(server);
            }
        });
        Proxy { addr, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    pub fn address(&self) -> String {
        self.addr.to_string()
    }

    pub fn set(&self, way: Way) {
        *self.shared.way.lock().unwrap() = way;
        if way == Way::Refuses {
            self.shared.end_all();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the accept thread.
        let _ = TcpStream::connect(self.addr);
        self.shared.end_all();
    }
}

impl Shared {
    fn connect(self: &Arc<Shared>, server: TcpStream) {
        // Under the lock: a connection is either registered before all are closed, or refused.
        let way = self.way.lock().unwrap();
        if *way == Way::Refuses {
            return;
        }
        let redis = UnixStream::connect(&self.redis).unwrap();
        let connection = Arc::new(Connection { server, redis, mute: AtomicBool::new(false) });
        self.connections.lock().unwrap().push(connection.clone());
        drop(way);
        let (shared, same) = (self.clone(), connection.clone());
        thread::spawn(move || shared.pump(&same, &mut &same.server, &mut &same.redis, false));
        let shared = self.clone();
        thread::spawn(move || {
            shared.pump(&connection, &mut &connection.redis, &mut &connection.server, true);
        });
    }

    /// Copies bytes in one direction until either side ends.
    fn pump(&self, on: &Connection, from: &mut dyn Read, to: &mut dyn Write, answers: bool) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let way = *self.way.lock().unwrap();
            if way == Way::Swallows {
                on.mute.store(true, Ordering::SeqCst);
            }
            if on.mute.load(Ordering::SeqCst) {
                continue;
            }
            let breaks = way == Way::Breaks && answers;
            let passed = if breaks { read / 2 } else { read };
            if to.write_all(&bytes[..passed]).is_err() || breaks {
                break;
            }
        }
        on.end();
    }

    fn end_all(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.end());
    }
}

impl Connection {
    fn end(&self) {
        // Either side may have ended by itself.
        let _ = self.server.shutdown(Shutdown::Both);
        let _ = self.redis.shutdown(Shutdown::Both);
    }
}
