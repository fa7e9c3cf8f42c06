//! Tests of a store in a file: persistence, refused files, and damage.

use std::cell::Cell;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::error::Code;
use crate::ops::{Op, Outcome, Policy, PutOptions, Taken};
use crate::store::Counts;
use crate::store::SyncMode;

pub const START: Id = 1_780_000_000_000_000;

thread_local! {
    pub static NOW: Cell<Id> = const { Cell::new(START) };
}

pub fn clock() -> Id {
    NOW.get()
}

pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("dsmq.db")
    }

    fn open(&self) -> SqliteStore {
        self.open_with(Rules::default())
    }

    pub fn open_with(&self, rules: Rules) -> SqliteStore {
        SqliteStore::in_file(&self.path(), SyncMode::Off, clock, rules).unwrap()
    }

    fn errors(&self) -> String {
        let opened = SqliteStore::in_file(&self.path(), SyncMode::Off, clock, Rules::default());
        opened.err().expect("the file was opened")
    }

    fn sqlite(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

pub fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

pub fn one(store: &SqliteStore, op: Op) -> Result<Outcome> {
    let mut batch = Batch::default();
    batch.ops.push(op);
    store.apply(&mut batch);
    batch.outcomes.remove(0)
}

pub fn put_with(
    store: &SqliteStore,
    name: &str,
    body: &[u8],
    options: PutOptions,
) -> Result<Outcome> {
    let mut batch = Batch::default();
    batch.put(topic(name), body, Some(Box::new(options)));
    store.apply(&mut batch);
    batch.outcomes.remove(0)
}

pub fn put(store: &SqliteStore, name: &str, body: &[u8]) -> Id {
    match put_with(store, name, body, PutOptions::default()) {
        Ok(Outcome::Stored { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

pub fn take(store: &SqliteStore, name: &str, lease: Option<u64>) -> Option<(Taken, Vec<u8>)> {
    let mut batch = Batch::default();
    batch.ops.push(Op::Take { topic: topic(name), lease });
    store.apply(&mut batch);
    match batch.outcomes.remove(0).unwrap() {
        Outcome::Taken(taken) => taken.map(|taken| {
            let body = batch.taken_body(&taken).to_vec();
            (taken, body)
        }),
        other => panic!("{other:?}"),
    }
}

pub fn all(store: &SqliteStore, name: &str) -> Vec<(Id, Vec<u8>)> {
    let head = store.topic(name).unwrap();
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let run = store.read(&head, after, 256).unwrap();
        let Some(last) = run.len().checked_sub(1) else { return all };
        all.extend((0..run.len()).filter_map(|i| run.get(i)).map(|m| (m.id, m.body.to_vec())));
        after = run.get(last).unwrap().id;
    }
}

/// Ticks until nothing is due.
pub fn settle(store: &SqliteStore) {
    while store.due(0) <= clock() {
        store.tick(0).unwrap();
    }
}

/// The saved counts, without those that restart at each opening.
fn counts(store: &SqliteStore, name: &str) -> Counts {
    Counts { puts: 0, takes: 0, dropped: 0, ..store.topic(name).unwrap().counts() }
}

#[test]
fn all_state_survives_a_restart() {
    let folder = Folder::new();
    let store = folder.open();
    let with = |options| put_with(&store, "t", b"\"with\"", options).unwrap();
    let plain = PutOptions::default;
    put(&store, "t", b"1");
    put(&store, "t", format!("\"{}\"", "x".repeat(100_000)).as_bytes());
    with(PutOptions { priority: 9, ..plain() });
    with(PutOptions { ttl: Some(50_000_000), ..plain() });
    let delayed = with(PutOptions { delay: Some(5_000_000), priority: 2, ..plain() });
    let first = with(PutOptions { dedupe: Some("key".into()), ..plain() });
    let (leased, _) = take(&store, "t", Some(10_000_000)).unwrap();
    assert_eq!(leased.priority, 9);
    let (returned, _) = take(&store, "t", Some(10_000_000)).unwrap();
    let nack = |taken: &Taken| Op::Nack {
        topic: topic("t"),
        id: taken.id,
        deliveries: taken.deliveries,
        delay: 0,
    };
    one(&store, nack(&returned)).unwrap();
    one(&store, Op::Peek { topic: topic("t") }).unwrap();
    one(&store, Op::SetStopped { topic: topic("stopped"), stopped: true }).unwrap();
    let policy = Policy::RoundRobin;
    one(&store, Op::SetPolicy { topic: topic("turn"), policy }).unwrap();
    let (before, kept, last_id) = (all(&store, "t"), counts(&store, "t"), store.last_id());
    drop(store);

    // A clock that was set back assigns no id twice.
    NOW.set(START - 1_000_000_000);
    let store = folder.open();
    assert_eq!(all(&store, "t"), before);
    assert_eq!(counts(&store, "t"), kept);
    assert_eq!(store.last_id(), last_id);
    NOW.set(START);
    assert!(store.topic("stopped").unwrap().counts().stopped);
    assert_eq!(store.topic("turn").unwrap().counts().policy, Some(policy));
    let again = put_with(&store, "t", b"2", PutOptions { dedupe: Some("key".into()), ..plain() });
    let (Outcome::Stored { id: first, .. }, Ok(Outcome::Stored { id, duplicate, .. })) =
        (first, again)
    else {
        panic!("it was stored")
    };
    assert_eq!((id, duplicate), (first, true));
    // The lease persists, and the returned message is at its second delivery.
    assert_eq!(take(&store, "t", None).unwrap().0.deliveries, 2);
    let ack = Op::Ack { topic: topic("t"), id: leased.id, deliveries: leased.deliveries };
    assert_eq!(one(&store, ack), Ok(Outcome::Done));
    // The delayed message arrives when it is due.
    let Outcome::Due { at, .. } = delayed else { panic!("it is delayed") };
    NOW.set(at);
    settle(&store);
    assert!(all(&store, "t").last().unwrap().0 >= at);
    // The ttl persists.
    NOW.set(START + 60_000_000);
    settle(&store);
    assert!(!all(&store, "t").iter().any(|(id, _)| Some(id) == before.get(3).map(|(id, _)| id)));
    drop(store);
    assert_eq!(check(&folder.path()).unwrap().faults, [""; 0]);
}

#[test]
fn purge_is_immediate_and_its_sweep_survives_a_restart() {
    let folder = Folder::new();
    let store = folder.open();
    for n in 0..3_000 {
        put(&store, "t", format!("{n}").as_bytes());
    }
    put(&store, "t", format!("\"{}\"", "x".repeat(10_000)).as_bytes());
    take(&store, "t", Some(1)).unwrap();
    let last = store.last_id();
    assert_eq!(one(&store, Op::Purge { topic: topic("t") }), Ok(Outcome::Purged(3_001)));
    assert_eq!(all(&store, "t"), []);
    put(&store, "t", b"new");
    assert!(store.rows() > 3_000, "the sweep is yet to come");
    drop(store);

    NOW.set(NOW.get() + 10);
    let store = folder.open();
    assert!(store.rows() > 3_000, "the sweep goes on");
    settle(&store);
    assert_eq!(store.rows(), 1);
    let left = all(&store, "t");
    assert!(left.len() == 1 && left[0].0 > last, "since keeps its meaning");
    assert_eq!(take(&store, "t", None).unwrap().1, b"new");
    drop(store);
    assert_eq!(check(&folder.path()).unwrap().faults, [""; 0]);
}

#[test]
fn foreign_or_locked_file_is_refused_in_one_line() {
    let folder = Folder::new();
    let store = folder.open();
    let own = format!("another dsmq has it open (process {})", std::process::id());
    assert!(folder.errors().ends_with(&own), "{}", folder.errors());
    drop(store);
    folder.sqlite().pragma_update(None, "user_version", 1_000).unwrap();
    assert!(folder.errors().contains("made by a newer dsmq (schema version 1000,"));
    folder.sqlite().pragma_update(None, "application_id", 7).unwrap();
    assert!(folder.errors().ends_with("another program's SQLite file"));
    std::fs::write(folder.path(), "A letter, and no table at all. ".repeat(100)).unwrap();
    assert!(folder.errors().contains("not an SQLite file"));
    let before = std::fs::read(folder.path()).unwrap();
    assert_eq!(folder.errors().lines().count(), 1);
    assert_eq!(std::fs::read(folder.path()).unwrap(), before, "the file is unchanged");
}

/// `version-1.sql` has a row in every table.
#[test]
fn file_of_schema_version_1_is_served() {
    let folder = Folder::new();
    let written = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/version-1.sql"));
    folder.sqlite().execute_batch(written).unwrap();
    NOW.set(START + 1_000_000);
    let store = folder.open();
    let bodies: Vec<_> = all(&store, "t").into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [&b"1"[..], b"\"prior\"", b"\"returned\""]);
    assert_eq!(take(&store, "t", None).unwrap().1, b"\"prior\"");
    assert_eq!(store.delayed(&store.topic("t").unwrap(), 10).unwrap().len(), 1);
    let key = PutOptions { dedupe: Some("key".into()), ..PutOptions::default() };
    let again = put_with(&store, "t", b"2", key);
    assert!(matches!(again, Ok(Outcome::Due { duplicate: true, .. })));
    drop(store);
    assert_eq!(check(&folder.path()).unwrap().faults, [""; 0]);
    let version =
        folder.sqlite().pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    assert_eq!(version, Ok(schema::MIGRATIONS.len() as i64));
}

#[test]
fn damaged_message_is_an_error_and_never_delivered() {
    let folder = Folder::new();
    let store = folder.open();
    let ids = [&b"\"first\""[..], b"\"second\"", b"\"third\""].map(|body| put(&store, "t", body));
    drop(store);
    let change = "UPDATE log SET body = '\"Second\"' WHERE body = '\"second\"'";
    folder.sqlite().execute(change, []).unwrap();
    let store = folder.open();
    let head = store.topic("t").unwrap();
    assert_eq!(store.read(&head, 0, 256).unwrap().len(), 1);
    let read = store.read(&head, ids[0], 256).unwrap_err();
    assert_eq!(read.code, Code::Damaged);
    assert!(read.text.contains(&ids[1].to_string()), "{read}");
    // Within a batch, only the take that reaches the damaged message fails.
    let mut batch = Batch::default();
    let take_one = || Op::Take { topic: topic("t"), lease: None };
    batch.ops.extend([take_one(), take_one()]);
    batch.put(topic("u"), b"0", None);
    store.apply(&mut batch);
    let [Ok(Outcome::Taken(Some(taken))), Err(error), Ok(Outcome::Stored { .. })] =
        &batch.outcomes[..]
    else {
        panic!("{:?}", batch.outcomes)
    };
    assert_eq!((batch.taken_body(taken), error.code), (&b"\"first\""[..], Code::Damaged));
    let faults = check(&folder.path()).unwrap().faults;
    assert_eq!(faults, [format!("topic \"t\": message {}: the checksum does not match", ids[1])]);
    // Other topics keep working, and the message can be deleted.
    put(&store, "u", b"1");
    assert_eq!(
        one(&store, Op::Delete { topic: topic("t"), id: ids[1] }),
        Ok(Outcome::Deleted(true))
    );
    assert_eq!(take(&store, "t", None).unwrap().1, b"\"third\"");
}

#[test]
fn damaged_topic_row_is_reported_when_opening() {
    let folder = Folder::new();
    put(&folder.open(), "t", b"1");
    folder.sqlite().execute("UPDATE topics SET name = 'T'", []).unwrap();
    assert!(folder.errors().contains("the row of topic \"T\" is damaged"), "{}", folder.errors());
}

/// The take is committed, then the file turns out to be lost: its reply fails, and the message
/// returns.
#[test]
#[cfg(unix)]
fn message_returned_after_a_failed_promise_is_noted() {
    let folder = Folder::new();
    let store = folder.open();
    let id = put(&store, "t", b"1");
    let state = store.topic("t").unwrap();
    let known = state.put_backs();
    std::fs::rename(folder.path(), folder.0.path().join("moved.db")).unwrap();
    let taken = one(&store, Op::Take { topic: topic("t"), lease: None });
    assert_eq!(taken.unwrap_err().code, Code::StoreFailed);
    assert_eq!(all(&store, "t"), [(id, b"1".to_vec())]);
    assert_eq!(state.put_backs_after(known), (known + 1, Some(vec![id])));
}

#[test]
fn backup_is_complete_and_never_overwrites() {
    let folder = Folder::new();
    let store = folder.open();
    put(&store, "t", b"1");
    let copy = folder.0.path().join("copy.db");
    assert!(backup(&folder.path(), &copy).unwrap() > 0);
    put(&store, "t", b"2");
    assert!(backup(&folder.path(), &copy).unwrap_err().ends_with("the file already exists"));
    let copy = SqliteStore::in_file(&copy, SyncMode::Off, clock, Rules::default()).unwrap();
    assert_eq!(all(&copy, "t").len(), 1);
}
