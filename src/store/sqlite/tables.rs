//! One connection to SQLite and the statements that run on it. It knows rows; the rules are its
//! callers'.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, Row, ToSql};

use super::schema;
use crate::limits;
use crate::message::{Id, Topic};
use crate::store::Run;

/// Statements that are kept ready: more than there are.
const STATEMENTS: usize = 100;

pub struct Tables {
    sqlite: Connection,
}

impl Tables {
    pub fn in_memory() -> Result<Tables> {
        let sqlite = Connection::open_in_memory()?;
        sqlite.set_prepared_statement_cache_capacity(STATEMENTS);
        sqlite.execute_batch(schema::CREATE)?;
        Ok(Tables { sqlite })
    }

    pub fn begin(&self) -> Result<()> {
        self.run(schema::BEGIN)
    }

    pub fn commit(&self) -> Result<()> {
        self.run(schema::COMMIT)
    }

    /// After an error. SQLite may have rolled back by itself: then there is nothing left to do.
    pub fn roll_back(&self) {
        if !self.sqlite.is_autocommit()
            && let Err(error) = self.run(schema::ROLL_BACK)
        {
            tracing::error!("the store could not roll back: {error}");
        }
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.statement(sql)?.raw_execute().map(|_| ())
    }

    pub fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.sqlite.prepare_cached(sql)
    }

    /// Fills a run with the oldest messages after the one where it begins.
    pub fn read(&self, mut run: Run, topic: i64, limit: usize, now: Id) -> Result<Run> {
        let mut read = self.statement(schema::READ)?;
        let after = run.last_id().cast_signed();
        let mut rows = read.query((topic, after, limit as i64, now.cast_signed()))?;
        while let Some(row) = rows.next()? {
            if !self.push(&mut run, row, limits::RUN_BYTES)? {
                break;
            }
        }
        Ok(run)
    }

    /// Fills a run with the newest messages, newest first.
    pub fn read_last(&self, mut run: Run, topic: i64, limit: usize, now: Id) -> Result<Run> {
        let mut read = self.statement(schema::READ_LAST)?;
        let mut rows = read.query((topic, limit as i64, now.cast_signed()))?;
        while let Some(row) = rows.next()? {
            if !self.push(&mut run, row, limits::HISTORY_BYTES)? {
                break;
            }
            if let Some(origin) = self.origin(topic, run.last_id())? {
                run.set_origin(origin.0, origin.1);
            }
        }
        Ok(run)
    }

    /// A topic's delayed messages, those that are due first first; in place of ids, when.
    pub fn delayed(&self, topic: i64, limit: usize) -> Result<Run> {
        let mut run = Run::default();
        let mut read = self.statement(schema::LIST_DELAYED)?;
        let mut rows = read.query((topic, limit as i64))?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(1)?.as_bytes()?;
            if !run.is_empty() && run.bytes() + body.len() > limits::HISTORY_BYTES {
                break;
            }
            run.push(row.get::<_, i64>(0)?.cast_unsigned(), body, None);
        }
        Ok(run)
    }

    /// Adds a row of `log` to a run; false if the run has no room for it, or for any other.
    fn push(&self, run: &mut Run, row: &Row<'_>, most: usize) -> Result<bool> {
        let id = row.get::<_, i64>(0)?;
        let expires = row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned);
        let mut large = Vec::new();
        let body = match row.get_ref(1)? {
            // A large message begins a run of its own, which it fills, or nearly so.
            ValueRef::Null if !run.is_empty() && most == limits::RUN_BYTES => return Ok(false),
            ValueRef::Null => {
                self.read_large(id, &mut large)?;
                &large
            }
            body => body.as_bytes()?,
        };
        let room = run.is_empty() || run.bytes() + body.len() <= most;
        if room {
            run.push(id.cast_unsigned(), body, expires);
        }
        Ok(room && run.bytes() < most)
    }

    /// Adds a large message's body to `bytes`.
    pub fn read_large(&self, id: i64, bytes: &mut Vec<u8>) -> Result<()> {
        self.statement(schema::READ_LARGE)?.query_one([id], |row| {
            bytes.extend_from_slice(row.get_ref(0)?.as_bytes()?);
            Ok(())
        })
    }

    /// Where a dead letter came from.
    pub fn origin(&self, topic: i64, id: Id) -> Result<Option<Box<(Topic, Id)>>> {
        let origin = self.statement(schema::ORIGIN)?.query_one((topic, id.cast_signed()), |row| {
            let topic = Topic::new(row.get_ref(0)?.as_str()?).ok();
            Ok(topic.zip(row.get::<_, i64>(1).ok().map(i64::cast_unsigned)))
        });
        Ok(origin.optional()?.flatten().map(Box::new))
    }

    /// The id of a topic's oldest message.
    pub fn oldest(&self, topic: i64) -> Result<Option<Id>> {
        let oldest = self.statement(schema::OLDEST)?.query_one([topic], |row| row.get::<_, i64>(0));
        Ok(oldest.optional()?.map(i64::cast_unsigned))
    }
}

/// A message's text as SQLite takes it: it was checked to be UTF-8 when it was read as JSON.
pub struct JsonText<'a>(pub &'a [u8]);

impl ToSql for JsonText<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

#[cfg(test)]
impl Tables {
    /// From then on an insert that needs more pages fails, as on a full disk.
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

    /// Rows of every table but the topics'.
    pub fn rows(&self) -> i64 {
        let tables = ["log", "large", "ready", "leases", "delayed", "expiries", "dedupe", "notes"];
        let count = |table| format!("(SELECT count(*) FROM {table})");
        let sql = format!("SELECT {}", tables.map(count).join(" + "));
        self.sqlite.query_one(&sql, [], |row| row.get(0)).unwrap()
    }
}
