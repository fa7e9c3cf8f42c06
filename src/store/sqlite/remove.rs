//! Removing: one message by its id, deleted or expired, and room that is given back a little at a time,
//! so that nobody waits for it: the rest of purged topics, and pages that nothing is in any more.
//!
//! A purged topic gets another number. The old one stands in `trash` until its rows are gone.

use super::schema;
use super::tables::Stored;
use super::transaction::Transaction;
use crate::error::Result;
use crate::ops::{Id, Outcome, Topic};

/// What one transaction removes: rows, and bytes of messages, or one message more.
pub const ROWS: usize = 1_000;
pub const BYTES: usize = 2 * 1024 * 1024;

/// A row of `log`, as far as its removal needs it.
#[derive(Clone, Copy)]
pub struct Old {
    pub id: i64,
    pub size: usize,
    /// Whether it was put without a priority.
    pub plain: bool,
}

impl Transaction<'_> {
    /// A message's row without its body, and whether it was put without a priority.
    pub fn stored(&self, number: i64, id: Id) -> Result<Option<(Stored, bool)>> {
        self.first(schema::STORED, (number, id.cast_signed()), |row| {
            let expires = row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned);
            Ok((Stored { id, expires, size: row.get::<_, i64>(0)? as usize }, row.get(1)?))
        })
    }

    /// Removes a message that may be there; says whether it was, and was in line to be taken.
    pub fn discard(&mut self, number: i64, id: Id) -> Result<Option<bool>> {
        let Some((stored, plain)) = self.stored(number, id)? else { return Ok(None) };
        self.remove(number, &stored)?;
        let counts = self.counts(number)?;
        let in_line = plain && id > counts.taken_to;
        if in_line {
            counts.in_line = counts.in_line.saturating_sub(1);
        }
        Ok(Some(in_line))
    }

    pub fn delete(&mut self, topic: &Topic, id: Id) -> Result<Outcome> {
        let Some(number) = self.number(topic) else { return Ok(Outcome::Deleted(false)) };
        match self.discard(number, id)? {
            None => return Ok(Outcome::Deleted(false)),
            Some(true) => {}
            Some(false) => self.withdraw(number, id)?,
        }
        Ok(Outcome::Deleted(true))
    }

    /// Nobody can take this message any more, nor give it back.
    fn withdraw(&mut self, number: i64, id: Id) -> Result<()> {
        if self.run(schema::DELETE_LEASE, (number, id.cast_signed()))? > 0 {
            self.counts(number)?.leased -= 1;
        }
        self.unready(number, id)
    }

    /// A message is no more to be taken by its rank, whichever that is.
    fn unready(&mut self, number: i64, id: Id) -> Result<()> {
        for rank in 0..=i64::from(crate::ops::PRIORITY_MAX) {
            if self.run(schema::DELETE_READY, (number, rank, id.cast_signed()))? > 0 {
                self.counts(number)?.ready -= 1;
            }
        }
        Ok(())
    }

    /// A message whose ttl has passed is removed. One in a taker's hands may still be acked.
    pub fn expire(&mut self, number: i64, id: Id) -> Result<()> {
        if self.discard(number, id)? != Some(false) {
            return Ok(());
        }
        self.unready(number, id)
    }
}

impl Transaction<'_> {
    /// Gives back some room, and says when there is more.
    pub fn sweep(&mut self) -> Result<()> {
        if let Some(number) = self.first(schema::FIRST_TRASH, (), |row| row.get(0))? {
            self.sweep_topic(number)?;
            self.due_at(self.now);
        }
        self.look()?;
        if self.size.get().many_free() {
            // To move many pages would take more of the log than a full disk has room for.
            let full = self.tables.is_disk_full();
            let give_back = if full { schema::GIVE_BACK_FEW } else { schema::GIVE_BACK };
            self.with(give_back, |statement| {
                // A row for each page.
                let mut pages = statement.query(())?;
                while pages.next()?.is_some() {}
                Ok(())
            })?;
            self.look()?;
            if self.size.get().many_free() {
                self.due_at(self.now);
            } else {
                // Only then does the file become shorter.
                self.tables.settle();
            }
        }
        Ok(())
    }

    fn sweep_topic(&mut self, number: i64) -> Result<()> {
        if let Some(last) = self.oldest_rows(number, i64::MAX)?.last() {
            for sql in schema::SWEEP_LOG {
                self.run(sql, (number, last.id))?;
            }
            return Ok(());
        }
        for sql in schema::SWEEP {
            if self.run(sql, (number, ROWS as i64))? > 0 {
                return Ok(());
            }
        }
        self.run(schema::DELETE_TRASH, [number]).map(|_| ())
    }

    /// The topic's oldest messages up to an id, as many as one transaction removes.
    pub fn oldest_rows(&self, number: i64, to: i64) -> Result<Vec<Old>> {
        self.with(schema::OLDEST_ROWS, |read| {
            let (mut old, mut bytes) = (Vec::new(), 0);
            let mut rows = read.query((number, to, ROWS as i64))?;
            while bytes < BYTES
                && let Some(row) = rows.next()?
            {
                let size = row.get::<_, Option<i64>>(1)?.unwrap_or(0) as usize;
                bytes += size;
                old.push(Old { id: row.get(0)?, size, plain: row.get(2)? });
            }
            Ok(old)
        })
    }
}
