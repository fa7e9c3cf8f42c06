//! The SQLite store, in memory or in a file: each message is a row. Only this folder names
//! rusqlite.
//!
//! One connection writes, under one lock. The [`leader`](super::leader) gathers batches and commits
//! them in one [`transaction`]. A store in a [`file`] has a second connection for reads, so that
//! reads do not wait for the disk.

mod bound;
mod commit;
mod copy;
mod counters;
mod damage;
mod file;
#[cfg(test)]
mod file_tests;
mod location;
mod log;
mod maintenance;
mod put;
mod remove;
mod room;
mod schema;
mod tables;
mod take;
#[cfg(test)]
mod tests;
mod tick;
mod transaction;

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use self::bound::Size;
use self::commit::Failure;
use self::counters::TopicCounters;
use self::damage::failed;
pub use self::file::{IN_USE, find_file};
use self::location::Location;
#[cfg(feature = "bench")]
pub use self::maintenance::compile_flags_advice;
pub use self::maintenance::{backup, check, sqlite_version};
use self::room::Room;
use self::tables::{Bounds, Tables};
use super::drop_log::DropLog;
use super::leader::{Leader, Works};
use super::{Due, ReadCache, Rules, Store, TopicState, Usage};
use crate::error::Result;
use crate::limits;
use crate::ops::{Batch, Chunk, Completion, Id, ScanCursor, StoredMessage, Topic};
use crate::sync::lock;

/// Microseconds since 1970.
pub type Clock = fn() -> Id;

pub struct SqliteStore {
    /// `None` in memory. Fields drop in this order: closing the file removes the log that
    /// `location` checks.
    location: Option<Location>,
    room: Option<Arc<Room>>,
    /// The reading connection of a file. It closes before the writer: the last connection to close
    /// checkpoints the whole log into the file.
    reader: Option<Mutex<Tables>>,
    writer: Mutex<Writer>,
    is_new: bool,
    /// The lock file, locked while the store is open.
    lock: Option<File>,
    leader: Leader,
    states: RwLock<HashMap<Topic, Arc<TopicState>>>,
    last_id: AtomicU64,
    due: AtomicU64,
    size: AtomicU64,
    refused: AtomicU64,
    clock: Clock,
    rules: Rules,
    cache: ReadCache,
}

/// The state under the store's lock.
pub struct Writer {
    tables: Tables,
    counters: TopicCounters,
    drop_log: DropLog,
    size: Size,
}

impl SqliteStore {
    /// Opens a store that lives as long as the process.
    pub fn in_memory(clock: Clock, rules: Rules) -> Result<SqliteStore> {
        let tables = Tables::in_memory().map_err(failed)?;
        SqliteStore::new(tables, TopicCounters::default(), clock, rules).map_err(failed)
    }

    fn new(
        tables: Tables,
        counters: TopicCounters,
        clock: Clock,
        rules: Rules,
    ) -> rusqlite::Result<SqliteStore> {
        let size = tables.size()?;
        let states = counters.records().iter().map(|record| &record.topic_state);
        let states = states.map(|state| (state.topic().clone(), state.clone())).collect();
        let last_id = counters.last_id().max(clock());
        let drop_log = DropLog::default();
        Ok(SqliteStore {
            states: RwLock::new(states),
            last_id: AtomicU64::new(last_id),
            size: AtomicU64::new(size.estimate()),
            writer: Mutex::new(Writer { tables, counters, drop_log, size }),
            reader: None,
            location: None,
            room: None,
            is_new: true,
            lock: None,
            leader: Leader::default(),
            due: AtomicU64::new(Id::MAX),
            refused: AtomicU64::new(0),
            clock,
            rules,
            cache: ReadCache::default(),
        })
    }

    /// Reads through the reading connection of a file, or the only connection in memory.
    fn reading<T>(&self, read: impl FnOnce(&Tables) -> rusqlite::Result<T>) -> Result<T> {
        let read = match &self.reader {
            Some(reader) => read(&lock(reader)),
            None => read(&lock(&self.writer).tables),
        };
        read.map_err(failed)
    }

    /// The number of rows in all tables except `topics`.
    #[cfg(test)]
    pub fn rows(&self) -> i64 {
        lock(&self.writer).tables.rows()
    }

    /// Checks that a change can be stored now and that the next server will find it. Logs a new
    /// fault.
    fn check(&self) -> Result<()> {
        self.check_location(true)?;
        self.room.as_ref().map_or(Ok(()), |room| room.check())
    }
}

impl Drop for SqliteStore {
    /// Frees the reserved disk space, which the last checkpoint may need, and unlocks the file last.
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.release();
        }
    }
}

impl Store for SqliteStore {
    fn last_id(&self) -> Id {
        self.last_id.load(Ordering::Acquire)
    }

    fn now(&self) -> Id {
        (self.clock)()
    }

    fn topic(&self, name: &str) -> Option<Arc<TopicState>> {
        self.states.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn topics(&self) -> Vec<Arc<TopicState>> {
        self.states.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn submit(&self, batch: Batch, completion: Box<dyn Completion>) {
        self.leader.submit(batch, completion, self);
    }

    fn apply(&self, batch: &mut Batch) {
        self.leader.apply(batch, self);
    }

    fn read(&self, state: &TopicState, after: Id, limit: usize) -> Result<Arc<Chunk>> {
        let limit = limit.clamp(1, limits::CHUNK_MESSAGES);
        let chunk = self.reading(|tables| {
            let bounds = Bounds { newest: state.newest(), now: self.now(), limit };
            let chunk = Chunk::new(after, state.removals());
            tables.read(chunk, state.number(), bounds)
        })?;
        Ok(Arc::new(chunk))
    }

    fn read_last(&self, state: &TopicState, limit: usize) -> Result<Arc<Chunk>> {
        let chunk = self.reading(|tables| {
            let bounds = Bounds { newest: state.newest(), now: self.now(), limit };
            let chunk = Chunk::new(0, state.removals());
            tables.read_last(chunk, state.number(), bounds)
        })?;
        Ok(Arc::new(chunk.reversed()))
    }

    fn delayed(&self, state: &TopicState, limit: usize) -> Result<Chunk> {
        // Uses the writer's lock: a message that is no longer delayed must already be visible as a
        // put.
        lock(&self.writer).tables.delayed(state.number(), limit).map_err(failed)
    }

    fn scan(&self, state: &TopicState, after: ScanCursor) -> Result<Vec<StoredMessage>> {
        self.reading(|tables| tables.scan(state.number(), after))
    }

    fn cache(&self) -> &ReadCache {
        &self.cache
    }

    fn ends(&self, state: &TopicState) -> Result<(Option<Id>, Option<Id>)> {
        self.reading(|tables| tables.ends(state.number(), self.now()))
    }

    fn usage(&self) -> Usage {
        let is_file = self.reader.is_some();
        Usage {
            kind: if is_file { "file" } else { "memory" },
            blocks: is_file,
            is_new: self.is_new,
            fault: self.check().err(),
            bytes: self.size.load(Ordering::Acquire),
            max_bytes: self.rules.max_bytes,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn due(&self, _partition: usize) -> Id {
        self.due.load(Ordering::Acquire)
    }

    fn tick(&self, partition: usize) -> Result<Due> {
        // Checked at every tick, so that a fault is logged even when no request arrives.
        let _ = self.check();
        if self.due(partition) > self.now() {
            return Ok(Due::default());
        }
        self.leader.tick(self)
    }
}

impl Works for SqliteStore {
    fn commit(&self, batches: &mut [&mut Batch]) {
        self.commit_durable(batches);
    }

    fn tick_now(&self) -> Result<Due> {
        let mut done = Due::default();
        let mut writer = lock(&self.writer);
        // The transaction recomputes the next due time. Concurrent changes wait for the lock.
        self.due.store(Id::MAX, Ordering::Release);
        let there = self.check_location(true).map_err(Failure::RolledBack);
        let ticked = there.and_then(|()| {
            self.transact(&mut writer, false, |transaction| transaction.tick(&mut done))
        });
        if ticked.is_err() {
            // Retries after a pause, because the cause may pass.
            self.schedule_retry();
        }
        self.retry_if_disk_full(&writer);
        ticked.map(|()| done).map_err(Failure::into_error)
    }
}
