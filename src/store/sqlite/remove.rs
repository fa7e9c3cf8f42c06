//! Removing one message by its id: deleted, or expired.

use super::schema;
use super::tables::Stored;
use super::transaction::Transaction;
use crate::error::Result;
use crate::ops::{Id, Outcome, Topic};

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
