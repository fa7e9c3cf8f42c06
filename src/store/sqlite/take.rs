//! Takes: selects the next message, leases or removes it, and ends leases by ack, nack or expiry.

use std::ops::Range;

use rusqlite::Row;

use super::bound::ROW_BYTES;
use super::damage::is_damage;
use super::put::{RANK_DEFAULT, priority};
use super::schema;
use super::tables::StoredRow;
use super::transaction::Transaction;
use crate::error::Result;
use crate::limits;
use crate::ops::{Batch, Id, Outcome, Taken, Topic};
use crate::store::errors;

/// A row of `ready`.
struct ReadyRow {
    rank: i64,
    id: Id,
    deliveries: u32,
}

/// A row of `leases`.
pub struct Lease {
    pub topic: i64,
    pub id: Id,
    pub deliveries: u32,
    pub rank: i64,
    /// The message as it was taken, so that removing it need not read its row.
    message: StoredRow,
}

impl Lease {
    /// Reads a row that begins with these columns.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Lease> {
        let id = row.get::<_, i64>(1)?.cast_unsigned();
        let expires = row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned);
        let message = StoredRow { id, expires, size: row.get::<_, i64>(4)? as usize };
        Ok(Lease { topic: row.get(0)?, id, deliveries: row.get(2)?, rank: row.get(3)?, message })
    }
}

impl Transaction<'_> {
    /// Carries out `count` identical takes of one topic. Returns how many are done: fewer if the
    /// batch has reached [`limits::TAKEN_BYTES`].
    pub fn takes(
        &mut self,
        batch: &mut Batch,
        topic: &Topic,
        lease: Option<u64>,
        count: usize,
    ) -> Result<usize> {
        let before = batch.outcomes.len();
        let wanted = before + count;
        if let Some(number) = self.number(topic) {
            if lease.is_none() {
                self.record(number)?.topic_state.take_from();
            }
            if lease.is_some()
                && let Err(error) = self.check_room_for_row()
            {
                batch.outcomes.resize(wanted, Err(error));
                return Ok(count);
            }
            while batch.outcomes.len() < wanted {
                match self.take_some(batch, number, lease, wanted - batch.outcomes.len()) {
                    Ok(true) => {}
                    Ok(false) => break,
                    // The next message is damaged. The takes before it succeed.
                    Err(error) if !self.failed.get() => batch.outcomes.push(Err(error)),
                    Err(error) => return Err(error),
                }
                if batch.taken.len() >= limits::TAKEN_BYTES {
                    return Ok(batch.outcomes.len() - before);
                }
            }
        }
        batch.outcomes.resize(wanted, Ok(Outcome::Taken(None)));
        Ok(count)
    }

    /// Takes one message by rank, or several in the order of the log. Returns false if there is
    /// none.
    fn take_some(
        &mut self,
        batch: &mut Batch,
        number: i64,
        lease: Option<u64>,
        most: usize,
    ) -> Result<bool> {
        let counts = *self.counts(number)?;
        let ready = if counts.ready > 0 { self.first_ready(number)? } else { None };
        let line_first = ready.as_ref().is_none_or(|ready| ready.rank >= RANK_DEFAULT);
        if line_first && counts.in_line > 0 {
            // A returned message of default rank keeps its place, by id, among the messages never
            // taken.
            let returned = ready.as_ref().filter(|ready| ready.rank == RANK_DEFAULT);
            let before = returned.map_or(i64::MAX, |returned| returned.id.cast_signed());
            if self.take_plain(batch, number, lease, most, before)? {
                return Ok(true);
            }
        }
        match ready {
            Some(ready) => self.take_ready(batch, number, lease, &ready).map(|()| true),
            None => Ok(false),
        }
    }

    fn first_ready(&self, number: i64) -> Result<Option<ReadyRow>> {
        self.first(schema::FIRST_READY, [number], |row| {
            let id = row.get::<_, i64>(1)?.cast_unsigned();
            Ok(ReadyRow { rank: row.get(0)?, id, deliveries: row.get(2)? })
        })
    }

    /// Takes messages in the order of the log, with ids below `before`.
    fn take_plain(
        &mut self,
        batch: &mut Batch,
        number: i64,
        lease: Option<u64>,
        most: usize,
        before: i64,
    ) -> Result<bool> {
        let taken_to = self.counts(number)?.taken_to.cast_signed();
        let mut start = batch.taken.len();
        let line = self.read_plain(batch, number, (taken_to, before, most as i64))?;
        let Some(last) = line.last() else { return Ok(false) };
        let last = last.id;
        if lease.is_none() {
            line.iter().try_for_each(|message| self.remove_large(number, message))?;
            self.run(schema::DELETE_LINE, (number, taken_to, last.cast_signed()))?;
        }
        let counts = self.counts(number)?;
        counts.taken_to = last;
        counts.in_line = counts.in_line.saturating_sub(line.len() as u64);
        for message in line {
            let body = start..start + message.size;
            start = body.end;
            if message.expires.is_none_or(|at| at > self.now) {
                let row = ReadyRow { rank: RANK_DEFAULT, id: message.id, deliveries: 0 };
                self.deliver(batch, number, &message, body, lease, &row)?;
            } else if lease.is_none() {
                // After a leased take the timer removes it.
                self.forget(number, &message)?;
            }
        }
        Ok(true)
    }

    fn read_plain(
        &self,
        batch: &mut Batch,
        number: i64,
        (after, before, most): (i64, i64, i64),
    ) -> Result<Vec<StoredRow>> {
        let params = (number, after, before, most);
        self.with(schema::READ_LINE, |read| {
            let mut line = Vec::new();
            let mut rows = read.query(params)?;
            while let Some(row) = rows.next()? {
                let start = batch.taken.len();
                let last =
                    line.last().map_or(after.cast_unsigned(), |stored: &StoredRow| stored.id);
                let stored = self.tables.read_one(number, row, &mut batch.taken);
                match stored.and_then(|stored| stored.in_order(|id| id > last)) {
                    Ok(stored) => line.push(stored),
                    // Messages before a damaged one are taken first.
                    Err(error) if !line.is_empty() && is_damage(&error) => {
                        batch.taken.truncate(start);
                        break;
                    }
                    Err(error) => return Err(error),
                }
                if batch.taken.len() >= limits::CHUNK_BYTES {
                    break;
                }
            }
            Ok(line)
        })
    }

    fn take_ready(
        &mut self,
        batch: &mut Batch,
        number: i64,
        lease: Option<u64>,
        ready: &ReadyRow,
    ) -> Result<()> {
        let start = batch.taken.len();
        let params = (number, ready.id.cast_signed());
        let stored = self.first(schema::READ_ONE, params, |row| {
            self.tables.read_one(number, row, &mut batch.taken)
        })?;
        self.run(schema::DELETE_READY, (number, ready.rank, ready.id.cast_signed()))?;
        self.counts(number)?.ready -= 1;
        let Some(stored) = stored else { return Ok(()) };
        if stored.expires.is_some_and(|at| at <= self.now) {
            return self.remove(number, &stored);
        }
        if lease.is_none() {
            self.remove_large(number, &stored)?;
            self.run(schema::DELETE, params)?;
        }
        let body = start..batch.taken.len();
        self.deliver(batch, number, &stored, body, lease, ready)
    }

    /// Records the take of a message, which without a lease has left the log. `body` is its place in
    /// `batch.taken`.
    fn deliver(
        &mut self,
        batch: &mut Batch,
        number: i64,
        message: &StoredRow,
        body: Range<usize>,
        lease: Option<u64>,
        row: &ReadyRow,
    ) -> Result<()> {
        let origin = self.origin(number, message.id)?;
        let deliveries = row.deliveries.saturating_add(1);
        match lease {
            Some(lease) => self.insert_lease(number, message, lease, deliveries, row.rank)?,
            None => self.forget(number, message)?,
        }
        self.counts(number)?.takes += 1;
        batch.outcomes.push(Ok(Outcome::Taken(Some(Taken {
            id: message.id,
            body,
            deliveries,
            priority: priority(row.rank),
            expires: message.expires,
            origin,
        }))));
        Ok(())
    }

    fn insert_lease(
        &mut self,
        topic: i64,
        message: &StoredRow,
        lease: u64,
        deliveries: u32,
        rank: i64,
    ) -> Result<()> {
        let until = self.now.saturating_add(lease);
        let (id, size) = (message.id.cast_signed(), message.size as i64);
        let expires = message.expires.map(Id::cast_signed);
        let params = (topic, id, until.cast_signed(), deliveries, rank, size, expires);
        self.run(schema::INSERT_LEASE, params)?;
        // The row is also in an index.
        self.count_added(2 * ROW_BYTES);
        self.counts(topic)?.leased += 1;
        self.due_at(until);
        Ok(())
    }

    pub fn ack(&mut self, topic: &Topic, id: Id, deliveries: u32) -> Result<Outcome> {
        let lease = self.find_lease(topic, id, deliveries)?;
        self.end_lease(&lease)?;
        self.remove(lease.topic, &lease.message)?;
        Ok(Outcome::Done)
    }

    pub fn nack(&mut self, topic: &Topic, id: Id, deliveries: u32, delay: u64) -> Result<Outcome> {
        let lease = self.find_lease(topic, id, deliveries)?;
        if delay == 0 {
            self.return_message(topic, &lease)?;
            return Ok(Outcome::Done);
        }
        let until = self.now.saturating_add(delay);
        self.run(schema::DELAY_LEASE, (lease.topic, id.cast_signed(), until.cast_signed()))?;
        self.due_at(until);
        Ok(Outcome::Done)
    }

    /// The live lease of this delivery, or the error `gone`.
    fn find_lease(&mut self, topic: &Topic, id: Id, deliveries: u32) -> Result<Lease> {
        let Some(number) = self.number(topic) else { return Err(errors::gone()) };
        let now = self.now.cast_signed();
        let lease = self.first(schema::LEASE, (number, id.cast_signed()), |row| {
            let live = row.get::<_, i64>(6)? > now && row.get(7)?;
            let lease = Lease::read(row)?;
            Ok((live && lease.deliveries == deliveries).then_some(lease))
        })?;
        lease.flatten().ok_or_else(errors::gone)
    }

    fn end_lease(&mut self, lease: &Lease) -> Result<()> {
        self.run(schema::DELETE_LEASE, (lease.topic, lease.id.cast_signed()))?;
        self.counts(lease.topic)?.leased -= 1;
        Ok(())
    }

    /// Ends a lease. The message becomes available again, or moves to the dead letters.
    pub fn return_message(&mut self, topic: &Topic, lease: &Lease) -> Result<()> {
        self.end_lease(lease)?;
        let stored = self.stored(lease.topic, lease.id)?;
        if stored.is_none_or(|(stored, _)| stored.expires.is_some_and(|at| at <= self.now)) {
            // The message has expired: the timer removes it, or already has.
            return Ok(());
        }
        let limit = self.rules.dead_letter_after;
        if limit > 0
            && lease.deliveries >= limit
            && let Some(dead) = topic.dead()
        {
            match self.number_or_new(&dead) {
                Ok(dead) => return self.move_to_dead_letters(topic, lease, dead),
                // If the topic of dead letters cannot be made, the message stays in its own.
                Err(_) if !self.failed.get() => {}
                Err(error) => return Err(error),
            }
        }
        self.make_ready(lease.topic, lease.rank, lease.id, lease.deliveries)
    }

    /// Ends the lease of a message that did not reach its taker. That does not count as a delivery.
    pub fn return_undelivered(
        &mut self,
        topic: &Topic,
        id: Id,
        deliveries: u32,
    ) -> Result<Outcome> {
        let lease = self.find_lease(topic, id, deliveries)?;
        self.end_lease(&lease)?;
        let counts = self.counts(lease.topic)?;
        counts.takes = counts.takes.saturating_sub(1);
        if self.stored(lease.topic, id)?.is_some() {
            self.make_ready(lease.topic, lease.rank, id, deliveries.saturating_sub(1))?;
        }
        Ok(Outcome::Done)
    }

    /// Moves a message to the topic of dead letters.
    fn move_to_dead_letters(&mut self, topic: &Topic, lease: &Lease, dead: i64) -> Result<()> {
        let mut body = Vec::new();
        let params = (lease.topic, lease.id.cast_signed());
        let stored = self.first(schema::READ_ONE, params, |row| {
            Ok(self.tables.read_one(lease.topic, row, &mut body))
        })?;
        let stored = match stored {
            None => return Ok(()),
            // A damaged message stays in place: the next take reports the damage.
            Some(Err(error)) => {
                if !is_damage(&error) {
                    return Err(self.record_failure(error));
                }
                return self.make_ready(lease.topic, lease.rank, lease.id, lease.deliveries);
            }
            Some(Ok(stored)) => stored,
        };
        self.remove(lease.topic, &stored)?;
        let (id, _) = self.append(dead, &body, None, None)?;
        self.insert_note(dead, id, 0, Some(&(topic.clone(), lease.id)))
    }

    pub fn peek(&mut self, batch: &mut Batch, topic: &Topic) -> Result<Outcome> {
        let Some(number) = self.number(topic) else { return Ok(Outcome::Peeked(None)) };
        self.check_room_for_row()?;
        let start = batch.taken.len();
        let params = (number, 0, 1, self.now.cast_signed(), i64::MAX);
        let oldest = self.first(schema::READ, params, |row| {
            self.tables.read_one(number, row, &mut batch.taken)
        })?;
        let Some(StoredRow { id, expires, .. }) = oldest else { return Ok(Outcome::Peeked(None)) };
        let origin = self.origin(number, id)?;
        let params = (number, id.cast_signed());
        let looks: i64 = self.first(schema::ADD_LOOK, params, |row| row.get(0))?.unwrap_or(1);
        if looks == 1 && origin.is_none() {
            self.count_added(ROW_BYTES);
            self.counts(number)?.noted += 1;
        }
        let body = start..batch.taken.len();
        let taken = Taken { id, body, deliveries: 0, priority: 0, expires, origin };
        Ok(Outcome::Peeked(Some((taken, looks.cast_unsigned()))))
    }
}
