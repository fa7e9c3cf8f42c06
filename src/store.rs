//! The store: what must be atomic. Ids and their order, priority, leases, delay, dedupe, and what
//! is visible to whom; batches in, runs out. It knows nothing of sessions, sockets or who waits.

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
pub use self::sqlite::{IN_USE, compile_flags_advice, sqlite_version};
pub use self::topic_state::{Counts, TopicState};
use crate::error::{Error, Result};
use crate::ops::{
    Batch, Chunk, Completion, Id, Node, ScanCursor, StoredMessage, Topic, Watermark, completion,
};
pub use crate::ops::{SyncMode, WhenFull};

/// A lease that ends when its message is acknowledged or put back, or when the store is opened again:
/// two hundred years, in microseconds.
pub const UNTIL_RESTART: u64 = 200 * 365 * 24 * 3_600 * 1_000_000;

/// A place that keeps messages. Any thread may call every method at any time.
pub trait Store: Send + Sync {
    /// Carries out the batch in one transaction, writes each outcome into it and gives it to the
    /// completion. By then everyone sees the stored messages and nobody the removed ones.
    ///
    /// The calling thread may carry out other batches with it. It waits if the completion says that a
    /// thread waits for it ([`Completion::waiter`]), or if the batch spans partitions of a shared store.
    fn submit(&self, batch: Batch, completion: Box<dyn Completion>);

    /// [`Store::submit`], for a thread that waits until the batch is complete.
    fn apply(&self, batch: &mut Batch) {
        if !batch.is_empty() {
            completion::apply(batch, |batch, completion| self.submit(batch, completion));
        }
    }

    /// The oldest messages of the topic with an id above `after`: at most `limit`, and at most
    /// [`limits::CHUNK_BYTES`](crate::limits::CHUNK_BYTES) unless the first alone is larger.
    fn read(&self, state: &TopicState, after: Id, limit: usize) -> Result<Arc<Chunk>>;

    /// A run of the topic's last `limit` messages, oldest first; fewer if together they are over
    /// [`limits::HISTORY_BYTES`](crate::limits::HISTORY_BYTES).
    fn read_last(&self, state: &TopicState, limit: usize) -> Result<Arc<Chunk>>;

    /// The topic's delayed messages in the order in which they become due, with due times in place
    /// of ids; bounded as [`Store::read_last`] is.
    fn delayed(&self, state: &TopicState, limit: usize) -> Result<Chunk>;

    /// The runs that clients read last.
    fn cache(&self) -> &ReadCache;

    /// The ids of the oldest and of the newest message of the topic.
    fn ends(&self, state: &TopicState) -> Result<(Option<Id>, Option<Id>)>;

    /// All that is stored of the topic after this place, leased, delayed and expired messages
    /// included: at most [`limits::COPY_MESSAGES`](crate::limits::COPY_MESSAGES) and about
    /// [`limits::COPY_BYTES`](crate::limits::COPY_BYTES). An empty answer ends the scan.
    fn scan(&self, state: &TopicState, after: ScanCursor) -> Result<Vec<StoredMessage>>;

    /// The state of a topic, without asking the tables; `None` before its first put.
    fn topic(&self, name: &str) -> Option<Arc<TopicState>>;

    /// All topics, in no order.
    fn topics(&self) -> Vec<Arc<TopicState>>;

    /// The last id given out, the largest if the store has several partitions.
    fn last_id(&self) -> Id;

    /// The last ids given out: a message put from now on has a larger one. Asks a shared store.
    fn watermark(&self) -> Watermark {
        Watermark::at(self.last_id())
    }

    /// Microseconds since 1970 by the store's clock.
    fn now(&self) -> Id;

    /// When [`Store::tick`] of this partition next has something to do, by the store's clock.
    /// The timer reads it after each batch, without asking the tables.
    fn due(&self, partition: usize) -> Id;

    /// Does some of what is due in this partition by now, if anything is: ends leases, puts delayed
    /// messages, removes expired ones. Returns the topics whose waiting clients can be served.
    fn tick(&self, partition: usize) -> Result<Due>;

    /// The store's kind, size and health. Waits for nothing; the store logs a new fault.
    fn usage(&self) -> Usage;

    /// The methods of a store that other servers use too; `None` if only this process does.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

/// A store that several servers share. This server learns of the changes of others after a delay.
pub trait SharedStore {
    /// Asks the store for the topic's state and updates its head.
    fn refresh(&self, topic: &str) -> Result<()>;

    /// How many partitions the store has; [`part`](crate::ops::part) tells which one holds a topic. One
    /// may be unreachable while the others work, so none waits for another.
    fn partitions(&self) -> usize;

    /// Has `waker` woken when other servers have changed something that [`Store::tick`] of this
    /// partition reports.
    fn on_change(&self, partition: usize, waker: Waker);

    /// As [`Store::watermark`], without waiting: the store is asked meanwhile, and the first read of
    /// the result waits for the answer.
    fn watermark_lazy(&self) -> Watermark;

    /// How far the ids of different topics may be out of the order of their puts, in microseconds.
    fn clock_skew(&self) -> u64;

    /// How long a message may be on its way to a consumer before it returns to its topic, in
    /// microseconds.
    fn consumer_lease(&self) -> u64;

    /// The nodes that hold the store.
    fn nodes(&self) -> Vec<Node>;
}

/// What a store is, how large, and whether it works.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// `memory`, `file`, `redis` or `redis-cluster`.
    pub kind: &'static str,
    /// Whether a call may wait for a disk or a network, and not only for other calls.
    pub blocks: bool,
    /// Whether the store was empty when this process opened it.
    pub is_new: bool,
    /// Why a change cannot be stored now so that the next server finds it.
    pub fault: Option<Error>,
    /// Bytes that messages take with all that belongs to them.
    pub bytes: u64,
    pub max_bytes: Option<u64>,
    /// Requests that were refused since the start because it was full.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone shows it"))]
    pub refused: u64,
}

/// What a tick did.
#[derive(Debug, Default)]
pub struct Due {
    /// Topics in which messages were put.
    pub put: Vec<Topic>,
    /// Topics in which messages can be taken again.
    pub returned: Vec<Topic>,
}

#[cfg(feature = "redis")]
impl Due {
    fn add(&mut self, more: Due) {
        self.put.extend(more.put);
        self.returned.extend(more.returned);
    }
}

/// The store that lives as long as this process: SQLite in memory.
pub fn in_memory(rules: Rules) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(sqlite::SqliteStore::in_memory(system_clock, rules)?))
}

/// The same with another clock, and a look at how many rows its tables have.
#[cfg(test)]
pub fn in_memory_with(clock: fn() -> Id, rules: Rules) -> (Arc<dyn Store>, Box<dyn Fn() -> i64>) {
    let store = sqlite::SqliteStore::in_memory(clock, rules);
    let store = Arc::new(store.unwrap_or_else(|error| panic!("{error}")));
    (store.clone(), Box::new(move || store.rows()))
}

/// The store in a file, which outlives this process.
///
/// # Errors
///
/// A line that says why the file cannot be served.
pub fn in_file(
    path: &Path,
    sync: SyncMode,
    rules: Rules,
) -> std::result::Result<Arc<dyn Store>, String> {
    Ok(Arc::new(sqlite::SqliteStore::in_file(path, sync, system_clock, rules)?))
}

/// The store in a Redis, which others share.
///
/// # Errors
///
/// A line that says why it cannot be served.
#[cfg(feature = "redis")]
pub fn in_redis(at: &RedisAt<'_>, rules: Rules) -> std::result::Result<Arc<dyn Store>, String> {
    Ok(Arc::new(redis::RedisStore::open(at, rules, None)?))
}

/// What a look through a store's file came to.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub topics: u64,
    pub messages: u64,
    /// Bytes of their JSON text.
    pub bytes: u64,
    /// What is wrong, a line each; nothing if all is well.
    pub faults: Vec<String>,
}

/// Looks through a store's file, also while a server uses it.
///
/// # Errors
///
/// A line that says why it cannot be looked at.
pub fn check(path: &Path) -> std::result::Result<Checked, String> {
    sqlite::check(path)
}

/// Whether a store's file is there, without opening it.
///
/// # Errors
///
/// Why it is not.
pub fn find_file(path: &Path) -> std::result::Result<(), String> {
    sqlite::find_file(path)
}

/// Copies a store's file, also while a server uses it; returns the copy's size in bytes.
///
/// # Errors
///
/// A line that says why it cannot be copied.
pub fn backup(from: &Path, to: &Path) -> std::result::Result<u64, String> {
    sqlite::backup(from, to)
}

/// A store in this file with another clock, for tests that neither cut the power.
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

/// What a store is told once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// After so many deliveries a message that comes back is a dead letter; 0 is never.
    pub dead_letter_after: u32,
    /// How large the store may become.
    pub max_bytes: Option<u64>,
    pub when_full: WhenFull,
    /// How old a message may become, in microseconds.
    pub keep: Option<u64>,
}

/// Microseconds since 1970 by this machine's clock.
fn system_clock() -> Id {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

impl dyn Store + '_ {
    /// [`SharedStore::refresh`]; the heads of other stores are always up to date.
    pub fn refresh(&self, topic: &str) -> Result<()> {
        self.shared().map_or(Ok(()), |shared| shared.refresh(topic))
    }

    /// [`SharedStore::partitions`]; other stores have one.
    pub fn partitions(&self) -> usize {
        self.shared().map_or(1, SharedStore::partitions)
    }
}
