//! Puts: new, delayed and duplicate messages, and undelivered messages that return to their topic.

use super::bound::{MESSAGE_OVERHEAD, ROW_BYTES};
use super::counters::TopicRecord;
use super::schema;
use super::tables::JsonText;
use super::transaction::Transaction;
use crate::error::Result;
use crate::limits;
use crate::ops::{Id, Outcome, PRIORITY_DEFAULT, PRIORITY_MAX, PutOptions, Requeue, Topic};

/// The rank of a message without a priority.
pub const RANK_DEFAULT: i64 = rank(PRIORITY_DEFAULT);

pub const fn rank(priority: u8) -> i64 {
    (PRIORITY_MAX - priority) as i64
}

pub fn priority(rank: i64) -> u8 {
    PRIORITY_MAX.saturating_sub(u8::try_from(rank).unwrap_or(0))
}

impl Transaction<'_> {
    pub fn put(
        &mut self,
        topic: i64,
        body: &[u8],
        options: Option<&PutOptions>,
    ) -> Result<Outcome> {
        let Some(options) = options else {
            self.check_room(body.len())?;
            return self.append(topic, body, None, None).map(stored);
        };
        let key = options.dedupe.as_deref();
        if let Some(key) = key
            && let Some(first) = self.find_duplicate(topic, key)?
        {
            return Ok(first);
        }
        self.check_room(body.len())?;
        let rank = Some(rank(options.priority)).filter(|rank| *rank != RANK_DEFAULT);
        let outcome = match options.delay {
            Some(delay) if delay > 0 => {
                self.put_delayed(topic, body, self.now.saturating_add(delay), rank, options.ttl)?
            }
            _ => self.append(topic, body, rank, options.ttl).map(stored)?,
        };
        if let Some(key) = key {
            self.insert_dedupe_key(topic, key, &outcome)?;
        }
        Ok(outcome)
    }

    /// Appends a message to the log. Returns its id and the id of the message before it.
    pub fn append(
        &mut self,
        topic: i64,
        body: &[u8],
        rank: Option<i64>,
        ttl: Option<u64>,
    ) -> Result<(Id, Id)> {
        let id = self.new_id()?;
        let expires = ttl.map(|ttl| self.now.saturating_add(ttl));
        if let Some(keep) = self.rules.keep {
            self.due_at(id.saturating_add(keep));
        }
        let record = self.insert(topic, id, rank, expires, body)?;
        let after = std::mem::replace(&mut record.state.newest, id);
        record.state.counts.puts += 1;
        match rank {
            None => record.state.counts.in_line += 1,
            Some(rank) => self.make_ready(topic, rank, id, 0)?,
        }
        Ok((id, after))
    }

    /// Inserts a message into the log and counts it.
    pub fn insert(
        &mut self,
        topic: i64,
        id: Id,
        rank: Option<i64>,
        expires: Option<Id>,
        body: &[u8],
    ) -> Result<&mut TopicRecord> {
        let large = body.len() > schema::LARGE_BYTES
            && self.run(schema::INSERT_LARGE, (id.cast_signed(), JsonText(body)))? > 0;
        let text = (!large).then_some(JsonText(body));
        let at = expires.map(u64::cast_signed);
        let crc = self.tables.crc(topic, id.cast_signed(), at, body);
        if rank.is_none() && expires.is_none() {
            self.run(schema::INSERT_PLAIN, (topic, id.cast_signed(), text, crc))?;
        } else {
            self.run(schema::INSERT, (topic, id.cast_signed(), text, crc, rank, at))?;
        }
        self.count_added(body.len() as u64 + MESSAGE_OVERHEAD);
        if let Some(at) = expires {
            self.run(schema::INSERT_EXPIRY, (at.cast_signed(), topic, id.cast_signed()))?;
            self.count_added(ROW_BYTES);
            self.due_at(at);
        }
        self.counters.push_oldest(id, topic);
        let record = self.record(topic)?;
        record.state.counts.length += 1;
        record.state.counts.bytes += body.len() as u64;
        Ok(record)
    }

    /// Makes the message available by its rank.
    pub fn make_ready(&mut self, topic: i64, rank: i64, id: Id, deliveries: u32) -> Result<()> {
        self.run(schema::INSERT_READY, (topic, rank, id.cast_signed(), deliveries))?;
        self.count_added(ROW_BYTES);
        self.counts(topic)?.ready += 1;
        Ok(())
    }

    pub fn put_delayed(
        &mut self,
        topic: i64,
        body: &[u8],
        at: Id,
        rank: Option<i64>,
        ttl: Option<u64>,
    ) -> Result<Outcome> {
        let ttl = ttl.map(u64::cast_signed);
        let crc = self.tables.crc(topic, at.cast_signed(), ttl, body);
        let params = (at.cast_signed(), topic, rank, ttl, crc, JsonText(body));
        self.run(schema::INSERT_DELAYED, params)?;
        // The row is also in two indexes.
        self.count_added(body.len() as u64 + MESSAGE_OVERHEAD + 2 * ROW_BYTES);
        self.counts(topic)?.delayed += 1;
        self.due_at(at);
        Ok(Outcome::Due { at, duplicate: false })
    }

    /// The outcome of the first put with this key.
    fn find_duplicate(&mut self, topic: i64, key: &str) -> Result<Option<Outcome>> {
        self.first(schema::DUPLICATE, (topic, key, self.now.cast_signed()), |row| {
            let id = row.get::<_, Option<i64>>(0)?.map(i64::cast_unsigned);
            let due = row.get::<_, Option<i64>>(1)?.unwrap_or_default().cast_unsigned();
            Ok(match id {
                Some(id) => Outcome::Stored { id, after: 0, duplicate: true },
                None => Outcome::Due { at: due, duplicate: true },
            })
        })
    }

    fn insert_dedupe_key(&mut self, topic: i64, key: &str, outcome: &Outcome) -> Result<()> {
        let until = self.now.saturating_add(limits::DEDUPE.as_micros() as u64);
        let (id, due) = match outcome {
            Outcome::Stored { id, .. } => (Some(id.cast_signed()), None),
            Outcome::Due { at, .. } => (None, Some(at.cast_signed())),
            _ => return Ok(()),
        };
        self.run(schema::INSERT_DEDUPE, (topic, key, until.cast_signed(), id, due))?;
        // The key is also in an index.
        self.count_added(2 * (key.len() as u64 + ROW_BYTES));
        self.due_at(until);
        Ok(())
    }

    /// Returns a taken message under its id, as if it had not been taken.
    pub fn put_back(&mut self, topic: &Topic, message: &Requeue) -> Result<Outcome> {
        if message.lease.is_some() {
            return self.return_undelivered(topic, message.taken.id, message.taken.deliveries);
        }
        let number = self.number_or_new(topic)?;
        let Requeue { taken, body, .. } = message;
        let rank = rank(taken.priority);
        self.insert(number, taken.id, Some(rank), taken.expires, body)?;
        self.make_ready(number, rank, taken.id, taken.deliveries.saturating_sub(1))?;
        if let Some(origin) = &taken.origin {
            self.insert_note(number, taken.id, 0, Some(origin))?;
        }
        let record = self.record(number)?;
        record.state.counts.takes = record.state.counts.takes.saturating_sub(1);
        // Chunks that were read in the meantime lack it.
        record.removed = true;
        let state = record.topic_state.clone();
        self.put_backs.push((state, taken.id));
        Ok(Outcome::Done)
    }

    /// Notes the peeks of a message, and the topic and id that a dead letter had before.
    pub fn insert_note(
        &mut self,
        topic: i64,
        id: Id,
        looks: u64,
        origin: Option<&(Topic, Id)>,
    ) -> Result<()> {
        let (from, from_id) = origin.map(|(from, id)| (from.as_str(), id.cast_signed())).unzip();
        let params = (topic, id.cast_signed(), looks.cast_signed(), from, from_id);
        self.run(schema::INSERT_NOTE, params)?;
        self.count_added(ROW_BYTES + from.map_or(0, str::len) as u64);
        self.counts(topic)?.noted += 1;
        Ok(())
    }
}

fn stored((id, after): (Id, Id)) -> Outcome {
    Outcome::Stored { id, after, duplicate: false }
}
