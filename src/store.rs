//! The store: what must be atomic. Ids and their order, and what is visible to whom, in batches
//! in and runs out. It knows nothing of sessions, sockets or who waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::Result;
use crate::message::{Id, Message, Topic};

#[cfg(test)]
mod contract;
mod sqlite;

/// A place that keeps messages. Every method may be called from any thread at any time.
pub trait Store: Send + Sync {
    /// The last id given out: a message put from now on has a larger one.
    fn last_id(&self) -> Id;

    /// What is known of a topic without asking the tables; `None` before its first put.
    fn head(&self, topic: &str) -> Option<Arc<Head>>;

    /// Stores the batch, all of it in one transaction, and writes each put's outcome into it.
    /// When it returns, what was stored is visible to everyone.
    fn put(&self, batch: &mut PutBatch);

    /// The oldest messages of the topic with an id above `after`: at most `limit`, and at most
    /// [`limits::RUN_BYTES`](crate::limits::RUN_BYTES) unless the first alone is larger.
    fn read(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>>;

    /// A run of the topic's newest message alone; empty if the topic holds none.
    fn read_newest(&self, head: &Head) -> Result<Arc<Run>>;
}

/// The store that lives as long as this process: SQLite in memory.
pub fn in_memory() -> Result<Arc<dyn Store>> {
    Ok(Arc::new(sqlite::SqliteStore::in_memory(system_clock)?))
}

/// Microseconds since 1970 by this machine's clock.
fn system_clock() -> Id {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// The lock's content, also after a thread panicked with it: what it guards is consistent between
/// any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a topic shows without a lock on the store: whether there is anything new.
#[derive(Debug)]
pub struct Head {
    /// The store's own number for the topic.
    number: i64,
    newest: AtomicU64,
    /// The run that ends with the newest message, for as long as some session stands in it.
    newest_run: Mutex<Weak<Run>>,
}

impl Head {
    fn new(number: i64) -> Head {
        Head { number, newest: AtomicU64::new(0), newest_run: Mutex::new(Weak::new()) }
    }

    /// The id of the newest visible message; 0 if there was none.
    pub fn newest(&self) -> Id {
        self.newest.load(Ordering::Acquire)
    }

    /// Called once a message can be read, with rising ids.
    fn publish(&self, id: Id) {
        self.newest.store(id, Ordering::Release);
    }

    /// A run at hand in which the message after `after` stands.
    fn run_at(&self, after: Id) -> Option<Arc<Run>> {
        let run = lock(&self.newest_run).upgrade()?;
        run.position(after).map(|_| run)
    }

    fn keep(&self, run: &Arc<Run>) {
        if run.last_id() >= self.newest() {
            *lock(&self.newest_run) = Arc::downgrade(run);
        }
    }
}

impl dyn Store + '_ {
    /// [`Store::read`], or the run at hand that answers the same.
    pub fn run(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>> {
        if let Some(run) = head.run_at(after) {
            return Ok(run);
        }
        let run = self.read(head, after, limit)?;
        head.keep(&run);
        Ok(run)
    }
}

/// A few messages of one topic that follow one another, as they were read: nothing of the topic
/// lies between them, nor between `after` and the first.
#[derive(Debug, Default)]
pub struct Run {
    after: Id,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    id: Id,
    /// Where the message ends in the run's bytes; it begins where the one before it ends.
    end: usize,
}

impl Run {
    fn new(after: Id) -> Run {
        Run { after, ..Run::default() }
    }

    fn push(&mut self, id: Id, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.entries.push(Entry { id, end: self.bytes.len() });
    }

    /// The message at `index`, if the run goes so far.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        let entry = self.entries.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.entries.get(before)?.end,
            None => 0,
        };
        Some(Message { id: entry.id, body: self.bytes.get(start..entry.end)? })
    }

    /// Bytes of messages.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The index of the first message after `after`, if the run is sure to hold it.
    pub fn position(&self, after: Id) -> Option<usize> {
        let within = self.after <= after && after < self.last_id();
        within.then(|| self.entries.partition_point(|entry| entry.id <= after))
    }

    /// The id of the last message; where there is none, the id that the run was to begin after.
    pub fn last_id(&self) -> Id {
        self.entries.last().map_or(self.after, |entry| entry.id)
    }
}

/// Puts that are stored together. It is reused: `clear` keeps its memory.
#[derive(Debug, Default)]
pub struct PutBatch {
    bytes: Vec<u8>,
    puts: Vec<Put>,
    /// One for each put, in order, once the store has had the batch.
    outcomes: Vec<Result<Id>>,
}

#[derive(Debug)]
struct Put {
    topic: Topic,
    end: usize,
}

impl PutBatch {
    /// Adds a message; `body` is JSON text.
    pub fn push(&mut self, topic: Topic, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.puts.push(Put { topic, end: self.bytes.len() });
    }

    /// Bytes of messages that it has memory for.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn is_empty(&self) -> bool {
        self.puts.is_empty()
    }

    /// Forgets the puts; what memory a large batch took beyond `keep_bytes` is given back.
    pub fn clear(&mut self, keep_bytes: usize) {
        self.bytes.clear();
        self.puts.clear();
        self.outcomes.clear();
        if self.bytes.capacity() > keep_bytes {
            *self = PutBatch::default();
        }
    }

    /// The topics, in order, a run of the same one once.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        let same_as_before = |i: usize| {
            i.checked_sub(1)
                .and_then(|before| Some(self.puts.get(before)?.topic == self.puts.get(i)?.topic))
                .unwrap_or(false)
        };
        let topics = self.puts.iter().enumerate();
        topics.filter(move |(i, _)| !same_as_before(*i)).map(|(_, put)| &put.topic)
    }

    /// What became of each put: the id it was given, or why it was not stored.
    pub fn outcomes(&self) -> &[Result<Id>] {
        &self.outcomes
    }

    fn iter(&self) -> impl Iterator<Item = (&Topic, &[u8])> {
        let mut start = 0;
        self.puts.iter().map(move |put| {
            let body = self.bytes.get(start..put.end).unwrap_or_default();
            start = put.end;
            (&put.topic, body)
        })
    }
}
