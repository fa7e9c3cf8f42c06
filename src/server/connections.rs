//! The connections that are served: how many there may be, and their end when the server stops.

use std::collections::{HashMap, HashSet};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::warn;

use crate::limits;
use crate::sync::lock;

pub struct Connections {
    most: usize,
    open: Mutex<Open>,
    /// Told whenever a connection ends.
    ended: Condvar,
}

#[derive(Default)]
struct Open {
    last_number: u64,
    streams: HashMap<u64, Arc<TcpStream>>,
    /// Those that are told in another way that the server stops.
    told: HashSet<u64>,
}

/// A connection that is served until this is dropped, also when its thread panics.
pub struct Serving {
    connections: Arc<Connections>,
    number: u64,
    stream: Arc<TcpStream>,
    has_thread: bool,
}

impl Connections {
    pub fn new(most: usize) -> Connections {
        Connections { most, open: Mutex::default(), ended: Condvar::new() }
    }

    /// Begins to serve a connection; `None` if there are as many as there may be.
    pub fn begin(self: &Arc<Self>, stream: &Arc<TcpStream>) -> Option<Serving> {
        let mut open = self.open();
        if open.streams.len() >= self.most {
            return None;
        }
        open.last_number += 1;
        let number = open.last_number;
        open.streams.insert(number, stream.clone());
        Some(Serving {
            connections: self.clone(),
            number,
            stream: stream.clone(),
            has_thread: false,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        lock(&self.open)
    }

    /// Lets every connection finish what has arrived; the socket of one that does not is closed.
    pub fn close(&self, deadline: Instant) {
        let grace = deadline - limits::STOP / 2;
        for (how, until) in [(Shutdown::Read, grace), (Shutdown::Both, deadline)] {
            let mut open = self.open();
            for (number, stream) in &open.streams {
                if how == Shutdown::Both || !open.told.contains(number) {
                    // One that has ended by itself meanwhile is as good as shut down.
                    let _ = stream.shutdown(how);
                }
            }
            while !open.streams.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.ended.wait_timeout(open, left);
                open = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let left = self.open().streams.len();
        if left > 0 {
            warn!("{left} connections did not end in time");
        }
    }
}

impl Serving {
    /// From its thread: without one, whoever accepted it still has to refuse it.
    pub fn begin(&mut self) {
        self.has_thread = true;
    }

    /// It is told by others that the server stops: the end of its stream would end its request.
    #[cfg(feature = "http")]
    pub fn ends_when_told(&mut self) {
        self.connections.open().told.insert(self.number);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.has_thread {
            // Whoever stops us may count on every socket being closed, though the accepting thread
            // or the stopping one still holds this one for a moment.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        let mut open = self.connections.open();
        open.told.remove(&self.number);
        let stream = open.streams.remove(&self.number);
        drop(open);
        drop(stream);
        self.connections.ended.notify_all();
    }
}
