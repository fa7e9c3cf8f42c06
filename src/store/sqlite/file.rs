//! Opens a store's file: identifies it, locks it, and brings its tables up to date.
//!
//! Beside `PATH`, SQLite keeps `PATH-wal` and `PATH-shm`. We keep `PATH-lock`, because two servers
//! must not write the same counters.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::counters::TopicCounters;
use super::location::{Location, beside, with_mode_of};
use super::log::Log;
use super::room::{self, Room};
use super::tables::Tables;
use super::{Clock, SqliteStore, schema};
use crate::store::{Rules, SyncMode};

/// How long to wait for another program that reads the file.
const BUSY: Duration = Duration::from_secs(5);

/// SQLite's page caches of the writing and of the reading connection, in KiB.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
const READER_CACHE_KIB: i64 = 8 * 1024;

impl SqliteStore {
    /// Opens or creates the store in a file and locks it against other servers. The error is one line
    /// for the operator.
    pub fn in_file(
        path: &Path,
        sync: SyncMode,
        clock: Clock,
        rules: Rules,
    ) -> Result<SqliteStore, String> {
        let opened = one_name(path).and_then(|name| open(path, &name, sync, clock, rules));
        opened.map_err(|why| format!("{}: {why}", path.display()))
    }
}

/// Opens the file with the canonical name `path`. `given` is the name on the command line.
fn open(
    given: &Path,
    path: &Path,
    sync: SyncMode,
    clock: Clock,
    rules: Rules,
) -> Result<SqliteStore, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut sqlite = connect(path, flags, WRITER_CACHE_KIB).map_err(explain)?;
    // Checked before the lock, so that another program's file gets no lock file beside it.
    version(&sqlite)?;
    let lock = keep_others_out(path)?;
    // If this fails, reserving space fails later and logs the reason.
    let _ = room::remove_spare(path);
    let version = version(&sqlite)?;
    prepare(&sqlite, sync, version).map_err(explain)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = connect(path, flags, READER_CACHE_KIB).map_err(explain)?;
    let room = Arc::new(Room::new(path, rules.max_bytes));
    let log = Log::new(&mut sqlite, sync, room.clone()).map_err(explain)?;
    let tables = Tables::new(sqlite, true, Some(log)).map_err(explain)?;
    let reader = Tables::new(reader, true, None).map_err(explain)?;
    let counters = TopicCounters::load(&tables)
        .map_err(explain)?
        .map_err(|name| format!("the row of topic {name:?} is damaged: restore a backup"))?;
    let mut store = SqliteStore::new(tables, counters, clock, rules).map_err(explain)?;
    // Last, because a failed opening closes the file, and then SQLite removes the log.
    let location = Location::new(given, path)?;
    // The first tick finds everything that is due.
    store.due.store(0, Ordering::Release);
    store.reader = Some(Mutex::new(reader));
    (store.location, store.room, store.lock) = (Some(location), Some(room), Some(lock));
    store.is_new = version == 0;
    Ok(store)
}

/// The canonical name, under which the file is locked. Refuses files that have several names.
fn one_name(path: &Path) -> Result<PathBuf, String> {
    if !path.exists() {
        refuse_lone_log(path)?;
        return new_name(path);
    }
    let name = one_file(path)?;
    // SQLite would open an unwritable file for reading.
    #[cfg(unix)]
    if rustix::fs::access(&name, rustix::fs::Access::WRITE_OK).is_err() {
        return Err("the file is not writable".to_owned());
    }
    #[cfg(unix)]
    if fs::metadata(&name).is_ok_and(|file| std::os::unix::fs::MetadataExt::nlink(&file) > 1) {
        let text =
            "the file has a second name (a hard link), under which another server could open it";
        return Err(format!("{text}: remove one of them"));
    }
    Ok(name)
}

/// The canonical name of an existing file.
fn one_file(path: &Path) -> Result<PathBuf, String> {
    match fs::metadata(path) {
        Ok(file) if file.is_dir() => Err("the path is a folder".to_owned()),
        Ok(file) if !file.is_file() => Err("not a regular file".to_owned()),
        Ok(_) => {
            let name = path.canonicalize().map_err(|error| error.to_string())?;
            refuse_lone_log(&name).map(|()| name)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refuse_lone_log(path)?;
            Err("no such file".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Checks that the file exists, without opening it.
pub fn find_file(path: &Path) -> Result<(), String> {
    one_file(path).map(drop)
}

/// Refuses a log whose database file is missing or empty. SQLite deletes such a log, even when it
/// opens the file only for reading.
fn refuse_lone_log(path: &Path) -> Result<(), String> {
    let missing = match fs::metadata(path) {
        Ok(file) if file.len() == 0 => "is empty",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing",
        _ => return Ok(()),
    };
    if !has_log(path) {
        return Ok(());
    }
    let log = beside(path, "-wal");
    Err(format!(
        "the database file {missing}, but its log {} is there and may hold confirmed messages: \
         move the database file back beside its log; or, to start with an empty store, remove the \
         log",
        log.display()
    ))
}

fn new_name(path: &Path) -> Result<PathBuf, String> {
    if path.is_symlink() {
        return Err("the link leads to a missing file".to_owned());
    }
    let folder = folder_of(path);
    let name = path.file_name().ok_or("the path has no file name")?;
    match folder.canonicalize() {
        Ok(folder) if folder.is_dir() => Ok(folder.join(name)),
        _ => Err(format!("no such folder: {}", folder.display())),
    }
}

/// The folder of this path.
pub fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Opens a file for reading, also while a server uses it.
pub fn open_to_read(path: &Path) -> Result<Tables, String> {
    let opened = one_file(path).and_then(|path| {
        let sqlite = connect_to_read(&path).map_err(explain)?;
        match version(&sqlite)? {
            0 => Err("the file has no store yet".to_owned()),
            _ => Tables::new(sqlite, true, None).map_err(explain),
        }
    });
    opened.map_err(|why| format!("{}: {why}", path.display()))
}

/// A reading connection, also on read-only media. Without a log nobody else can be writing there,
/// so the file is opened as immutable.
fn connect_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connected = connect(path, flags, READER_CACHE_KIB).and_then(|sqlite| {
        sqlite.pragma_query_value(None, "application_id", |_| Ok(()))?;
        Ok(sqlite)
    });
    let code = connected.as_ref().err().and_then(rusqlite::Error::sqlite_error_code);
    if !matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) || has_log(path) {
        return connected;
    }
    let name = path.as_os_str().as_encoded_bytes();
    let escaped: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
    let uri = format!("file:{escaped}?immutable=1");
    connect(Path::new(&uri), flags | OpenFlags::SQLITE_OPEN_URI, READER_CACHE_KIB)
}

fn has_log(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

fn connect(path: &Path, flags: OpenFlags, cache_kib: i64) -> rusqlite::Result<Connection> {
    let sqlite = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    sqlite.busy_timeout(BUSY)?;
    sqlite.pragma_update(None, "cache_size", -cache_kib)?;
    Ok(sqlite)
}

/// Locks the file against other servers until the result is dropped.
fn keep_others_out(path: &Path) -> Result<File, String> {
    let name = beside(path, "-lock");
    let cannot = |error| format!("{}: {error}", name.display());
    // Not truncated: the content belongs to the process that holds the lock.
    let mut options =
        File::options().read(true).write(true).create(true).truncate(false).to_owned();
    with_mode_of(path, &mut options);
    let mut file = options.open(&name).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = file.read_to_string(&mut process);
            let text = IN_USE;
            return Err(match process.trim().parse::<u32>() {
                Ok(process) => format!("{text} (process {process})"),
                Err(_) => text.to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    // The process id, for the error message of another server. A failure only shortens that
    // message.
    let noted = file.set_len(0).and_then(|()| file.rewind());
    let _ = noted.and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// The schema version of a store's file; 0 if the file is empty.
fn version(sqlite: &Connection) -> Result<usize, String> {
    let number = |pragma| sqlite.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        let tables = "SELECT count(*) FROM sqlite_schema";
        let tables = sqlite.query_one(tables, [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    let known = schema::MIGRATIONS.len();
    match read() {
        Ok((0, 0, 0)) if number("page_size") == Ok(schema::PAGE_BYTES.cast_signed()) => Ok(0),
        Ok((0, 0, 0)) if number("page_count") == Ok(0) => Ok(0),
        Ok((schema::APPLICATION_ID, version, _)) => match usize::try_from(version) {
            Ok(version) if (1..=known).contains(&version) => Ok(version),
            Ok(version) if version > known => Err(format!(
                "made by a newer dsmq (schema version {version}, this one knows {known}): use that one"
            )),
            _ => Err(DAMAGED.to_owned()),
        },
        Ok(_) => Err("not a dsmq store, but another program's SQLite file".to_owned()),
        Err(error) => Err(explain(error)),
    }
}

/// Sets the journal mode and brings the tables up to date.
fn prepare(sqlite: &Connection, sync: SyncMode, version: usize) -> rusqlite::Result<()> {
    if version == 0 {
        sqlite.execute_batch(schema::PAGES)?;
    }
    sqlite.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    sqlite.pragma_update(None, "synchronous", sync.as_str())?;
    migrate(sqlite, version, schema::MIGRATIONS)?;
    sqlite
        .execute(schema::END_LEASES_UNTIL_RESTART, [crate::store::UNTIL_RESTART.cast_signed()])?;
    // An unwritable file fails here, not at the first put.
    sqlite.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    if sync == SyncMode::Full {
        // From here on `log.rs` syncs the log.
        sqlite.execute_batch(schema::SYNC_CHECKPOINTS)?;
    }
    Ok(())
}

/// Runs all missing migrations in one transaction.
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

/// The error for a file that another server uses.
pub const IN_USE: &str = "another dsmq has it open";

/// The error for a damaged file.
pub const DAMAGED: &str = "the file is damaged: run 'dsmq check', and restore a backup";

/// SQLite's error, in words for the operator.
pub fn explain(error: rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "not an SQLite file: if it was a store, its first page is damaged: restore a backup"
                .into()
        }
        Some(ErrorCode::DatabaseCorrupt) => DAMAGED.into(),
        Some(ErrorCode::ReadOnly) => "the file is not writable".into(),
        Some(ErrorCode::CannotOpen) => "cannot open or create the file".into(),
        Some(ErrorCode::DatabaseBusy) => "another program is writing to the file".into(),
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        _ if error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE) => {
            "cannot create the -shm file (is the disk full?)".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_run_completely_or_not_at_all() {
        let sqlite = Connection::open_in_memory().unwrap();
        let version = |sqlite: &Connection| {
            sqlite.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap()
        };
        let first = "CREATE TABLE a (b); INSERT INTO a VALUES (1)";
        migrate(&sqlite, 0, &[first]).unwrap();
        assert_eq!(version(&sqlite), 1);
        let steps = [first, "ALTER TABLE a ADD COLUMN c DEFAULT 2", "CREATE TABLE a (again)"];
        assert!(migrate(&sqlite, 1, &steps).is_err());
        assert_eq!(version(&sqlite), 1);
        assert!(sqlite.prepare("SELECT c FROM a").is_err(), "half a migration was left");
        migrate(&sqlite, 1, &steps[..2]).unwrap();
        assert_eq!(version(&sqlite), 2);
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        assert_eq!(sqlite.query_one("SELECT b, c FROM a", [], row), Ok((1, 2)));
    }
}
