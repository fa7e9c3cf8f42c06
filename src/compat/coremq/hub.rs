//! What all connections of a server share: the server's name, the replicants, and direct messages.
//! Direct messages go from one connection to another; no topic is made of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::sync::lock;

/// What a server's connections share.
pub struct CoreMqHub {
    pub(super) name: String,
    port: AtomicU16,
    /// Who may become a replicant.
    allowed: Vec<IpAddr>,
    pub(super) connections: AtomicUsize,
    /// The names of replicants, by their connections' ids.
    pub(super) replicants: Mutex<BTreeMap<String, String>>,
    pub(super) direct_queues: DirectQueues,
    pub(super) ids: Ids,
}

impl CoreMqHub {
    /// Replicants may come from `allowed` alone.
    pub fn new(allowed: Vec<IpAddr>) -> CoreMqHub {
        let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let (connections, replicants) = (AtomicUsize::new(0), Mutex::default());
        let (port, direct_queues) = (AtomicU16::new(0), DirectQueues::default());
        CoreMqHub {
            name,
            port,
            allowed,
            connections,
            replicants,
            direct_queues,
            ids: Ids::default(),
        }
    }

    /// Messages name the server with this port.
    pub fn set_port(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Whether connections from there may become replicants.
    pub fn allows(&self, peer: IpAddr) -> bool {
        self.allowed.contains(&peer.to_canonical())
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// As messages name it.
    pub fn server(&self) -> String {
        format!("{}:{}", self.name, self.port.load(Ordering::Relaxed))
    }
}

/// Makes the ids of connections: random UUIDs, by the hash that the standard library seeds.
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

/// The mailboxes of a server's connections, by their ids.
#[derive(Default)]
pub struct DirectQueues(Mutex<HashMap<String, Arc<DirectQueue>>>);

/// Letters that a connection has not been sent yet.
pub struct DirectQueue {
    waker: Waker,
    messages: Mutex<VecDeque<DirectMessage>>,
}

/// A message, and the queue that it was sent to.
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

    /// Whether this is the id of a connection.
    pub fn has(&self, id: &str) -> bool {
        lock(&self.0).contains_key(id)
    }

    /// Delivers a letter to the connection of this id, if there is one.
    pub fn deliver(&self, id: &str, direct: DirectMessage) -> Result<()> {
        let direct_queue = lock(&self.0).get(id).cloned();
        direct_queue.map_or(Ok(()), |direct_queue| direct_queue.add(direct))
    }
}

impl DirectQueue {
    fn add(&self, direct: DirectMessage) -> Result<()> {
        let mut messages = lock(&self.messages);
        let waiting: usize = messages.iter().map(|direct| direct.json.len()).sum();
        if waiting > limits::OUTBOX_BYTES || messages.len() >= limits::MAILBOX_LETTERS {
            let text = "that connection does not read what it has been sent: try again later";
            return Err(Error::new(Code::Busy, text));
        }
        messages.push_back(direct);
        drop(messages);
        self.waker.wake_by_ref();
        Ok(())
    }

    /// The oldest letter.
    pub fn next(&self) -> Option<DirectMessage> {
        lock(&self.messages).pop_front()
    }
}
