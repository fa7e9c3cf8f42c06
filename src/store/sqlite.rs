//! The store in SQLite: every message is a row. Only this folder names rusqlite.
//!
//! One connection to SQLite under one lock. Writers go through the [`leader`], which commits what
//! has gathered in one transaction; readers take the lock for one run at a time.

mod leader;
mod schema;
mod tables;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use self::leader::Leader;
use self::tables::Tables;
use super::{Head, PutBatch, Run, Store, lock};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::{ID_END, Id, Topic};

/// Microseconds since 1970.
pub type Clock = fn() -> Id;

pub struct SqliteStore {
    tables: Mutex<Tables>,
    leader: Leader,
    heads: RwLock<HashMap<Topic, Arc<Head>>>,
    last_id: AtomicU64,
    clock: Clock,
}

impl SqliteStore {
    /// A store that ends with the process.
    pub fn in_memory(clock: Clock) -> Result<SqliteStore> {
        Ok(SqliteStore {
            tables: Mutex::new(Tables::in_memory().map_err(failed)?),
            leader: Leader::default(),
            heads: RwLock::default(),
            last_id: AtomicU64::new(clock()),
            clock,
        })
    }

    /// Stores batches in one transaction. If that fails, each gets one of its own, so that a batch
    /// that fails fails alone.
    fn commit(&self, batches: &mut [&mut PutBatch]) {
        let tables = lock(&self.tables);
        match self.transact(&tables, batches) {
            Ok(()) => {}
            Err(error) => match batches {
                [batch] => batch.outcomes = batch.puts.iter().map(|_| Err(error.clone())).collect(),
                _ => {
                    for batch in batches {
                        if let Err(error) = self.transact(&tables, &mut [batch]) {
                            batch.outcomes =
                                batch.puts.iter().map(|_| Err(error.clone())).collect();
                        }
                    }
                }
            },
        }
    }

    fn transact(&self, tables: &Tables, batches: &mut [&mut PutBatch]) -> Result<()> {
        tables.begin().map_err(failed)?;
        let mut new_heads = HashMap::new();
        let stored = batches.iter_mut().try_for_each(|batch| {
            batch.outcomes.clear();
            self.insert(tables, batch, &mut new_heads)
        });
        let stored = stored.and_then(|newest| tables.commit().map_err(failed).map(|()| newest));
        if stored.is_err() {
            tables.roll_back();
            return stored;
        }
        if !new_heads.is_empty() {
            self.heads.write().unwrap_or_else(PoisonError::into_inner).extend(new_heads);
        }
        batches.iter().for_each(|batch| self.publish(batch));
        Ok(())
    }

    /// Inserts a batch's messages under fresh ids. An error is the whole transaction's; a put
    /// that is refused by a rule has its own outcome.
    fn insert(
        &self,
        tables: &Tables,
        batch: &mut PutBatch,
        new_heads: &mut HashMap<Topic, Arc<Head>>,
    ) -> Result<()> {
        let mut outcomes = std::mem::take(&mut batch.outcomes);
        let mut next_id = self.next_id();
        let mut insertion = tables.insertion().map_err(failed)?;
        let mut current: Option<(&Topic, i64)> = None;
        for (topic, body) in batch.iter() {
            let number = match current {
                Some((same, number)) if same == topic => number,
                _ => match self.head_or_new(tables, topic, new_heads) {
                    Ok(head) => head.number,
                    Err(refused) if refused.code == Code::TooManyTopics => {
                        outcomes.push(Err(refused));
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            current = Some((topic, number));
            if next_id >= ID_END {
                return Err(Error::new(Code::StoreFailed, "the store's ids are used up"));
            }
            insertion.insert(number, next_id, body).map_err(failed)?;
            outcomes.push(Ok(next_id));
            next_id += 1;
        }
        self.last_id.store(next_id - 1, Ordering::Release);
        batch.outcomes = outcomes;
        Ok(())
    }

    /// Only the leader, who holds the tables, gives out ids.
    fn next_id(&self) -> Id {
        (self.last_id() + 1).max((self.clock)())
    }

    fn head_or_new(
        &self,
        tables: &Tables,
        topic: &Topic,
        new_heads: &mut HashMap<Topic, Arc<Head>>,
    ) -> Result<Arc<Head>> {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = heads.get(topic).or_else(|| new_heads.get(topic)) {
            return Ok(head.clone());
        }
        if heads.len() + new_heads.len() >= limits::TOPICS {
            let text = format!("the store has its {} topics: put to one of them", limits::TOPICS);
            return Err(Error::new(Code::TooManyTopics, text));
        }
        let number = tables.insert_topic(topic.as_str()).map_err(failed)?;
        let head = Arc::new(Head::new(number));
        new_heads.insert(topic.clone(), head.clone());
        Ok(head)
    }

    /// Lets readers see a committed batch.
    fn publish(&self, batch: &PutBatch) {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        let mut current: Option<(&Topic, &Arc<Head>)> = None;
        for ((topic, _), outcome) in batch.iter().zip(&batch.outcomes) {
            let Ok(id) = outcome else { continue };
            if current.is_none_or(|(same, _)| same != topic) {
                current = heads.get(topic).map(|head| (topic, head));
            }
            if let Some((_, head)) = current {
                head.publish(*id);
            }
        }
    }
}

impl Store for SqliteStore {
    fn last_id(&self) -> Id {
        self.last_id.load(Ordering::Acquire)
    }

    fn head(&self, topic: &str) -> Option<Arc<Head>> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    fn put(&self, batch: &mut PutBatch) {
        if !batch.is_empty() {
            self.leader.submit(batch, |batches| self.commit(batches));
        }
    }

    fn read(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>> {
        let limit = limit.clamp(1, limits::RUN_MESSAGES);
        let run = lock(&self.tables).read(head.number, after, limit).map_err(failed)?;
        Ok(Arc::new(run))
    }

    fn read_newest(&self, head: &Head) -> Result<Arc<Run>> {
        let run = lock(&self.tables).read_newest(head.number).map_err(failed)?;
        Ok(Arc::new(run))
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
        SqliteStore::in_memory(contract::clock).unwrap()
    }

    fn batch(topic: &str, body: &[u8]) -> PutBatch {
        let mut batch = PutBatch::default();
        batch.push(Topic::new(topic).unwrap(), body);
        batch
    }

    #[test]
    fn in_memory_holds_the_contract() {
        contract::hold(&|| Arc::new(open()));
    }

    #[test]
    fn a_batch_that_fails_fails_alone() {
        let store = open();
        store.put(&mut batch("t", b"1"));
        lock(&store.tables).limit_pages(100);
        let (mut before, mut too_much) = (batch("t", b"2"), batch("t", &[b'7'; 1 << 20]));
        let (mut new_topic, mut behind) = (batch("new", &[b'7'; 1 << 20]), batch("t", b"3"));
        store.commit(&mut [&mut before, &mut too_much, &mut new_topic, &mut behind]);

        let stored = [&before, &too_much, &new_topic, &behind].map(|b| b.outcomes()[0].is_ok());
        assert_eq!(stored, [true, false, false, true]);
        assert_eq!(too_much.outcomes()[0].as_ref().unwrap_err().code, Code::StoreFailed);
        assert!(store.head("new").is_none(), "a topic is not made by a put that failed");
        let head = store.head("t").unwrap();
        let run = store.read(&head, 0, 256).unwrap();
        let bodies: Vec<_> = (0..).map_while(|i| run.get(i)).map(|m| m.body.to_vec()).collect();
        assert_eq!(bodies, [b"1", b"2", b"3"]);

        lock(&store.tables).limit_pages(1 << 20);
        let mut again = batch("new", &[b'7'; 1 << 20]);
        store.put(&mut again);
        assert!(again.outcomes()[0].is_ok(), "service goes on when there is room");
    }

    #[test]
    fn a_person_reads_the_messages_in_one_view() {
        let store = open();
        store.put(&mut batch("greetings", b"\"Hello!\""));
        store.put(&mut batch("greetings", format!("\"{}\"", "x".repeat(4_000)).as_bytes()));
        let rows = lock(&store.tables).view();
        assert_eq!(rows.len(), 2);
        let (topic, id, timestamp, message) = &rows[0];
        assert_eq!((topic.as_str(), message.as_str()), ("greetings", "\"Hello!\""));
        assert!((*timestamp - *id as f64 / 1e6).abs() < 1e-3);
        assert_eq!(rows[1].3.len(), 4_002);
    }
}
