//! Room is given back a little at a time, so that nobody waits for it: what is left of purged
//! topics, and pages that nothing is in any more.
//!
//! A purged topic gets another number. The old one stands in `trash` until its rows are gone.

use super::schema;
use super::transaction::Transaction;
use crate::error::Result;

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
