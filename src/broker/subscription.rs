//! Subscriptions: who is told of which topics, and how far each has come. A put tells mailboxes
//! that there is something; the session reads it from the store at its own pace.
//!
//! So that messages of several topics are pushed in the order of their ids, a session pushes none
//! that is not yet told: it loads the last id told, reads its mail, and goes up to that id. Who
//! puts tells all topics, then sets that id, then wakes. Where ids of topics cannot be compared, in a
//! store of several parts, that order is as good as the clocks of the parts.

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

/// So many topics that are ready keep the run that comes next; of the others only its id is kept,
/// so that who lags in many topics holds little.
const READY_RUNS: usize = 16;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Now,
    /// Where the session began.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "WebSockets alone begin there"))]
    Start,
    Oldest,
    /// Behind this id.
    Id(Id),
    /// With the last messages of each topic.
    Last(usize),
}

/// What one session follows, and how far it has come in each topic.
pub struct Subscriptions {
    subscribers: Arc<Subscribers>,
    pending: Arc<PendingTopics>,
    /// With the moment from which each begins.
    patterns: HashMap<Pattern, Watermark>,
    cursors: HashMap<Topic, Cursor>,
    /// Topics in which there is something to push, by the id of the next message: two may have the same
    /// in a store of several parts.
    ready: BTreeSet<(Id, Topic)>,
    /// Whether a topic could not be followed any more, which is said once.
    crowded: bool,
    bulky: bool,
}

/// Messages of one topic that are to be pushed, in order.
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

    /// Follows what matches the patterns, or, after an error, none that was not followed before.
    /// Returns what "now" was.
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

    /// A topic that is followed already stays where it is.
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
        // From here on the mailbox is told of every put: what was put before is found below.
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

    /// Begins to follow a topic that is there, unless it has nothing to push yet.
    fn begin_topic(
        &mut self,
        store: &dyn Store,
        state: &Arc<TopicState>,
        from: From,
        after: &Watermark,
        now: &Watermark,
    ) -> Result<()> {
        // One that is followed already stays where it is, also if nothing of it was read yet.
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

    /// Begins to follow a topic, unless it is followed already.
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

    /// Looks at the topics that the mailbox names, at all of them whatever becomes of one.
    fn read_mail(&mut self, store: &dyn Store) -> Result<()> {
        let mut failed = Ok(());
        let topics = self.pending.read();
        for topic in topics {
            if let Err(error) = self.look_at(store, &topic) {
                if error.code != Code::TooManyPlaces {
                    // It is looked at again with the next mail.
                    self.pending.put(topic);
                }
                failed = Err(error);
            }
        }
        failed
    }

    /// Finds out whether there is something to push of a topic that matches.
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
            // A message that was put back comes before the one that is ready.
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

    /// The next messages to push: of one topic, and none that has a larger id than one of another
    /// topic that is ready too.
    pub fn next(&mut self, store: &dyn Store) -> Result<Option<Pushes>> {
        let told = self.subscribers.told();
        match self.read_mail(store) {
            // Said once; what is followed already goes on.
            Err(error) if error.code == Code::TooManyPlaces && self.crowded => {}
            Err(error) => {
                self.crowded |= error.code == Code::TooManyPlaces;
                return Err(error);
            }
            Ok(()) => {}
        }
        while let Some((id, topic)) = self.ready.pop_first() {
            if id > told {
                // Whoever put it is about to tell so, and to wake us.
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
                // It is looked at again with the next mail.
                Err(_) => self.pending.put(topic.clone()),
            }
            return Ok(Some(Pushes { topic, chunk, range }));
        }
        Ok(None)
    }

    /// Whether runs are held that an idle session does not need.
    pub fn is_bulky(&self) -> bool {
        self.bulky
    }

    /// Lets go of them.
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

/// Where several topics begin behind one id, none of what was put behind it is left out: some of what was
/// put before may come again.
fn in_order(store: &dyn Store, patterns: &[Pattern], from: From) -> From {
    let skew = store.shared().map_or(0, SharedStore::clock_skew);
    match (patterns, from) {
        ([Pattern::Topic(_)], _) => from,
        (_, From::Id(id)) => From::Id(id.saturating_sub(skew)),
        _ => from,
    }
}

/// The topics that match and that there are.
fn heads(store: &dyn Store, pattern: &Pattern) -> Vec<Arc<TopicState>> {
    match pattern {
        Pattern::Topic(topic) => store.topic(topic.as_str()).into_iter().collect(),
        Pattern::Prefix(_) => {
            store.topics().into_iter().filter(|state| pattern.matches(state.topic())).collect()
        }
    }
}

/// The id behind which the last `count` messages stand.
fn before_last(store: &dyn Store, state: &TopicState, count: usize, now: Id) -> Result<Id> {
    let chunk = store.read_last(state, count)?;
    Ok(chunk.get(0).map_or(now, |first| first.id - 1))
}
