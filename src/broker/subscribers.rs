//! Mailboxes: who follows which topics, and is told that something was put.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Waker;

use crate::error::Result;
use crate::ops::{Id, Topic};
use crate::sync::lock;

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    Topic(Topic),
    /// All topics that begin so.
    Prefix(Box<str>),
}

impl Pattern {
    /// A topic's name, or a prefix with a `*` behind it.
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
    /// How many there are, so that a put that nobody follows takes no lock.
    count: AtomicUsize,
    /// All messages up to this id have been told to those who follow them.
    told: AtomicU64,
    lists: RwLock<Lists>,
}

#[derive(Default)]
struct Lists {
    topics: HashMap<Topic, Vec<Arc<PendingTopics>>>,
    prefixes: Vec<(Box<str>, Arc<PendingTopics>)>,
}

/// What one session is told: topics in which something was put.
pub struct PendingTopics {
    topics: Mutex<HashSet<Topic>>,
    waker: Waker,
}

impl PendingTopics {
    pub fn new(waker: Waker) -> PendingTopics {
        PendingTopics { topics: Mutex::default(), waker }
    }

    /// The topics that were told since it was read before.
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

    /// All messages up to this id have been told to those who follow them.
    pub fn told(&self) -> Id {
        self.told.load(Ordering::SeqCst)
    }

    /// Who follows the messages up to this id from now on finds them without being told.
    pub fn skip_to(&self, id: Id) {
        self.told.fetch_max(id, Ordering::SeqCst);
    }

    /// Tells who follows the topics that something was put, up to this id.
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

    /// Wakes everyone who follows anything.
    pub fn wake_all(&self) {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let by_prefix = lists.prefixes.iter().map(|(_, pending)| pending);
        let all = lists.topics.values().flatten().chain(by_prefix);
        all.for_each(|pending| pending.waker.wake_by_ref());
    }

    /// How many follow the topic.
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
