//! The store in SQLite: every message is a row. Only this folder names rusqlite.
//!
//! One connection to SQLite under one lock. Batches go through the [`leader`], which commits what
//! has gathered in one [`transaction`]; readers take the lock for one run at a time.

mod due;
mod leader;
mod ledger;
mod put;
mod schema;
mod tables;
mod take;
mod transaction;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use self::leader::Leader;
use self::ledger::Ledger;
use self::tables::Tables;
use self::transaction::Transaction;
use super::{Batch, Due, Head, Rules, Run, Shelf, Store, lock};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::{Id, Topic};

/// Microseconds since 1970.
pub type Clock = fn() -> Id;

pub struct SqliteStore {
    desk: Mutex<Desk>,
    leader: Leader,
    heads: RwLock<HashMap<Topic, Arc<Head>>>,
    last_id: AtomicU64,
    due: AtomicU64,
    clock: Clock,
    rules: Rules,
    shelf: Shelf,
}

/// What is under the store's lock.
struct Desk {
    tables: Tables,
    ledger: Ledger,
}

impl SqliteStore {
    /// A store that ends with the process.
    pub fn in_memory(clock: Clock, rules: Rules) -> Result<SqliteStore> {
        let tables = Tables::in_memory().map_err(failed)?;
        Ok(SqliteStore {
            desk: Mutex::new(Desk { tables, ledger: Ledger::default() }),
            leader: Leader::default(),
            heads: RwLock::default(),
            last_id: AtomicU64::new(clock()),
            due: AtomicU64::new(Id::MAX),
            clock,
            rules,
            shelf: Shelf::default(),
        })
    }

    /// Rows of every table but the topics'.
    #[cfg(test)]
    pub fn rows(&self) -> i64 {
        lock(&self.desk).tables.rows()
    }

    /// Carries out batches in one transaction. If that fails, each gets one of its own, so that a
    /// batch that fails fails alone.
    fn commit(&self, batches: &mut [&mut Batch]) {
        let mut desk = lock(&self.desk);
        let together = self.transact(&mut desk, |transaction| {
            batches.iter_mut().try_for_each(|batch| transaction.carry_out(batch))
        });
        let Err(error) = together else { return };
        let alone = batches.len() == 1;
        for batch in batches {
            let failed = if alone {
                Err(error.clone())
            } else {
                self.transact(&mut desk, |transaction| transaction.carry_out(batch))
            };
            if let Err(error) = failed {
                batch.outcomes = batch.ops.iter().map(|_| Err(error.clone())).collect();
            }
        }
    }

    /// Runs `work` as one transaction: all of it happens and is then visible, or nothing.
    fn transact(
        &self,
        desk: &mut Desk,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        let Desk { tables, ledger } = desk;
        tables.begin().map_err(failed)?;
        let now = (self.clock)();
        let worked = self.work(tables, ledger, now, work);
        let committed = worked.and_then(|done| tables.commit().map_err(failed).map(|()| done));
        match committed {
            Ok((new_heads, due)) => {
                if !new_heads.is_empty() {
                    self.heads.write().unwrap_or_else(PoisonError::into_inner).extend(new_heads);
                }
                ledger.settle(now);
                self.due.fetch_min(due, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                tables.roll_back();
                ledger.revert();
                Err(error)
            }
        }
    }

    /// The new topics, and when the first of what was begun is due.
    fn work(
        &self,
        tables: &Tables,
        ledger: &mut Ledger,
        now: Id,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<(HashMap<Topic, Arc<Head>>, Id)> {
        let mut transaction = Transaction {
            tables,
            ledger,
            heads: &self.heads.read().unwrap_or_else(PoisonError::into_inner),
            new_heads: HashMap::new(),
            last: None,
            statements: RefCell::default(),
            now,
            // Only who holds the lock gives out ids.
            next_id: (self.last_id() + 1).max(now),
            due: Id::MAX,
            rules: self.rules,
        };
        let worked = work(&mut transaction);
        self.last_id.store(transaction.next_id - 1, Ordering::Release);
        worked.map(|()| (transaction.new_heads, transaction.due))
    }
}

impl Store for SqliteStore {
    fn last_id(&self) -> Id {
        self.last_id.load(Ordering::Acquire)
    }

    fn now(&self) -> Id {
        (self.clock)()
    }

    fn head(&self, topic: &str) -> Option<Arc<Head>> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    fn heads(&self) -> Vec<Arc<Head>> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn apply(&self, batch: &mut Batch) {
        if !batch.is_empty() {
            self.leader.submit(batch, |batches| self.commit(batches));
        }
    }

    fn read(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>> {
        let limit = limit.clamp(1, limits::RUN_MESSAGES);
        let desk = lock(&self.desk);
        let run = Run::new(after, head.removals());
        let run = desk.tables.read(run, head.number(), limit, self.now()).map_err(failed)?;
        Ok(Arc::new(run))
    }

    fn read_last(&self, head: &Head, limit: usize) -> Result<Arc<Run>> {
        let desk = lock(&self.desk);
        let run = Run::new(0, head.removals());
        let run = desk.tables.read_last(run, head.number(), limit, self.now()).map_err(failed)?;
        Ok(Arc::new(run.reversed()))
    }

    fn delayed(&self, head: &Head, limit: usize) -> Result<Run> {
        lock(&self.desk).tables.delayed(head.number(), limit).map_err(failed)
    }

    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn oldest(&self, head: &Head) -> Result<Option<Id>> {
        lock(&self.desk).tables.oldest(head.number()).map_err(failed)
    }

    fn due(&self) -> Id {
        self.due.load(Ordering::Acquire)
    }

    fn tick(&self) -> Result<Due> {
        let mut done = Due::default();
        let mut desk = lock(&self.desk);
        // What is due next is found out anew; what others begin waits for the lock.
        self.due.store(Id::MAX, Ordering::Release);
        let ticked = self.transact(&mut desk, |transaction| transaction.tick(&mut done));
        if ticked.is_err() {
            // It is tried again in a while, not at once: what is the matter may pass.
            let again = self.now().saturating_add(limits::RETRY.as_micros() as u64);
            self.due.fetch_min(again, Ordering::AcqRel);
        }
        ticked.map(|()| done)
    }
}

fn failed(error: rusqlite::Error) -> Error {
    Error::new(
        Code::StoreFailed,
        format!("the store failed ({error}): nothing was stored, try again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    fn open() -> SqliteStore {
        SqliteStore::in_memory(contract::clock, Rules::default()).unwrap()
    }

    fn batch(topic: &str, body: &[u8]) -> Batch {
        let mut batch = Batch::default();
        batch.put(Topic::new(topic).unwrap(), body, None);
        batch
    }

    #[test]
    fn in_memory_holds_the_contract() {
        contract::hold(&|| Arc::new(open()));
    }

    #[test]
    fn a_batch_that_fails_fails_alone() {
        let store = open();
        store.apply(&mut batch("t", b"1"));
        lock(&store.desk).tables.limit_pages(100);
        let (mut before, mut too_much) = (batch("t", b"2"), batch("t", &[b'7'; 1 << 20]));
        let (mut new_topic, mut behind) = (batch("new", &[b'7'; 1 << 20]), batch("t", b"3"));
        store.commit(&mut [&mut before, &mut too_much, &mut new_topic, &mut behind]);

        let stored = [&before, &too_much, &new_topic, &behind].map(|b| b.outcomes[0].is_ok());
        assert_eq!(stored, [true, false, false, true]);
        assert_eq!(too_much.outcomes[0].as_ref().unwrap_err().code, Code::StoreFailed);
        assert!(store.head("new").is_none(), "a topic is not made by a put that failed");
        let head = store.head("t").unwrap();
        let run = store.read(&head, 0, 256).unwrap();
        let bodies: Vec<_> = (0..).map_while(|i| run.get(i)).map(|m| m.body.to_vec()).collect();
        assert_eq!(bodies, [b"1", b"2", b"3"]);

        lock(&store.desk).tables.limit_pages(1 << 20);
        let mut again = batch("new", &[b'7'; 1 << 20]);
        store.apply(&mut again);
        assert!(again.outcomes[0].is_ok(), "service goes on when there is room");
    }

    #[test]
    fn a_person_reads_the_messages_in_one_view() {
        let store = open();
        store.apply(&mut batch("greetings", b"\"Hello!\""));
        store.apply(&mut batch("greetings", format!("\"{}\"", "x".repeat(4_000)).as_bytes()));
        let rows = lock(&store.desk).tables.view();
        assert_eq!(rows.len(), 2);
        let (topic, id, timestamp, message) = &rows[0];
        assert_eq!((topic.as_str(), message.as_str()), ("greetings", "\"Hello!\""));
        assert!((*timestamp - *id as f64 / 1e6).abs() < 1e-3);
        assert_eq!(rows[1].3.len(), 4_002);
    }
}
