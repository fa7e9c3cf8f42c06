//! Consumers through the broker: policies, backlog, stop and start, who falls behind, who leaves.

use std::sync::Arc;
use std::task::Waker;

use super::{Consumer, Received};
use crate::broker::Broker;
use crate::limits;
use crate::message::Topic;
use crate::store::{self, Batch, Op, Policy, Rules};

fn broker() -> Broker {
    Broker::new(store::in_memory(Rules::default()).unwrap())
}

fn topic() -> Topic {
    Topic::new("t").unwrap()
}

fn apply(broker: &Broker, op: Op) {
    let mut batch = Batch::default();
    batch.ops.push(op);
    broker.apply(&mut batch);
    assert!(batch.outcomes[0].is_ok());
}

fn put(broker: &Broker, bodies: &[&str]) {
    let mut batch = Batch::default();
    bodies.iter().for_each(|body| batch.put(topic(), body.as_bytes(), None));
    broker.apply(&mut batch);
}

fn policy(broker: &Broker, policy: Policy) {
    apply(broker, Op::SetPolicy { topic: topic(), policy });
}

fn consume(broker: &Broker) -> Consumer {
    broker.consume(&topic(), Waker::noop().clone())
}

/// All that a consumer has been sent; "dismissed" at the end if it is.
fn received(broker: &Broker, consumer: &Consumer) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match broker.receive(consumer) {
            Received::Message(parcel) => {
                all.push(String::from_utf8_lossy(&parcel.message.body).into_owned());
            }
            Received::Nothing => return all,
            Received::Dismissed => {
                all.push("dismissed".to_owned());
                return all;
            }
        }
    }
}

fn length(broker: &Broker) -> u64 {
    broker.topics().unwrap()[0].counts.length
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
    broker.leave(first, Vec::new());
    assert_eq!(received(&broker, &second), ["2", "1", "3"]);
    put(&broker, &["4"]);
    broker.leave(second, Vec::new());
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
    assert!(length(&broker) > 30, "only what has room is taken");
    assert_eq!(received(&broker, &consumer).len(), 50);
}

#[test]
fn who_falls_behind_is_dismissed_and_the_others_go_on() {
    let broker = broker();
    let (fast, slow) = (consume(&broker), consume(&broker));
    let body = "7".repeat(limits::OUTBOX_BYTES / 4);
    for _ in 0..8 {
        put(&broker, &[&body]);
        assert_eq!(received(&broker, &fast).len(), 1);
    }
    assert_eq!(received(&broker, &slow), ["dismissed"]);
}

#[test]
fn what_was_received_and_not_written_goes_back() {
    let broker = broker();
    let consumer = consume(&broker);
    put(&broker, &["1", "2", "3"]);
    let Received::Message(written) = broker.receive(&consumer) else { panic!("nothing came") };
    drop(written);
    let Received::Message(unwritten) = broker.receive(&consumer) else { panic!("nothing came") };
    broker.leave(consumer, vec![unwritten]);
    assert_eq!(received(&broker, &consume(&broker)), ["2", "3"]);
    // What others have got too does not.
    let (first, second) = (consume(&broker), consume(&broker));
    put(&broker, &["4"]);
    let Received::Message(unwritten) = broker.receive(&first) else { panic!("nothing came") };
    broker.leave(first, vec![unwritten]);
    assert_eq!(received(&broker, &second), ["4"]);
    assert_eq!(length(&broker), 0);
}

#[test]
fn a_purge_dismisses_the_consumers_with_all_that_is_on_its_way_to_them() {
    let broker = broker();
    let consumer = consume(&broker);
    put(&broker, &["1", "2"]);
    let Received::Message(unwritten) = broker.receive(&consumer) else { panic!("nothing came") };
    assert_eq!(broker.purge_and_dismiss(&topic()), Ok(0), "all of it was on its way");
    assert_eq!(received(&broker, &consumer), ["dismissed"]);
    put(&broker, &["3"]);
    broker.leave(consumer, vec![unwritten]);
    assert_eq!(length(&broker), 1, "nobody is left to take it, and nothing came back");
    assert_eq!(broker.purge_and_dismiss(&topic()), Ok(1));
    assert_eq!(length(&broker), 0);
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
