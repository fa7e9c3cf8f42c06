//! Commits to a store file: when they are synced, when the log moves into the file, and what happens
//! after the disk has failed to take something. It knows no tables.
//!
//! SQLite appends each commit to the log (`PATH-wal`) and syncs nothing by itself, except around a
//! checkpoint. This module syncs the log through a handle of its own, before a promise is answered.

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

/// The disk is last_measured at again each time that the log has become longer by this many pages, 256 KiB.
const MEASURE_PAGES: i32 = 32;

/// The log of a store file, as far as SQLite leaves it to us.
pub struct Log {
    /// Whether a promise has to be on disk before it is answered (`--sync full`).
    durable: bool,
    /// The log itself. SQLite locks other files than this one, so no lock depends on the handle.
    file: File,
    /// Whether the log may have frames that are not on disk. Every commit that writes frames sets it.
    unsynced: Arc<AtomicBool>,
    fault: Cell<Option<LogFault>>,
    /// Whether the log is to be moved into the file after the next commit, however long it is.
    checkpoints_next: Cell<bool>,
    pages: Arc<AtomicI32>,
    /// How often [`MEASURE_PAGES`] went into the log at the last look at the disk.
    last_measured: Cell<i32>,
    room: Arc<Room>,
}

/// What has to be made good before more is written.
#[derive(Clone, Copy)]
enum LogFault {
    /// The disk failed to take something of the log, and may have lost it.
    Lost,
    /// There was no room.
    Full,
}

impl Log {
    /// The log of a connection that is the only one to write and to checkpoint.
    pub fn new(sqlite: &mut Connection, sync: SyncMode, room: Arc<Room>) -> Result<Log> {
        let pages = Arc::new(AtomicI32::new(0));
        // A server that was killed may have left frames that only the system's cache has.
        let unsynced = Arc::new(AtomicBool::new(true));
        let (seen, written) = (pages.clone(), unsynced.clone());
        // SQLite calls this after a commit that wrote frames, and after no other. It replaces SQLite's
        // own checkpoints, which do not report a sync that failed.
        sqlite.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            written.store(true, Ordering::Relaxed);
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let file = open(sqlite).map_err(|error| {
            let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            Error::SqliteFailure(code, Some(format!("cannot open its log: {error}")))
        })?;
        let durable = sync == SyncMode::Full;
        let (fault, checkpoints_next, last_measured) = Default::default();
        let log =
            Log { durable, file, unsynced, fault, checkpoints_next, pages, last_measured, room };
        // The file gets the pages of its tables while there is room for them.
        log.checkpoint(sqlite);
        log.room.reserve();
        log.limit_size(sqlite);
        Ok(log)
    }

    /// Whether the disk is full, as far as is known.
    pub fn is_disk_full(&self) -> bool {
        self.room.is_full()
    }

    /// SQLite cuts the log to this after it was longer.
    fn limit_size(&self, sqlite: &Connection) {
        let bytes = self.room.log_bytes().cast_signed();
        let bound = sqlite.pragma_update_and_check(None, "journal_size_limit", bytes, |_| Ok(()));
        if let Err(error) = bound {
            tracing::warn!("cannot bound the log beside the store's file: {error}");
        }
    }

    /// Moves the log into the file after the next commit.
    pub fn checkpoint_next(&self) {
        self.checkpoints_next.set(true);
    }

    /// Before a transaction: makes good what failed before.
    pub fn begin(&self, sqlite: &Connection) -> Result<()> {
        match self.fault.get() {
            // A checkpoint would not do: until it ends, the file would have pages that are newer
            // than the hole in the log.
            Some(LogFault::Lost) => {
                self.rewrite().map_err(not_synced)?;
                self.fault.set(None);
            }
            // There may be room in the log when what is in it has been moved.
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

    /// Syncs whatever has been committed and may not be on disk, so that it can be promised.
    /// An error means that the commit stands and can still be lost by a power failure.
    pub fn sync(&self) -> Result<()> {
        if !self.durable || !self.unsynced.load(Ordering::Relaxed) {
            return Ok(());
        }
        // A second sync would report success for pages that the first one has given up.
        self.file.sync_data().or_else(|_| self.rewrite()).map_err(not_synced)?;
        self.unsynced.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// After a commit: moves the log into the file if it is time to.
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

    /// Moves into the file what no reader needs to stay in the log. What fails is tried again.
    fn checkpoint(&self, sqlite: &Connection) {
        let moved = sqlite.pragma_update_and_check(None, "wal_checkpoint", "PASSIVE", |_| Ok(()));
        let Err(error) = moved else { return };
        if error.sqlite_error_code() != Some(ErrorCode::DiskFull) {
            tracing::warn!("the log stays beside the store's file for now: {error}");
        }
        self.failed(&error);
    }

    /// After an error.
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

    /// Writes the log once more and syncs it. The same bytes go to the same places, so a reader sees
    /// no difference.
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

/// The error of a log that could not be synced.
fn not_synced(error: io::Error) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), Some(error.to_string()))
}
