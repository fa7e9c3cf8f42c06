//! Commits to a file: which of them wait for the disk, when the log moves into the file, and what
//! is done after the disk failed to take something.
//!
//! SQLite appends each commit to the log. One that was promised is synced before it is answered;
//! the others get to the disk with the next that is.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rusqlite::{Connection, Error, ErrorCode, Result, ffi};

use super::schema;
use crate::store::Synchronous;

/// The log is moved into the file when it is so many pages, 16 MiB.
const LOG_PAGES: i32 = 2_000;

/// What is known of a file's log, beside what SQLite knows.
pub struct Log {
    sync: Synchronous,
    /// Whether a commit waits for the disk now.
    waits: Cell<bool>,
    /// Whether there are commits that did not wait.
    behind: Cell<bool>,
    trouble: Cell<Option<Trouble>>,
    /// Whether the log is to be moved into the file after the next commit, however long it is.
    settles: Cell<bool>,
    pages: Arc<AtomicI32>,
}

/// What has to be made good before more is written.
#[derive(Clone, Copy)]
enum Trouble {
    /// The disk failed to take something of the log, and may have lost it.
    Lost,
    /// There was no room.
    Full,
}

impl Log {
    /// That of a connection whose log nobody else moves into its file.
    pub fn new(sqlite: &mut Connection, sync: Synchronous) -> Result<Log> {
        let pages = Arc::new(AtomicI32::new(0));
        let seen = pages.clone();
        // This is instead of SQLite's own checkpoints, which do not tell of a sync that failed.
        sqlite.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let waits = Cell::new(sync == Synchronous::Full);
        let (behind, trouble, settles) = Default::default();
        Ok(Log { sync, waits, behind, trouble, settles, pages })
    }

    /// Moves the log into the file after the next commit.
    pub fn settle(&self) {
        self.settles.set(true);
    }

    /// Before a transaction, which has to be on disk when it is committed if it is promised.
    pub fn begin(&self, sqlite: &Connection, promised: bool) -> Result<()> {
        match self.trouble.get() {
            // A checkpoint would not do: until it ends, the file would have pages that are newer
            // than the hole in the log.
            Some(Trouble::Lost) => rewrite(sqlite).map_err(|error| {
                let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
                Error::SqliteFailure(code, Some(error.to_string()))
            })?,
            // There may be room in the log when what is in it has been moved.
            Some(Trouble::Full) => _ = checkpoint(sqlite),
            None => {}
        }
        self.trouble.set(None);
        if self.sync == Synchronous::Full && self.waits.get() != promised {
            // This takes effect when it is compiled, so it is compiled each time.
            sqlite.execute_batch(if promised { schema::WAIT } else { schema::DO_NOT_WAIT })?;
            self.waits.set(promised);
        }
        Ok(())
    }

    /// Before a commit: one that has written nothing would not sync what is behind.
    pub fn prepare(&self, sqlite: &Connection, written: bool) -> Result<()> {
        if self.waits.get() && self.behind.get() && !written {
            sqlite.pragma_update(None, "user_version", schema::MIGRATIONS.len() as i64)?;
        }
        Ok(())
    }

    /// After a commit.
    pub fn committed(&self, sqlite: &Connection, written: bool) {
        self.behind.set(!self.waits.get() && (written || self.behind.get()));
        if !self.settles.take() && self.pages.load(Ordering::Relaxed) < LOG_PAGES {
            return;
        }
        if let Err(error) = checkpoint(sqlite) {
            tracing::warn!("the log stays beside the store's file for now: {error}");
            self.failed(&error);
        }
    }

    /// After an error.
    pub fn failed(&self, error: &Error) {
        self.trouble.set(match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) => Some(Trouble::Lost),
            Some(ErrorCode::DiskFull) => Some(Trouble::Full),
            _ => self.trouble.get(),
        });
    }
}

/// Moves into the file what no reader needs to stay in the log.
fn checkpoint(sqlite: &Connection) -> Result<()> {
    sqlite.pragma_update_and_check(None, "wal_checkpoint", "PASSIVE", |_| Ok(()))
}

/// Writes the log once more: the same bytes at the same places, so that who reads meanwhile sees
/// no difference.
fn rewrite(sqlite: &Connection) -> io::Result<()> {
    let path = format!("{}-wal", sqlite.path().unwrap_or_default());
    let bytes = fs::read(&path)?;
    let mut log = File::options().write(true).open(&path)?;
    log.write_all(&bytes)?;
    log.sync_all()
}
