//! The store in SQLite: every message is a row. Only this folder names rusqlite.
//!
//! One connection to SQLite under one lock. Batches go through the [`leader`](super::leader), which commits what
//! has gathered in one [`transaction`]; readers take the lock for one run at a time. The readers
//! of a [`file`] have a connection of their own, so that they need not wait for the disk.

mod backup;
mod bound;
pub mod build;
mod check;
mod commit;
mod copy;
mod damage;
mod due;
mod file;
#[cfg(test)]
mod kept;
mod ledger;
mod location;
mod promise;
mod put;
mod remove;
mod room;
mod schema;
mod size;
mod tables;
mod take;
#[cfg(test)]
mod tests;
mod transaction;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use self::backup::backup;
pub use self::check::check;
use self::damage::failed;
pub use self::file::{IN_USE, find_file};
use self::ledger::Ledger;
use self::location::Location;
use self::promise::{Doubt, Failure};
use self::room::Reserve;
use self::size::Size;
use self::tables::{Bounds, Tables};
use self::transaction::Transaction;
use super::leader::{Leader, Works};
use super::losses::Losses;
use super::{Due, Extent, Head, ReadCache, Rules, Store, SyncMode};
use crate::error::{Code, Result};
use crate::limits;
use crate::ops::{Batch, Chunk, Completion, Id, ScanCursor, StoredMessage, Topic};
use crate::sync::lock;

/// Microseconds since 1970.
pub type Clock = fn() -> Id;

pub struct SqliteStore {
    /// Where the file is, if there is one. It goes first: to close the file removes its log.
    location: Option<Location>,
    /// It goes before the file is closed, which may need the room.
    reserve: Option<Reserve>,
    /// A file's readers, who go before the writer: the last to go leaves all in one file.
    reader: Option<Mutex<Tables>>,
    desk: Mutex<Desk>,
    is_new: bool,
    /// Held for as long as the file is open.
    _lock: Option<File>,
    leader: Leader,
    heads: RwLock<HashMap<Topic, Arc<Head>>>,
    last_id: AtomicU64,
    due: AtomicU64,
    size: AtomicU64,
    refused: AtomicU64,
    clock: Clock,
    rules: Rules,
    cache: ReadCache,
}

/// What is under the store's lock.
pub struct Desk {
    tables: Tables,
    ledger: Ledger,
    losses: Losses,
    size: Size,
}

/// What a transaction came to.
struct Done {
    new_heads: HashMap<Topic, Arc<Head>>,
    /// When the first of what it began is due.
    due: Id,
    dropped: u64,
    refused: u64,
    size: Size,
}

impl SqliteStore {
    /// A store that ends with the process.
    pub fn in_memory(clock: Clock, rules: Rules) -> Result<SqliteStore> {
        let tables = Tables::in_memory().map_err(failed)?;
        let size = tables.size().map_err(failed)?;
        let desk = Desk { tables, ledger: Ledger::default(), losses: Losses::default(), size };
        Ok(SqliteStore::new(desk, clock, rules))
    }

    /// The store of a file, which no other server has open. An error is for the person who
    /// started the server.
    pub fn in_file(
        path: &Path,
        sync: SyncMode,
        clock: Clock,
        rules: Rules,
    ) -> std::result::Result<SqliteStore, String> {
        let file::Opened { tables, reader, lock, location, room, is_new } =
            file::open(path, sync, rules.max_bytes)?;
        let said = |error| format!("{}: {}", path.display(), file::explain(&error));
        let size = tables.size().map_err(said)?;
        let ledger = Ledger::load(&tables).map_err(said)?.map_err(|name| {
            let path = path.display();
            format!("{path}: what it says of the topic {name:?} is damaged: restore a backup")
        })?;
        let desk = Desk { tables, ledger, losses: Losses::default(), size };
        let store = SqliteStore::new(desk, clock, rules);
        // Whatever is due is found by the first tick.
        store.due.store(0, Ordering::Release);
        let (reader, location) = (Some(Mutex::new(reader)), Some(location));
        let reserve = Some(Reserve(room));
        Ok(SqliteStore { reader, location, reserve, is_new, _lock: Some(lock), ..store })
    }

    fn new(desk: Desk, clock: Clock, rules: Rules) -> SqliteStore {
        let heads = desk.ledger.heads().map(|head| (head.topic().clone(), head.clone()));
        SqliteStore {
            heads: RwLock::new(heads.collect()),
            last_id: AtomicU64::new(desk.ledger.last_id().max(clock())),
            size: AtomicU64::new(desk.size.estimate()),
            desk: Mutex::new(desk),
            reader: None,
            location: None,
            reserve: None,
            is_new: true,
            _lock: None,
            leader: Leader::default(),
            due: AtomicU64::new(Id::MAX),
            refused: AtomicU64::new(0),
            clock,
            rules,
            cache: ReadCache::default(),
        }
    }

    /// Reads, beside whoever writes if this is a file.
    fn reading<T>(&self, read: impl FnOnce(&Tables) -> rusqlite::Result<T>) -> Result<T> {
        let read = match &self.reader {
            Some(reader) => read(&lock(reader)),
            None => read(&lock(&self.desk).tables),
        };
        read.map_err(failed)
    }

    /// Rows of every table but the topics'.
    #[cfg(test)]
    pub fn rows(&self) -> i64 {
        lock(&self.desk).tables.rows()
    }

    /// Whether a change can be stored now and found by the next server. Logs a new fault.
    fn check(&self) -> Result<()> {
        self.check_location(true)?;
        self.reserve.as_ref().map_or(Ok(()), |reserve| reserve.0.check())
    }

    /// Runs `work` as one transaction: all of it happens and is then visible, or nothing. If it is
    /// promised, it is on disk when this returns.
    fn transact(
        &self,
        desk: &mut Desk,
        promised: bool,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> std::result::Result<(), Failure> {
        let Desk { tables, ledger, losses, size } = desk;
        tables.begin().map_err(|error| Failure::RolledBack(failed(error)))?;
        let now = (self.clock)();
        let worked = self.work(tables, ledger, *size, now, work);
        let committed = worked.and_then(|done| {
            let saved = if tables.is_file() { ledger.save(tables) } else { Ok(()) };
            saved.and_then(|()| tables.commit()).map_err(failed).map(|()| done)
        });
        let done = committed.map_err(|error| {
            tables.roll_back();
            ledger.revert();
            let refused = u64::from(error.code == Code::Full);
            losses.add(0, refused);
            self.refused.fetch_add(refused, Ordering::Relaxed);
            Failure::RolledBack(error)
        })?;
        let synced = if promised { tables.sync() } else { Ok(()) };
        let kept = synced.map_err(Doubt::NotSynced).and_then(|()| match promised {
            true => self.check_location(true).map_err(Doubt::FileLost),
            false => Ok(()),
        });
        // Others see it from here on.
        if !done.new_heads.is_empty() {
            self.heads.write().unwrap_or_else(PoisonError::into_inner).extend(done.new_heads);
        }
        ledger.settle(now);
        *size = done.size;
        self.due.fetch_min(done.due, Ordering::AcqRel);
        self.size.store(size.estimate(), Ordering::Release);
        losses.add(done.dropped, done.refused);
        self.refused.fetch_add(done.refused, Ordering::Relaxed);
        kept.map_err(Failure::Doubtful)?;
        tables.committed();
        Ok(())
    }

    fn work(
        &self,
        tables: &Tables,
        ledger: &mut Ledger,
        size: Size,
        now: Id,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<Done> {
        let mut transaction = Transaction {
            tables,
            ledger,
            heads: &self.heads.read().unwrap_or_else(PoisonError::into_inner),
            new_heads: HashMap::new(),
            last: None,
            statements: RefCell::default(),
            now,
            // Only who holds the lock gives out ids.
            next_id: (self.last_id() + 1).max(now),
            due: Id::MAX,
            rules: self.rules,
            failed: Cell::new(false),
            dropped: 0,
            refused: 0,
            size: Cell::new(size),
        };
        let worked = work(&mut transaction).and_then(|()| transaction.keep_bound());
        let worked = worked.and_then(|()| transaction.whole());
        self.last_id.store(transaction.next_id - 1, Ordering::Release);
        worked.map(|()| {
            let Transaction { new_heads, due, dropped, refused, size, .. } = transaction;
            Done { new_heads, due, dropped, refused, size: size.get() }
        })
    }
}

impl Store for SqliteStore {
    fn last_id(&self) -> Id {
        self.last_id.load(Ordering::Acquire)
    }

    fn now(&self) -> Id {
        (self.clock)()
    }

    fn topic(&self, name: &str) -> Option<Arc<Head>> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn topics(&self) -> Vec<Arc<Head>> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn submit(&self, batch: Batch, completion: Box<dyn Completion>) {
        self.leader.submit(batch, completion, self);
    }

    fn apply(&self, batch: &mut Batch) {
        self.leader.apply(batch, self);
    }

    fn read(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Chunk>> {
        let limit = limit.clamp(1, limits::CHUNK_MESSAGES);
        let chunk = self.reading(|tables| {
            let bounds = Bounds { newest: head.newest(), now: self.now(), limit };
            let chunk = Chunk::new(after, head.removals());
            tables.read(chunk, head.number(), bounds)
        })?;
        Ok(Arc::new(chunk))
    }

    fn read_last(&self, head: &Head, limit: usize) -> Result<Arc<Chunk>> {
        let chunk = self.reading(|tables| {
            let bounds = Bounds { newest: head.newest(), now: self.now(), limit };
            let chunk = Chunk::new(0, head.removals());
            tables.read_last(chunk, head.number(), bounds)
        })?;
        Ok(Arc::new(chunk.reversed()))
    }

    fn delayed(&self, head: &Head, limit: usize) -> Result<Chunk> {
        // Not beside the writer: what is no more delayed must be known to have been put.
        lock(&self.desk).tables.delayed(head.number(), limit).map_err(failed)
    }

    fn scan(&self, head: &Head, after: ScanCursor) -> Result<Vec<StoredMessage>> {
        self.reading(|tables| tables.kept(head.number(), after))
    }

    fn cache(&self) -> &ReadCache {
        &self.cache
    }

    fn ends(&self, head: &Head) -> Result<(Option<Id>, Option<Id>)> {
        self.reading(|tables| tables.ends(head.number(), self.now()))
    }

    fn usage(&self) -> Extent {
        let is_file = self.reader.is_some();
        Extent {
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
        // The fault is logged also while nobody asks for anything.
        let _ = self.check();
        if self.due(partition) > self.now() {
            return Ok(Due::default());
        }
        self.leader.tick(self)
    }
}

impl Works for SqliteStore {
    fn commit(&self, batches: &mut [&mut Batch]) {
        self.commit_promised(batches);
    }

    fn tick_now(&self) -> Result<Due> {
        let mut done = Due::default();
        let mut desk = lock(&self.desk);
        // What is due next is found out anew; what others begin waits for the lock.
        self.due.store(Id::MAX, Ordering::Release);
        let there = self.check_location(true).map_err(Failure::RolledBack);
        let ticked = there.and_then(|()| {
            self.transact(&mut desk, false, |transaction| transaction.tick(&mut done))
        });
        if ticked.is_err() {
            // It is tried again in a while, not at once: what is the matter may pass.
            self.tick_again();
        }
        self.look_for_room(&desk);
        match ticked {
            Ok(()) => Ok(done),
            Err(Failure::RolledBack(error) | Failure::Doubtful(Doubt::FileLost(error))) => {
                Err(error)
            }
            Err(Failure::Doubtful(Doubt::NotSynced(error))) => Err(failed(error)),
        }
    }
}
