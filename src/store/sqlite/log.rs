//! The write-ahead log of a store's file: when it is synced, when it is checkpointed, and recovery
//! after a failed write. It knows no tables.
//!
//! SQLite appends each commit to the log (`PATH-wal`) and syncs only around a checkpoint. This
//! module syncs the log through its own handle, before a promise is answered.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rusqlite::{Connection, Error, ErrorCode, Result, ffi};

use super::location::beside;
use super::room::Room;
use super::schema;
use crate::store::SyncMode;

/// The free disk space is measured again whenever the log has grown by this many pages, 256 KiB.
const MEASURE_PAGES: i32 = 32;

pub struct Log {
    /// Whether a promise must be on disk before its reply (`--sync full`).
    durable: bool,
    /// The log. SQLite places its locks on other files, so this handle affects none of them.
    file: File,
    /// Whether the log may have frames that are not on disk. Every commit that writes frames sets
    /// it.
    unsynced: Arc<AtomicBool>,
    fault: Cell<Option<LogFault>>,
    /// Whether to checkpoint after the next commit, however short the log is.
    checkpoints_next: Cell<bool>,
    pages: Arc<AtomicI32>,
    /// Length of the log in units of [`MEASURE_PAGES`] at the last measurement.
    last_measured: Cell<i32>,
    room: Arc<Room>,
}

/// A fault to repair before the next transaction.
#[derive(Clone, Copy)]
enum LogFault {
    /// A write or a sync failed: part of the log may not be on disk.
    Lost,
    /// The disk is full.
    Full,
}

impl Log {
    /// The log of the only connection that writes and checkpoints.
    pub fn new(sqlite: &mut Connection, sync: SyncMode, room: Arc<Room>) -> Result<Log> {
        let pages = Arc::new(AtomicI32::new(0));
        // A killed server may have left frames that are only in the system's cache.
        let unsynced = Arc::new(AtomicBool::new(true));
        let (seen, written) = (pages.clone(), unsynced.clone());
        // SQLite calls this hook after each commit that wrote frames. The hook replaces SQLite's
        // own checkpoints, which do not report a failed sync.
        sqlite.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            written.store(true, Ordering::Relaxed);
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let file = open(sqlite).map_err(|error| {
            let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            Error::SqliteFailure(code, Some(format!("cannot open the log: {error}")))
        })?;
        let durable = sync == SyncMode::Full;
        let (fault, checkpoints_next, last_measured) = Default::default();
        let log =
            Log { durable, file, unsynced, fault, checkpoints_next, pages, last_measured, room };
        // Gives the new tables their pages while there is space.
        log.checkpoint(sqlite);
        log.room.reserve();
        log.limit_size(sqlite);
        Ok(log)
    }

    /// Whether the disk is known to be full.
    pub fn is_disk_full(&self) -> bool {
        self.room.is_full()
    }

    /// Sets the length to which SQLite truncates a longer log.
    fn limit_size(&self, sqlite: &Connection) {
        let bytes = self.room.log_bytes().cast_signed();
        let bound = sqlite.pragma_update_and_check(None, "journal_size_limit", bytes, |_| Ok(()));
        if let Err(error) = bound {
            tracing::warn!("cannot limit the size of the store's log: {error}");
        }
    }

    /// Requests a checkpoint after the next commit.
    pub fn checkpoint_next(&self) {
        self.checkpoints_next.set(true);
    }

    /// Repairs an earlier fault before a transaction.
    pub fn begin(&self, sqlite: &Connection) -> Result<()> {
        match self.fault.get() {
            // A checkpoint cannot repair it: until it ends, the file would have pages newer than
            // the hole in the log.
            Some(LogFault::Lost) => {
                self.rewrite().map_err(not_synced)?;
                self.fault.set(None);
            }
            // A checkpoint may free space in the log.
            Some(LogFault::Full) => {
                self.fault.set(None);
                self.checkpoint(sqlite);
            }
            None => {}
        }
        if self.room.is_full() && self.fault.get().is_none() {
            self.room.reserve();
            self.limit_size(sqlite);
        }
        Ok(())
    }

    /// Syncs all commits that may not be on disk. After an error the commits stand, but a power
    /// failure can lose them.
    pub fn sync(&self) -> Result<()> {
        if !self.durable || !self.unsynced.load(Ordering::Relaxed) {
            return Ok(());
        }
        // A second sync would report success for pages that the failed one has given up, so rewrite
        // them.
        self.file.sync_data().or_else(|_| self.rewrite()).map_err(not_synced)?;
        self.unsynced.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Called after a commit: checkpoints if the log is long enough.
    pub fn committed(&self, sqlite: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        let steps = pages / MEASURE_PAGES;
        if self.last_measured.replace(steps) != steps && self.room.measure() {
            self.limit_size(sqlite);
        }
        let bytes = u64::from(pages.unsigned_abs()) * schema::PAGE_BYTES;
        if self.checkpoints_next.take() || bytes >= self.room.log_bytes() {
            self.checkpoint(sqlite);
        }
    }

    /// Checkpoints the log as far as readers allow. A failure is retried later.
    fn checkpoint(&self, sqlite: &Connection) {
        let moved = sqlite.pragma_update_and_check(None, "wal_checkpoint", "PASSIVE", |_| Ok(()));
        let Err(error) = moved else { return };
        if error.sqlite_error_code() != Some(ErrorCode::DiskFull) {
            tracing::warn!("cannot checkpoint the store's log, will retry: {error}");
        }
        self.failed(&error);
    }

    /// Notes an error that needs repair or space.
    pub fn failed(&self, error: &Error) {
        match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) => self.fault.set(Some(LogFault::Lost)),
            Some(ErrorCode::DiskFull) => {
                self.fault.set(Some(LogFault::Full));
                self.room.give_up();
            }
            _ => {}
        }
    }

    /// Writes the log once more in place and syncs it. Readers see the same bytes.
    fn rewrite(&self) -> io::Result<()> {
        let (mut log, mut bytes) = (&self.file, Vec::new());
        log.rewind()?;
        log.read_to_end(&mut bytes)?;
        log.rewind()?;
        log.write_all(&bytes)?;
        log.sync_all()
    }
}

fn open(sqlite: &Connection) -> io::Result<File> {
    let path = Path::new(sqlite.path().unwrap_or_default());
    File::options().read(true).write(true).open(beside(path, "-wal"))
}

fn not_synced(error: io::Error) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), Some(error.to_string()))
}
