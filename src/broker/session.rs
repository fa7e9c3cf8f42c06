//! Sessions: the cursors and subscriptions of one connection. Pages: reads without a cursor, for
//! clients that keep their own. Neither removes a message. Part of the broker.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cursor::{Cursor, too_many_cursors};
use super::subscription::Subscriptions;
use super::{Broker, Caller};
use crate::error::Result;
use crate::limits;
use crate::ops::{Chunk, Id, Message, Topic, Watermark};
use crate::store::Store;

/// The state of one connection. It starts when the connection is accepted.
pub struct Session {
    start: Watermark,
    /// Most sessions have one or two cursors: comparing names is cheaper than hashing one.
    cursors: BTreeMap<Topic, Cursor>,
    bulky: bool,
    /// Created by the first subscribe.
    pub(super) subscriptions: Option<Box<Subscriptions>>,
    /// Number of sessions.
    count: Arc<AtomicU64>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    pub fn new(start: Watermark, count: Arc<AtomicU64>) -> Session {
        count.fetch_add(1, Ordering::Relaxed);
        Session { start, cursors: BTreeMap::new(), bulky: false, subscriptions: None, count }
    }

    /// The id at which this session started. With this id as `since` another session continues in
    /// its place.
    pub fn since(&self) -> Id {
        self.start.floor()
    }

    /// The watermark at which this session started.
    pub fn start(&self) -> &Watermark {
        &self.start
    }

    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.as_ref().is_some_and(|subscriptions| !subscriptions.is_empty())
    }

    pub fn get<'s>(
        &'s mut self,
        store: &dyn Store,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        if store.shared().is_some() {
            self.look(store, topic, since)?;
        }
        let Some(cursor) = cursor(&mut self.cursors, &self.start, store, topic, since)? else {
            return Ok(None);
        };
        let next = cursor.advance(store, topic)?;
        self.bulky |= cursor.is_bulky();
        // A stale chunk may hold messages that are gone.
        Ok(next.and_then(|_| cursor.take()))
    }

    /// Asks a shared store if no next message is known here: another server may have put one.
    fn look(&mut self, store: &dyn Store, topic: &str, since: Option<Id>) -> Result<()> {
        let known = match cursor(&mut self.cursors, &self.start, store, topic, since)? {
            Some(cursor) => cursor.advance(store, topic)?,
            None => None,
        };
        if known.is_none() { store.refresh(topic) } else { Ok(()) }
    }

    pub fn get_latest<'s>(
        &'s mut self,
        store: &dyn Store,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        store.refresh(topic)?;
        let Some(cursor) = cursor(&mut self.cursors, &self.start, store, topic, since)? else {
            return Ok(None);
        };
        cursor.advance_to_newest(store, topic)?;
        self.bulky |= cursor.is_bulky();
        Ok(cursor.take())
    }

    /// Whether it holds chunks that an idle session does not need.
    pub fn is_bulky(&self) -> bool {
        self.bulky || self.subscriptions.as_ref().is_some_and(|s| s.is_bulky())
    }

    /// Frees the large chunks, which are read again when needed.
    pub fn shrink(&mut self) {
        self.bulky = false;
        self.cursors.values_mut().filter(|cursor| cursor.is_bulky()).for_each(Cursor::shrink);
        if let Some(subscriptions) = &mut self.subscriptions {
            subscriptions.shrink();
        }
    }
}

/// The session's cursor in a topic, set to `since` if given; `None` if the topic has nothing for
/// the session.
fn cursor<'p>(
    cursors: &'p mut BTreeMap<Topic, Cursor>,
    start: &Watermark,
    store: &dyn Store,
    topic: &str,
    since: Option<Id>,
) -> Result<Option<&'p mut Cursor>> {
    // Two lookups, because the borrow of a found cursor would last to the end of the function.
    if !cursors.contains_key(topic) {
        let name = Topic::new(topic)?;
        let (state, start) = (store.topic(topic), start.of(topic));
        if since.is_none() && state.as_ref().is_none_or(|state| state.newest() <= start) {
            return Ok(None);
        }
        if cursors.len() >= limits::CURSORS {
            return Err(too_many_cursors());
        }
        cursors.insert(name, Cursor::new(start, state));
    }
    let mut cursor = cursors.get_mut(topic);
    if let (Some(cursor), Some(id)) = (&mut cursor, since) {
        cursor.move_to(id);
    }
    Ok(cursor)
}

/// Consecutive messages of one topic.
#[derive(Debug)]
pub struct Page {
    pub parts: Vec<(Arc<Chunk>, Range<usize>)>,
    /// The id of the last message, or the `after` of the read.
    pub last: Id,
}

impl Broker {
    /// The topic's oldest messages after `after`: at most `limit`, and at most
    /// [`limits::HISTORY_BYTES`]. Empty only if there is none.
    pub fn read(&self, _: &Caller, topic: &str, after: Id, limit: usize) -> Result<Page> {
        let (mut page, mut left, mut bytes) = (Page { parts: Vec::new(), last: after }, limit, 0);
        if self.store.topic(topic).is_none_or(|state| state.newest() <= after) {
            self.store.refresh(topic)?;
        }
        let Some(state) = self.store.topic(topic) else { return Ok(page) };
        while left > 0 && bytes < limits::HISTORY_BYTES && state.newest() > page.last {
            let chunk = self.store.chunk(&state, page.last, limits::CHUNK_MESSAGES)?;
            let Some(start) = chunk.position(page.last) else { break };
            let range = start..chunk.len().min(start + left);
            let messages = range.clone().filter_map(|index| chunk.get(index));
            for message in messages {
                (page.last, left, bytes) = (message.id, left - 1, bytes + message.body.len());
            }
            page.parts.push((chunk, range));
        }
        self.count_reads(limit - left);
        Ok(page)
    }
}
