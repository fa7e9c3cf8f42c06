//! The model of one session: its place in each topic, and what it has subscribed to. A message that
//! was taken and put back under its old id may be passed over by whoever had looked past it; every
//! other one is handed out, once, and in order.

use super::action::{Name, PATTERNS, TOPICS};
use super::log::{Log, Message};
use crate::message::Id;

/// Messages as a session has them: id and text.
pub type Got = Vec<(Id, Vec<u8>)>;

#[derive(Debug, Default)]
pub struct Reader {
    start: [Id; TOPICS.len()],
    places: [Option<Id>; TOPICS.len()],
    /// What it subscribes to, by the numbers of the patterns.
    pub patterns: Vec<usize>,
    /// How far it has come in the topics that it follows, also in those that are not there yet.
    follows: [Option<Id>; TOPICS.len()],
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

fn behind(log: &Log, topic: Name, place: Id) -> impl Iterator<Item = &Message> {
    log.visible(topic).filter(move |message| message.id > place)
}

/// The first that must not be passed over.
fn due(log: &Log, topic: Name, place: Id) -> Option<Id> {
    behind(log, topic, place).find(|message| !message.back).map(|message| message.id)
}

/// Asserts that `got` is what follows a place, but for messages that were put back.
fn check_next(log: &Log, topic: Name, place: Id, got: &Got) {
    let mut expected = behind(log, topic, place);
    for (id, body) in got {
        let next = expected.by_ref().find(|message| !message.back || message.id == *id);
        let next = next.map(|message| (message.id, message.body.clone()));
        assert_eq!(Some((*id, body.clone())), next, "in {:?} behind {place}", TOPICS[topic]);
    }
}

impl Reader {
    /// A session starts at the last ids given out then.
    pub fn new(log: &Log) -> Reader {
        let start = std::array::from_fn(|topic| log.last_id(topic));
        Reader { start, ..Reader::default() }
    }

    fn place(&self, topic: Name) -> Id {
        self.places[topic].unwrap_or(self.start[topic])
    }

    /// get: the oldest message that was put after this session began and that it has not had;
    /// `since` moves its place.
    pub fn get(&mut self, log: &Log, topic: Name, since: Option<Id>, got: Option<(Id, Vec<u8>)>) {
        let place = since.unwrap_or(self.place(topic));
        self.places[topic] = Some(got.as_ref().map_or(place, |(id, _)| *id));
        match got {
            Some(got) => check_next(log, topic, place, &vec![got]),
            None => assert_eq!(due(log, topic, place), None, "it was not handed out"),
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
        let place = since.unwrap_or(self.place(topic));
        self.places[topic] = Some(got.as_ref().map_or(place, |(id, _)| *id));
        let newest = behind(log, topic, place).last();
        if got.is_some() || due(log, topic, place).is_some() {
            assert_eq!(got, newest.map(|message| (message.id, message.body.clone())));
        }
    }

    /// Whether a get that waits has something to return for.
    pub fn has_news(&self, log: &Log, topic: Name) -> bool {
        due(log, topic, self.place(topic)).is_some()
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
            self.follows[topic] = Some(match from {
                From::Now => log.last_id(topic),
                From::Oldest => 0,
                From::Id(id) if PATTERNS[pattern].ends_with('*') => id.saturating_sub(log.disorder),
                From::Id(id) => id,
                From::Last(n) => last(n).unwrap_or(log.last_id(topic)),
            });
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

    /// Whether there is something that must be pushed.
    pub fn has_pushes(&self, log: &Log) -> bool {
        (0..TOPICS.len())
            .any(|topic| self.follows[topic].is_some_and(|place| due(log, topic, place).is_some()))
    }

    /// A push of messages of one topic: in the order of ids, also among the topics of a part.
    pub fn pushed(&mut self, log: &Log, topic: Name, got: &Got) {
        let place = self.follows[topic].expect("it does not follow this topic");
        let last = got.last().expect("a push without a message").0;
        check_next(log, topic, place, got);
        self.follows[topic] = Some(last);
        let others = (0..TOPICS.len()).filter(|other| *other != topic);
        for other in others.filter(|other| log.part(*other) == log.part(topic)) {
            let first = self.follows[other].and_then(|place| due(log, other, place));
            assert!(first.is_none_or(|id| id > last), "{:?} was first", TOPICS[other]);
        }
    }
}
