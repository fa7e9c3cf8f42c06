//! The open connections of a server: their limit, and their end when the server stops.

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
    /// Notified whenever a connection ends.
    ended: Condvar,
}

#[derive(Default)]
struct Open {
    last_number: u64,
    streams: HashMap<u64, Arc<TcpStream>>,
    /// Connections that learn in another way that the server stops.
    told: HashSet<u64>,
}

/// An open connection. Dropping it counts it as ended, also if its thread panics.
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

    /// Registers a connection; `None` if the limit is reached.
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

    /// Lets every connection finish the requests that have arrived. At the deadline the remaining
    /// sockets are closed.
    pub fn close(&self, deadline: Instant) {
        let grace = deadline - limits::STOP / 2;
        for (how, until) in [(Shutdown::Read, grace), (Shutdown::Both, deadline)] {
            let mut open = self.open();
            for (number, stream) in &open.streams {
                if how == Shutdown::Both || !open.told.contains(number) {
                    // A connection that has ended by itself needs no shutdown.
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
    /// Called on its thread. Until then the accepting thread can still refuse the connection.
    pub fn begin(&mut self) {
        self.has_thread = true;
    }

    /// Marks a connection that others tell to stop: shutting down its stream would end its request.
    #[cfg(feature = "http")]
    pub fn ends_when_told(&mut self) {
        self.connections.open().told.insert(self.number);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.has_thread {
            // After `stop`, callers rely on every socket being closed, even if another thread still
            // holds this one for a moment.
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
