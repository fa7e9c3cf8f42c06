//! Bounds: how large the store may be, how old a message may become, and which go first.
//!
//! A store's size is that of the pages with something in them. The oldest message of all is found
//! through the ledger, which knows for each topic an id that its oldest one is not below.

use super::schema;
use super::tick::LogRow;
use super::transaction::Transaction;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::store::{WhenFull, errors};

/// What a message costs beside its text, about.
pub const MESSAGE_OVERHEAD: u64 = 64;

/// What a row costs that only refers to a message, about: in `ready`, `leases`, `expiries`, `notes`.
pub const ROW_BYTES: u64 = 64;

/// Free pages are kept for what comes next, unless there are more than this and than a quarter.
const FREE_PAGES: u64 = 512;

/// The same on a full disk: 1 MiB, which is more than the reserve and the log take there.
const FREE_PAGES_IF_FULL: u64 = 128;

/// What tables take that have nothing in them: less than this is left for messages.
const EMPTY_BYTES: u64 = 256 * 1024;

/// Leases and looks may take the store over its bound by this share of it: to take is what makes
/// room.
const HOLD_SHARE: u64 = 25;

/// Messages that one transaction removes to stay within the bound: it comes back for more.
const MAX_DROPS: u64 = 20_000;

/// After this many bytes by estimate the size is looked at again, or after this share of the bound.
const MEASURE_BYTES: u64 = 1024 * 1024;
const MEASURE_SHARE: u64 = 64;

/// While the disk is full this many free pages are kept for leases and for what else is noted.
const FREE_PAGES_KEPT: u64 = 16;

impl Transaction<'_> {
    /// Counts bytes that the transaction adds.
    pub fn count_added(&self, bytes: u64) {
        self.size.set(self.size.get().plus(bytes));
    }

    /// Counts bytes that it removes.
    pub fn count_removed(&self, bytes: u64) {
        self.size.set(self.size.get().minus(bytes));
    }

    /// Whether the store would be larger than this with so many bytes more.
    fn exceeds(&self, bound: u64, more: u64) -> Result<bool> {
        let size = self.size.get();
        if size.upper_bound() + more > bound && size.changed() > 0 {
            self.measure()?;
        }
        Ok(self.size.get().upper_bound() + more > bound)
    }

    pub fn measure(&self) -> Result<()> {
        self.size.set(self.tables.size().map_err(|error| self.record_failure(error))?);
        Ok(())
    }

    /// Whether there is room for a message of so many bytes, or will be.
    pub fn check_room(&mut self, size: usize) -> Result<()> {
        let needed = size as u64 + MESSAGE_OVERHEAD;
        if self.tables.is_disk_full() {
            self.check_free_pages(needed)?;
        }
        let Some(bound) = self.rules.max_bytes else { return Ok(()) };
        let waits = self.rules.when_full == WhenFull::DropOldest && self.counters.has_messages();
        if waits && needed <= bound.saturating_sub(EMPTY_BYTES) {
            return Ok(());
        }
        if self.exceeds(bound, needed)? {
            self.refused += 1;
            return Err(errors::full(bound));
        }
        Ok(())
    }

    /// Whether the file, which cannot grow, has free pages for a message of so many bytes.
    fn check_free_pages(&mut self, needed: u64) -> Result<()> {
        let free = self.tables.pages().map_err(|error| self.record_failure(error))?.free;
        if needed.div_ceil(self.tables.page_bytes()) + FREE_PAGES_KEPT <= free {
            return Ok(());
        }
        self.refused += 1;
        Err(errors::disk_full())
    }

    /// Whether there is room for what is noted of a message: a lease, or a look.
    pub fn check_room_for_row(&mut self) -> Result<()> {
        let Some(bound) = self.rules.max_bytes else { return Ok(()) };
        if self.rules.when_full == WhenFull::Refuse
            && self.exceeds(bound + bound / HOLD_SHARE, 0)?
        {
            self.refused += 1;
            let text = format!(
                "the store is full (--max-store, {bound} bytes), and so much is held: ack what you \
                 have, or take without lease"
            );
            return Err(Error::new(Code::Full, text));
        }
        Ok(())
    }

    /// Removes the oldest messages until the store is as small as it must be.
    pub fn enforce_bound(&mut self) -> Result<()> {
        let bound = self.rules.max_bytes.unwrap_or(u64::MAX);
        let drops = self.rules.when_full == WhenFull::DropOldest;
        let step = MEASURE_BYTES.min(bound / MEASURE_SHARE);
        if self.size.get().changed() >= step {
            self.measure()?;
        }
        while drops && self.dropped < MAX_DROPS && self.exceeds(bound, 0)? {
            let over = self.size.get().upper_bound() - bound;
            if !self.drop_oldest(i64::MAX, Amount { rows: ROWS_PER_DROP, bytes: over })? {
                break;
            }
            self.measure()?;
        }
        if self.size.get().many_free() {
            self.due_at(self.now);
        }
        Ok(())
    }

    /// Removes some that are older than they may be, and says when the next one is.
    pub fn drop_aged(&mut self) -> Result<()> {
        let Some(keep) = self.rules.keep else { return Ok(()) };
        let cut = self.now.saturating_sub(keep);
        let all = Amount { rows: usize::MAX, bytes: u64::MAX };
        let more = self.drop_oldest(cut.cast_signed(), all)?;
        if let Some((oldest, _)) = self.counters.oldest() {
            let again = if more { 0 } else { limits::RETRY.as_micros() as u64 };
            self.due_at(oldest.saturating_add(keep).max(self.now + again));
        }
        Ok(())
    }

    /// Removes some of the messages that are the oldest of all, with ids up to `to`; false if there
    /// is none.
    fn drop_oldest(&mut self, to: i64, most: Amount) -> Result<bool> {
        while let Some((hint, number)) = self.counters.pop_oldest() {
            if hint.cast_signed() > to {
                self.counters.push_oldest(hint, number);
                return Ok(false);
            }
            let oldest = self.first(schema::OLDEST, [number], |row| row.get::<_, i64>(0))?;
            let Some(oldest) = oldest else { continue };
            let next = self.counters.oldest().map_or(i64::MAX, |(id, _)| id.cast_signed());
            if oldest > next.min(to) {
                self.counters.push_oldest(oldest.cast_unsigned(), number);
                continue;
            }
            self.drop_run(number, next.min(to), most)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Removes some of a topic's oldest messages, in whoever's hands they are.
    fn drop_run(&mut self, number: i64, to: i64, most: Amount) -> Result<()> {
        let mut old = self.oldest_rows(number, to)?;
        old.truncate(most.rows_within(&old));
        let Some(last) = old.last().map(|old| old.id) else { return Ok(()) };
        for sql in schema::SWEEP_LOG {
            self.run(sql, (number, last))?;
        }
        let counts = *self.counts(number)?;
        let range = (number, last);
        let leased = if counts.leased > 0 { self.run(schema::DROP_LEASES, range)? } else { 0 };
        let ready = if counts.ready > 0 { self.run(schema::DROP_READY, range)? } else { 0 };
        let noted = if counts.noted > 0 { self.run(schema::DROP_NOTES, range)? } else { 0 };
        let taken_to = counts.taken_to.cast_signed();
        let in_line = old.iter().filter(|old| old.plain && old.id > taken_to).count();
        let bytes: usize = old.iter().map(|old| old.size).sum();
        let record = self.record(number)?;
        record.removed = true;
        record.state.oldest = last.cast_unsigned() + 1;
        let counts = &mut record.state.counts;
        counts.length = counts.length.saturating_sub(old.len() as u64);
        counts.bytes = counts.bytes.saturating_sub(bytes as u64);
        counts.in_line = counts.in_line.saturating_sub(in_line as u64);
        counts.leased = counts.leased.saturating_sub(leased as u64);
        counts.ready = counts.ready.saturating_sub(ready as u64);
        counts.noted = counts.noted.saturating_sub(noted as u64);
        counts.dropped += old.len() as u64;
        if counts.length > 0 {
            self.counters.push_oldest(last.cast_unsigned() + 1, number);
        }
        self.dropped += old.len() as u64;
        self.count_removed(bytes as u64 + old.len() as u64 * MESSAGE_OVERHEAD);
        Ok(())
    }
}

/// Messages that are removed between two looks at the size.
const ROWS_PER_DROP: usize = 64;

/// How much is removed: so many messages, or so many bytes of them, but one at least.
#[derive(Clone, Copy)]
struct Amount {
    rows: usize,
    bytes: u64,
}

impl Amount {
    /// How many of these rows that is.
    fn rows_within(self, rows: &[LogRow]) -> usize {
        let mut bytes = 0;
        let before = rows.iter().take(self.rows).take_while(|row| {
            let enough = bytes >= self.bytes;
            bytes += row.size as u64 + MESSAGE_OVERHEAD;
            !enough
        });
        before.count()
    }
}

/// Pages of SQLite, by what is in them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    pub all: u64,
    pub free: u64,
}

impl Pages {
    fn used(self) -> u64 {
        self.all.saturating_sub(self.free)
    }

    /// Whether there are more free ones than anyone will need soon, or so many that a full disk has
    /// room again without them.
    fn many_free(self, is_disk_full: bool) -> bool {
        self.free > FREE_PAGES && self.free > self.all / 4
            || is_disk_full && self.free > FREE_PAGES_IF_FULL
    }
}

/// The store's size: SQLite's pages as of the last look at them, and estimates of what came and went
/// since. A look takes two pragmas, which SQLite compiles again each time.
#[derive(Clone, Copy)]
pub struct Size {
    used: u64,
    added: u64,
    removed: u64,
    many_free: bool,
}

impl Size {
    /// The size of these pages, of which each takes `page_bytes`.
    pub fn new(pages: Pages, page_bytes: u64, is_disk_full: bool) -> Size {
        let many_free = pages.many_free(is_disk_full);
        Size { used: pages.used() * page_bytes, added: 0, removed: 0, many_free }
    }

    pub fn estimate(self) -> u64 {
        (self.used + self.added).saturating_sub(self.removed)
    }

    /// Whether pages are to be given back.
    pub fn many_free(self) -> bool {
        self.many_free
    }

    /// With bytes that were added.
    pub fn plus(self, bytes: u64) -> Size {
        Size { added: self.added + bytes, ..self }
    }

    /// Without bytes that were removed.
    pub fn minus(self, bytes: u64) -> Size {
        Size { removed: self.removed + bytes, ..self }
    }

    /// Bytes that were added or removed since the last look, whichever are more.
    pub fn changed(self) -> u64 {
        self.added.max(self.removed)
    }

    /// What it is if nothing was removed.
    pub fn upper_bound(self) -> u64 {
        self.used + self.added
    }
}

#[cfg(test)]
mod tests;
