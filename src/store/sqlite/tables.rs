//! One connection to SQLite and the statements that run on it. It knows rows; the rules of ids
//! and batches are its caller's.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Result, Row, ToSql};

use super::schema;
use crate::limits;
use crate::message::Id;
use crate::store::Run;

pub struct Tables {
    sqlite: Connection,
}

impl Tables {
    pub fn in_memory() -> Result<Tables> {
        let sqlite = Connection::open_in_memory()?;
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

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.sqlite.prepare_cached(sql)
    }

    /// A new topic's number.
    pub fn insert_topic(&self, name: &str) -> Result<i64> {
        self.statement(schema::INSERT_TOPIC)?.insert([name])
    }

    /// Gets ready to insert messages, one after another.
    pub fn insertion(&self) -> Result<Insertion<'_>> {
        Ok(Insertion { tables: self, insert: self.statement(schema::INSERT)? })
    }

    pub fn read(&self, topic: i64, after: Id, limit: usize) -> Result<Run> {
        let mut run = Run::new(after);
        let mut read = self.statement(schema::READ)?;
        let mut rows = read.query((topic, after.cast_signed(), limit as i64))?;
        while let Some(row) = rows.next()? {
            if !self.push(&mut run, row)? {
                break;
            }
        }
        Ok(run)
    }

    pub fn read_newest(&self, topic: i64) -> Result<Run> {
        let mut run = Run::default();
        let mut read = self.statement(schema::READ_NEWEST)?;
        let mut rows = read.query([topic])?;
        if let Some(row) = rows.next()? {
            // Only the message itself is known to be in the run, not what lies before it.
            run.after = row.get::<_, i64>(0)?.cast_unsigned() - 1;
            self.push(&mut run, row)?;
        }
        Ok(run)
    }

    /// Adds a row of `log` to a run; false if the run has no room for it.
    fn push(&self, run: &mut Run, row: &Row<'_>) -> Result<bool> {
        let id = row.get::<_, i64>(0)?;
        let body = row.get_ref(1)?;
        if body == ValueRef::Null {
            return if run.entries.is_empty() { self.push_large(run, id) } else { Ok(false) };
        }
        let body = body.as_bytes()?;
        let room = run.entries.is_empty() || run.bytes.len() + body.len() <= limits::RUN_BYTES;
        if room {
            run.push(id.cast_unsigned(), body);
        }
        Ok(room)
    }

    /// A large message ends its run: it fills it, or nearly so.
    fn push_large(&self, run: &mut Run, id: i64) -> Result<bool> {
        let mut read = self.statement(schema::READ_LARGE)?;
        read.query_one([id], |row| {
            run.push(id.cast_unsigned(), row.get_ref(0)?.as_bytes()?);
            Ok(true)
        })
    }
}

/// Inserts messages without asking for the statement each time.
pub struct Insertion<'a> {
    tables: &'a Tables,
    insert: CachedStatement<'a>,
}

impl Insertion<'_> {
    pub fn insert(&mut self, topic: i64, id: Id, body: &[u8]) -> Result<()> {
        let large = body.len() > schema::LARGE_BYTES;
        self.insert.raw_bind_parameter(1, topic)?;
        self.insert.raw_bind_parameter(2, id.cast_signed())?;
        self.insert.raw_bind_parameter(3, (!large).then_some(JsonText(body)))?;
        self.insert.raw_execute()?;
        if large {
            let mut insert = self.tables.statement(schema::INSERT_LARGE)?;
            insert.execute((id.cast_signed(), JsonText(body)))?;
        }
        Ok(())
    }
}

/// A message's text as SQLite takes it: it was checked to be UTF-8 when it was read as JSON.
struct JsonText<'a>(&'a [u8]);

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
        let rows =
            read.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }
}
