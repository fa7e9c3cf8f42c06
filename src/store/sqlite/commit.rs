//! Commits batches in transactions and sets their outcomes. A successful reply promises that a
//! power failure cannot undo the change and that the next server finds it. This file does not know
//! what the operations do.

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

/// Why a transaction or its promise failed.
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

/// The results of a transaction that are published after its commit.
struct Applied {
    new_states: HashMap<Topic, Arc<TopicState>>,
    /// The earliest due time among the changes.
    due: Id,
    put_backs: Vec<(Arc<TopicState>, Id)>,
    dropped: u64,
    refused: u64,
    size: Size,
}

/// Fails every operation of the batches with the same error.
fn fail(batches: &mut [&mut Batch], error: &Error) {
    for batch in batches {
        batch.outcomes = batch.ops.iter().map(|_| Err(error.clone())).collect();
    }
}

impl SqliteStore {
    /// Runs `work` as one transaction: all of it is committed and then visible, or nothing. If
    /// `durable`, the commit is on disk when this returns.
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
        // Publishes the changes to other threads.
        if !done.new_states.is_empty() {
            self.states.write().unwrap_or_else(PoisonError::into_inner).extend(done.new_states);
        }
        counters.publish(now);
        done.put_backs.iter().for_each(|(state, id)| state.put_back(*id));
        *size = done.size;
        self.due.fetch_min(done.due, Ordering::AcqRel);
        self.size.store(size.estimate(), Ordering::Release);
        drop_log.add(done.dropped, done.refused);
        self.refused.fetch_add(done.refused, Ordering::Relaxed);
        promised?;
        if let Some(log) = &tables.log {
            log.committed(tables.sqlite());
        }
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
            // Ids are assigned only under the writer's lock.
            next_id: (self.last_id() + 1).max(now),
            due: Id::MAX,
            rules: self.rules,
            failed: Cell::new(false),
            put_backs: Vec::new(),
            dropped: 0,
            refused: 0,
            size: Cell::new(size),
        };
        let worked = work(&mut transaction).and_then(|()| transaction.enforce_bound());
        let worked = worked.and_then(|()| transaction.check_not_failed());
        self.last_id.store(transaction.next_id - 1, Ordering::Release);
        worked.map(|()| {
            let Transaction { new_states, due, put_backs, dropped, refused, size, .. } =
                transaction;
            Applied { new_states, due, put_backs, dropped, refused, size: size.get() }
        })
    }

    /// Carries out the batches in one transaction. If it fails, each batch gets its own
    /// transaction, so that only the faulty batch fails.
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
        // A transaction that found the disk full has freed the reserve: operations other than puts
        // may fit now.
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

    /// While the disk is full, each tick looks for space: schedules the next one.
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

    /// Fails the promises of batches that are committed but can be lost. Messages that they took
    /// without a lease return to their topics, because no client receives them.
    fn fail_promises(&self, writer: &mut Writer, batches: &mut [&mut Batch], failure: Failure) {
        let durable = || batches.iter().filter(|batch| batch.needs_sync());
        let returned: Vec<_> = durable().flat_map(|batch| batch.taken_for_good()).collect();
        let put_back = self.transact(writer, false, |transaction| {
            let mut put_back = returned.iter();
            put_back.try_for_each(|(topic, message)| transaction.put_back(topic, message).map(drop))
        });
        if let Err(Failure::RolledBack(error)) = put_back {
            let count = returned.len();
            tracing::error!(
                "cannot return {count} taken messages to their topics, they are lost: {error}"
            );
        }
        if let (Some(log), Failure::NotSynced(error)) = (&writer.tables.log, &failure) {
            // Last, because no transaction begins until the log has been rewritten.
            log.failed(error);
        }
        let error = failure.into_error();
        batches
            .iter_mut()
            .filter(|batch| batch.needs_sync())
            .for_each(|batch| fail(&mut [batch], &error));
    }

    /// Checks that the next server will find a commit. Before a commit (`committed` is false) only
    /// a known fault is checked again.
    pub fn check_location(&self, committed: bool) -> Result<()> {
        let location = self.location.as_ref();
        let location = location.filter(|location| committed || location.is_lost());
        location.map_or(Ok(()), Location::check)
    }
}
