//! Commits batches together and answers them: a reply promises only what a power failure cannot undo
//! and what the next server will find. Nothing else is known here of what a batch does.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::bound::Size;
use super::counters::TopicCounters;
use super::location::Location;
use super::tables::Tables;
use super::transaction::Transaction;
use super::{SqliteStore, Writer, failed};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Batch, Id, Topic};
use crate::store::{Store, TopicState};
use crate::sync::lock;

/// Why a transaction failed, or a promise that depends on it.
pub enum Failure {
    /// Nothing was committed.
    RolledBack(Error),
    /// Committed, but a power failure can lose it.
    NotSynced(rusqlite::Error),
    /// Committed to a file that the next server will not find.
    FileLost(Error),
}

impl Failure {
    pub fn into_error(self) -> Error {
        match self {
            Failure::RolledBack(error) | Failure::FileLost(error) => error,
            Failure::NotSynced(error) => failed(error),
        }
    }
}

/// What a transaction came to.
struct Applied {
    new_states: HashMap<Topic, Arc<TopicState>>,
    /// When the first of what it began is due.
    due: Id,
    dropped: u64,
    refused: u64,
    size: Size,
}

/// Answers all of the batches with one error.
fn fail(batches: &mut [&mut Batch], error: &Error) {
    for batch in batches {
        batch.outcomes = batch.ops.iter().map(|_| Err(error.clone())).collect();
    }
}

impl SqliteStore {
    /// Runs `work` as one transaction: all of it happens and is then visible, or nothing. If it is
    /// promised, it is on disk when this returns.
    pub fn transact(
        &self,
        writer: &mut Writer,
        durable: bool,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> std::result::Result<(), Failure> {
        let Writer { tables, counters, drop_log, size } = writer;
        tables.begin().map_err(|error| Failure::RolledBack(failed(error)))?;
        let now = (self.clock)();
        let worked = self.apply_work(tables, counters, *size, now, work);
        let committed = worked.and_then(|done| {
            let saved = if tables.is_file() { counters.save(tables) } else { Ok(()) };
            saved.and_then(|()| tables.commit()).map_err(failed).map(|()| done)
        });
        let done = committed.map_err(|error| {
            tables.roll_back();
            counters.revert();
            let refused = u64::from(error.code == Code::Full);
            drop_log.add(0, refused);
            self.refused.fetch_add(refused, Ordering::Relaxed);
            Failure::RolledBack(error)
        })?;
        let promised = match durable {
            true => tables
                .sync()
                .map_err(Failure::NotSynced)
                .and_then(|()| self.check_location(true).map_err(Failure::FileLost)),
            false => Ok(()),
        };
        // Others see it from here on.
        if !done.new_states.is_empty() {
            self.states.write().unwrap_or_else(PoisonError::into_inner).extend(done.new_states);
        }
        counters.publish(now);
        *size = done.size;
        self.due.fetch_min(done.due, Ordering::AcqRel);
        self.size.store(size.estimate(), Ordering::Release);
        drop_log.add(done.dropped, done.refused);
        self.refused.fetch_add(done.refused, Ordering::Relaxed);
        promised?;
        tables.committed();
        Ok(())
    }

    fn apply_work(
        &self,
        tables: &Tables,
        counters: &mut TopicCounters,
        size: Size,
        now: Id,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<Applied> {
        let mut transaction = Transaction {
            tables,
            counters,
            states: &self.states.read().unwrap_or_else(PoisonError::into_inner),
            new_states: HashMap::new(),
            last: None,
            statements: RefCell::default(),
            now,
            // Only who holds the lock gives out ids.
            next_id: (self.last_id() + 1).max(now),
            due: Id::MAX,
            rules: self.rules,
            failed: Cell::new(false),
            dropped: 0,
            refused: 0,
            size: Cell::new(size),
        };
        let worked = work(&mut transaction).and_then(|()| transaction.enforce_bound());
        let worked = worked.and_then(|()| transaction.check_not_failed());
        self.last_id.store(transaction.next_id - 1, Ordering::Release);
        worked.map(|()| {
            let Transaction { new_states, due, dropped, refused, size, .. } = transaction;
            Applied { new_states, due, dropped, refused, size: size.get() }
        })
    }

    /// Carries out batches in one transaction. If that fails, each gets one of its own, so that a
    /// batch that fails fails alone.
    pub fn commit_durable(&self, batches: &mut [&mut Batch]) {
        let mut writer = lock(&self.writer);
        let durable = batches.iter().any(|batch| batch.needs_sync());
        if let Err(error) = self.check_location(false) {
            fail(batches, &error);
            return;
        }
        let was_full = writer.tables.is_disk_full();
        let together = self.transact(&mut writer, durable, |transaction| {
            batches.iter_mut().try_for_each(|batch| transaction.carry_out(batch))
        });
        // Once the reserve is given up there is room for more than puts.
        let again = batches.len() > 1 || writer.tables.is_disk_full() != was_full;
        match together {
            Ok(()) => {}
            Err(Failure::RolledBack(error)) if !again => fail(batches, &error),
            Err(Failure::RolledBack(_)) => {
                batches.iter_mut().for_each(|batch| self.commit_alone(&mut writer, batch));
            }
            Err(failure) => self.fail_promises(&mut writer, batches, failure),
        }
        self.retry_if_disk_full(&writer);
    }

    /// While the disk is full each tick looks for room: the next is due in a while.
    pub fn retry_if_disk_full(&self, writer: &Writer) {
        if writer.tables.is_disk_full() {
            self.schedule_retry();
        }
    }

    pub fn schedule_retry(&self) {
        let again = self.now().saturating_add(limits::RETRY.as_micros() as u64);
        self.due.fetch_min(again, Ordering::AcqRel);
    }

    fn commit_alone(&self, writer: &mut Writer, batch: &mut Batch) {
        let durable = batch.needs_sync();
        match self.transact(writer, durable, |transaction| transaction.carry_out(batch)) {
            Ok(()) => {}
            Err(Failure::RolledBack(error)) => fail(&mut [batch], &error),
            Err(failure) => self.fail_promises(writer, &mut [batch], failure),
        }
    }

    /// Answers batches that are committed but can be lost: their promises fail, and what they took
    /// without a lease goes back, since nobody is going to have it.
    fn fail_promises(&self, writer: &mut Writer, batches: &mut [&mut Batch], failure: Failure) {
        let durable = || batches.iter().filter(|batch| batch.needs_sync());
        let returned: Vec<_> = durable().flat_map(|batch| batch.taken_for_good()).collect();
        let put_back = self.transact(writer, false, |transaction| {
            let mut put_back = returned.iter();
            put_back.try_for_each(|(topic, message)| transaction.put_back(topic, message).map(drop))
        });
        match put_back {
            Err(Failure::RolledBack(error)) => {
                let count = returned.len();
                tracing::error!(
                    "cannot return {count} taken messages to their topics, they are lost: {error}"
                );
            }
            _ => {
                // Sessions that have read past these ids receive the messages again only if they are noted.
                for (topic, message) in &returned {
                    self.topic(topic.as_str()).inspect(|state| state.put_back(message.taken.id));
                }
            }
        }
        if let Failure::NotSynced(error) = &failure {
            // Not before: until the log is whole again no transaction begins.
            writer.tables.failed(error);
        }
        let error = failure.into_error();
        batches
            .iter_mut()
            .filter(|batch| batch.needs_sync())
            .for_each(|batch| fail(&mut [batch], &error));
    }

    /// Whether the next server will find what is committed. Before a commit only a file that is
    /// known to be lost is looked for.
    pub fn check_location(&self, committed: bool) -> Result<()> {
        let location = self.location.as_ref();
        let location = location.filter(|location| committed || location.is_lost());
        location.map_or(Ok(()), Location::check)
    }
}
