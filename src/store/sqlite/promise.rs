//! Commits batches together and answers them: a reply promises only what a power failure cannot undo
//! and what the next server will find. Nothing else is known here of what a batch does.

use std::sync::atomic::Ordering;

use super::location::Location;
use super::{SqliteStore, Writer, failed};
use crate::error::{Error, Result};
use crate::limits;
use crate::ops::Batch;
use crate::store::Store;
use crate::sync::lock;

/// Why a transaction did not keep its promises.
pub enum Failure {
    /// Nothing of it happened.
    RolledBack(Error),
    /// All of it happened, and can be lost.
    Doubtful(Doubt),
}

/// How a commit can be lost.
pub enum Doubt {
    /// By a power failure.
    NotSynced(rusqlite::Error),
    /// When this server stops: the next one does not find its file.
    FileLost(Error),
}

/// Answers all of the batches with one error.
fn fail(batches: &mut [&mut Batch], error: &Error) {
    for batch in batches {
        batch.outcomes = batch.ops.iter().map(|_| Err(error.clone())).collect();
    }
}

impl SqliteStore {
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
            Err(Failure::Doubtful(doubt)) => self.fail_promises(&mut writer, batches, doubt),
        }
        self.look_for_room(&writer);
    }

    /// While the disk is full each tick looks for room: the next is due in a while.
    pub fn look_for_room(&self, writer: &Writer) {
        if writer.tables.is_disk_full() {
            self.tick_again();
        }
    }

    pub fn tick_again(&self) {
        let again = self.now().saturating_add(limits::RETRY.as_micros() as u64);
        self.due.fetch_min(again, Ordering::AcqRel);
    }

    fn commit_alone(&self, writer: &mut Writer, batch: &mut Batch) {
        let durable = batch.needs_sync();
        match self.transact(writer, durable, |transaction| transaction.carry_out(batch)) {
            Ok(()) => {}
            Err(Failure::RolledBack(error)) => fail(&mut [batch], &error),
            Err(Failure::Doubtful(doubt)) => self.fail_promises(writer, &mut [batch], doubt),
        }
    }

    /// Answers batches that are committed but can be lost: their promises fail, and what they took
    /// without a lease goes back, since nobody is going to have it.
    fn fail_promises(&self, writer: &mut Writer, batches: &mut [&mut Batch], doubt: Doubt) {
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
        let error = match doubt {
            Doubt::NotSynced(error) => {
                // Not before: until the log is whole again no transaction begins.
                writer.tables.failed(&error);
                failed(error)
            }
            Doubt::FileLost(error) => error,
        };
        batches.iter_mut().filter(|batch| batch.needs_sync()).for_each(|batch| {
            batch.outcomes = batch.ops.iter().map(|_| Err(error.clone())).collect();
        });
    }

    /// Whether the next server will find what is committed. Before a commit only a file that is
    /// known to be lost is looked for.
    pub fn check_location(&self, committed: bool) -> Result<()> {
        let location = self.location.as_ref();
        let location = location.filter(|location| committed || location.is_lost());
        location.map_or(Ok(()), Location::check)
    }
}
