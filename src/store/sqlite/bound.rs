//! Bounds: the maximum size of the store, the maximum age of a message, and which messages are
//! dropped first.
//!
//! The size of a store is the size of its used pages. The counters find the oldest message of all:
//! they have, for each topic, a lower bound of its oldest id.

use super::schema;
use super::tick::{LogRow, SWEEP_BYTES, SWEEP_ROWS};
use super::transaction::Transaction;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::store::{WhenFull, errors};

/// Estimated cost of a message besides its text.
pub const MESSAGE_OVERHEAD: u64 = 64;

/// Estimated cost of a row that only refers to a message: in `ready`, `leases`, `expiries`,
/// `notes`.
pub const ROW_BYTES: u64 = 64;

/// Free pages up to this number, or up to a quarter of all pages, are kept for later use.
const FREE_PAGES: u64 = 512;

/// The same limit on a full disk: 1 MiB, more than the reserve and the log take there.
const FREE_PAGES_IF_FULL: u64 = 128;

/// An upper bound of what empty tables take. Less than `max_bytes` minus this is left for messages.
const EMPTY_BYTES: u64 = 256 * 1024;

/// Leases and peeks may exceed the bound by `1 / HOLD_SHARE`, because takes are what frees space.
const HOLD_SHARE: u64 = 25;

/// The most messages that one transaction drops to stay within the bound. The next one goes on.
const MAX_DROPS: u64 = 20_000;

/// Messages that are dropped between two measurements of the size.
const ROWS_PER_DROP: usize = 64;

/// The size is measured again after this many bytes by estimate, or after this share of the bound.
const MEASURE_BYTES: u64 = 1024 * 1024;
const MEASURE_SHARE: u64 = 64;

/// Free pages reserved for leases and notes while the disk is full.
const FREE_PAGES_KEPT: u64 = 16;

impl Transaction<'_> {
    /// Adds to the estimated size.
    pub fn count_added(&self, bytes: u64) {
        let size = self.size.get();
        self.size.set(Size { added: size.added + bytes, ..size });
    }

    /// Subtracts from the estimated size.
    pub fn count_removed(&self, bytes: u64) {
        let size = self.size.get();
        self.size.set(Size { removed: size.removed + bytes, ..size });
    }

    /// Whether the store with `more` bytes would be larger than `bound`.
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

    /// Checks that a message of `size` bytes fits, or will fit once old messages are dropped.
    /// Counts a refusal.
    pub fn check_room(&mut self, size: usize) -> Result<()> {
        let needed = size as u64 + MESSAGE_OVERHEAD;
        if self.tables.is_disk_full() {
            self.check_free_pages(needed)?;
        }
        let Some(bound) = self.rules.max_bytes else { return Ok(()) };
        let waits =
            self.rules.when_full == WhenFull::DropOldest && self.counters.oldest().is_some();
        if waits && needed <= bound.saturating_sub(EMPTY_BYTES) {
            return Ok(());
        }
        if self.exceeds(bound, needed)? {
            self.refused += 1;
            return Err(errors::full(bound));
        }
        Ok(())
    }

    /// Checks that the file, which cannot grow, has free pages for a message of `needed` bytes.
    fn check_free_pages(&mut self, needed: u64) -> Result<()> {
        let free = self.tables.pages().map_err(|error| self.record_failure(error))?.free;
        if needed.div_ceil(self.tables.page_bytes()) + FREE_PAGES_KEPT <= free {
            return Ok(());
        }
        self.refused += 1;
        Err(errors::disk_full())
    }

    /// Checks that a row about a message, a lease or a peek, fits.
    pub fn check_room_for_row(&mut self) -> Result<()> {
        let Some(bound) = self.rules.max_bytes else { return Ok(()) };
        if self.rules.when_full == WhenFull::Refuse
            && self.exceeds(bound + bound / HOLD_SHARE, 0)?
        {
            self.refused += 1;
            let text = format!(
                "the store is full (--max-store, {bound} bytes) and cannot record another lease or \
                 peek: ack your messages, or take without lease"
            );
            return Err(Error::new(Code::Full, text));
        }
        Ok(())
    }

    /// Drops the oldest messages until the store is within its bound.
    pub fn enforce_bound(&mut self) -> Result<()> {
        let bound = self.rules.max_bytes.unwrap_or(u64::MAX);
        let drops = self.rules.when_full == WhenFull::DropOldest;
        let step = MEASURE_BYTES.min(bound / MEASURE_SHARE);
        if self.size.get().changed() >= step {
            self.measure()?;
        }
        while drops && self.dropped < MAX_DROPS && self.exceeds(bound, 0)? {
            let over = self.size.get().upper_bound() - bound;
            if !self.drop_oldest(i64::MAX, ROWS_PER_DROP, over)? {
                break;
            }
            self.measure()?;
        }
        if self.size.get().many_free {
            self.due_at(self.now);
        }
        Ok(())
    }

    /// Drops some messages that are over the maximum age, and schedules the next drop.
    pub fn drop_aged(&mut self) -> Result<()> {
        let Some(keep) = self.rules.keep else { return Ok(()) };
        let cut = self.now.saturating_sub(keep);
        let more = self.drop_oldest(cut.cast_signed(), SWEEP_ROWS, SWEEP_BYTES)?;
        if let Some((oldest, _)) = self.counters.oldest() {
            let again = if more { 0 } else { limits::RETRY.as_micros() as u64 };
            self.due_at(oldest.saturating_add(keep).max(self.now + again));
        }
        Ok(())
    }

    /// Drops some of the oldest messages of all, with ids up to `to`: at most `rows`, and no more than
    /// `bytes` need. Returns false if there are none.
    fn drop_oldest(&mut self, to: i64, rows: usize, bytes: u64) -> Result<bool> {
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
            let old = self.oldest_rows(number, next.min(to), rows, bytes)?;
            self.drop_rows(number, &old)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Drops a topic's oldest messages, leased ones included.
    fn drop_rows(&mut self, number: i64, old: &[LogRow]) -> Result<()> {
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

/// SQLite's pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    pub all: u64,
    pub free: u64,
}

/// The size of the store: SQLite's pages at the last measurement, plus estimates of the changes
/// since. A measurement runs two pragmas, which SQLite compiles each time.
#[derive(Clone, Copy)]
pub struct Size {
    used: u64,
    added: u64,
    removed: u64,
    /// Whether pages should be given back.
    pub many_free: bool,
}

impl Size {
    /// The size of these pages at `page_bytes` each.
    pub fn new(pages: Pages, page_bytes: u64, is_disk_full: bool) -> Size {
        let Pages { all, free } = pages;
        // More than will soon be needed, or, on a full disk, enough to give other programs space again.
        let many_free =
            free > FREE_PAGES && free > all / 4 || is_disk_full && free > FREE_PAGES_IF_FULL;
        Size { used: all.saturating_sub(free) * page_bytes, added: 0, removed: 0, many_free }
    }

    pub fn estimate(self) -> u64 {
        (self.used + self.added).saturating_sub(self.removed)
    }

    /// Bytes added or removed since the last measurement, whichever is more.
    pub fn changed(self) -> u64 {
        self.added.max(self.removed)
    }

    /// An upper bound of the size: nothing was removed.
    pub fn upper_bound(self) -> u64 {
        self.used + self.added
    }
}

#[cfg(test)]
mod tests;
