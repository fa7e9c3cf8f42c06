//! Consumers: connections that receive and remove the messages of a topic, as RestMQ's clients do.
//! By the topic's policy each message goes to all consumers or to one of them in turn.
//!
//! Messages are taken under a lease, several at a time, and wait in outboxes from which the
//! connections write. Messages that reached their consumers are acknowledged, the others return to
//! the topic. A put does not wait for this: it wakes a sleeping consumer, and a consumer with an
//! empty outbox takes for the whole group. A broadcast goes at the pace of the slowest consumer;
//! one that reads nothing while others wait is disconnected. Waiting takers come before consumers,
//! and a stopped topic gives its consumers nothing.

mod serve;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Instant;

use crate::limits;
use crate::ops::{Policy, Requeue, Topic};
use crate::sync::lock;

/// A consumer with this many bytes in its outbox receives no more messages.
const ROOM: usize = limits::OUTBOX_BYTES / 2;

/// Bytes that a message in an outbox takes besides its text, estimated.
const PARCEL_BYTES: usize = 128;

#[derive(Default)]
pub struct Consumers {
    /// Number of consumers, so that a put without consumers takes no lock.
    count: AtomicUsize,
    groups: Mutex<HashMap<Topic, Arc<Group>>>,
}

/// The consumers of one topic.
#[derive(Default)]
struct Group {
    /// The next in turn comes first.
    members: Mutex<VecDeque<Arc<Member>>>,
    turn: Mutex<Turn>,
}

/// Whether a consumer takes for the group. One at a time does so, without holding a lock.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Free,
    Taken,
    /// Another consumer asked meanwhile: there may be new messages.
    Wanted,
}

struct Member {
    waker: Waker,
    outbox: Mutex<Outbox>,
}

struct Outbox {
    parcels: VecDeque<Delivery>,
    bytes: usize,
    dismissed: bool,
    /// It found nothing, and only its waker brings it back.
    asleep: bool,
    /// Since when others wait for it.
    hurried: Option<Instant>,
}

/// A message on its way to one or more consumers. Its holder must report the result, by
/// [`Broker::reached`] or [`Broker::leave`].
#[derive(Debug)]
pub struct Delivery(Arc<Given>);

#[derive(Debug)]
struct Given {
    message: Requeue,
    reached: AtomicBool,
}

/// The next step of a consumer.
#[derive(Debug)]
pub enum Received {
    Message(Delivery),
    /// There is no message: sleep until woken.
    Nothing,
    /// Disconnect: it read nothing while others waited, or its topic was purged.
    Dismissed,
}

impl Delivery {
    fn new(message: Requeue) -> Delivery {
        Delivery(Arc::new(Given { message, reached: AtomicBool::new(false) }))
    }

    pub fn message(&self) -> &Requeue {
        &self.0.message
    }

    fn bytes(&self) -> usize {
        self.0.message.body.len() + PARCEL_BYTES
    }
}

impl Consumers {
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Number of consumers of the topic.
    pub fn of(&self, topic: &Topic) -> usize {
        self.group(topic).map_or(0, |group| lock(&group.members).len())
    }

    fn group(&self, topic: &Topic) -> Option<Arc<Group>> {
        lock(&self.groups).get(topic).cloned()
    }

    fn join(self: &Arc<Self>, topic: &Topic, waker: Waker) -> Consumer {
        let outbox = Mutex::new(Outbox {
            parcels: VecDeque::new(),
            bytes: 0,
            dismissed: false,
            asleep: false,
            hurried: None,
        });
        let member = Arc::new(Member { waker, outbox });
        let mut groups = lock(&self.groups);
        let group = groups.entry(topic.clone()).or_default().clone();
        // Under the lock of the groups, so that this group is not removed as empty.
        lock(&group.members).push_back(member.clone());
        self.count.fetch_add(1, Ordering::SeqCst);
        let consumers = self.clone();
        Consumer { consumers, topic: topic.clone(), group, member, ended: false }
    }

    /// Wakes one sleeping consumer of the topic. Consumers that are awake look for messages before
    /// they sleep.
    pub fn wake(&self, topic: &Topic) {
        let Some(group) = self.group(topic) else { return };
        let members = lock(&group.members);
        let sleeper = members.iter().find(|member| mem::take(&mut lock(&member.outbox).asleep));
        if let Some(member) = sleeper {
            member.waker.wake_by_ref();
        }
    }

    /// Empties the outboxes.
    fn recall(&self, topic: &Topic) -> Vec<Delivery> {
        let Some(group) = self.group(topic) else { return Vec::new() };
        let members = lock(&group.members);
        members.iter().flat_map(|member| lock(&member.outbox).empty()).collect()
    }

    /// Tells every consumer of the topic to disconnect.
    fn dismiss(&self, topic: &Topic) {
        let Some(group) = self.group(topic) else { return };
        lock(&group.members).iter().for_each(|member| member.dismiss());
    }
}

impl Group {
    /// Whether the caller takes now. If not, the consumer that takes looks once more.
    fn begin(&self) -> bool {
        let mut turn = lock(&self.turn);
        match mem::replace(&mut *turn, Turn::Wanted) {
            Turn::Free => {
                *turn = Turn::Taken;
                true
            }
            Turn::Taken | Turn::Wanted => false,
        }
    }

    /// Whether the caller is done; if not, it must look once more.
    fn end(&self) -> bool {
        let mut turn = lock(&self.turn);
        *turn = match *turn {
            Turn::Wanted => Turn::Taken,
            Turn::Taken | Turn::Free => Turn::Free,
        };
        *turn == Turn::Free
    }

    /// Whether the group can receive more messages.
    fn has_room(&self, policy: Option<Policy>, now: Instant) -> bool {
        let mut members = lock(&self.members);
        members.retain(|member| !lock(&member.outbox).dismissed);
        let has_room = |member: &Arc<Member>| lock(&member.outbox).bytes < ROOM;
        if policy == Some(Policy::RoundRobin) {
            return members.iter().any(has_room);
        }
        if members.iter().any(has_room) {
            members.iter().filter(|member| !has_room(member)).for_each(|full| full.hurry(now));
            members.retain(|member| !lock(&member.outbox).dismissed);
        }
        !members.is_empty() && members.iter().all(has_room)
    }

    /// Gives messages to all consumers, or each to the next in turn. Returns the messages
    /// that no consumer can receive.
    fn give(&self, policy: Option<Policy>, messages: Vec<Requeue>) -> Vec<Delivery> {
        let mut members = lock(&self.members);
        let mut left = Vec::new();
        for message in messages {
            let parcel = Delivery::new(message);
            if policy == Some(Policy::RoundRobin) {
                let free = |member: &Arc<Member>| lock(&member.outbox).bytes < ROOM;
                // A consumer that receives a message moves to the end.
                let next = members.iter().position(free).unwrap_or(0);
                match members.remove(next) {
                    Some(member) => {
                        left.extend(member.send(parcel));
                        members.push_back(member);
                    }
                    None => left.push(parcel),
                }
            } else {
                for member in &*members {
                    left.extend(member.send(Delivery(parcel.0.clone())));
                }
                left.push(parcel);
            }
        }
        left
    }
}

impl Member {
    /// Returns a message that can no longer be sent.
    fn send(&self, parcel: Delivery) -> Option<Delivery> {
        let mut outbox = lock(&self.outbox);
        if outbox.dismissed {
            return Some(parcel);
        }
        outbox.bytes += parcel.bytes();
        outbox.parcels.push_back(parcel);
        if mem::take(&mut outbox.asleep) {
            self.waker.wake_by_ref();
        }
        None
    }

    /// Others wait for this consumer: it has limited time to read on.
    fn hurry(&self, now: Instant) {
        let since = *lock(&self.outbox).hurried.get_or_insert(now);
        if now.saturating_duration_since(since) >= limits::CONSUMER_STALL {
            self.dismiss();
        }
    }

    fn dismiss(&self) {
        lock(&self.outbox).dismissed = true;
        self.waker.wake_by_ref();
    }
}

impl Outbox {
    fn empty(&mut self) -> VecDeque<Delivery> {
        self.bytes = 0;
        mem::take(&mut self.parcels)
    }
}

/// One consumer. Its holder must end it with [`Broker::leave`], because it may hold messages.
pub struct Consumer {
    consumers: Arc<Consumers>,
    topic: Topic,
    group: Arc<Group>,
    member: Arc<Member>,
    ended: bool,
}

impl Consumer {
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The next message, and whether it is time to take more.
    fn receive(&self) -> (Received, bool) {
        let mut outbox = lock(&self.member.outbox);
        outbox.hurried = None;
        if outbox.dismissed {
            return (Received::Dismissed, false);
        }
        let Some(parcel) = outbox.parcels.pop_front() else {
            let fell_asleep = !mem::replace(&mut outbox.asleep, true);
            return (Received::Nothing, fell_asleep);
        };
        let was_full = outbox.bytes >= ROOM;
        outbox.bytes = outbox.bytes.saturating_sub(parcel.bytes());
        (Received::Message(parcel), was_full && outbox.bytes < ROOM)
    }

    fn end(&mut self) {
        if mem::replace(&mut self.ended, true) {
            return;
        }
        let mut groups = lock(&self.consumers.groups);
        let mut members = lock(&self.group.members);
        members.retain(|member| !Arc::ptr_eq(member, &self.member));
        // The topic may have another group by now, if this one was removed as empty.
        let current =
            groups.get(&self.topic).is_some_and(|current| Arc::ptr_eq(current, &self.group));
        if members.is_empty() && current {
            groups.remove(&self.topic);
        }
        self.consumers.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
