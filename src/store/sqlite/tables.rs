//! One SQLite connection and its statements. It knows rows and checksums, not the rules of the
//! store.

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Error, OptionalExtension, Result, Row, ToSql, ffi};

use super::bound::{Pages, Size};
use super::damage::{self, Damaged};
use super::log::Log;
use super::schema;
use crate::limits;
use crate::ops::{Chunk, Id, Topic};

/// Capacity of rusqlite's statement cache: more than there are statements.
const STATEMENTS: usize = 100;

/// Cost of a page in memory beyond its bytes, in SQLite and the allocator.
const PAGE_OVERHEAD_BYTES: u64 = 344;

pub struct Tables {
    sqlite: Connection,
    /// Whether this is a file. Memory needs no checksums and no saved counters.
    file: bool,
    /// The file's log, on the writing connection.
    pub log: Option<Log>,
    /// Every SQL text that was run.
    #[cfg(test)]
    run: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

/// The range that a read may return.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Messages above this id are committed but not yet published.
    pub newest: Id,
    /// Messages that expire by this time are left out.
    pub now: Id,
    /// The most messages.
    pub limit: usize,
}

/// A message's row without its body.
pub struct StoredRow {
    pub id: Id,
    pub expires: Option<Id>,
    pub size: usize,
}

impl StoredRow {
    /// The row, if it is in order. A damaged index returns rows in the wrong place: whoever went on
    /// from there would repeat messages, or remove others.
    pub fn in_order(self, follows: impl FnOnce(Id) -> bool) -> Result<StoredRow> {
        if follows(self.id) {
            return Ok(self);
        }
        let corrupt = ffi::Error::new(ffi::SQLITE_CORRUPT);
        Err(Error::SqliteFailure(corrupt, Some("messages are out of order".to_owned())))
    }
}

impl Tables {
    pub fn in_memory() -> Result<Tables> {
        let sqlite = Connection::open_in_memory()?;
        sqlite.execute_batch(schema::PAGES)?;
        schema::MIGRATIONS.iter().try_for_each(|step| sqlite.execute_batch(step))?;
        Tables::new(sqlite, false, None)
    }

    /// A connection to tables that were checked. The writing connection of a file has a log.
    pub fn new(sqlite: Connection, file: bool, log: Option<Log>) -> Result<Tables> {
        sqlite.set_prepared_statement_cache_capacity(STATEMENTS);
        // Without this setting SQLite recompiles a statement with a bound LIMIT at each execution,
        // which is two thirds of the instructions of a take.
        sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(Tables {
            sqlite,
            file,
            log,
            #[cfg(test)]
            run: Default::default(),
        })
    }

    /// Whether the file is known to be unable to grow.
    pub fn is_disk_full(&self) -> bool {
        self.log.as_ref().is_some_and(Log::is_disk_full)
    }

    pub fn is_file(&self) -> bool {
        self.file
    }

    pub fn sqlite(&self) -> &Connection {
        &self.sqlite
    }

    pub fn pages(&self) -> Result<Pages> {
        let count = |sql| {
            let count = self.statement(sql)?.query_one([], |row| row.get::<_, i64>(0));
            count.map(i64::cast_unsigned)
        };
        Ok(Pages { all: count(schema::PAGE_COUNT)?, free: count(schema::FREE_COUNT)? })
    }

    /// Measures the size of the store.
    pub fn size(&self) -> Result<Size> {
        Ok(Size::new(self.pages()?, self.page_bytes(), self.is_disk_full()))
    }

    /// The cost of a page in the file or in memory.
    pub fn page_bytes(&self) -> u64 {
        schema::PAGE_BYTES + if self.is_file() { 0 } else { PAGE_OVERHEAD_BYTES }
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<()> {
        // A failed rollback of the last transaction is retried here.
        self.roll_back();
        if let Some(log) = &self.log {
            log.begin(&self.sqlite)?;
        }
        self.run(schema::BEGIN)
    }

    /// Commits. Fails if SQLite has rolled the transaction back by itself, because later statements
    /// ran outside it.
    pub fn commit(&self) -> Result<()> {
        let committed = if self.sqlite.is_autocommit() {
            let code = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
            Err(Error::SqliteFailure(code, Some("the transaction was rolled back".to_owned())))
        } else {
            self.run(schema::COMMIT)
        };
        if let (Some(log), Err(error)) = (&self.log, &committed) {
            log.failed(error);
        }
        committed
    }

    /// Syncs all commits, if the store promises that.
    pub fn sync(&self) -> Result<()> {
        self.log.as_ref().map_or(Ok(()), Log::sync)
    }

    /// Rolls back after an error, unless SQLite has done so by itself.
    pub fn roll_back(&self) {
        if !self.sqlite.is_autocommit()
            && let Err(error) = self.run(schema::ROLL_BACK)
        {
            tracing::error!("cannot roll back the transaction: {error}");
        }
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.statement(sql)?.raw_execute().map(|_| ())
    }

    pub fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        #[cfg(test)]
        self.run.borrow_mut().insert(sql.to_owned());
        self.sqlite.prepare_cached(sql)
    }

    /// Fills a chunk with the oldest messages after its start.
    pub fn read(&self, mut chunk: Chunk, topic: i64, bounds: Bounds) -> Result<Chunk> {
        let mut read = self.statement(schema::READ)?;
        let after = chunk.last_id().cast_signed();
        let Bounds { newest, now, limit } = bounds;
        let (newest, now) = (newest.cast_signed(), now.cast_signed());
        let mut rows = read.query((topic, after, limit as i64, now, newest))?;
        while let Some(row) = rows.next()? {
            if !self.push(&mut chunk, topic, row, limits::CHUNK_BYTES)? {
                break;
            }
        }
        Ok(chunk)
    }

    /// Fills a chunk with the newest messages, newest first.
    pub fn read_last(&self, mut chunk: Chunk, topic: i64, bounds: Bounds) -> Result<Chunk> {
        let mut read = self.statement(schema::READ_LAST)?;
        let Bounds { newest, now, limit } = bounds;
        let (newest, now) = (newest.cast_signed(), now.cast_signed());
        let mut rows = read.query((topic, limit as i64, now, newest))?;
        while let Some(row) = rows.next()? {
            if !self.push(&mut chunk, topic, row, limits::HISTORY_BYTES)? {
                break;
            }
            if let Some(origin) = self.origin(topic, chunk.last_id())? {
                chunk.set_origin(origin.0, origin.1);
            }
        }
        Ok(chunk)
    }

    /// A topic's delayed messages in the order of their due times, which take the place of ids.
    pub fn delayed(&self, topic: i64, limit: usize) -> Result<Chunk> {
        let mut chunk = Chunk::default();
        let mut read = self.statement(schema::LIST_DELAYED)?;
        let mut rows = read.query((topic, limit as i64))?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(1)?.as_bytes()?;
            if !chunk.is_empty() && chunk.bytes() + body.len() > limits::HISTORY_BYTES {
                break;
            }
            let stored = self.checked(topic, row, body)?;
            chunk.push(stored.id, body, None);
        }
        Ok(chunk)
    }

    /// Adds a row of `log` to a chunk. Returns false if the chunk is full.
    fn push(&self, chunk: &mut Chunk, topic: i64, row: &Row<'_>, most: usize) -> Result<bool> {
        let oldest_first = most == limits::CHUNK_BYTES;
        let mut large = Vec::new();
        let body = match row.get_ref(1)? {
            // A large message starts a chunk of its own.
            ValueRef::Null if !chunk.is_empty() && oldest_first => return Ok(false),
            ValueRef::Null => {
                self.read_large(row.get(0)?, &mut large)?;
                &large
            }
            body => body.as_bytes()?,
        };
        let stored =
            self.checked(topic, row, body).and_then(|stored| {
                let last = chunk.last_id();
                stored.in_order(|id| {
                    if oldest_first { id > last } else { id < last || chunk.is_empty() }
                })
            });
        let stored = match stored {
            // Messages before a damaged one are returned first.
            Err(_) if !chunk.is_empty() => return Ok(false),
            stored => stored?,
        };
        let room = chunk.is_empty() || chunk.bytes() + body.len() <= most;
        if room {
            chunk.push(stored.id, body, stored.expires);
        }
        Ok(room && chunk.bytes() < most)
    }

    /// Reads a row of `log` and appends its body to `bytes`.
    pub fn read_one(&self, topic: i64, row: &Row<'_>, bytes: &mut Vec<u8>) -> Result<StoredRow> {
        let start = bytes.len();
        match row.get_ref(1)? {
            ValueRef::Null => self.read_large(row.get(0)?, bytes)?,
            body => bytes.extend_from_slice(body.as_bytes()?),
        }
        self.checked(topic, row, bytes.get(start..).unwrap_or_default())
    }

    /// Checks a row that begins with id, body, expires and crc, and has this body.
    pub fn checked(&self, topic: i64, row: &Row<'_>, body: &[u8]) -> Result<StoredRow> {
        let (id, expires) = (row.get(0)?, row.get(2)?);
        let crc: Option<u32> = self.crc(topic, id, expires, body);
        let id = id.cast_unsigned();
        if crc.is_some() && crc.map(i64::from) != row.get(3)? {
            return Err(Damaged::error(id));
        }
        Ok(StoredRow { id, expires: expires.map(i64::cast_unsigned), size: body.len() })
    }

    /// The checksum of a message's row, in a file.
    pub fn crc(&self, topic: i64, id: i64, expires: Option<i64>, body: &[u8]) -> Option<u32> {
        self.is_file().then(|| damage::of_message(topic, id, expires, body))
    }

    /// Appends a large message's body to `bytes`.
    fn read_large(&self, id: i64, bytes: &mut Vec<u8>) -> Result<()> {
        self.statement(schema::READ_LARGE)?.query_one([id], |row| {
            bytes.extend_from_slice(row.get_ref(0)?.as_bytes()?);
            Ok(())
        })
    }

    /// The topic and id that a dead letter had before.
    pub fn origin(&self, topic: i64, id: Id) -> Result<Option<Box<(Topic, Id)>>> {
        let origin = self.statement(schema::ORIGIN)?.query_one((topic, id.cast_signed()), |row| {
            let topic = Topic::new(row.get_ref(0)?.as_str()?).ok();
            Ok(topic.zip(row.get::<_, i64>(1).ok().map(i64::cast_unsigned)))
        });
        Ok(origin.optional()?.flatten().map(Box::new))
    }

    /// The ids of a topic's oldest and newest message.
    pub fn ends(&self, topic: i64, now: Id) -> Result<(Option<Id>, Option<Id>)> {
        let id = |row: &Row<'_>| row.get(0).map(i64::cast_unsigned);
        let oldest = self.statement(schema::OLDEST)?.query_one([topic], id).optional()?;
        let params = (topic, now.cast_signed());
        let newest = self.statement(schema::NEWEST)?.query_one(params, id).optional()?;
        Ok((oldest, newest))
    }
}

/// A message's text for SQLite. It was checked to be UTF-8 when it was parsed as JSON.
pub struct JsonText<'a>(pub &'a [u8]);

impl ToSql for JsonText<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

#[cfg(test)]
impl Tables {
    /// Limits the number of pages: a larger store fails as on a full disk.
    pub fn limit_pages(&self, pages: i64) {
        self.sqlite.pragma_update(None, "max_page_count", pages).unwrap();
    }

    pub fn view(&self) -> Vec<(String, i64, f64, String)> {
        let mut read = self.sqlite.prepare("SELECT * FROM messages").unwrap();
        let rows = read
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// The statements that SQLite recompiled after they were prepared, and how often.
    pub fn recompiled(&self) -> Vec<(String, i32)> {
        let status = |sql: &String| {
            let statement = self.sqlite.prepare_cached(sql).unwrap();
            (sql.clone(), statement.get_status(rusqlite::StatementStatus::RePrepare))
        };
        self.run.borrow().iter().map(status).filter(|(_, count)| *count > 0).collect()
    }

    /// The number of rows in all tables except `topics`.
    pub fn rows(&self) -> i64 {
        let tables =
            ["log", "large", "ready", "leases", "delayed", "expiries", "dedupe", "notes", "trash"];
        let count = |table| format!("(SELECT count(*) FROM {table})");
        let sql = format!("SELECT {}", tables.map(count).join(" + "));
        self.sqlite.query_one(&sql, [], |row| row.get(0)).unwrap()
    }
}
