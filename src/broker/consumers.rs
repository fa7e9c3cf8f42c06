//! Consumers: who receives and removes a topic's messages for as long as it is connected, the
//! backlog first. By the topic's policy each message goes to all of them or to one in turn.
//!
//! A consumer's messages gather in an outbox of its own, from which its connection writes. The
//! group takes on while its fastest member has half an outbox free; a member that falls behind
//! the fastest so far that its outbox overflows is dismissed. Those who wait with a take come
//! first, and while a topic is stopped its consumers get nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::Broker;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::Topic;
use crate::store::{Batch, Op, Outcome, Policy, Returned, Store, lock};

#[derive(Default)]
pub struct Consumers {
    /// How many there are, so that a put that nobody consumes takes no lock.
    count: AtomicUsize,
    groups: Mutex<HashMap<Topic, Arc<Group>>>,
}

/// The consumers of one topic, the next in turn first. Its lock is held while they are served.
#[derive(Default)]
struct Group(Mutex<VecDeque<Arc<Member>>>);

struct Member {
    waker: Waker,
    outbox: Mutex<Outbox>,
}

#[derive(Default)]
struct Outbox {
    messages: VecDeque<Parcel>,
    bytes: usize,
    dismissed: bool,
    /// The topic was purged, with all that was on its way.
    purged: bool,
}

/// A message on its way to a consumer.
#[derive(Debug)]
pub struct Parcel {
    pub message: Arc<Returned>,
    /// Whether it went to others too: then it does not go back if it is not received.
    shared: bool,
}

/// What a consumer is to do next.
#[derive(Debug)]
pub enum Received {
    Message(Parcel),
    /// Nothing is there: sleep until woken.
    Nothing,
    /// It fell too far behind, or its topic was purged: hang up.
    Dismissed,
}

impl Consumers {
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// How many consume the topic.
    pub fn of(&self, topic: &Topic) -> usize {
        self.group(topic).map_or(0, |group| lock(&group.0).len())
    }

    fn group(&self, topic: &Topic) -> Option<Arc<Group>> {
        lock(&self.groups).get(topic).cloned()
    }

    /// A new consumer. The caller serves the topic once more: a message may have come before.
    pub fn join(self: &Arc<Self>, topic: &Topic, waker: Waker) -> Consumer {
        let member = Arc::new(Member { waker, outbox: Mutex::default() });
        let mut groups = lock(&self.groups);
        let group = groups.entry(topic.clone()).or_default().clone();
        lock(&group.0).push_back(member.clone());
        self.count.fetch_add(1, Ordering::SeqCst);
        Consumer { consumers: self.clone(), topic: topic.clone(), group, member }
    }

    /// Takes the topic's messages for its consumers, as long as there are messages and room.
    pub fn serve(&self, store: &dyn Store, topic: &Topic) {
        let Some(group) = self.group(topic) else { return };
        let mut members = lock(&group.0);
        loop {
            let counts = store.head(topic.as_str()).map(|head| head.counts()).unwrap_or_default();
            if counts.stopped {
                return;
            }
            let served = match counts.policy {
                Some(Policy::RoundRobin) => in_turn(store, topic, &mut members),
                Some(Policy::Broadcast) | None => to_all(store, topic, &mut members),
            };
            if !served {
                return;
            }
        }
    }

    /// Tells every consumer of the topic to hang up, once it is purged: nobody is served meanwhile,
    /// so that what is put afterwards stays.
    pub fn dismiss_after<T>(&self, topic: &Topic, purge: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(group) = self.group(topic) else { return purge() };
        let members = lock(&group.0);
        let purged = purge()?;
        members.iter().for_each(|member| member.dismiss());
        Ok(purged)
    }
}

/// Gives the next message to all; false if there is nothing, or no room.
fn to_all(store: &dyn Store, topic: &Topic, members: &mut VecDeque<Arc<Member>>) -> bool {
    members.retain(|member| !lock(&member.outbox).dismissed);
    if !members.iter().any(|member| member.has_room()) {
        return false;
    }
    let Some(message) = take(store, topic) else { return false };
    let (message, shared) = (Arc::new(message), members.len() > 1);
    members.iter().for_each(|member| member.send(message.clone(), shared));
    true
}

/// Gives the next message to the next in turn who has room; false if there is nothing, or no room.
fn in_turn(store: &dyn Store, topic: &Topic, members: &mut VecDeque<Arc<Member>>) -> bool {
    members.retain(|member| !lock(&member.outbox).dismissed);
    let Some(next) = members.iter().position(|member| member.has_room()) else { return false };
    let Some(message) = take(store, topic) else { return false };
    // Who is served goes to the end.
    if let Some(member) = members.remove(next) {
        member.send(Arc::new(message), false);
        members.push_back(member);
    }
    true
}

/// One message at a time: an outbox has room for it, however large, when it is half empty.
fn take(store: &dyn Store, topic: &Topic) -> Option<Returned> {
    let mut batch = Batch::default();
    batch.ops.push(Op::Take { topic: topic.clone(), lease: None });
    store.apply(&mut batch);
    match batch.outcomes.first() {
        Some(Ok(Outcome::Taken(Some(taken)))) => {
            let body = batch.taken_body(taken).into();
            Some(Returned { taken: taken.clone(), body, lease: None })
        }
        Some(Err(error)) => {
            tracing::error!("the consumers of {topic} have to wait: {error}");
            None
        }
        _ => None,
    }
}

impl Member {
    fn has_room(&self) -> bool {
        lock(&self.outbox).bytes < limits::OUTBOX_BYTES / 2
    }

    fn send(&self, message: Arc<Returned>, shared: bool) {
        let mut outbox = lock(&self.outbox);
        let half = limits::OUTBOX_BYTES / 2;
        // One message, however large, goes in behind half an outbox.
        if outbox.bytes >= half && outbox.bytes + message.body.len() > limits::OUTBOX_BYTES {
            outbox.dismissed = true;
        } else if !outbox.dismissed {
            outbox.bytes += message.body.len();
            outbox.messages.push_back(Parcel { message, shared });
        }
        drop(outbox);
        self.waker.wake_by_ref();
    }

    fn dismiss(&self) {
        let mut outbox = lock(&self.outbox);
        outbox.messages.clear();
        (outbox.dismissed, outbox.purged) = (true, true);
        drop(outbox);
        self.waker.wake_by_ref();
    }
}

/// One consumer, who leaves when this is dropped.
pub struct Consumer {
    consumers: Arc<Consumers>,
    topic: Topic,
    group: Arc<Group>,
    member: Arc<Member>,
}

impl Consumer {
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The next message, and whether there is room for more than before it.
    pub fn receive(&self) -> (Received, bool) {
        let mut outbox = lock(&self.member.outbox);
        if outbox.dismissed {
            return (Received::Dismissed, false);
        }
        let Some(parcel) = outbox.messages.pop_front() else { return (Received::Nothing, false) };
        let half = limits::OUTBOX_BYTES / 2;
        let was_full = outbox.bytes >= half;
        outbox.bytes -= parcel.message.body.len();
        (Received::Message(parcel), was_full && outbox.bytes < half)
    }

    /// Leaves, with what was sent to this consumer alone and did not reach it: what it has not
    /// received, and these.
    pub fn leave(self, unwritten: Vec<Parcel>) -> Vec<Returned> {
        self.end();
        let mut outbox = lock(&self.member.outbox);
        if outbox.purged {
            return Vec::new();
        }
        let parcels = unwritten.into_iter().chain(std::mem::take(&mut outbox.messages));
        let own = parcels.filter(|parcel| !parcel.shared);
        own.map(|parcel| Arc::unwrap_or_clone(parcel.message)).collect()
    }

    fn end(&self) {
        let mut groups = lock(&self.consumers.groups);
        let mut members = lock(&self.group.0);
        members.retain(|member| !Arc::ptr_eq(member, &self.member));
        if members.is_empty() {
            groups.remove(&self.topic);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
        self.consumers.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Broker {
    /// Receives and removes the topic's messages from now on, the backlog first; `waker` is woken
    /// when there is something.
    pub fn consume(&self, topic: &Topic, waker: Waker) -> Consumer {
        let consumer = self.consumers.join(topic, waker);
        fence(Ordering::SeqCst);
        self.consumers.serve(&*self.store, topic);
        consumer
    }

    /// What a consumer is to do next.
    pub fn receive(&self, consumer: &Consumer) -> Received {
        let (received, room) = consumer.receive();
        if room {
            self.consumers.serve(&*self.store, consumer.topic());
        }
        received
    }

    /// Ends a consumer, which has received these and they have not reached it. What was sent to it
    /// alone and did not reach it goes to the next.
    pub fn leave(&self, consumer: Consumer, unwritten: Vec<Parcel>) {
        let topic = consumer.topic().clone();
        self.put_all_back(&topic, consumer.leave(unwritten));
    }

    /// Purges the topic, with what is on its way to its consumers, who are told to hang up. Returns
    /// how many messages it removed.
    pub fn purge_and_dismiss(&self, topic: &Topic) -> Result<u64> {
        self.consumers.dismiss_after(topic, || {
            let mut batch = Batch::default();
            batch.ops.push(Op::Purge { topic: topic.clone() });
            self.apply(&mut batch);
            match batch.outcomes.pop() {
                Some(Ok(Outcome::Purged(messages))) => Ok(messages),
                Some(Err(error)) => Err(error),
                _ => Err(Error::new(Code::StoreFailed, "the store did not answer: try again")),
            }
        })
    }
}

#[cfg(test)]
mod tests;
