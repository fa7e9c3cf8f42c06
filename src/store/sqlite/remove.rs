//! Removal of messages: by id, by take or ack, and whole topics.
//!
//! A purge gives the topic a new number. The old number goes into `trash`, and `tick` removes its
//! rows bit by bit.

use super::bound::MESSAGE_OVERHEAD;
use super::counters::purged;
use super::schema;
use super::tables::StoredRow;
use super::transaction::Transaction;
use crate::error::Result;
use crate::ops::{Id, Outcome, Topic};
use crate::store::Counts;

impl Transaction<'_> {
    /// A message's row without its body, and whether it was put without a priority.
    pub fn stored(&self, number: i64, id: Id) -> Result<Option<(StoredRow, bool)>> {
        self.first(schema::STORED, (number, id.cast_signed()), |row| {
            let expires = row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned);
            Ok((StoredRow { id, expires, size: row.get::<_, i64>(0)? as usize }, row.get(1)?))
        })
    }

    /// Removes a message. Returns `None` if there is none, else whether it was waiting in the order
    /// of the log.
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

    /// Ends the lease of a removed message and makes it unavailable.
    fn withdraw(&mut self, number: i64, id: Id) -> Result<()> {
        if self.run(schema::DELETE_LEASE, (number, id.cast_signed()))? > 0 {
            self.counts(number)?.leased -= 1;
        }
        self.unready(number, id)
    }

    /// Removes a message from `ready`, under any rank.
    pub fn unready(&mut self, number: i64, id: Id) -> Result<()> {
        for rank in 0..=i64::from(crate::ops::PRIORITY_MAX) {
            if self.run(schema::DELETE_READY, (number, rank, id.cast_signed()))? > 0 {
                self.counts(number)?.ready -= 1;
            }
        }
        Ok(())
    }

    /// Removes a message from the log and from the counters, if it is there.
    pub fn remove(&mut self, number: i64, stored: &StoredRow) -> Result<()> {
        self.remove_large(number, stored)?;
        if self.run(schema::DELETE, (number, stored.id.cast_signed()))? == 0 {
            return Ok(());
        }
        self.forget(number, stored)
    }

    /// Removes the body of a large message. Call it before its row leaves the log.
    pub fn remove_large(&self, number: i64, stored: &StoredRow) -> Result<()> {
        if stored.size > schema::LARGE_BYTES {
            self.run(schema::DELETE_LARGE, (number, stored.id.cast_signed()))?;
        }
        Ok(())
    }

    /// Removes the other traces of a message that has left the log.
    pub fn forget(&mut self, number: i64, stored: &StoredRow) -> Result<()> {
        let &StoredRow { id, size, expires } = stored;
        if let Some(at) = expires {
            self.run(schema::DELETE_EXPIRY, (at.cast_signed(), number, id.cast_signed()))?;
        }
        self.count_removed(size as u64 + MESSAGE_OVERHEAD);
        let record = self.record(number)?;
        record.removed = true;
        record.state.counts.length = record.state.counts.length.saturating_sub(1);
        record.state.counts.bytes = record.state.counts.bytes.saturating_sub(size as u64);
        if record.state.counts.noted > 0
            && self.run(schema::DELETE_NOTE, (number, id.cast_signed()))? > 0
        {
            self.counts(number)?.noted -= 1;
        }
        Ok(())
    }

    /// Empties a topic by giving it a new number.
    pub fn purge(&mut self, topic: &Topic) -> Result<Outcome> {
        let Some(number) = self.number(topic) else { return Ok(Outcome::Purged(0)) };
        self.run(schema::INSERT_TRASH, [number])?;
        self.due_at(self.now);
        self.last = None;
        let record = self.record(number)?;
        record.removed = true;
        record.state.number = purged(number);
        let counts = record.state.counts;
        record.state.counts = Counts {
            puts: counts.puts,
            takes: counts.takes,
            dropped: counts.dropped,
            stopped: counts.stopped,
            policy: counts.policy,
            taken_to: record.state.newest,
            ..Counts::default()
        };
        Ok(Outcome::Purged(counts.length + counts.delayed))
    }
}
