//! The state that all CoreMQ connections of a server share: its name, the replicants, and direct
//! messages. A direct message goes from one connection to another without a topic.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::sync::lock;

#[derive(Default)]
pub struct CoreMqHub {
    pub(super) name: String,
    port: AtomicU16,
    /// Addresses from which a connection may become a replicant.
    allowed: Vec<IpAddr>,
    pub(super) connections: AtomicUsize,
    /// The replicants' names by connection id.
    pub(super) replicants: Mutex<BTreeMap<String, String>>,
    pub(super) direct_queues: DirectQueues,
    pub(super) ids: Ids,
}

impl CoreMqHub {
    pub fn new(allowed: Vec<IpAddr>) -> CoreMqHub {
        let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        CoreMqHub { name, allowed, ..CoreMqHub::default() }
    }

    /// Sets the port that messages give as the server's.
    pub fn set_port(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Whether a connection from `peer` may become a replicant.
    pub fn allows(&self, peer: IpAddr) -> bool {
        self.allowed.contains(&peer.to_canonical())
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The server's name in messages, `host:port`.
    pub fn server(&self) -> String {
        format!("{}:{}", self.name, self.port.load(Ordering::Relaxed))
    }
}

/// Generates connection ids: random UUIDs from the standard library's seeded hash.
#[derive(Default)]
pub struct Ids {
    keys: [std::hash::RandomState; 2],
    last: AtomicU64,
}

impl Ids {
    pub fn next(&self) -> String {
        use std::hash::BuildHasher;
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(number));
        let bits = (u128::from(high) << 64) | u128::from(low);
        // Version 4, variant 1.
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let text = format!("{bits:032x}");
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

/// The queues of direct messages, by connection id.
#[derive(Default)]
pub struct DirectQueues(Mutex<HashMap<String, Arc<DirectQueue>>>);

/// Direct messages that wait to be written to one connection.
pub struct DirectQueue {
    waker: Waker,
    messages: Mutex<VecDeque<DirectMessage>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectMessage {
    pub queue: String,
    pub json: String,
}

impl DirectQueues {
    pub fn open(&self, id: &str, waker: Waker) -> Arc<DirectQueue> {
        let direct_queue = Arc::new(DirectQueue { waker, messages: Mutex::default() });
        lock(&self.0).insert(id.to_owned(), direct_queue.clone());
        direct_queue
    }

    pub fn close(&self, id: &str) {
        lock(&self.0).remove(id);
    }

    /// Whether a connection has this id.
    pub fn has(&self, id: &str) -> bool {
        lock(&self.0).contains_key(id)
    }

    /// Queues a message for the connection with this id; does nothing if there is none.
    ///
    /// # Errors
    ///
    /// [`Code::Busy`] if the connection has more unread messages than a queue may hold.
    pub fn deliver(&self, id: &str, direct: DirectMessage) -> Result<()> {
        let direct_queue = lock(&self.0).get(id).cloned();
        direct_queue.map_or(Ok(()), |direct_queue| direct_queue.add(direct))
    }
}

impl DirectQueue {
    fn add(&self, direct: DirectMessage) -> Result<()> {
        let mut messages = lock(&self.messages);
        let waiting: usize = messages.iter().map(|direct| direct.json.len()).sum();
        if waiting > limits::OUTBOX_BYTES || messages.len() >= limits::DIRECT_MESSAGES {
            let text = "that connection does not read what it has been sent: try again later";
            return Err(Error::new(Code::Busy, text));
        }
        messages.push_back(direct);
        drop(messages);
        self.waker.wake_by_ref();
        Ok(())
    }

    /// Removes and returns the oldest message.
    pub fn next(&self) -> Option<DirectMessage> {
        lock(&self.messages).pop_front()
    }
}
