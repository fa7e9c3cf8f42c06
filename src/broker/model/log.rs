//! The model of a store: a list of messages, one of those that are not due yet, one of dedupe keys.
//! Time passes when [`Log::now`] is set; what it brings about happens in [`Log::tick`].

use super::action::{Name, Options, TOPICS, UNIT, dead};
use crate::ops::{Id, PRIORITY_DEFAULT, Policy, partition};
use crate::store::{SharedStore, Store};

/// A second put with the same key is no put for so long: DESIGN.md says 120 s.
const KEY_KEPT: u64 = 120_000_000;

#[derive(Debug, Default)]
pub struct Log {
    pub now: Id,
    /// The last id given out in each part of the store.
    last_ids: Vec<Id>,
    /// By how much ids of different topics may be out of order.
    pub disorder: u64,
    dead_letter_after: u32,
    /// In the order of their ids.
    pub messages: Vec<Message>,
    delayed: Vec<Delayed>,
    keys: Vec<Key>,
    pub topics: [Known; TOPICS.len()],
}

/// The state of a topic besides its messages.
#[derive(Debug, Default)]
pub struct Known {
    pub made: bool,
    pub puts: u64,
    pub takes: u64,
    pub stopped: bool,
    pub policy: Option<Policy>,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub topic: Name,
    pub id: Id,
    pub body: Vec<u8>,
    priority: u8,
    expires: Option<Id>,
    deliveries: u32,
    held: Held,
    /// False once it has expired in a taker's hands, who may still ack it.
    pub kept: bool,
    looks: u64,
    pub origin: Option<(Name, Id)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Free,
    Leased {
        until: Id,
    },
    /// Returned, to be taken again later.
    Resting {
        until: Id,
    },
}

#[derive(Debug)]
struct Delayed {
    due: Id,
    topic: Name,
    body: Vec<u8>,
    options: Options,
}

#[derive(Debug)]
struct Key {
    topic: Name,
    key: u8,
    until: Id,
    first: Seen,
}

/// What an operation comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Stored { id: Id, duplicate: bool },
    Due { at: Id, duplicate: bool },
    Taken(Option<Hand>),
    Peeked(Option<(Hand, u64)>),
    Done,
    Deleted(bool),
    Purged(u64),
    Gone,
}

/// A message in a taker's hands.
#[derive(Clone, Debug, PartialEq)]
pub struct Hand {
    pub id: Id,
    pub body: Vec<u8>,
    pub deliveries: u32,
    pub priority: u8,
    pub expires: Option<Id>,
    pub origin: Option<(Name, Id)>,
}

impl Log {
    /// Of a store of so many parts.
    pub fn new(now: Id, parts: usize, store: &dyn Store, dead_letter_after: u32) -> Log {
        let watermark = store.watermark();
        let disorder = store.shared().map_or(0, SharedStore::clock_skew);
        let mut log =
            Log { now, last_ids: vec![0; parts], disorder, dead_letter_after, ..Log::default() };
        for (topic, name) in TOPICS.iter().enumerate() {
            let partition = log.partition(topic);
            log.last_ids[partition] = watermark.of(name);
        }
        log
    }

    /// Where a topic stands: ids can be compared within a part.
    pub fn partition(&self, topic: Name) -> usize {
        partition(TOPICS[topic], self.last_ids.len())
    }

    /// An id below every message put to the topic from now on.
    pub fn last_id(&self, topic: Name) -> Id {
        self.last_ids[self.partition(topic)]
    }

    fn expired(&self, message: &Message) -> bool {
        message.expires.is_some_and(|at| at <= self.now)
    }

    /// ttl: an expired message is not handed out, by any word. Leases hide a message from takers
    /// alone.
    pub fn visible(&self, topic: Name) -> impl DoubleEndedIterator<Item = &Message> {
        let of_topic = move |message: &&Message| message.topic == topic && message.kept;
        self.messages.iter().filter(of_topic).filter(|message| !self.expired(message))
    }

    /// Messages that have expired, and that the timer has not come to remove.
    pub fn lingering(&self, topic: Name) -> u64 {
        let of_topic = self.messages.iter().filter(|m| m.topic == topic && m.kept);
        of_topic.filter(|message| self.expired(message)).count() as u64
    }

    /// Messages under a lease, or returned and at rest.
    pub fn leased(&self, topic: Name) -> u64 {
        let held = |m: &&Message| m.topic == topic && m.held != Held::Free;
        self.messages.iter().filter(held).count() as u64
    }

    pub fn delayed(&self, topic: Name) -> u64 {
        self.delayed.iter().filter(|message| message.topic == topic).count() as u64
    }

    pub fn put(&mut self, topic: Name, body: Vec<u8>, options: Option<&Options>) -> Seen {
        self.topics[topic].made = true;
        let plain = Options { priority: PRIORITY_DEFAULT, ttl: None, delay: None, key: None };
        let options = options.unwrap_or(&plain).clone();
        // dedupe: a second put with the same key on the topic within 120 s is not stored.
        let same = |k: &&Key| k.topic == topic && Some(k.key) == options.key && k.until > self.now;
        if let Some(key) = self.keys.iter().find(same) {
            return match key.first {
                Seen::Stored { id, .. } => Seen::Stored { id, duplicate: true },
                Seen::Due { at, .. } => Seen::Due { at, duplicate: true },
                _ => unreachable!(),
            };
        }
        let key = options.key;
        // delay: the message is put, and gets its id, when it is due.
        let delay = options.delay.unwrap_or(0) * UNIT;
        let first = if delay > 0 {
            let at = self.now + delay;
            self.delayed.push(Delayed { due: at, topic, body, options });
            Seen::Due { at, duplicate: false }
        } else {
            let id = self.append(topic, body, &options, None);
            Seen::Stored { id, duplicate: false }
        };
        if let Some(key) = key {
            self.keys.retain(|other| other.topic != topic || other.key != key);
            self.keys.push(Key { topic, key, until: self.now + KEY_KEPT, first: first.clone() });
        }
        first
    }

    fn append(
        &mut self,
        topic: Name,
        body: Vec<u8>,
        options: &Options,
        origin: Option<(Name, Id)>,
    ) -> Id {
        // id: max(last id + 1, the store's clock), strictly increasing over a part of the store.
        let id = (self.last_id(topic) + 1).max(self.now);
        let partition = self.partition(topic);
        self.last_ids[partition] = id;
        self.messages.push(Message {
            topic,
            id,
            body,
            priority: options.priority,
            // ttl counts from when the message is due.
            expires: options.ttl.map(|ttl| self.now + ttl * UNIT),
            deliveries: 0,
            held: Held::Free,
            kept: true,
            looks: 0,
            origin,
        });
        let known = &mut self.topics[topic];
        (known.made, known.puts) = (true, known.puts + 1);
        id
    }

    /// take: the oldest message of the topic, whenever it was put; higher priority first.
    pub fn take(&mut self, topic: Name, lease: Option<u64>) -> Option<Hand> {
        let free = self.visible(topic).filter(|message| message.held == Held::Free);
        let first = free.min_by_key(|message| (9 - message.priority, message.id))?.id;
        let at = self.messages.iter().position(|m| m.topic == topic && m.id == first)?;
        let until = lease.map(|lease| self.now + lease);
        let message = &mut self.messages[at];
        message.deliveries += 1;
        let hand = message.hand();
        match until {
            // Hidden from other takers until ack, nack or the lease's end.
            Some(until) => message.held = Held::Leased { until },
            // Without a lease it is gone at once.
            None => drop(self.messages.remove(at)),
        }
        self.topics[topic].takes += 1;
        Some(hand)
    }

    /// An ack or nack is of a lease that has not ended, and of that delivery.
    fn held(&self, topic: Name, id: Id, deliveries: u32) -> Option<usize> {
        self.messages.iter().position(|m| {
            let live = matches!(m.held, Held::Leased { until } if until > self.now);
            m.topic == topic && m.id == id && m.deliveries == deliveries && live
        })
    }

    pub fn ack(&mut self, topic: Name, id: Id, deliveries: u32) -> Seen {
        // An ack of a lease that has ended is refused.
        let Some(at) = self.held(topic, id, deliveries) else { return Seen::Gone };
        self.messages.remove(at);
        Seen::Done
    }

    pub fn nack(&mut self, topic: Name, id: Id, deliveries: u32, delay: u64) -> Seen {
        let Some(at) = self.held(topic, id, deliveries) else { return Seen::Gone };
        match delay {
            0 => self.give_back(at),
            _ => self.messages[at].held = Held::Resting { until: self.now + delay },
        }
        Seen::Done
    }

    /// A lease ends: the message can be taken again under its id, or is a dead letter: after N
    /// deliveries it is put to `<topic>.dead`, with where it came from; those have none.
    fn give_back(&mut self, at: usize) {
        let message = self.messages[at].clone();
        let limit = self.dead_letter_after;
        match dead(message.topic).filter(|_| limit > 0 && message.deliveries >= limit) {
            _ if !message.kept => drop(self.messages.remove(at)),
            Some(dead) if !self.expired(&message) => {
                self.messages.remove(at);
                let plain =
                    Options { priority: PRIORITY_DEFAULT, ttl: None, delay: None, key: None };
                self.append(dead, message.body, &plain, Some((message.topic, message.id)));
            }
            _ => self.messages[at].held = Held::Free,
        }
    }

    /// A reply that could not be written puts the message back, as if it had not been taken.
    pub fn put_back(&mut self, topic: Name, hand: &Hand, leased: bool) -> Seen {
        if leased {
            let Some(at) = self.held(topic, hand.id, hand.deliveries) else { return Seen::Gone };
            self.messages[at].held = Held::Free;
            self.messages[at].deliveries -= 1;
            if !self.messages[at].kept {
                self.messages.remove(at);
            }
        } else {
            let place = self.messages.iter().position(|m| m.topic == topic && m.id > hand.id);
            let place = place.unwrap_or(self.messages.len());
            self.messages.insert(place, Message::returned(topic, hand));
        }
        self.topics[topic].takes -= 1;
        Seen::Done
    }

    /// peek: the oldest, unremoved, counting the looks.
    pub fn peek(&mut self, topic: Name) -> Seen {
        let Some(id) = self.visible(topic).next().map(|oldest| oldest.id) else {
            return Seen::Peeked(None);
        };
        let oldest = self.messages.iter_mut().find(|m| m.topic == topic && m.id == id).unwrap();
        oldest.looks += 1;
        let hand = Hand { deliveries: 0, priority: 0, ..oldest.hand() };
        Seen::Peeked(Some((hand, oldest.looks)))
    }

    /// delete: one message by its id, leased or not.
    pub fn delete(&mut self, topic: Name, id: Id) -> Seen {
        let found = self.messages.iter().position(|m| m.topic == topic && m.id == id && m.kept);
        Seen::Deleted(found.map(|at| self.messages.remove(at)).is_some())
    }

    /// purge removes a topic's messages, leased, delayed and dedupe keys included.
    pub fn purge(&mut self, topic: Name) -> Seen {
        let kept = self.messages.iter().filter(|m| m.topic == topic && m.kept).count() as u64;
        let purged = kept + self.delayed(topic);
        self.messages.retain(|message| message.topic != topic);
        self.delayed.retain(|message| message.topic != topic);
        self.keys.retain(|key| key.topic != topic);
        Seen::Purged(purged)
    }

    /// Carries out the scheduled work.
    pub fn tick(&mut self) {
        // Leases end in the order in which they were to, and their messages come back.
        while let Some(at) = self.first_ended() {
            self.give_back(at);
        }
        self.delayed.sort_by_key(|message| message.due);
        while self.delayed.first().is_some_and(|message| message.due <= self.now) {
            let message = self.delayed.remove(0);
            self.append(message.topic, message.body, &message.options, None);
        }
        let now = self.now;
        for message in &mut self.messages {
            message.kept &= message.expires.is_none_or(|at| at > now);
        }
        self.messages.retain(|message| message.kept || message.held != Held::Free);
        self.keys.retain(|key| key.until > now);
    }

    fn first_ended(&self) -> Option<usize> {
        let ended = self.messages.iter().enumerate().filter_map(|(at, m)| match m.held {
            Held::Leased { until } | Held::Resting { until } => Some((until, m.topic, m.id, at)),
            Held::Free => None,
        });
        ended.min().filter(|(until, ..)| *until <= self.now).map(|(.., at)| at)
    }
}

impl Message {
    fn hand(&self) -> Hand {
        Hand {
            id: self.id,
            body: self.body.clone(),
            deliveries: self.deliveries,
            priority: self.priority,
            expires: self.expires,
            origin: self.origin,
        }
    }

    fn returned(topic: Name, hand: &Hand) -> Message {
        Message {
            topic,
            id: hand.id,
            body: hand.body.clone(),
            priority: hand.priority,
            expires: hand.expires,
            deliveries: hand.deliveries - 1,
            held: Held::Free,
            kept: true,
            looks: 0,
            origin: hand.origin,
        }
    }
}
