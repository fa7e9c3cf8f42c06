//! The work of the timer: ends leases, puts delayed messages, removes expired ones, forgets dedupe
//! keys, and frees the space of purged topics. Each tick does a little, so that requests can run in
//! between.

use super::bound::MESSAGE_OVERHEAD;
use super::schema;
use super::take::Lease;
use super::transaction::Transaction;
use crate::error::Result;
use crate::limits;
use crate::ops::{Id, Topic};
use crate::store::Due;

/// The most rows of each kind in one tick.
const MAX_ROWS: i64 = 256;

/// The most rows and bytes that one transaction sweeps. The last message may exceed the bytes.
pub const SWEEP_ROWS: usize = 1_000;
pub const SWEEP_BYTES: u64 = 2 * 1024 * 1024;

/// A row of `log`, as far as removal needs it.
#[derive(Clone, Copy)]
pub struct LogRow {
    pub id: i64,
    pub size: usize,
    /// Whether it was put without a priority.
    pub plain: bool,
}

/// A delayed message that is due.
struct DelayedRow {
    number: i64,
    topic: i64,
    rank: Option<i64>,
    ttl: Option<u64>,
    damaged: bool,
    body: Vec<u8>,
}

impl Transaction<'_> {
    /// Does some of the due work and computes the next due time.
    pub fn tick(&mut self, due: &mut Due) -> Result<()> {
        self.end_leases(due)?;
        self.put_due_messages(due)?;
        self.expire_messages()?;
        self.run(schema::DELETE_OLD_DEDUPE, (self.now.cast_signed(), MAX_ROWS))?;
        self.due = Id::MAX;
        self.drop_aged()?;
        self.sweep()?;
        for next in
            [schema::NEXT_LEASE, schema::NEXT_DELAYED, schema::NEXT_EXPIRY, schema::NEXT_DEDUPE]
        {
            let at = self.first(next, (), |row| row.get::<_, Option<i64>>(0))?.flatten();
            if let Some(at) = at {
                self.due_at(at.cast_unsigned());
            }
        }
        Ok(())
    }

    fn due_rows<T>(
        &self,
        sql: &'static str,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let params = (self.now.cast_signed(), MAX_ROWS);
        self.with(sql, |statement| statement.query_map(params, read)?.collect())
    }

    /// Whether a topic has this number. A purge changes the number.
    fn exists(&self, number: i64) -> bool {
        self.counters.number_now(number) == Some(number)
    }

    fn topic(&mut self, number: i64) -> Result<Topic> {
        Ok(self.record(number)?.topic_state.topic().clone())
    }

    fn end_leases(&mut self, due: &mut Due) -> Result<()> {
        let ended = self.due_rows(schema::ENDED_LEASES, Lease::read)?;
        for lease in ended {
            if !self.exists(lease.topic) {
                self.run(schema::DELETE_LEASE, (lease.topic, lease.id.cast_signed()))?;
                continue;
            }
            let topic = self.topic(lease.topic)?;
            self.return_message(&topic, &lease)?;
            due.put.extend(topic.dead().filter(|dead| self.number(dead).is_some()));
            due.returned.push(topic);
        }
        Ok(())
    }

    /// Reads some due messages, at most [`limits::TAKEN_BYTES`].
    fn due_delayed(&self) -> rusqlite::Result<Vec<DelayedRow>> {
        let (mut delayed, mut bytes) = (Vec::new(), 0);
        let mut read = self.tables.statement(schema::DUE_DELAYED)?;
        let mut rows = read.query((self.now.cast_signed(), MAX_ROWS))?;
        while bytes < limits::TAKEN_BYTES
            && let Some(row) = rows.next()?
        {
            let body = row.get_ref(1)?.as_bytes()?.to_vec();
            bytes += body.len();
            let topic = row.get(5)?;
            let checked = self.tables.checked(topic, row, &body).map(|stored| stored.expires);
            delayed.push(DelayedRow {
                number: row.get(4)?,
                topic,
                rank: row.get(6)?,
                ttl: checked.as_ref().ok().copied().flatten(),
                damaged: checked.is_err(),
                body,
            });
        }
        Ok(delayed)
    }

    fn put_due_messages(&mut self, due: &mut Due) -> Result<()> {
        let delayed = self.due_delayed().map_err(|error| self.record_failure(error))?;
        for message in delayed {
            if message.damaged {
                tracing::error!(
                    "a delayed message is damaged in the store's file and will not be delivered"
                );
                self.run(schema::SET_ASIDE, [message.number])?;
                continue;
            }
            self.run(schema::DELETE_DELAYED, [message.number])?;
            if !self.exists(message.topic) {
                continue;
            }
            self.counts(message.topic)?.delayed -= 1;
            self.append(message.topic, &message.body, message.rank, message.ttl)?;
            due.put.push(self.topic(message.topic)?);
        }
        Ok(())
    }

    fn expire_messages(&mut self) -> Result<()> {
        let expired: Vec<(i64, i64, i64)> =
            self.due_rows(schema::EXPIRED, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for (at, topic, id) in expired {
            self.run(schema::DELETE_EXPIRY, (at, topic, id))?;
            if self.exists(topic) {
                self.expire(topic, id.cast_unsigned())?;
            }
        }
        Ok(())
    }

    /// Removes a message whose ttl has passed. A leased one can still be acked.
    pub fn expire(&mut self, number: i64, id: Id) -> Result<()> {
        if self.discard(number, id)? != Some(false) {
            return Ok(());
        }
        self.unready(number, id)
    }

    /// Frees some space, and schedules the rest.
    pub fn sweep(&mut self) -> Result<()> {
        if let Some(number) = self.first(schema::FIRST_TRASH, (), |row| row.get(0))? {
            self.sweep_topic(number)?;
            self.due_at(self.now);
        }
        self.measure()?;
        if self.size.get().many_free {
            // Moving many pages needs more log than a full disk has space for.
            let full = self.tables.is_disk_full();
            let sql = if full { schema::GIVE_BACK_FEW } else { schema::GIVE_BACK };
            self.with(sql, |statement| {
                // SQLite returns a row for each page.
                let mut pages = statement.query(())?;
                while pages.next()?.is_some() {}
                Ok(())
            })?;
            self.measure()?;
            if self.size.get().many_free {
                self.due_at(self.now);
            } else if let Some(log) = &self.tables.log {
                // The checkpoint shortens the file.
                log.checkpoint_next();
            }
        }
        Ok(())
    }

    fn sweep_topic(&mut self, number: i64) -> Result<()> {
        if let Some(last) = self.oldest_rows(number, i64::MAX, SWEEP_ROWS, SWEEP_BYTES)?.last() {
            for sql in schema::SWEEP_LOG {
                self.run(sql, (number, last.id))?;
            }
            return Ok(());
        }
        for sql in schema::SWEEP {
            if self.run(sql, (number, SWEEP_ROWS as i64))? > 0 {
                return Ok(());
            }
        }
        self.run(schema::DELETE_TRASH, [number]).map(|_| ())
    }

    /// A topic's oldest messages with ids up to `to`: at most `most`, until they take `bytes`, and at
    /// least one.
    pub fn oldest_rows(
        &self,
        number: i64,
        to: i64,
        most: usize,
        bytes: u64,
    ) -> Result<Vec<LogRow>> {
        self.with(schema::OLDEST_ROWS, |read| {
            let (mut old, mut found) = (Vec::new(), 0);
            let mut rows = read.query((number, to, most as i64))?;
            while found < bytes
                && let Some(row) = rows.next()?
            {
                let size = row.get::<_, Option<i64>>(1)?.unwrap_or(0) as usize;
                found += size as u64 + MESSAGE_OVERHEAD;
                old.push(LogRow { id: row.get(0)?, size, plain: row.get(2)? });
            }
            Ok(old)
        })
    }
}
