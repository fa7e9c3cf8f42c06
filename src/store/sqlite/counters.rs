//! The counters of each topic within the current transaction, with their values before it for a
//! rollback. A file saves them in `topics`. This file knows rows, no operations.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rusqlite::{Result, Row};

use super::tables::Tables;
use super::{damage, schema};
use crate::ops::{Id, Policy, Topic};
use crate::store::{Counts, TopicState};

/// A topic keeps its slot for life. The tables know it by its number: the slot in the lower bits
/// and the count of purges above them.
const SLOT_BITS: u32 = 20;

#[derive(Default)]
pub struct TopicCounters {
    /// By slot. The first slot is 1.
    records: Vec<TopicRecord>,
    /// The number of records before the transaction.
    committed: usize,
    /// Estimated size of the topics without their messages.
    pub topic_bytes: u64,
    /// The records that the transaction changed, with their earlier states.
    before: Vec<(usize, RecordState)>,
    /// Slots by a lower bound of their oldest id. Entries that differ from `queued_at` of their
    /// record are stale.
    oldest_first: BinaryHeap<Reverse<(Id, i64)>>,
}

pub struct TopicRecord {
    pub topic_state: Arc<TopicState>,
    pub state: RecordState,
    /// Whether the transaction removed messages.
    pub removed: bool,
    changed: bool,
    /// The valid entry of this topic in `oldest_first`. A topic with messages has one.
    queued_at: Option<Id>,
}

/// The part of a topic's state that a transaction changes, and that a rollback restores.
#[derive(Clone, Copy, Default)]
pub struct RecordState {
    pub number: i64,
    pub counts: Counts,
    /// The highest id put so far.
    pub newest: Id,
    /// A lower bound of the oldest id.
    pub oldest: Id,
}

impl TopicCounters {
    /// The number that the next new topic gets.
    pub fn next_number(&self) -> i64 {
        self.records.len() as i64 + 1
    }

    pub fn open(&mut self, topic_state: Arc<TopicState>) {
        let state = RecordState { number: topic_state.number(), ..RecordState::default() };
        self.add(TopicRecord::new(topic_state, state, true));
    }

    fn add(&mut self, record: TopicRecord) {
        self.topic_bytes += topic_bytes(record.topic_state.topic());
        self.records.push(record);
    }

    /// The record of the topic with this number, for changes. `None` after a purge gave it another
    /// number.
    pub fn record(&mut self, number: i64) -> Option<&mut TopicRecord> {
        let slot = slot(number);
        let index = usize::try_from(slot).ok()?.checked_sub(1)?;
        let record = self.records.get_mut(index)?;
        if record.state.number != number {
            return None;
        }
        if !record.changed {
            record.changed = true;
            self.before.push((index, record.state));
        }
        Some(record)
    }

    /// The current number of the topic that has or had this number.
    pub fn number_now(&self, number: i64) -> Option<i64> {
        let index = usize::try_from(slot(number)).ok()?.checked_sub(1)?;
        self.records.get(index).map(|record| record.state.number)
    }

    /// Publishes the changes of a committed transaction to the topic states.
    pub fn publish(&mut self, now: Id) {
        let new = self.committed..self.records.len();
        for index in self.before.drain(..).map(|(index, _)| index).chain(new) {
            if let Some(record) = self.records.get_mut(index) {
                let RecordState { number, counts, newest, .. } = record.state;
                record.topic_state.publish(number, counts, newest, record.removed, now);
                (record.changed, record.removed) = (false, false);
            }
        }
        self.committed = self.records.len();
    }

    /// Restores the state before the transaction.
    pub fn revert(&mut self) {
        for (index, state) in self.before.drain(..) {
            if let Some(record) = self.records.get_mut(index) {
                record.state = state;
                (record.changed, record.removed) = (false, false);
            }
        }
        for record in self.records.drain(self.committed..) {
            self.topic_bytes -= topic_bytes(record.topic_state.topic());
        }
        self.rebuild_queue();
    }

    /// Rebuilds `oldest_first`.
    fn rebuild_queue(&mut self) {
        self.oldest_first.clear();
        for record in &mut self.records {
            let RecordState { number, counts, oldest, .. } = record.state;
            record.queued_at = (counts.length > 0).then_some(oldest);
            self.oldest_first.extend(record.queued_at.map(|id| Reverse((id, slot(number)))));
        }
    }

    /// Notes that the topic has a message with this id.
    pub fn push_oldest(&mut self, id: Id, number: i64) {
        if let Some(record) = self.record(number)
            && record.queued_at.is_none_or(|at| id < at)
        {
            record.state.oldest = id;
            record.queued_at = Some(id);
            self.oldest_first.push(Reverse((id, slot(number))));
        }
    }

    /// Removes and returns the first entry: the topic that may have the oldest message of all, with
    /// a lower bound of that message's id.
    pub fn pop_oldest(&mut self) -> Option<(Id, i64)> {
        let first = self.oldest()?;
        self.oldest_first.pop();
        if let Some(record) = self.record(first.1) {
            record.queued_at = None;
        }
        Some(first)
    }

    /// The first entry, which stays.
    pub fn oldest(&mut self) -> Option<(Id, i64)> {
        while let Some(Reverse((id, slot))) = self.oldest_first.peek() {
            let record = self.records.get((*slot - 1) as usize);
            if let Some(record) = record.filter(|record| record.queued_at == Some(*id)) {
                return Some((*id, record.state.number));
            }
            self.oldest_first.pop();
        }
        None
    }

    /// Writes the changed rows of `topics`, within the transaction.
    pub fn save(&self, tables: &Tables) -> Result<()> {
        let new = (self.committed..self.records.len()).map(|index| (index, RecordState::default()));
        let mut save = tables.statement(schema::SAVE_TOPIC)?;
        for (index, before) in self.before.iter().copied().chain(new) {
            let Some(record) = self.records.get(index) else { continue };
            if record.state.same_row_as(&before) {
                continue;
            }
            let policy = record.state.counts.policy.map(Policy::as_str);
            let crc = record.state.crc(record.topic_state.topic());
            for (column, number) in (1..).zip(record.state.columns()) {
                save.raw_bind_parameter(column, number)?;
            }
            save.raw_bind_parameter(14, policy)?;
            save.raw_bind_parameter(15, crc)?;
            save.raw_execute()?;
        }
        Ok(())
    }

    /// Loads the topics of a file. The inner error is the name of a damaged topic.
    pub fn load(tables: &Tables) -> Result<std::result::Result<TopicCounters, String>> {
        let mut counters = TopicCounters::default();
        let mut read = tables.statement(schema::TOPICS)?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let (slot, state, crc, name) = RecordState::read(row)?;
            let topic = Topic::new(&name).ok().filter(|topic| {
                slot == counters.next_number()
                    && slot == self::slot(state.number)
                    && crc == Some(i64::from(state.crc(topic)))
            });
            let Some(topic) = topic else { return Ok(Err(name)) };
            let topic_state = Arc::new(TopicState::new(topic, state.number));
            topic_state.publish(state.number, state.counts, state.newest, false, 0);
            counters.add(TopicRecord::new(topic_state, state, false));
        }
        counters.committed = counters.records.len();
        counters.rebuild_queue();
        Ok(Ok(counters))
    }

    pub fn records(&self) -> &[TopicRecord] {
        &self.records
    }

    /// The highest id that a message has.
    pub fn last_id(&self) -> Id {
        self.records.iter().map(|record| record.state.newest).max().unwrap_or(0)
    }
}

impl TopicRecord {
    fn new(topic_state: Arc<TopicState>, state: RecordState, changed: bool) -> TopicRecord {
        TopicRecord { topic_state, state, removed: false, changed, queued_at: None }
    }
}

impl RecordState {
    /// The columns of the topic's row, its slot first.
    fn columns(&self) -> [i64; 13] {
        let counts = &self.counts;
        [
            slot(self.number),
            self.number,
            self.newest.cast_signed(),
            self.oldest.cast_signed(),
            counts.taken_to.cast_signed(),
            counts.length.cast_signed(),
            counts.bytes.cast_signed(),
            counts.in_line.cast_signed(),
            counts.ready.cast_signed(),
            counts.leased.cast_signed(),
            counts.delayed.cast_signed(),
            counts.noted.cast_signed(),
            i64::from(counts.stopped),
        ]
    }

    /// Whether both states have the same row in `topics`.
    fn same_row_as(&self, other: &RecordState) -> bool {
        self.columns() == other.columns() && self.counts.policy == other.counts.policy
    }

    fn crc(&self, topic: &Topic) -> u32 {
        let policy = self.counts.policy.map(Policy::as_str);
        damage::of_topic(topic.as_str(), policy, &self.columns())
    }

    /// Reads a row of `schema::TOPICS`: slot, state, checksum and name.
    pub fn read(row: &Row<'_>) -> Result<(i64, RecordState, Option<i64>, String)> {
        let count = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let policy: Option<String> = row.get(3)?;
        let counts = Counts {
            stopped: row.get(2)?,
            policy: policy.as_deref().and_then(Policy::new),
            taken_to: count(5)?,
            length: count(6)?,
            bytes: count(7)?,
            in_line: count(8)?,
            ready: count(9)?,
            leased: count(10)?,
            delayed: count(11)?,
            noted: count(12)?,
            ..Counts::default()
        };
        let state =
            RecordState { number: row.get(1)?, counts, newest: count(4)?, oldest: count(15)? };
        Ok((row.get(0)?, state, row.get(13)?, row.get(14)?))
    }
}

/// Estimated size of a topic without messages: its row, with the name there and in an index.
pub fn topic_bytes(topic: &Topic) -> u64 {
    200 + 2 * topic.as_str().len() as u64
}

/// The slot of the topic that has or had this number.
pub fn slot(number: i64) -> i64 {
    number & ((1 << SLOT_BITS) - 1)
}

/// The number that the topic gets when it is purged.
pub fn purged(number: i64) -> i64 {
    number + (1 << SLOT_BITS)
}
