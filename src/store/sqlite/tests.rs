//! Tests of the SQLite store in memory and in a file: the contract, and batches that fail.

use std::cell::Cell;

use std::path::Path;

use super::*;
use crate::error::Code;
use crate::ops::{Op, Outcome, PutOptions, Taken};
use crate::store::SyncMode;
use crate::store::contract;

impl SqliteStore {
    /// [`Store::apply`], without naming the trait.
    pub fn apply(&self, batch: &mut Batch) {
        (self as &dyn Store).apply(batch);
    }
}

fn open() -> SqliteStore {
    SqliteStore::in_memory(contract::clock, Rules::default()).unwrap()
}

fn batch(topic: &str, body: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(Topic::new(topic).unwrap(), body, None);
    batch
}

#[test]
fn memory_store_fulfils_the_contract() {
    contract::hold(&|| Arc::new(open()));
}

#[test]
fn file_store_fulfils_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let number = Cell::new(0);
    contract::hold(&|| {
        number.set(number.get() + 1);
        Arc::new(file(&folder.path().join(number.get().to_string())))
    });
}

fn file(path: &Path) -> SqliteStore {
    SqliteStore::in_file(path, SyncMode::Off, contract::clock, Rules::default()).unwrap()
}

#[test]
fn failing_batch_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    for store in [open(), file(&folder.path().join("dsmq.db"))] {
        check_failing_batch(&store);
    }
}

fn check_failing_batch(store: &SqliteStore) {
    store.apply(&mut batch("t", b"1"));
    lock(&store.writer).tables.limit_pages(100);
    let (mut before, mut too_much) = (batch("t", b"2"), batch("t", &[b'7'; 1 << 20]));
    let (mut new_topic, mut behind) = (batch("new", &[b'7'; 1 << 20]), batch("t", b"3"));
    store.commit(&mut [&mut before, &mut too_much, &mut new_topic, &mut behind]);

    let stored = [&before, &too_much, &new_topic, &behind].map(|b| b.outcomes[0].is_ok());
    assert_eq!(stored, [true, false, false, true]);
    assert_eq!(too_much.outcomes[0].as_ref().unwrap_err().code, Code::Full);
    assert!(store.topic("new").is_none(), "a failed put created a topic");
    let state = store.topic("t").unwrap();
    let chunk = store.read(&state, 0, 256).unwrap();
    let bodies: Vec<_> = (0..).map_while(|i| chunk.get(i)).map(|m| m.body.to_vec()).collect();
    assert_eq!(bodies, [b"1", b"2", b"3"]);

    lock(&store.writer).tables.limit_pages(1 << 20);
    let mut again = batch("new", &[b'7'; 1 << 20]);
    store.apply(&mut again);
    assert!(again.outcomes[0].is_ok(), "the put works once there is space");
}

#[test]
fn messages_view_shows_topics_and_bodies() {
    let store = open();
    store.apply(&mut batch("greetings", b"\"Hello!\""));
    store.apply(&mut batch("greetings", format!("\"{}\"", "x".repeat(4_000)).as_bytes()));
    let rows = lock(&store.writer).tables.view();
    assert_eq!(rows.len(), 2);
    let (topic, id, timestamp, message) = &rows[0];
    assert_eq!((topic.as_str(), message.as_str()), ("greetings", "\"Hello!\""));
    assert!((*timestamp - *id as f64 / 1e6).abs() < 1e-3);
    assert_eq!(rows[1].3.len(), 4_002);
}

/// Puts, takes, acks, nacks and reads of one topic, each in its own transaction.
fn use_every_statement(store: &SqliteStore) {
    let topic = || Topic::new("t").unwrap();
    let state = || store.topic("t").unwrap();
    let apply = |op| {
        let mut batch = Batch::default();
        batch.ops.push(op);
        store.apply(&mut batch);
        batch.only().unwrap()
    };
    let prioritised = PutOptions { priority: 9, ttl: Some(1 << 40), ..PutOptions::default() };
    for round in 0..20 {
        let dedupe = Some(format!("{round}").into());
        for options in [None, Some(PutOptions { dedupe, ..prioritised.clone() })] {
            let mut put = Batch::default();
            put.put(topic(), b"1", options.map(Box::new));
            put.confirm();
            store.apply(&mut put);
            let leased = apply(Op::Take { topic: topic(), lease: Some(1 << 40) });
            let Outcome::Taken(Some(Taken { id, deliveries, .. })) = leased else { panic!() };
            apply(Op::Nack { topic: topic(), id, deliveries, delay: 0 });
            apply(Op::Peek { topic: topic() });
            store.read(&state(), 0, 10).unwrap();
            store.read_last(&state(), 10).unwrap();
            apply(Op::Take { topic: topic(), lease: None });
        }
    }
}

#[test]
fn no_statement_is_recompiled_at_each_run() {
    let folder = tempfile::tempdir().unwrap();
    let bound = Rules { max_bytes: Some(64 << 20), ..Rules::default() };
    let file = folder.path().join("dsmq.db");
    let file = SqliteStore::in_file(&file, SyncMode::Off, contract::clock, bound).unwrap();
    for store in [SqliteStore::in_memory(contract::clock, bound).unwrap(), file] {
        use_every_statement(&store);
        assert_eq!(lock(&store.writer).tables.recompiled(), []);
    }
}

/// SQLite rolls back by itself when there is no space for another topic. Then nothing later in the
/// same transaction may happen.
#[test]
fn nothing_is_stored_after_sqlite_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dsmq.db");
    let rules = Rules { dead_letter_after: 1, ..Rules::default() };
    let store = SqliteStore::in_file(&path, SyncMode::Off, contract::clock, rules).unwrap();
    let mut refused = 0;
    for n in 0..100 {
        let topic = Topic::new(&format!("{n}-{}", "t".repeat(200))).unwrap();
        lock(&store.writer).tables.limit_pages(1 << 20);
        store.apply(&mut batch(topic.as_str(), b"1"));
        let mut take = Batch::default();
        take.ops.push(Op::Take { topic: topic.clone(), lease: Some(1 << 40) });
        store.apply(&mut take);
        let Ok(Outcome::Taken(Some(taken))) = take.only() else { panic!("nothing to take") };
        let pages = lock(&store.writer).tables.pages().unwrap();
        lock(&store.writer).tables.limit_pages(pages.all.cast_signed());
        let nack = Op::Nack { topic, id: taken.id, deliveries: 1, delay: 0 };
        let mut nacked = Batch::default();
        nacked.ops.push(nack);
        store.apply(&mut nacked);
        if let Err(error) = nacked.only() {
            assert_eq!(error.code, Code::Full);
            refused += 1;
        }
        assert_eq!(check(&path).unwrap().faults, [""; 0], "after {n} topics");
    }
    assert!(refused > 0, "the store never ran out of space");
}
