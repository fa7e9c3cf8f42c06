//! Copies between stores: reads messages with all their state, and imports them.

use rusqlite::{Result, Row};

use super::put::{RANK_DEFAULT, priority, rank};
use super::schema;
use super::tables::Tables;
use super::transaction::Transaction;
use crate::ops::{Id, Outcome, ScanCursor, StoredMessage, Topic};
use crate::store::errors;
use crate::{error, limits};

impl Tables {
    /// Reads some of a topic's messages after this cursor: first the log, then the delayed
    /// messages.
    pub fn scan(&self, topic: i64, after: ScanCursor) -> Result<Vec<StoredMessage>> {
        let after = match after {
            ScanCursor::Log(id) => {
                let params = (topic, id.cast_signed(), limits::COPY_MESSAGES as i64, RANK_DEFAULT);
                let some = self.scan_rows(topic, schema::SCAN_LOG, params, |row, id| {
                    let message = StoredMessage {
                        deliveries: row.get(5)?,
                        looks: row.get::<_, i64>(6)?.cast_unsigned(),
                        ..stored_message(row, ScanCursor::Log(id))?
                    };
                    let noted = message.looks > 0 || row.get(7)?;
                    let origin = if noted { self.origin(topic, id)? } else { None };
                    Ok(StoredMessage { origin, ..message })
                })?;
                if !some.is_empty() {
                    return Ok(some);
                }
                (0, 0)
            }
            ScanCursor::Delayed { due, number } => (due.cast_signed(), number.cast_signed()),
        };
        let params = (topic, after.0, after.1, limits::COPY_MESSAGES as i64);
        self.scan_rows(topic, schema::SCAN_DELAYED, params, |row, due| {
            stored_message(
                row,
                ScanCursor::Delayed { due, number: row.get::<_, i64>(5)?.cast_unsigned() },
            )
        })
    }

    /// Reads messages until their bodies exceed [`limits::COPY_BYTES`], at least one.
    fn scan_rows(
        &self,
        topic: i64,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl Fn(&Row<'_>, Id) -> Result<StoredMessage>,
    ) -> Result<Vec<StoredMessage>> {
        let mut select = self.statement(sql)?;
        let mut rows = select.query(params)?;
        let (mut some, mut bytes) = (Vec::new(), 0);
        while bytes < limits::COPY_BYTES
            && let Some(row) = rows.next()?
        {
            let mut body = Vec::new();
            let stored = self.read_one(topic, row, &mut body)?;
            bytes += body.len();
            some.push(StoredMessage {
                body: body.into(),
                expires: stored.expires,
                ..read(row, stored.id)?
            });
        }
        Ok(some)
    }
}

/// Reads the columns after body, expiry and checksum.
fn stored_message(row: &Row<'_>, place: ScanCursor) -> Result<StoredMessage> {
    let rank: Option<i64> = row.get(4)?;
    Ok(StoredMessage {
        place,
        body: Box::default(),
        priority: priority(rank.unwrap_or(RANK_DEFAULT)),
        deliveries: 0,
        expires: None,
        origin: None,
        looks: 0,
    })
}

impl Transaction<'_> {
    /// Stores a message of another store under the id that it has there.
    pub fn import(&mut self, topic: &Topic, message: &StoredMessage) -> error::Result<Outcome> {
        let size = message.body.len();
        let number = self.number_or_new_with_room(topic, size)?;
        self.check_room(size)?;
        match message.place {
            ScanCursor::Log(id) => self.import_to_log(number, id, message)?,
            ScanCursor::Delayed { due, .. } => {
                let rank = Some(rank(message.priority)).filter(|rank| *rank != RANK_DEFAULT);
                self.put_delayed(number, &message.body, due, rank, message.expires)?;
            }
        }
        Ok(Outcome::Done)
    }

    fn import_to_log(&mut self, number: i64, id: Id, message: &StoredMessage) -> error::Result<()> {
        let newest = self.first(schema::NEWEST_OF_ALL, [number], |row| row.get::<_, i64>(0))?;
        if newest.is_some_and(|newest| newest.cast_unsigned() >= id) {
            return Err(errors::not_behind());
        }
        let rank = rank(message.priority);
        let in_line =
            rank == RANK_DEFAULT && message.deliveries == 0 && id > self.counts(number)?.taken_to;
        let record =
            self.insert(number, id, (!in_line).then_some(rank), message.expires, &message.body)?;
        // Chunks that were read before lack this message.
        record.removed |= id < record.state.newest;
        record.state.newest = record.state.newest.max(id);
        if in_line {
            record.state.counts.in_line += 1;
        } else {
            self.make_ready(number, rank, id, message.deliveries)?;
        }
        self.next_id = self.next_id.max(id + 1);
        if message.looks > 0 || message.origin.is_some() {
            self.insert_note(number, id, message.looks, message.origin.as_deref())?;
        }
        Ok(())
    }

    /// Marks all ids of the topic up to `to` as assigned.
    pub fn advance(&mut self, topic: &Topic, to: Id) -> error::Result<Outcome> {
        let number = self.number_or_new(topic)?;
        let record = self.record(number)?;
        record.state.newest = record.state.newest.max(to);
        self.next_id = self.next_id.max(to + 1);
        Ok(Outcome::Done)
    }
}
