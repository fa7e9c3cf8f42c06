//! Consumers: who receives and removes a topic's messages for as long as it is connected, the
//! backlog first. By the topic's policy each message goes to all of them or to one in turn.
//!
//! Messages are taken under a lease, some at a time, and gather in outboxes, from which connections
//! write. What has reached its consumers is acknowledged; what has not goes back. No put waits for
//! that: it wakes a consumer that sleeps, and whoever has nothing left takes for all. A broadcast
//! goes at the pace of the slowest; one that stands still while others wait is dismissed. Those who
//! wait with a take come first, and while a topic is stopped its consumers get nothing.

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

/// With so many bytes in its outbox a consumer is given no more.
const ROOM: usize = limits::OUTBOX_BYTES / 2;

/// What a message in an outbox takes beside its text.
const PARCEL_BYTES: usize = 128;

#[derive(Default)]
pub struct Consumers {
    /// How many there are, so that a put that nobody consumes takes no lock.
    count: AtomicUsize,
    groups: Mutex<HashMap<Topic, Arc<Group>>>,
}

/// The consumers of one topic.
#[derive(Default)]
struct Group {
    /// The next in turn first.
    members: Mutex<VecDeque<Arc<Member>>>,
    turn: Mutex<Turn>,
}

/// Whether somebody takes for the group. One does so at a time, and holds no lock meanwhile.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Free,
    Taken,
    /// Somebody else wanted it: there may be something new.
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
    /// It was told that there is nothing: only a waker brings it back.
    asleep: bool,
    /// Since when others wait for it.
    hurried: Option<Instant>,
}

/// A message on its way to a consumer, and perhaps to others. Whoever has it says what became of it,
/// by [`Broker::reached`] or [`Broker::leave`].
#[derive(Debug)]
pub struct Delivery(Arc<Given>);

#[derive(Debug)]
struct Given {
    message: Requeue,
    reached: AtomicBool,
}

/// What a consumer is to do next.
#[derive(Debug)]
pub enum Received {
    Message(Delivery),
    /// Nothing is there: sleep until woken.
    Nothing,
    /// It stood still while others waited, or its topic was purged: hang up.
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

    /// How many consume the topic.
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
        // Under the lock of the groups, so that this one is not dropped as empty.
        lock(&group.members).push_back(member.clone());
        self.count.fetch_add(1, Ordering::SeqCst);
        let consumers = self.clone();
        Consumer { consumers, topic: topic.clone(), group, member, ended: false }
    }

    /// There may be something for the topic's consumers: wakes one that sleeps. Of those that do not,
    /// each looks before it goes to sleep.
    pub fn wake(&self, topic: &Topic) {
        let Some(group) = self.group(topic) else { return };
        let members = lock(&group.members);
        let sleeper = members.iter().find(|member| mem::take(&mut lock(&member.outbox).asleep));
        if let Some(member) = sleeper {
            member.waker.wake_by_ref();
        }
    }

    /// Takes back what is in the outboxes.
    fn recall(&self, topic: &Topic) -> Vec<Delivery> {
        let Some(group) = self.group(topic) else { return Vec::new() };
        let members = lock(&group.members);
        members.iter().flat_map(|member| lock(&member.outbox).empty()).collect()
    }

    /// Tells every consumer of the topic to hang up.
    fn dismiss(&self, topic: &Topic) {
        let Some(group) = self.group(topic) else { return };
        lock(&group.members).iter().for_each(|member| member.dismiss());
    }
}

impl Group {
    /// Whether it is the caller who takes now. If not, somebody else looks once more.
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

    /// Whether the caller is done; if not, it has to look once more.
    fn end(&self) -> bool {
        let mut turn = lock(&self.turn);
        *turn = match *turn {
            Turn::Wanted => Turn::Taken,
            Turn::Taken | Turn::Free => Turn::Free,
        };
        *turn == Turn::Free
    }

    /// Whether there is room for more.
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

    /// Gives messages to all, or each to the next in turn. Returns those that nobody is there for.
    fn give(&self, policy: Option<Policy>, messages: Vec<Requeue>) -> Vec<Delivery> {
        let mut members = lock(&self.members);
        let mut left = Vec::new();
        for message in messages {
            let parcel = Delivery::new(message);
            if policy == Some(Policy::RoundRobin) {
                let free = |member: &Arc<Member>| lock(&member.outbox).bytes < ROOM;
                // Who is given one goes to the end.
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
    /// Returns what cannot be sent any more.
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

    /// Others wait for it: it may not stand still for long.
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

/// One consumer. Whoever has it must end it with [`Broker::leave`]: it may have messages.
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
        // By now the topic may have another group, made after this one was dropped as empty.
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
