//! A store's file: whether it is ours, and the way from whatever is there to tables that are
//! ready. Beside `PATH` SQLite keeps `PATH-wal` and `PATH-shm`, and we `PATH-lock`, since two
//! servers must not count the same messages.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;
use super::tables::Tables;
use crate::store::Synchronous;

/// For so long we wait for a program that reads the file and happens to be in the way.
const BUSY: Duration = Duration::from_secs(5);

/// What SQLite keeps of the file in memory, in KiB: for the one who writes, and for the readers.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
const READER_CACHE_KIB: i64 = 8 * 1024;

/// The log beside the file is cut to this after it grew longer, say in a long backup.
const WAL_BYTES: i64 = 32 * 1024 * 1024;

/// A file that is open: the tables, a second connection for those who only read, and the lock
/// that lasts as long as it.
pub struct Opened {
    pub tables: Tables,
    pub reader: Tables,
    pub lock: File,
}

/// Opens the file, or makes it. An error is a line for the person who started the server.
pub fn open(path: &Path, sync: Synchronous) -> Result<Opened, String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(format!("{}: there is no folder {}", path.display(), folder.display()));
    }
    let said = |error: rusqlite::Error| format!("{}: {}", path.display(), explain(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let sqlite = connect(path, flags, WRITER_CACHE_KIB).map_err(said)?;
    // A file that is not ours gets no lock beside it.
    self::version(&sqlite, path)?;
    let lock = keep_others_out(path)?;
    let version = self::version(&sqlite, path)?;
    prepare(&sqlite, sync, version).map_err(said)?;
    let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB).map_err(said)?;
    Ok(Opened {
        tables: Tables::of_file(sqlite, sync).map_err(said)?,
        reader: Tables::of_file(reader, sync).map_err(said)?,
        lock,
    })
}

/// Opens a file to look at it, which another server may be using.
pub fn open_to_read(path: &Path) -> Result<Tables, String> {
    let path = &std::path::absolute(path).map_err(|error| error.to_string())?;
    if !path.exists() {
        return Err(format!("{}: there is no such file", path.display()));
    }
    let said = |error: rusqlite::Error| format!("{}: {}", path.display(), explain(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let sqlite = connect(path, flags, READER_CACHE_KIB).map_err(said)?;
    match version(&sqlite, path)? {
        0 => Err(format!("{}: there is no store in it yet", path.display())),
        _ => Tables::of_file(sqlite, Synchronous::Full).map_err(said),
    }
}

fn connect(path: &Path, flags: OpenFlags, cache_kib: i64) -> rusqlite::Result<Connection> {
    let sqlite = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    sqlite.busy_timeout(BUSY)?;
    sqlite.pragma_update(None, "cache_size", -cache_kib)?;
    Ok(sqlite)
}

/// Keeps other servers out until it is dropped.
fn keep_others_out(path: &Path) -> Result<File, String> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let name = PathBuf::from(name);
    let cannot = |error| format!("{}: {error}", name.display());
    // What it says is read before it is known whose it is.
    let options = File::options().read(true).write(true).create(true).truncate(false).to_owned();
    let mut file = options.open(&name).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = file.read_to_string(&mut process);
            let text = format!("{}: another dsmq has it open", path.display());
            return Err(match process.trim().parse::<u32>() {
                Ok(process) => format!("{text} (process {process})"),
                Err(_) => text,
            });
        }
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    // For whoever finds it locked; without it they are told less.
    let noted = file.set_len(0).and_then(|()| file.rewind());
    let _ = noted.and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// The schema version of a file that is ours; 0 if there is nothing in it yet.
fn version(sqlite: &Connection, path: &Path) -> Result<usize, String> {
    let number = |pragma| sqlite.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        let tables = "SELECT count(*) FROM sqlite_schema";
        let tables = sqlite.query_one(tables, [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    let path = path.display();
    match read() {
        Ok((0, 0, 0)) => Ok(0),
        Ok((schema::APPLICATION_ID, version, _)) => {
            let known = schema::MIGRATIONS.len();
            usize::try_from(version).ok().filter(|version| (1..=known).contains(version)).ok_or_else(
                || format!("{path}: made by a newer dsmq (version {version}, this one knows {known}): use that one"),
            )
        }
        Ok(_) => Err(format!("{path}: no store of dsmq, but another program's SQLite file")),
        Err(error) => Err(format!("{path}: {}", explain(&error))),
    }
}

/// Makes the file one that commits as it is told, and brings its tables up to date.
fn prepare(sqlite: &Connection, sync: Synchronous, version: usize) -> rusqlite::Result<()> {
    if version == 0 {
        sqlite.execute_batch(schema::PAGES)?;
    }
    sqlite.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    sqlite.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES, |_| Ok(()))?;
    sqlite.pragma_update(None, "synchronous", sync.as_str())?;
    migrate(sqlite, version, schema::MIGRATIONS)?;
    // Whether it can be written is found out now, not at the first put.
    sqlite.execute_batch("BEGIN IMMEDIATE; COMMIT")
}

/// All steps that are missing, or none.
fn migrate(sqlite: &Connection, version: usize, steps: &[&str]) -> rusqlite::Result<()> {
    let missing = steps.get(version..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let migration = sqlite.unchecked_transaction()?;
    missing.iter().try_for_each(|step| migration.execute_batch(step))?;
    migration.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    migration.pragma_update(None, "user_version", steps.len() as i64)?;
    migration.commit()
}

/// What is said of a file that is not whole.
pub const DAMAGED: &str = "the file is damaged: look with 'dsmq check', and restore a backup";

/// What SQLite means, for a person.
pub fn explain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "no store of dsmq, nor any SQLite file".into(),
        Some(ErrorCode::DatabaseCorrupt) => DAMAGED.into(),
        Some(ErrorCode::ReadOnly) => "it cannot be written".into(),
        Some(ErrorCode::CannotOpen) => "it cannot be opened or made".into(),
        Some(ErrorCode::DatabaseBusy) => "another program writes to it".into(),
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        _ => error.to_string(),
    }
}
