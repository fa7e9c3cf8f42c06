//! Consumers through the broker: policies, backlog, stop and start, who falls behind, who leaves.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::{Consumer, Received};
use crate::broker::{Broker, Caller};
use crate::limits;
use crate::ops::{Batch, Op, Policy, Topic};
use crate::store::{self, Rules, SyncMode};

fn broker() -> Broker {
    Broker::new(store::in_memory(Rules::default()).unwrap())
}

fn topic() -> Topic {
    Topic::new("t").unwrap()
}

fn apply(broker: &Broker, op: Op) {
    let mut batch = Batch::default();
    batch.ops.push(op);
    broker.apply(&Caller::server(), &mut batch);
    assert!(batch.outcomes[0].is_ok());
}

fn put(broker: &Broker, bodies: &[&str]) {
    let mut batch = Batch::default();
    bodies.iter().for_each(|body| batch.put(topic(), body.as_bytes(), None));
    broker.apply(&Caller::server(), &mut batch);
}

fn policy(broker: &Broker, policy: Policy) {
    apply(broker, Op::SetPolicy { topic: topic(), policy });
}

fn consume(broker: &Broker) -> Consumer {
    broker.consume(&Caller::server(), &topic(), Waker::noop().clone())
}

/// All that a consumer has been sent, and it has reached it; "dismissed" at the end if it is.
fn received(broker: &Broker, consumer: &Consumer) -> Vec<String> {
    let (mut all, mut parcels) = (Vec::new(), Vec::new());
    loop {
        match broker.receive(&Caller::server(), consumer) {
            Received::Message(parcel) => {
                all.push(String::from_utf8_lossy(&parcel.message().body).into_owned());
                parcels.push(parcel);
            }
            Received::Nothing => break,
            Received::Dismissed => {
                all.push("dismissed".to_owned());
                break;
            }
        }
    }
    broker.reached(&Caller::server(), consumer, parcels);
    all
}

/// How many messages nobody has.
fn waiting(broker: &Broker) -> u64 {
    let counts = broker.topics(&Caller::server()).unwrap()[0].counts;
    counts.length - counts.leased
}

/// How many messages there are, with those that are on their way.
fn length(broker: &Broker) -> u64 {
    broker.topics(&Caller::server()).unwrap()[0].counts.length
}

#[test]
fn a_broadcast_reaches_all_and_the_first_gets_the_backlog() {
    let broker = broker();
    put(&broker, &["1", "2"]);
    let first = consume(&broker);
    let second = consume(&broker);
    put(&broker, &["3"]);
    assert_eq!(received(&broker, &first), ["1", "2", "3"]);
    assert_eq!(received(&broker, &second), ["3"]);
    assert_eq!(length(&broker), 0, "what reaches a consumer is removed");
}

#[test]
fn in_turn_each_message_reaches_one() {
    let broker = broker();
    policy(&broker, Policy::RoundRobin);
    put(&broker, &["0"]);
    let consumers = [consume(&broker), consume(&broker), consume(&broker)];
    put(&broker, &["1", "2", "3", "4", "5", "6"]);
    let all: Vec<Vec<String>> = consumers.iter().map(|c| received(&broker, c)).collect();
    assert_eq!(all, [vec!["0", "1", "4"], vec!["2", "5"], vec!["3", "6"]]);
}

#[test]
fn a_stopped_topic_holds_its_messages_from_consumers_alone() {
    let broker = broker();
    let consumer = consume(&broker);
    apply(&broker, Op::SetStopped { topic: topic(), stopped: true });
    put(&broker, &["1", "2"]);
    assert!(received(&broker, &consumer).is_empty());
    apply(&broker, Op::Take { topic: topic(), lease: None });
    apply(&broker, Op::SetStopped { topic: topic(), stopped: false });
    assert_eq!(received(&broker, &consumer), ["2"]);
}

#[test]
fn who_leaves_gives_back_what_was_its_alone() {
    let broker = broker();
    policy(&broker, Policy::RoundRobin);
    let (first, second) = (consume(&broker), consume(&broker));
    put(&broker, &["1", "2", "3"]);
    let Received::Message(parcel) = broker.receive(&Caller::server(), &first) else {
        panic!("nothing came")
    };
    broker.leave(&Caller::server(), first, vec![parcel]);
    assert_eq!(received(&broker, &second), ["2", "1", "3"]);
    put(&broker, &["4"]);
    broker.leave(&Caller::server(), second, Vec::new());
    assert_eq!(length(&broker), 1);
    assert_eq!(received(&broker, &consume(&broker)), ["4"]);
}

#[test]
fn a_backlog_larger_than_an_outbox_comes_whole() {
    let broker = broker();
    let body = "7".repeat(100_000);
    for _ in 0..50 {
        put(&broker, &[&body]);
    }
    let consumer = consume(&broker);
    assert!(waiting(&broker) > 30, "only what has room is taken");
    assert_eq!(received(&broker, &consumer).len(), 50);
    assert_eq!(length(&broker), 0);
}

#[test]
fn a_broadcast_goes_at_the_pace_of_the_slowest() {
    let broker = broker();
    let (fast, slow) = (consume(&broker), consume(&broker));
    let body = "7".repeat(limits::OUTBOX_BYTES / 4);
    for _ in 0..8 {
        put(&broker, &[&body]);
    }
    let before = received(&broker, &fast).len();
    assert!((1..8).contains(&before), "{before}");
    assert_eq!(waiting(&broker), 8 - before as u64, "the rest waits for the slow one");
    assert_eq!(received(&broker, &slow).len(), 8);
    assert_eq!(received(&broker, &fast).len(), 8 - before);
    assert_eq!(length(&broker), 0);
}

#[test]
fn who_stands_still_is_dismissed_once_others_wait_for_it() {
    let broker = broker();
    let (fast, slow) = (consume(&broker), consume(&broker));
    put(&broker, &[&"7".repeat(limits::OUTBOX_BYTES / 2)]);
    assert_eq!(received(&broker, &fast).len(), 1);
    put(&broker, &["1"]);
    assert_eq!(received(&broker, &fast), [""; 0]);
    let has_room = |after| slow.group.has_room(None, Instant::now() + after);
    assert!(!has_room(limits::CONSUMER_STALL / 2));
    assert!(has_room(limits::CONSUMER_STALL));
    put(&broker, &["2"]);
    assert_eq!(received(&broker, &fast), ["1", "2"]);
    assert_eq!(received(&broker, &slow), ["dismissed"]);
    broker.leave(&Caller::server(), slow, Vec::new());
    assert_eq!(length(&broker), 0, "all of it has reached the other");
}

#[test]
fn what_was_received_and_not_written_goes_back() {
    let broker = broker();
    let consumer = consume(&broker);
    put(&broker, &["1", "2", "3"]);
    let Received::Message(written) = broker.receive(&Caller::server(), &consumer) else {
        panic!("nothing came")
    };
    broker.reached(&Caller::server(), &consumer, vec![written]);
    let Received::Message(unwritten) = broker.receive(&Caller::server(), &consumer) else {
        panic!("nothing came")
    };
    broker.leave(&Caller::server(), consumer, vec![unwritten]);
    let next = consume(&broker);
    assert_eq!(received(&broker, &next), ["2", "3"]);
    drop(next);
    // Messages that reached another consumer stay removed; the others return.
    let (first, second) = (consume(&broker), consume(&broker));
    put(&broker, &["4", "5"]);
    let Received::Message(unwritten) = broker.receive(&Caller::server(), &first) else {
        panic!("nothing came")
    };
    broker.leave(&Caller::server(), first, vec![unwritten]);
    let Received::Message(written) = broker.receive(&Caller::server(), &second) else {
        panic!("nothing came")
    };
    broker.reached(&Caller::server(), &second, vec![written]);
    broker.leave(&Caller::server(), second, Vec::new());
    assert_eq!(received(&broker, &consume(&broker)), ["5"]);
    assert_eq!(length(&broker), 0);
}

#[test]
fn what_is_on_its_way_is_kept_until_it_has_arrived() {
    let broker = broker();
    let consumer = consume(&broker);
    put(&broker, &["1", "2"]);
    let Received::Message(parcel) = broker.receive(&Caller::server(), &consumer) else {
        panic!("nothing came")
    };
    assert_eq!((length(&broker), waiting(&broker)), (2, 0));
    broker.reached(&Caller::server(), &consumer, vec![parcel]);
    assert_eq!((length(&broker), waiting(&broker)), (1, 0));
}

#[test]
fn a_purge_dismisses_the_consumers_with_all_that_is_on_its_way_to_them() {
    let broker = broker();
    let consumer = consume(&broker);
    put(&broker, &["1", "2"]);
    let Received::Message(unwritten) = broker.receive(&Caller::server(), &consumer) else {
        panic!("nothing came")
    };
    assert_eq!(
        broker.purge_and_dismiss(&Caller::server(), &topic()),
        Ok(false),
        "all of it was on its way"
    );
    assert_eq!(received(&broker, &consumer), ["dismissed"]);
    put(&broker, &["3"]);
    broker.leave(&Caller::server(), consumer, vec![unwritten]);
    assert_eq!(length(&broker), 1, "nobody is left to take it, and nothing came back");
    assert_eq!(broker.purge_and_dismiss(&Caller::server(), &topic()), Ok(true));
    assert_eq!(length(&broker), 0);
}

#[test]
fn a_purge_by_others_leaves_the_consumers_and_recalls_what_is_on_its_way() {
    let broker = broker();
    let consumer = consume(&broker);
    put(&broker, &["1", "2"]);
    let Received::Message(unwritten) = broker.receive(&Caller::server(), &consumer) else {
        panic!("nothing came")
    };
    apply(&broker, Op::Purge { topic: topic() });
    put(&broker, &["3"]);
    assert_eq!(received(&broker, &consumer), ["3"]);
    broker.leave(&Caller::server(), consumer, vec![unwritten]);
    assert_eq!(length(&broker), 0);
}

#[test]
fn a_group_that_was_left_does_not_take_the_next_with_it() {
    let broker = broker();
    let (slow, fast) = (consume(&broker), consume(&broker));
    slow.member.dismiss();
    put(&broker, &["1"]);
    assert_eq!(received(&broker, &fast), ["1"]);
    broker.leave(&Caller::server(), fast, Vec::new());
    let next = consume(&broker);
    broker.leave(&Caller::server(), slow, Vec::new());
    put(&broker, &["2"]);
    assert_eq!(received(&broker, &next), ["2"]);
    assert_eq!(broker.topics(&Caller::server()).unwrap()[0].consumers, 1);
}

#[test]
fn nothing_is_taken_once_the_broker_closes() {
    let broker = broker();
    let consumer = consume(&broker);
    broker.close();
    put(&broker, &["1"]);
    assert_eq!(received(&broker, &consumer), [""; 0]);
    assert_eq!(waiting(&broker), 1);
}

#[test]
fn a_file_that_was_left_has_all_that_had_not_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.db");
    let rules = Rules { dead_letter_after: 1, ..Rules::default() };
    let open = || Broker::new(store::in_file(&path, SyncMode::Full, rules).unwrap());
    let first = open();
    put(&first, &["1", "2", "3"]);
    let consumer = consume(&first);
    let Received::Message(written) = first.receive(&Caller::server(), &consumer) else {
        panic!("nothing came")
    };
    first.reached(&Caller::server(), &consumer, vec![written]);
    let Received::Message(_unwritten) = first.receive(&Caller::server(), &consumer) else {
        panic!("nothing came")
    };
    // As if the process were killed: nobody leaves.
    drop((consumer, first));
    let second = open();
    second.catch_up();
    assert_eq!(received(&second, &consume(&second)), ["2", "3"]);
    assert_eq!(
        (length(&second), second.topics(&Caller::server()).unwrap().len()),
        (0, 1),
        "no letter is dead"
    );
}

#[test]
fn consumers_and_takers_on_many_threads_get_each_message_once() {
    let broker = Arc::new(broker());
    policy(&broker, Policy::RoundRobin);
    let consumers: Vec<Consumer> = (0..4).map(|_| consume(&broker)).collect();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let broker = &broker;
            scope.spawn(move || {
                for i in 0..250 {
                    put(broker, &[&(writer * 250 + i).to_string()]);
                }
            });
        }
    });
    let mut all: Vec<u32> = consumers
        .iter()
        .flat_map(|consumer| received(&broker, consumer))
        .map(|body| body.parse().unwrap())
        .collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..1_000));
}
