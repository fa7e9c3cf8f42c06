//! The registry of subscriptions: which sessions follow which topics and prefixes. Part of the
//! broker.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Waker;

use crate::error::Result;
use crate::ops::{Id, Topic};
use crate::sync::lock;

/// What a subscription names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    Topic(Topic),
    /// All topics whose names begin with this.
    Prefix(Box<str>),
}

impl Pattern {
    /// Parses a topic name, or a prefix followed by `*`.
    pub fn new(text: &str) -> Result<Pattern> {
        match text.strip_suffix('*') {
            Some("") => Ok(Pattern::Prefix("".into())),
            Some(prefix) => Topic::new(prefix).map(|_| Pattern::Prefix(prefix.into())),
            None => Topic::new(text).map(Pattern::Topic),
        }
    }

    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Pattern::Topic(own) => own == topic,
            Pattern::Prefix(prefix) => topic.as_str().starts_with(&**prefix),
        }
    }
}
/// All subscriptions of a server.
#[derive(Default)]
pub struct Subscribers {
    /// Number of subscriptions, so that a put without subscribers takes no lock.
    count: AtomicUsize,
    /// All messages up to this id have been announced to their subscribers.
    told: AtomicU64,
    lists: RwLock<Lists>,
}

#[derive(Default)]
struct Lists {
    topics: HashMap<Topic, Vec<Arc<PendingTopics>>>,
    prefixes: Vec<(Box<str>, Arc<PendingTopics>)>,
}

/// Topics with new messages for one session.
pub struct PendingTopics {
    topics: Mutex<HashSet<Topic>>,
    waker: Waker,
}

impl PendingTopics {
    pub fn new(waker: Waker) -> PendingTopics {
        PendingTopics { topics: Mutex::default(), waker }
    }

    /// Removes and returns the topics.
    pub fn read(&self) -> HashSet<Topic> {
        std::mem::take(&mut *lock(&self.topics))
    }

    pub fn put(&self, topic: Topic) {
        lock(&self.topics).insert(topic);
    }
}

impl Subscribers {
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// All messages up to this id have been announced to their subscribers.
    pub fn told(&self) -> Id {
        self.told.load(Ordering::SeqCst)
    }

    /// Marks the messages up to this id as announced: subscribers that start now find them in the
    /// store.
    pub fn skip_to(&self, id: Id) {
        self.told.fetch_max(id, Ordering::SeqCst);
    }

    /// Announces new messages of these topics, with ids up to `id`, to their subscribers.
    pub fn tell<'t>(&self, topics: impl Iterator<Item = &'t Topic>, id: Id) {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        for topic in topics {
            let prefixes = lists.prefixes.iter();
            let by_prefix = prefixes.filter(|(prefix, _)| topic.as_str().starts_with(&**prefix));
            let by_name = lists.topics.get(topic).into_iter().flatten();
            for pending in by_name.chain(by_prefix.map(|(_, pending)| pending)) {
                pending.put(topic.clone());
                told.push(pending);
            }
        }
        self.told.fetch_max(id, Ordering::SeqCst);
        told.iter().for_each(|pending| pending.waker.wake_by_ref());
    }

    /// Wakes all subscribers.
    pub fn wake_all(&self) {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let by_prefix = lists.prefixes.iter().map(|(_, pending)| pending);
        let all = lists.topics.values().flatten().chain(by_prefix);
        all.for_each(|pending| pending.waker.wake_by_ref());
    }

    /// Number of subscriptions that match the topic.
    pub fn followers(&self, topic: &Topic) -> usize {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let prefixes = lists.prefixes.iter();
        let by_prefix = prefixes.filter(|(prefix, _)| topic.as_str().starts_with(&**prefix));
        lists.topics.get(topic).map_or(0, Vec::len) + by_prefix.count()
    }

    pub fn add(&self, pattern: &Pattern, pending: &Arc<PendingTopics>) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        match pattern {
            Pattern::Topic(topic) => {
                lists.topics.entry(topic.clone()).or_default().push(pending.clone());
            }
            Pattern::Prefix(prefix) => lists.prefixes.push((prefix.clone(), pending.clone())),
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    pub fn remove(&self, pattern: &Pattern, pending: &Arc<PendingTopics>) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        match pattern {
            Pattern::Topic(topic) => {
                if let Some(pending_lists) = lists.topics.get_mut(topic) {
                    pending_lists.retain(|other| !Arc::ptr_eq(other, pending));
                    if pending_lists.is_empty() {
                        lists.topics.remove(topic);
                    }
                }
            }
            Pattern::Prefix(prefix) => lists
                .prefixes
                .retain(|(other, pending_)| other != prefix || !Arc::ptr_eq(pending_, pending)),
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}
