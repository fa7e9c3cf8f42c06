//! The model of one session: what it had of each topic, and what it has subscribed to. Every message
//! is handed out, once and in order, also one that was away in a taker's hands when those after it
//! were handed out, and was put back under its old id.

use std::collections::BTreeSet;

use super::action::{Name, PATTERNS, TOPICS};
use super::log::{Log, Message};
use crate::ops::Id;

/// Messages as a session has them: id and text.
pub type Got = Vec<(Id, Vec<u8>)>;

#[derive(Debug, Default)]
pub struct Reader {
    start: [Id; TOPICS.len()],
    places: [Option<Place>; TOPICS.len()],
    /// What it subscribes to, by the numbers of the patterns.
    pub patterns: Vec<usize>,
    /// How far it has come in the topics that it follows, also in those that are not there yet.
    follows: [Option<Place>; TOPICS.len()],
}

/// The messages of one topic that were handed out.
#[derive(Clone, Debug)]
struct Place {
    /// Nothing up to this id is handed out.
    floor: Id,
    had: BTreeSet<Id>,
}

/// Where a subscription begins, with ids for numbers.
#[derive(Clone, Copy)]
pub enum From {
    Now,
    Oldest,
    Id(Id),
    Last(usize),
}

/// Whether a topic's name is one that the pattern stands for.
pub fn matches(pattern: usize, topic: Name) -> bool {
    match PATTERNS[pattern].strip_suffix('*') {
        Some(prefix) => TOPICS[topic].starts_with(prefix),
        None => TOPICS[topic] == PATTERNS[pattern],
    }
}

impl Place {
    fn after(floor: Id) -> Place {
        Place { floor, had: BTreeSet::new() }
    }

    /// The messages to hand out, in order.
    fn rest<'l>(&self, log: &'l Log, topic: Name) -> impl DoubleEndedIterator<Item = &'l Message> {
        let messages = log.visible(topic).filter(|m| m.id > self.floor);
        messages.filter(|message| !self.had.contains(&message.id))
    }

    fn next(&self, log: &Log, topic: Name) -> Option<Id> {
        self.rest(log, topic).next().map(|message| message.id)
    }

    /// Asserts that `got` comes next.
    fn hand_out(&mut self, log: &Log, topic: Name, got: &Got) {
        let expected = self.rest(log, topic).map(|message| (message.id, message.body.clone()));
        let expected: Got = expected.take(got.len()).collect();
        assert_eq!(*got, expected, "in {:?} behind {self:?}", TOPICS[topic]);
        self.had.extend(got.iter().map(|(id, _)| *id));
    }
}

impl Reader {
    /// A session starts at the last ids given out then.
    pub fn new(log: &Log) -> Reader {
        let start = std::array::from_fn(|topic| log.last_id(topic));
        Reader { start, ..Reader::default() }
    }

    fn place(&mut self, topic: Name, since: Option<Id>) -> &mut Place {
        if let Some(id) = since {
            self.places[topic] = Some(Place::after(id));
        }
        self.places[topic].get_or_insert_with(|| Place::after(self.start[topic]))
    }

    /// get: the oldest message that was put after this session began and that it has not had;
    /// `since` moves its place.
    pub fn get(&mut self, log: &Log, topic: Name, since: Option<Id>, got: Option<(Id, Vec<u8>)>) {
        let place = self.place(topic, since);
        match got {
            Some(got) => place.hand_out(log, topic, &vec![got]),
            None => assert_eq!(place.next(log, topic), None, "it was not handed out"),
        }
    }

    /// get_latest: the newest such message; older ones are passed over.
    pub fn get_latest(
        &mut self,
        log: &Log,
        topic: Name,
        since: Option<Id>,
        got: Option<(Id, Vec<u8>)>,
    ) {
        let place = self.place(topic, since);
        let newest = place.rest(log, topic).next_back();
        assert_eq!(got, newest.map(|message| (message.id, message.body.clone())));
        place.floor = place.floor.max(got.map_or(0, |(id, _)| id));
    }

    /// Whether a get that waits has something to return for.
    pub fn has_news(&mut self, log: &Log, topic: Name) -> bool {
        self.place(topic, None).next(log, topic).is_some()
    }

    fn is_followed(&self, topic: Name) -> bool {
        self.patterns.iter().any(|pattern| matches(*pattern, topic))
    }

    /// subscribe: from now, the oldest, an id, or the last n. Overlapping subscriptions deliver
    /// once: a topic that is followed already stays where it is.
    pub fn subscribe(&mut self, log: &Log, pattern: usize, from: From) {
        let topics = (0..TOPICS.len()).filter(|topic| matches(pattern, *topic));
        for topic in topics.filter(|topic| !self.is_followed(*topic)).collect::<Vec<_>>() {
            let last = |n| log.visible(topic).rev().take(n).last().map(|message| message.id - 1);
            self.follows[topic] = Some(Place::after(match from {
                From::Now => log.last_id(topic),
                From::Oldest => 0,
                From::Id(id) if PATTERNS[pattern].ends_with('*') => id.saturating_sub(log.disorder),
                From::Id(id) => id,
                From::Last(n) => last(n).unwrap_or(log.last_id(topic)),
            }));
        }
        self.patterns.retain(|other| *other != pattern);
        self.patterns.push(pattern);
    }

    pub fn unsubscribe(&mut self, pattern: usize) {
        self.patterns.retain(|other| *other != pattern);
        for topic in 0..TOPICS.len() {
            if !self.is_followed(topic) {
                self.follows[topic] = None;
            }
        }
    }

    /// The first message that must be pushed of a topic.
    fn next_push(&self, log: &Log, topic: Name) -> Option<Id> {
        self.follows[topic].as_ref().and_then(|place| place.next(log, topic))
    }

    /// Whether there is something that must be pushed.
    pub fn has_pushes(&self, log: &Log) -> bool {
        (0..TOPICS.len()).any(|topic| self.next_push(log, topic).is_some())
    }

    /// A push of messages of one topic: in the order of ids, also among the topics of a part.
    pub fn pushed(&mut self, log: &Log, topic: Name, got: &Got) {
        let last = got.last().expect("a push without a message").0;
        let place = self.follows[topic].as_mut().expect("it does not follow this topic");
        place.hand_out(log, topic, got);
        let others = (0..TOPICS.len()).filter(|other| *other != topic);
        for other in others.filter(|other| log.partition(*other) == log.partition(topic)) {
            let first = self.next_push(log, other);
            assert!(first.is_none_or(|id| id > last), "{:?} was first", TOPICS[other]);
        }
    }
}
