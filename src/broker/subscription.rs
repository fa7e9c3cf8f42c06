//! The subscriptions of one session: which topics it follows, and a cursor in each. Part of the
//! broker.
//!
//! A put adds its topic to the pending topics of each subscriber. The session then reads the
//! messages from the store at its own pace. To push messages of several topics in the order of
//! their ids, it reads the highest announced id, then its pending topics, and pushes nothing above
//! that id. A put marks all topics as pending before it raises the announced id and wakes the
//! subscribers. In a partitioned store, whose ids cannot be compared across partitions, the order
//! is as good as the clocks of the nodes.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use super::cursor::{Cursor, too_many_cursors};
use super::subscribers::{Pattern, PendingTopics, Subscribers};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Chunk, Id, Topic, Watermark};
use crate::store::{SharedStore, Store, TopicState};

/// Number of ready topics that keep their next chunk. For the others only the id is kept, so that a
/// subscriber that lags in many topics holds little memory.
const READY_RUNS: usize = 16;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Now,
    /// Where the session began.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "WebSockets alone begin there"))]
    Start,
    Oldest,
    /// After this id.
    Id(Id),
    /// With the last messages of each topic.
    Last(usize),
}

/// The patterns of one session, and its cursor in each topic that it follows.
pub struct Subscriptions {
    subscribers: Arc<Subscribers>,
    pending: Arc<PendingTopics>,
    /// With the watermark at which each begins.
    patterns: HashMap<Pattern, Watermark>,
    cursors: HashMap<Topic, Cursor>,
    /// Topics with messages to push, by the id of the next one. In a partitioned store two ids may
    /// be equal.
    ready: BTreeSet<(Id, Topic)>,
    /// Whether the limit of cursors was reached, which is reported once.
    crowded: bool,
    bulky: bool,
}

/// Consecutive messages of one topic to push.
pub struct Pushes {
    pub topic: Topic,
    pub chunk: Arc<Chunk>,
    pub range: Range<usize>,
}

impl Subscriptions {
    pub fn new(subscribers: Arc<Subscribers>, waker: Waker) -> Subscriptions {
        let pending = Arc::new(PendingTopics::new(waker));
        Subscriptions {
            subscribers,
            pending,
            patterns: HashMap::new(),
            cursors: HashMap::new(),
            ready: BTreeSet::new(),
            crowded: false,
            bulky: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Follows the topics that match the patterns. After an error no new topic is followed. Returns
    /// the id that "now" stands for.
    pub fn subscribe(
        &mut self,
        store: &dyn Store,
        patterns: Vec<Pattern>,
        from: From,
        start: &Watermark,
    ) -> Result<Id> {
        let now = store.watermark();
        let from = in_order(store, &patterns, from);
        let mut begun = Vec::new();
        for pattern in patterns {
            if self.patterns.contains_key(&pattern) {
                continue;
            }
            if let Err(error) = self.subscribe_to(store, pattern.clone(), from, start, &now) {
                begun.iter().for_each(|pattern| self.unsubscribe(pattern));
                return Err(error);
            }
            begun.push(pattern);
        }
        Ok(now.floor())
    }

    /// A topic that is already followed keeps its cursor.
    fn subscribe_to(
        &mut self,
        store: &dyn Store,
        pattern: Pattern,
        from: From,
        start: &Watermark,
        now: &Watermark,
    ) -> Result<()> {
        if self.patterns.len() >= limits::SUBSCRIPTIONS {
            let text = format!(
                "this connection has {} subscriptions: use another connection",
                limits::SUBSCRIPTIONS
            );
            return Err(Error::new(Code::TooManySubscriptions, text));
        }
        if let (Pattern::Topic(topic), From::Last(_)) = (&pattern, from) {
            store.refresh(topic.as_str())?;
        }
        self.subscribers.add(&pattern, &self.pending);
        // From here on every put makes its topic pending. Messages put before are found below.
        self.subscribers.skip_to(store.last_id());
        let after = match from {
            From::Now | From::Last(_) => now.clone(),
            From::Start => start.clone(),
            From::Oldest => Watermark::at(0),
            From::Id(id) => Watermark::at(id),
        };
        let followed = heads(store, &pattern)
            .iter()
            .try_for_each(|state| self.begin_topic(store, state, from, &after, now));
        self.patterns.insert(pattern.clone(), after);
        if followed.is_err() {
            self.unsubscribe(&pattern);
        }
        followed
    }

    /// Follows an existing topic, unless it has nothing to push yet.
    fn begin_topic(
        &mut self,
        store: &dyn Store,
        state: &Arc<TopicState>,
        from: From,
        after: &Watermark,
        now: &Watermark,
    ) -> Result<()> {
        // A topic that is already followed keeps its cursor, even if nothing of it was read yet.
        if let Some(begun) = self.begin(state.topic()) {
            return self.follow(store, state, begun);
        }
        let topic = state.topic().as_str();
        let after = match from {
            From::Last(count) => before_last(store, state, count, now.of(topic))?,
            _ => after.of(topic),
        };
        if after < state.newest() {
            self.follow(store, state, after)?;
        }
        Ok(())
    }

    /// Where the patterns that match the topic begin.
    fn begin(&self, topic: &Topic) -> Option<Id> {
        let matching = self.patterns.iter().filter(|(pattern, _)| pattern.matches(topic));
        matching.map(|(_, after)| after.of(topic.as_str())).min()
    }

    pub fn unsubscribe(&mut self, pattern: &Pattern) {
        if self.patterns.remove(pattern).is_none() {
            return;
        }
        self.subscribers.remove(pattern, &self.pending);
        let patterns = &self.patterns;
        let followed = |topic: &Topic| patterns.keys().any(|pattern| pattern.matches(topic));
        self.cursors.retain(|topic, _| followed(topic));
        self.ready.retain(|(_, topic)| followed(topic));
    }

    /// Follows a topic, unless it is followed already.
    fn follow(&mut self, store: &dyn Store, state: &Arc<TopicState>, after: Id) -> Result<()> {
        let topic = state.topic();
        if self.cursors.contains_key(topic) {
            return Ok(());
        }
        if self.cursors.len() >= limits::CURSORS {
            return Err(too_many_cursors());
        }
        let mut cursor = Cursor::new(after, Some(state.clone()));
        let next = cursor.advance(store, topic.as_str())?;
        if self.ready.len() >= READY_RUNS {
            cursor.shrink();
        }
        self.cursors.insert(topic.clone(), cursor);
        self.ready.extend(next.map(|id| (id, topic.clone())));
        Ok(())
    }

    /// Examines all pending topics, even if one of them fails.
    fn read_mail(&mut self, store: &dyn Store) -> Result<()> {
        let mut failed = Ok(());
        let topics = self.pending.read();
        for topic in topics {
            if let Err(error) = self.look_at(store, &topic) {
                if error.code != Code::TooManyPlaces {
                    // It stays pending and is examined again.
                    self.pending.put(topic);
                }
                failed = Err(error);
            }
        }
        failed
    }

    /// Finds out whether a matching topic has messages to push.
    fn look_at(&mut self, store: &dyn Store, topic: &Topic) -> Result<()> {
        let Some(cursor) = self.cursors.get_mut(topic) else {
            return match (self.begin(topic), store.topic(topic.as_str())) {
                (Some(after), Some(state)) => self.follow(store, &state, after),
                _ => Ok(()),
            };
        };
        let ready = self.ready.iter().find(|(_, ready)| ready == topic).cloned();
        if let Some(ready) = ready {
            if !cursor.has_put_backs() {
                return Ok(());
            }
            // A returned message comes before the one that is ready.
            self.ready.remove(&ready);
        }
        if let Some(id) = cursor.advance(store, topic.as_str())? {
            if self.ready.len() >= READY_RUNS {
                cursor.shrink();
            }
            self.ready.insert((id, topic.clone()));
        }
        Ok(())
    }

    /// The next messages to push: of one topic, with no id above that of another ready topic's next
    /// message.
    pub fn next(&mut self, store: &dyn Store) -> Result<Option<Pushes>> {
        let told = self.subscribers.told();
        match self.read_mail(store) {
            // Reported once; the topics that are already followed go on.
            Err(error) if error.code == Code::TooManyPlaces && self.crowded => {}
            Err(error) => {
                self.crowded |= error.code == Code::TooManyPlaces;
                return Err(error);
            }
            Ok(()) => {}
        }
        while let Some((id, topic)) = self.ready.pop_first() {
            if id > told {
                // The putter is about to announce this id and to wake the session.
                self.ready.insert((id, topic));
                return Ok(None);
            }
            let Some(cursor) = self.cursors.get_mut(&topic) else { continue };
            // It may have been removed since it was found.
            match cursor.advance(store, topic.as_str()) {
                Ok(Some(next)) if next == id => {}
                Ok(Some(next)) => {
                    self.ready.insert((next, topic));
                    continue;
                }
                Ok(None) => continue,
                Err(error) => {
                    self.ready.insert((id, topic));
                    return Err(error);
                }
            }
            let other = self.ready.first().map_or(Id::MAX, |(id, _)| *id);
            let before = other.max(id + 1).min(told + 1);
            let (chunk, range) = cursor.take_chunk(before);
            self.bulky |= cursor.is_bulky();
            let next = cursor.advance(store, topic.as_str());
            if self.ready.len() >= READY_RUNS || cursor.is_large() {
                cursor.shrink();
            }
            match next {
                Ok(next) => self.ready.extend(next.map(|id| (id, topic.clone()))),
                // It stays pending and is examined again.
                Err(_) => self.pending.put(topic.clone()),
            }
            return Ok(Some(Pushes { topic, chunk, range }));
        }
        Ok(None)
    }

    /// Whether it holds chunks that an idle session does not need.
    pub fn is_bulky(&self) -> bool {
        self.bulky
    }

    /// Frees them.
    pub fn shrink(&mut self) {
        self.bulky = false;
        self.cursors.values_mut().filter(|cursor| cursor.is_bulky()).for_each(Cursor::shrink);
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for pattern in self.patterns.keys() {
            self.subscribers.remove(pattern, &self.pending);
        }
    }
}

/// Several topics that begin after one id must not miss a message put after it. Some messages put
/// before may be pushed again.
fn in_order(store: &dyn Store, patterns: &[Pattern], from: From) -> From {
    let skew = store.shared().map_or(0, SharedStore::clock_skew);
    match (patterns, from) {
        ([Pattern::Topic(_)], _) => from,
        (_, From::Id(id)) => From::Id(id.saturating_sub(skew)),
        _ => from,
    }
}

/// The existing topics that match.
fn heads(store: &dyn Store, pattern: &Pattern) -> Vec<Arc<TopicState>> {
    match pattern {
        Pattern::Topic(topic) => store.topic(topic.as_str()).into_iter().collect(),
        Pattern::Prefix(_) => {
            store.topics().into_iter().filter(|state| pattern.matches(state.topic())).collect()
        }
    }
}

/// The id before the last `count` messages.
fn before_last(store: &dyn Store, state: &TopicState, count: usize, now: Id) -> Result<Id> {
    let chunk = store.read_last(state, count)?;
    Ok(chunk.get(0).map_or(now, |first| first.id - 1))
}
