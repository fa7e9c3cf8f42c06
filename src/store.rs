//! The store: everything that must be atomic. It assigns ids and applies order, priority, leases, delays,
//! dedupe and bounds, for batches of operations. SQLite and Redis implement [`Store`].
//!
//! It knows no sessions, sockets or waiting clients.

mod cache;
#[cfg(test)]
mod contract;
pub mod copy;
mod drop_log;
mod errors;
mod leader;
#[cfg(feature = "redis")]
mod redis;
mod sqlite;
mod topic_state;

use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

pub use self::cache::{ReadCache, WriteThrough};
#[cfg(feature = "redis")]
pub use self::redis::RedisAt;
#[cfg(all(test, feature = "redis"))]
pub use self::redis::{cluster_tests::Server as RedisCluster, tests::Server as RedisServer};
#[cfg(feature = "bench")]
pub use self::sqlite::compile_flags_advice;
pub use self::sqlite::{IN_USE, sqlite_version};
pub use self::topic_state::{Counts, TopicState};
use crate::error::{Error, Result};
use crate::ops::{
    Batch, Chunk, Completion, Id, Node, ScanCursor, StoredMessage, Topic, Watermark, completion,
};
pub use crate::ops::{SyncMode, WhenFull};

/// A lease that ends only when its message is acknowledged or put back, or when the store is opened
/// again: 200 years, in microseconds.
pub const UNTIL_RESTART: u64 = 200 * 365 * 24 * 3_600 * 1_000_000;

/// A store of messages. Any thread may call every method at any time; most calls may block.
pub trait Store: Send + Sync {
    /// Carries out the batch in one transaction, writes the outcomes into it and passes it to the
    /// completion. At that point every reader sees the stored messages and none the removed ones.
    ///
    /// The calling thread may carry out the batches of other threads. The call blocks until the batch is
    /// complete if [`Completion::waiter`] names a thread, or if the batch spans several partitions.
    fn submit(&self, batch: Batch, completion: Box<dyn Completion>);

    /// Carries out the batch and waits until it is complete.
    fn apply(&self, batch: &mut Batch) {
        if !batch.is_empty() {
            completion::apply(batch, |batch, completion| self.submit(batch, completion));
        }
    }

    /// The oldest messages of the topic with an id above `after`: at most `limit`, and at most
    /// [`limits::CHUNK_BYTES`](crate::limits::CHUNK_BYTES) unless the first alone is larger.
    fn read(&self, state: &TopicState, after: Id, limit: usize) -> Result<Arc<Chunk>>;

    /// The newest `limit` messages of the topic, oldest first; fewer if together they exceed
    /// [`limits::HISTORY_BYTES`](crate::limits::HISTORY_BYTES).
    fn read_last(&self, state: &TopicState, limit: usize) -> Result<Arc<Chunk>>;

    /// The topic's delayed messages in the order of their due times, which stand in place of the ids.
    /// The limits of [`Store::read_last`] apply.
    fn delayed(&self, state: &TopicState, limit: usize) -> Result<Chunk>;

    /// The cache of recently read chunks.
    fn cache(&self) -> &ReadCache;

    /// The ids of the oldest and the newest message in the topic.
    fn ends(&self, state: &TopicState) -> Result<(Option<Id>, Option<Id>)>;

    /// The stored messages after this position, including leased, delayed and expired ones: at most [`limits::COPY_MESSAGES`](crate::limits::COPY_MESSAGES) and about
    /// [`limits::COPY_BYTES`](crate::limits::COPY_BYTES). An empty result ends the scan.
    fn scan(&self, state: &TopicState, after: ScanCursor) -> Result<Vec<StoredMessage>>;

    /// The state of a topic from memory; `None` before its first put.
    fn topic(&self, name: &str) -> Option<Arc<TopicState>>;

    /// All topics, in no order.
    fn topics(&self) -> Vec<Arc<TopicState>>;

    /// The highest assigned id over all partitions, as far as this server knows.
    fn last_id(&self) -> Id;

    /// The highest assigned ids: every later message has a higher one. Queries a shared store.
    fn watermark(&self) -> Watermark {
        Watermark::at(self.last_id())
    }

    /// Microseconds since 1970 by the store's clock.
    fn now(&self) -> Id;

    /// The time by the store's clock when [`Store::tick`] of this partition next has work. It comes from
    /// memory: the timer reads it after each batch.
    fn due(&self, partition: usize) -> Id;

    /// Carries out a bounded amount of the due work of this partition: ends leases, puts delayed messages,
    /// removes expired ones. Returns the topics with messages for waiting clients.
    fn tick(&self, partition: usize) -> Result<Due>;

    /// The store's kind, size and health. Never blocks. The store itself logs a new fault.
    fn usage(&self) -> Usage;

    /// The methods of a shared store; `None` for a store that only this process uses.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

/// A store that several servers share. Changes by other servers become visible after a delay.
pub trait SharedStore {
    /// Reads the topic's state from the store and publishes it in its [`TopicState`].
    fn refresh(&self, topic: &str) -> Result<()>;

    /// The number of partitions; [`partition`](crate::ops::partition) maps a topic to its partition. One
    /// can be unreachable while the others work, so none waits for another.
    fn partitions(&self) -> usize;

    /// Sets the waker to call when another server has made a change that [`Store::tick`] of this
    /// partition reports.
    fn on_change(&self, partition: usize, waker: Waker);

    /// [`Store::watermark`] without blocking: the query runs in the background, and the first use of the
    /// result waits for it.
    fn watermark_lazy(&self) -> Watermark;

    /// Microseconds by which ids in different topics can deviate from the order of their puts.
    fn clock_skew(&self) -> u64;

    /// Microseconds after which a message in transit to a consumer returns to its topic.
    fn consumer_lease(&self) -> u64;

    /// The nodes that hold the store.
    fn nodes(&self) -> Vec<Node>;
}

/// The kind, size and health of a store.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// `memory`, `file`, `redis` or `redis-cluster`.
    pub kind: &'static str,
    /// Whether calls can wait for a disk or a network, beyond waiting for other calls.
    pub blocks: bool,
    /// Whether the store was empty when this process opened it.
    pub is_new: bool,
    /// Why changes currently cannot be stored durably; `None` if the store works.
    pub fault: Option<Error>,
    /// Bytes of the messages and all their records.
    pub bytes: u64,
    pub max_bytes: Option<u64>,
    /// Requests refused since the start because the store was full.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone shows it"))]
    pub refused: u64,
}

/// The topics that a tick changed.
#[derive(Debug, Default)]
pub struct Due {
    /// Topics with new messages.
    pub put: Vec<Topic>,
    /// Topics with messages that can be taken again.
    pub returned: Vec<Topic>,
}

#[cfg(feature = "redis")]
impl Due {
    fn add(&mut self, more: Due) {
        self.put.extend(more.put);
        self.returned.extend(more.returned);
    }
}

/// Opens a store in memory (SQLite), which ends with this process.
pub fn in_memory(rules: Rules) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(sqlite::SqliteStore::in_memory(system_clock, rules)?))
}

/// A store in memory with another clock, and a function that counts the rows of its tables.
#[cfg(test)]
pub fn in_memory_with(clock: fn() -> Id, rules: Rules) -> (Arc<dyn Store>, Box<dyn Fn() -> i64>) {
    let store = sqlite::SqliteStore::in_memory(clock, rules);
    let store = Arc::new(store.unwrap_or_else(|error| panic!("{error}")));
    (store.clone(), Box::new(move || store.rows()))
}

/// Opens a store in a SQLite file.
///
/// # Errors
///
/// One line that says why the file cannot be opened.
pub fn in_file(
    path: &Path,
    sync: SyncMode,
    rules: Rules,
) -> std::result::Result<Arc<dyn Store>, String> {
    Ok(Arc::new(sqlite::SqliteStore::in_file(path, sync, system_clock, rules)?))
}

/// Opens a store in Redis, which other servers may use too.
///
/// # Errors
///
/// One line that says why Redis cannot be used.
#[cfg(feature = "redis")]
pub fn in_redis(at: &RedisAt<'_>, rules: Rules) -> std::result::Result<Arc<dyn Store>, String> {
    Ok(Arc::new(redis::RedisStore::open(at, rules, None)?))
}

/// The result of [`check`].
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub topics: u64,
    pub messages: u64,
    /// Bytes of the JSON text of all messages.
    pub bytes: u64,
    /// One line for each fault; empty if the file is consistent.
    pub faults: Vec<String>,
}

/// Checks the consistency of a store's file, even while a server uses it.
///
/// # Errors
///
/// One line that says why the file cannot be read.
pub fn check(path: &Path) -> std::result::Result<Checked, String> {
    sqlite::check(path)
}

/// Checks that a store's file exists, without opening it.
///
/// # Errors
///
/// One line that says why it cannot be found.
pub fn find_file(path: &Path) -> std::result::Result<(), String> {
    sqlite::find_file(path)
}

/// Copies a store's file, even while a server uses it; returns the size of the copy in bytes.
///
/// # Errors
///
/// One line that says why it cannot be copied.
pub fn backup(from: &Path, to: &Path) -> std::result::Result<u64, String> {
    sqlite::backup(from, to)
}

/// A store in this file with another clock and without syncs, and a function that counts its rows.
#[cfg(test)]
pub fn in_file_with(
    path: &Path,
    clock: fn() -> Id,
    rules: Rules,
) -> (Arc<dyn Store>, Box<dyn Fn() -> i64>) {
    let store = sqlite::SqliteStore::in_file(path, SyncMode::Off, clock, rules);
    let store = Arc::new(store.unwrap_or_else(|error| panic!("{error}")));
    (store.clone(), Box::new(move || store.rows()))
}

/// The rules of a store, fixed when it is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The number of deliveries after which a returned message becomes a dead letter; 0 means never.
    pub dead_letter_after: u32,
    /// The maximum of [`Usage::bytes`]; `None` means no limit.
    pub max_bytes: Option<u64>,
    pub when_full: WhenFull,
    /// The maximum age of a message in microseconds; `None` means no limit.
    pub keep: Option<u64>,
}

/// Microseconds since 1970 by the machine's wall clock.
fn system_clock() -> Id {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

impl dyn Store + '_ {
    /// [`SharedStore::refresh`]; the topic states of other stores are always current.
    pub fn refresh(&self, topic: &str) -> Result<()> {
        self.shared().map_or(Ok(()), |shared| shared.refresh(topic))
    }

    /// [`SharedStore::partitions`]; other stores have one.
    pub fn partitions(&self) -> usize {
        self.shared().map_or(1, SharedStore::partitions)
    }
}
