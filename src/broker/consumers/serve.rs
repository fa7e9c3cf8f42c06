//! Takes messages for consumers and settles their deliveries. Part of the broker.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Waker;
use std::time::Instant;

use super::{Consumer, Delivery, Given, Group, Received};
use crate::broker::{Broker, Caller};
use crate::error::{Code, Result};
use crate::ops::{Batch, Op, Outcome, Requeue, Topic};
use crate::store::{SharedStore, Store, UNTIL_RESTART};
use crate::sync::lock;

/// Maximum number of messages that one batch takes.
const TAKEN_AT_ONCE: usize = 64;

impl Broker {
    /// Starts a consumer, which receives and removes the topic's messages from now on, waiting ones
    /// first. Wakes `waker` when there are messages.
    pub fn consume(&self, _: &Caller, topic: &Topic, waker: Waker) -> Consumer {
        let consumer = self.consumers.join(topic, waker);
        self.take_for(&consumer.group, topic);
        consumer
    }

    /// The next step of a consumer.
    pub fn receive(&self, _: &Caller, consumer: &Consumer) -> Received {
        let (received, room) = consumer.receive();
        if !room {
            return received;
        }
        // Pairs with the fence of `apply`: either a thread that makes messages available sees the
        // sleeping consumer, or the consumer sees the messages.
        fence(Ordering::SeqCst);
        self.take_for(&consumer.group, &consumer.topic);
        match received {
            Received::Nothing => consumer.receive().0,
            received => received,
        }
    }

    /// Reports that these messages have reached the consumer.
    pub fn reached(&self, _: &Caller, consumer: &Consumer, parcels: Vec<Delivery>) {
        parcels.iter().for_each(|parcel| parcel.0.reached.store(true, Ordering::Relaxed));
        self.settle(&consumer.topic, parcels);
    }

    /// Ends a consumer that has received these messages but did not write them. Messages that
    /// reached no consumer go to the next one.
    pub fn leave(&self, _: &Caller, mut consumer: Consumer, unwritten: Vec<Delivery>) {
        consumer.end();
        let sent = lock(&consumer.member.outbox).empty();
        self.settle(&consumer.topic, unwritten.into_iter().chain(sent));
        self.consumers.wake(&consumer.topic);
    }

    /// The last holder of a message decides whether it is acknowledged or returned.
    fn settle(&self, topic: &Topic, parcels: impl IntoIterator<Item = Delivery>) {
        let last = parcels.into_iter().filter_map(|parcel| Arc::into_inner(parcel.0));
        let ops = last.filter_map(|Given { message, reached }| match reached.into_inner() {
            false => Some(Op::PutBack { topic: topic.clone(), message: Box::new(message) }),
            // Without a lease the take removed it.
            true => message.lease.map(|_| Op::Ack {
                topic: topic.clone(),
                id: message.taken.id,
                deliveries: message.taken.deliveries,
            }),
        });
        let mut batch = Batch::default();
        batch.ops.extend(ops);
        if batch.ops.is_empty() {
            return;
        }
        self.apply(&Caller::server(), &mut batch);
        // A message that was purged meanwhile needs no settling.
        let failed = batch.outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let failed: Vec<_> = failed.filter(|error| error.code != Code::Gone).collect();
        if let Some(error) = failed.first() {
            let until = match lease(&*self.store) {
                UNTIL_RESTART => "until the server is restarted",
                _ => "until their lease ends",
            };
            tracing::error!(
                "cannot settle {} messages of {topic}, they stay leased {until}: {error}",
                failed.len()
            );
        }
    }

    /// Takes messages for the group while there are some and the group has room.
    fn take_for(&self, group: &Group, topic: &Topic) {
        if !group.begin() {
            return;
        }
        loop {
            while self.check_open(&Caller::server()).is_ok() && self.take_some_for(group, topic) {}
            if group.end() {
                return;
            }
        }
    }

    /// Returns true if there may be more.
    fn take_some_for(&self, group: &Group, topic: &Topic) -> bool {
        let Some(head) = self.store.topic(topic.as_str()) else { return false };
        let counts = head.counts();
        if counts.stopped || !group.has_room(counts.policy, Instant::now()) {
            return false;
        }
        if self.takers.any() {
            self.serve_takers(topic);
        }
        let (messages, more) = take(&*self.store, topic).unwrap_or_else(|error| {
            self.serve_later(topic);
            // The store logs by itself that it is unavailable.
            if error.code != Code::Unavailable {
                tracing::error!("cannot take messages for the consumers of {topic}: {error}");
            }
            (Vec::new(), false)
        });
        self.settle(topic, group.give(counts.policy, messages));
        more
    }

    /// Purges the topic and disconnects its consumers. Returns whether messages were waiting in it.
    pub fn purge_and_dismiss(&self, caller: &Caller, topic: &Topic) -> Result<bool> {
        let counts = self.store.topic(topic.as_str()).map(|head| head.counts()).unwrap_or_default();
        let mut batch = Batch::default();
        batch.ops.push(Op::Purge { topic: topic.clone() });
        self.apply(caller, &mut batch);
        self.consumers.dismiss(topic);
        batch.only().map(|_| counts.length > counts.leased)
    }

    /// Recalls the messages on their way to the topic's consumers, after a purge.
    pub(in super::super) fn recall(&self, topic: &Topic) {
        self.settle(topic, self.consumers.recall(topic));
    }
}

/// The lease of messages on their way to consumers, in microseconds.
fn lease(store: &dyn Store) -> u64 {
    store.shared().map_or(UNTIL_RESTART, SharedStore::consumer_lease)
}

/// The next messages of the topic, and whether there may be more.
fn take(store: &dyn Store, topic: &Topic) -> Result<(Vec<Requeue>, bool)> {
    match take_under(store, topic, Some(lease(store))) {
        // A full store cannot record leases, so the messages are removed at once.
        Err(error) if error.code == Code::Full => take_under(store, topic, None),
        taken => taken,
    }
}

fn take_under(
    store: &dyn Store,
    topic: &Topic,
    lease: Option<u64>,
) -> Result<(Vec<Requeue>, bool)> {
    let mut batch = Batch::default();
    batch.ops.extend((0..TAKEN_AT_ONCE).map(|_| Op::Take { topic: topic.clone(), lease }));
    store.apply(&mut batch);
    let mut messages = Vec::new();
    for outcome in mem::take(&mut batch.outcomes) {
        match outcome {
            Ok(Outcome::Taken(Some(taken))) => {
                let body = batch.taken_body(&taken).into();
                messages.push(Requeue { taken, body, lease });
            }
            // The batch is full.
            Ok(Outcome::Later) => return Ok((messages, true)),
            Ok(_) => return Ok((messages, false)),
            Err(error) if messages.is_empty() => return Err(error),
            // The messages taken before the error come first.
            Err(_) => return Ok((messages, true)),
        }
    }
    Ok((messages, true))
}
