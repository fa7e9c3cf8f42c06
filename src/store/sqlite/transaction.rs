//! One transaction on the tables and the counters. The operations are in `put`, `take`, `remove`,
//! `copy` and `tick`; this file has what they share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, OptionalExtension, Row};

use super::bound::Size;
use super::counters::{TopicCounters, TopicRecord, topic_bytes};
use super::damage::Damaged;
use super::tables::Tables;
use super::{failed, schema};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Batch, ID_END, Id, Op, Outcome, Topic};
use crate::store::{Counts, Rules, TopicState, errors};

pub struct Transaction<'a> {
    pub tables: &'a Tables,
    pub counters: &'a mut TopicCounters,
    pub states: &'a HashMap<Topic, Arc<TopicState>>,
    /// Topics that this transaction creates.
    pub new_states: HashMap<Topic, Arc<TopicState>>,
    /// The topic of the last operation, usually that of the next.
    pub last: Option<(Topic, i64)>,
    /// The statements that this transaction has used, by their SQL: a batch repeats few of them.
    /// rusqlite's own cache hashes the SQL at each use, which costs 8 % of the instructions of a
    /// push of 64. Statements borrow the connection, so no struct can own both without unsafe code:
    /// this cache ends with the transaction, and rusqlite's keeps the statements compiled in
    /// between.
    pub statements: RefCell<Vec<(&'static str, CachedStatement<'a>)>>,
    /// The store's clock at the start of the transaction.
    pub now: Id,
    pub next_id: Id,
    /// The earliest due time among the changes.
    pub due: Id,
    pub rules: Rules,
    /// Whether SQLite has failed. Then no other statement may run and nothing may be committed.
    pub failed: Cell<bool>,
    /// Messages that return under their ids, which the states of their topics must remember.
    pub put_backs: Vec<(Arc<TopicState>, Id)>,
    /// Messages dropped.
    pub dropped: u64,
    /// Requests refused because there was no room.
    pub refused: u64,
    /// The store's size so far.
    pub size: Cell<Size>,
}

impl<'a> Transaction<'a> {
    /// Carries out a batch. An error fails the whole transaction; an operation refused by a rule
    /// has its own outcome.
    pub fn carry_out(&mut self, batch: &mut Batch) -> Result<()> {
        batch.outcomes.clear();
        batch.taken.clear();
        let ops = std::mem::take(&mut batch.ops);
        let done = self.each(batch, &ops);
        batch.ops = ops;
        done
    }

    fn each(&mut self, batch: &mut Batch, ops: &[Op]) -> Result<()> {
        let mut rest = ops;
        while let Some(op) = rest.first() {
            if batch.taken.len() >= limits::TAKEN_BYTES {
                batch.outcomes.resize(ops.len(), Ok(Outcome::Later));
                return Ok(());
            }
            let mut done = 1;
            let outcome = match op {
                Op::Take { topic, lease } => {
                    done = self.takes(batch, topic, *lease, same_takes(rest))?;
                    None
                }
                op => Some(self.one(batch, op)),
            };
            match outcome {
                None => {}
                Some(Err(error)) if self.failed.get() => return Err(error),
                Some(outcome) => batch.outcomes.push(outcome),
            }
            rest = rest.get(done..).unwrap_or_default();
        }
        Ok(())
    }

    fn one(&mut self, batch: &mut Batch, op: &Op) -> Result<Outcome> {
        match op {
            Op::Put(put) => {
                let body = batch.body(put);
                let number = self.number_or_new_with_room(&put.topic, body.len())?;
                self.put(number, body, put.options.as_deref())
            }
            Op::Take { .. } => Ok(Outcome::Taken(None)),
            Op::Ack { topic, id, deliveries } => self.ack(topic, *id, *deliveries),
            Op::Nack { topic, id, deliveries, delay } => self.nack(topic, *id, *deliveries, *delay),
            Op::PutBack { topic, message } => self.put_back(topic, message),
            Op::Peek { topic } => self.peek(batch, topic),
            Op::Delete { topic, id } => self.delete(topic, *id),
            Op::Purge { topic } => self.purge(topic),
            Op::SetStopped { topic, stopped } => {
                let number = self.number_or_new(topic)?;
                self.counts(number)?.stopped = *stopped;
                Ok(Outcome::Done)
            }
            Op::SetPolicy { topic, policy } => {
                let number = self.number_or_new(topic)?;
                self.counts(number)?.policy = Some(*policy);
                Ok(Outcome::Done)
            }
            Op::Import { topic, message } => self.import(topic, message),
            Op::Advance { topic, to } => self.advance(topic, *to),
        }
    }

    /// The number of an existing topic.
    pub fn number(&mut self, topic: &Topic) -> Option<i64> {
        if let Some((last, number)) = &self.last
            && last == topic
        {
            return Some(*number);
        }
        let topic_state = self.states.get(topic).or_else(|| self.new_states.get(topic))?;
        // The topic may have been purged in this transaction.
        let number = self.counters.number_now(topic_state.number())?;
        self.last = Some((topic.clone(), number));
        Some(number)
    }

    pub fn number_or_new(&mut self, topic: &Topic) -> Result<i64> {
        if let Some(number) = self.number(topic) {
            return Ok(number);
        }
        if self.states.len() + self.new_states.len() >= limits::TOPICS {
            return Err(errors::too_many_topics());
        }
        if let Some(bound) = self.rules.max_bytes
            && self.counters.topic_bytes + topic_bytes(topic) > bound / errors::TOPICS_SHARE
        {
            return Err(errors::too_much_for_topics(bound));
        }
        let number = self.counters.next_number();
        self.run(schema::INSERT_TOPIC, (number, topic.as_str()))?;
        self.count_added(topic_bytes(topic));
        let topic_state = Arc::new(TopicState::new(topic.clone(), number));
        self.counters.open(topic_state.clone());
        self.new_states.insert(topic.clone(), topic_state);
        Ok(number)
    }

    /// The topic's number. Creates the topic only if a message of this size fits beside it.
    pub fn number_or_new_with_room(&mut self, topic: &Topic, size: usize) -> Result<i64> {
        if let Some(number) = self.number(topic) {
            return Ok(number);
        }
        self.check_room(size + topic_bytes(topic) as usize)?;
        self.number_or_new(topic)
    }

    pub fn record(&mut self, number: i64) -> Result<&mut TopicRecord> {
        let failed = &self.failed;
        self.counters.record(number).ok_or_else(|| {
            failed.set(true);
            Error::new(Code::StoreFailed, "the store has no counters of a topic")
        })
    }

    pub fn counts(&mut self, number: i64) -> Result<&mut Counts> {
        self.record(number).map(|record| &mut record.state.counts)
    }

    pub fn new_id(&mut self) -> Result<Id> {
        if self.next_id >= ID_END {
            self.failed.set(true);
            return Err(Error::new(Code::StoreFailed, "the store's ids are used up"));
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Schedules a tick at this time.
    pub fn due_at(&mut self, at: Id) {
        self.due = self.due.min(at);
    }

    pub fn run(&self, sql: &'static str, params: impl rusqlite::Params) -> Result<usize> {
        self.with(sql, |statement| statement.execute(params))
    }

    pub fn first<T>(
        &self,
        sql: &'static str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.with(sql, |statement| statement.query_one(params, read).optional())
    }

    /// Runs a statement, which stays in this transaction's cache.
    pub fn with<T>(
        &self,
        sql: &'static str,
        work: impl FnOnce(&mut CachedStatement<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.check_not_failed()?;
        let mut statement = match self.reuse_statement(sql) {
            Some(statement) => statement,
            None => self.tables.statement(sql).map_err(|error| self.record_failure(error))?,
        };
        let done = work(&mut statement);
        self.statements.borrow_mut().push((sql, statement));
        done.map_err(|error| self.record_failure(error))
    }

    /// Converts an error. Damage fails one operation, any other error the whole transaction.
    pub fn record_failure(&self, error: rusqlite::Error) -> Error {
        self.failed.set(self.failed.get() || Damaged::of(&error).is_none());
        failed(error)
    }

    /// Fails if the transaction has failed. SQLite may have rolled it back by itself, and would
    /// commit another statement at once.
    pub fn check_not_failed(&self) -> Result<()> {
        match self.failed.get() {
            true => Err(Error::new(Code::StoreFailed, "the transaction has failed: try again")),
            false => Ok(()),
        }
    }

    fn reuse_statement(&self, sql: &str) -> Option<CachedStatement<'a>> {
        let mut statements = self.statements.borrow_mut();
        let index =
            statements.iter().position(|(kept, _)| std::ptr::eq(*kept, sql) || *kept == sql)?;
        Some(statements.swap_remove(index).1)
    }

    /// The topic and id that a dead letter had before.
    pub fn origin(&mut self, number: i64, id: Id) -> Result<Option<Box<(Topic, Id)>>> {
        if self.counts(number)?.noted == 0 {
            return Ok(None);
        }
        self.tables.origin(number, id).map_err(|error| self.record_failure(error))
    }
}

/// The number of identical takes at the start.
fn same_takes(ops: &[Op]) -> usize {
    let Some(Op::Take { topic: first, lease: first_lease }) = ops.first() else { return 0 };
    let same = |op: &&Op| matches!(op, Op::Take { topic, lease } if topic == first && lease == first_lease);
    ops.iter().take_while(same).count()
}
