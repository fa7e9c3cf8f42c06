//! Tests of the bounds: they hold, and freed space is given back.

use std::path::Path;

use super::super::file_tests::{
    Folder, NOW, START, all, clock, one, put, put_with, settle, take, topic,
};
use super::super::*;
use crate::error::Code;
use crate::ops::{Op, Outcome, PutOptions};
use crate::store::WhenFull;

fn bounded(when_full: WhenFull) -> Rules {
    Rules { max_bytes: Some(1 << 20), when_full, ..Rules::default() }
}

fn stores(rules: Rules, folder: &Folder) -> [SqliteStore; 2] {
    [SqliteStore::in_memory(clock, rules).unwrap(), folder.open_with(rules)]
}

#[test]
fn oldest_messages_of_all_topics_are_dropped_first() {
    let folder = Folder::new();
    for store in stores(bounded(WhenFull::DropOldest), &folder) {
        let names = ["a", "b", "c"];
        let mut ids = Vec::new();
        for n in 0..6_000 {
            let size = if n % 100 == 0 { 20_000 } else { 200 };
            ids.push(put(&store, names[n % 3], format!("\"{}\"", "x".repeat(size)).as_bytes()));
            assert!(store.usage().bytes <= (1 << 20), "{:?}", store.usage());
            if n == 10 {
                let (taken, _) = take(&store, "a", Some(1 << 40)).unwrap();
                assert_eq!(taken.id, ids[0]);
            }
        }
        let mut left: Vec<Id> =
            names.iter().flat_map(|name| all(&store, name)).map(|(id, _)| id).collect();
        left.sort_unstable();
        assert_eq!(left, ids[ids.len() - left.len()..], "the newest are left, all of them");
        assert!(left.len() > 1_000);
        let dropped: u64 = store.topics().iter().map(|head| head.counts().dropped).sum();
        assert_eq!(dropped as usize, ids.len() - left.len());
        let ack = Op::Ack { topic: topic("a"), id: ids[0], deliveries: 1 };
        assert_eq!(one(&store, ack).unwrap_err().code, Code::Gone);
        assert_eq!(store.topic("a").unwrap().counts().leased, 0);
        // A message that can never fit drops nothing.
        let much = put_with(&store, "a", &vec![b'1'; 2 << 20], PutOptions::default());
        assert_eq!(much.unwrap_err().code, Code::Full);
        assert_eq!(names.map(|name| all(&store, name).len()).iter().sum::<usize>(), left.len());
        // Each remaining message can be taken once.
        let taken = names.map(|name| (0..).map_while(|_| take(&store, name, None)).count());
        assert_eq!(taken.iter().sum::<usize>(), left.len());
        assert_eq!(store.rows(), 0);
    }
    assert_eq!(check(&folder.path()).unwrap().faults, [""; 0]);
}

#[test]
fn full_store_refuses_until_it_has_room() {
    let folder = Folder::new();
    for store in stores(bounded(WhenFull::Refuse), &folder) {
        let body = format!("\"{}\"", "x".repeat(1_000));
        let mut stored = 0;
        let error = loop {
            match put_with(&store, "t", body.as_bytes(), PutOptions::default()) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.code, Code::Full);
        assert!(store.usage().bytes <= (1 << 20) * 105 / 100, "{:?}", store.usage());
        assert!(stored * body.len() > (1 << 20) / 2, "{stored} messages is too few");
        let delayed = PutOptions { delay: Some(1_000_000), ..PutOptions::default() };
        let refused = put_with(&store, "t", body.as_bytes(), delayed);
        assert_eq!(refused.unwrap_err().code, Code::Full);
        assert_eq!(all(&store, "t").len(), stored, "nothing was dropped");
        for _ in 0..100 {
            take(&store, "t", None).unwrap();
        }
        put(&store, "t", body.as_bytes());
    }
}

#[test]
fn messages_over_the_maximum_age_are_dropped() {
    let folder = Folder::new();
    let keep = 100_000_000;
    for store in stores(Rules { keep: Some(keep), ..Rules::default() }, &folder) {
        NOW.set(START);
        let old = [put(&store, "a", b"1"), put(&store, "b", b"1"), put(&store, "a", b"2")];
        NOW.set(START + keep / 2);
        let young = put(&store, "a", b"3");
        settle(&store);
        assert_eq!(all(&store, "a").len(), 3);
        NOW.set(old[2] + keep + limits::RETRY.as_micros() as u64);
        settle(&store);
        assert_eq!(all(&store, "a"), [(young, b"3".to_vec())]);
        assert_eq!(all(&store, "b"), []);
        assert!(store.due(0) > clock() && store.due(0) <= young + keep + 1);
    }
}

#[test]
fn free_pages_are_given_back() {
    let folder = Folder::new();
    for store in stores(Rules::default(), &folder) {
        for _ in 0..3_000 {
            put(&store, "t", format!("\"{}\"", "x".repeat(10_000)).as_bytes());
        }
        let before = lock(&store.writer).tables.pages().unwrap();
        one(&store, Op::Purge { topic: topic("t") }).unwrap();
        settle(&store);
        let after = lock(&store.writer).tables.pages().unwrap();
        assert!(before.all > 3_000 && after.all < 700, "{before:?} {after:?}");
        // The file shrinks while the server runs.
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        assert!(bytes(&folder.path()) < 700 * schema::PAGE_BYTES);
    }
}

#[test]
fn no_more_messages_are_dropped_than_needed() {
    let folder = Folder::new();
    for store in stores(bounded(WhenFull::DropOldest), &folder) {
        let body = format!("\"{}\"", "x".repeat(300_000));
        for n in 1..20 {
            let id = put(&store, "t", body.as_bytes());
            let left = all(&store, "t");
            assert_eq!(left.last().map(|(id, _)| *id), Some(id), "the newest was dropped");
            assert!((n.min(2)..=3).contains(&left.len()), "of those that fit some were dropped");
        }
    }
}

#[test]
fn refused_put_creates_no_topic() {
    let folder = Folder::new();
    for store in stores(bounded(WhenFull::Refuse), &folder) {
        let body = format!("\"{}\"", "x".repeat(1_000));
        while put_with(&store, "t", body.as_bytes(), PutOptions::default()).is_ok() {}
        let size = store.usage().bytes;
        for n in 0..1_000 {
            let name = format!("{n:0>250}");
            let refused = put_with(&store, &name, body.as_bytes(), PutOptions::default());
            assert_eq!(refused.unwrap_err().code, Code::Full);
        }
        assert_eq!((store.topics().len(), store.usage().bytes), (1, size));
    }
}

#[test]
fn topics_take_only_their_share_of_the_store() {
    let folder = Folder::new();
    for store in stores(bounded(WhenFull::DropOldest), &folder) {
        let mut made = 0;
        for n in 0..2_000 {
            match put_with(&store, &format!("{n:0>250}"), b"1", PutOptions::default()) {
                Ok(_) => made += 1,
                Err(error) => assert_eq!(error.code, Code::TooManyTopics),
            }
        }
        assert!((100..1_000).contains(&made), "{made} topics");
        // Existing topics keep working.
        for _ in 0..5_000 {
            put(&store, &format!("{:0>250}", 0), b"\"some text, to fill the store\"");
        }
        assert!(all(&store, &format!("{:0>250}", 0)).len() > 1_000);
        assert!(store.usage().bytes <= 1 << 20, "{:?}", store.usage());
    }
}

#[test]
fn leases_and_peeks_are_bounded() {
    let folder = Folder::new();
    for store in stores(bounded(WhenFull::Refuse), &folder) {
        while put_with(&store, "t", b"1", PutOptions::default()).is_ok() {}
        let lease = || Op::Take { topic: topic("t"), lease: Some(1 << 40) };
        let mut held = Vec::new();
        let refused = loop {
            match one(&store, lease()) {
                Ok(Outcome::Taken(Some(taken))) => held.push(taken),
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(refused.code, Code::Full);
        assert_eq!(one(&store, Op::Peek { topic: topic("t") }).unwrap_err().code, Code::Full);
        assert!(store.usage().bytes <= (1 << 20) * 105 / 100, "{:?}", store.usage());
        assert!(held.len() > 100, "{} is too few", held.len());
        // Takes without lease and acks free space.
        for taken in &held {
            let (id, deliveries) = (taken.id, taken.deliveries);
            one(&store, Op::Ack { topic: topic("t"), id, deliveries }).unwrap();
        }
        assert!(matches!(one(&store, lease()), Ok(Outcome::Taken(Some(_)))));
    }
}

#[test]
fn due_messages_need_no_room() {
    let folder = Folder::new();
    let rules = Rules { dead_letter_after: 1, ..bounded(WhenFull::Refuse) };
    for store in stores(rules, &folder) {
        NOW.set(START);
        let body = format!("\"{}\"", "x".repeat(1_000));
        let later = PutOptions { delay: Some(1_000_000), ..PutOptions::default() };
        put_with(&store, "later", body.as_bytes(), later).unwrap();
        put(&store, "t", body.as_bytes());
        take(&store, "t", Some(1_000_000)).unwrap();
        while put_with(&store, "t", body.as_bytes(), PutOptions::default()).is_ok() {}
        NOW.set(START + 10_000_000);
        settle(&store);
        assert_eq!((all(&store, "later").len(), all(&store, "t.dead").len()), (1, 1));
    }
}
