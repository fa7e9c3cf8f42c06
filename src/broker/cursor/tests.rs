//! Tests of how far a place's memory goes. The model tests what it does within these bounds.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::{Broker, Caller, From, Pattern, Session};
use crate::error::Result;
use crate::limits;
use crate::ops::{Batch, Id, Op, Outcome, Requeue, Topic};
use crate::store::{self, Rules};

fn topic() -> Topic {
    Topic::new("t").unwrap()
}

fn broker() -> Broker {
    Broker::new(store::in_memory(Rules::default()).unwrap())
}

fn put(broker: &Broker, count: usize) -> Vec<Id> {
    let mut batch = Batch::default();
    (0..count).for_each(|_| batch.put(topic(), b"1", None));
    broker.apply(&Caller::server(), &mut batch);
    let id = |outcome: &Result<Outcome>| match outcome {
        Ok(Outcome::Stored { id, .. }) => *id,
        other => panic!("{other:?}"),
    };
    batch.outcomes.iter().map(id).collect()
}

fn take(broker: &Broker, count: usize) -> Vec<Requeue> {
    let mut batch = Batch::default();
    batch.ops.extend((0..count).map(|_| Op::Take { topic: topic(), lease: None }));
    broker.apply(&Caller::server(), &mut batch);
    let returned = |outcome: &Result<Outcome>| match outcome {
        Ok(Outcome::Taken(Some(taken))) => {
            let body = batch.taken_body(taken).into();
            Requeue { taken: taken.clone(), body, lease: None }
        }
        other => panic!("{other:?}"),
    };
    batch.outcomes.iter().map(returned).collect()
}

fn put_back(broker: &Broker, messages: Vec<Requeue>) {
    messages.into_iter().for_each(|message| broker.put_back(&Caller::server(), topic(), message));
}

fn get(broker: &Broker, session: &mut Session) -> Option<Id> {
    broker.get(&Caller::server(), session, "t", None).unwrap().map(|message| message.id)
}

/// All that a session has not had.
fn rest(broker: &Broker, session: &mut Session) -> Vec<Id> {
    std::iter::from_fn(|| get(broker, session)).collect()
}

#[test]
fn put_back_is_owed_within_the_memory_of_a_place() {
    for more in [false, true] {
        let broker = broker();
        let mut session = broker.session(&Caller::server());
        let first = put(&broker, 1);
        let taken = take(&broker, 1);
        let passed = put(&broker, limits::HANDED_OUT + usize::from(more));
        assert_eq!(rest(&broker, &mut session), passed);
        put_back(&broker, taken);
        // Beyond that it would not know whether it handed it out, and nothing comes twice.
        let owed = if more { vec![] } else { first };
        assert_eq!(rest(&broker, &mut session), owed);
    }
}

#[test]
fn topic_without_takes_costs_a_place_no_memory() {
    let broker = broker();
    let mut session = broker.session(&Caller::server());
    let ids = put(&broker, 100);
    assert_eq!(rest(&broker, &mut session), ids);
    let state = broker.store.topic("t").unwrap();
    assert!(!state.is_taken_from());
    let mut cursor = super::Cursor::new(0, Some(Arc::clone(&state)));
    while cursor.advance(&*broker.store, "t").unwrap().is_some() {
        cursor.take();
    }
    assert_eq!((cursor.had.ids.len(), cursor.had.floor), (0, ids[99]));
    // Messages handed out before are not handed out again.
    let taken = take(&broker, 100);
    put_back(&broker, taken);
    assert_eq!(rest(&broker, &mut session), Vec::<Id>::new());
}

#[test]
fn many_put_backs_come_once_and_in_order() {
    const MORE: usize = 3;
    let broker = broker();
    let [mut reads, mut had, mut latest] = [(); 3].map(|()| broker.session(&Caller::server()));
    let mut follows = broker.session(&Caller::server());
    let pattern = Pattern::Topic(topic());
    broker
        .subscribe(&Caller::server(), &mut follows, vec![pattern], From::Oldest, Waker::noop())
        .unwrap();
    let mut pushed = || -> Vec<Id> {
        let mut ids = Vec::new();
        while let Some(pushes) = broker.pushes(&Caller::server(), &mut follows).unwrap() {
            ids.extend(pushes.range.map(|index| pushes.chunk.get(index).unwrap().id));
        }
        ids
    };
    let ids = put(&broker, MORE * limits::PUT_BACKS + 1);
    assert_eq!(rest(&broker, &mut had), ids);
    let mut taken = take(&broker, ids.len());
    let marks = put(&broker, 2);
    for session in [&mut reads, &mut had] {
        assert_eq!(rest(&broker, session), marks);
    }
    assert_eq!(pushed(), marks);
    let newest = broker
        .get_latest(&Caller::server(), &mut latest, "t", None)
        .unwrap()
        .map(|message| message.id);
    assert_eq!(newest, Some(marks[1]));
    // In no order, and one of them goes again before anyone looks.
    taken.rotate_left(100);
    put_back(&broker, taken);
    let again = take(&broker, 1);
    assert_eq!(again[0].taken.id, ids[0]);
    assert_eq!(rest(&broker, &mut reads), ids[1..]);
    assert_eq!(pushed(), ids[1..]);
    for session in [&mut had, &mut latest] {
        assert_eq!(rest(&broker, session), Vec::<Id>::new());
    }
    put_back(&broker, again);
    assert_eq!((rest(&broker, &mut reads), pushed()), (vec![ids[0]], vec![ids[0]]));
    assert_eq!(rest(&broker, &mut had), Vec::<Id>::new());
}

#[test]
fn get_latest_hands_out_the_newest_put_back() {
    let broker = broker();
    let mut session = broker.session(&Caller::server());
    let ids = put(&broker, 3);
    let mut taken = take(&broker, 3);
    let mark = put(&broker, 1);
    assert_eq!(rest(&broker, &mut session), mark);
    let last = taken.pop();
    put_back(&broker, taken);
    let newest = broker
        .get_latest(&Caller::server(), &mut session, "t", None)
        .unwrap()
        .map(|message| message.id);
    assert_eq!(newest, Some(ids[1]));
    assert_eq!(get(&broker, &mut session), None);
    put_back(&broker, last.into_iter().collect());
    assert_eq!(rest(&broker, &mut session), [ids[2]]);
}
