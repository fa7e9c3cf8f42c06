//! Cursors: how far a session or subscription has read in one topic.
//!
//! Ids only grow, so a cursor is an id: every message up to it was handed out or skipped. One case
//! needs more. A take without lease removes a message, the cursor passes its id, and then the
//! message returns under that id because it did not reach its taker. The cursor owes such a message
//! and hands it out next. To tell it from a message that it handed out before the take, it
//! remembers the ids that it handed out last.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Chunk, Id, Message};
use crate::store::{Store, TopicState};

#[cfg(test)]
mod tests;

/// Messages of the first read. Each further read doubles this, so that a client that asks once
/// holds little memory and a client that reads on seldom asks the store.
const FIRST_CHUNK_MESSAGES: usize = 4;

#[derive(Debug)]
pub struct Cursor {
    /// Every message up to this id was handed out or skipped, unless the cursor owes it.
    after: Id,
    /// Known from the topic's first message on.
    state: Option<Arc<TopicState>>,
    /// The chunk that was read last, and the index in it of the next message: the first after
    /// `after`, or one that the cursor owes.
    chunk: Arc<Chunk>,
    next: usize,
    chunk_messages: usize,
    had: Had,
    owed: Owed,
}

/// Messages up to the cursor that it handed out.
#[derive(Debug, Default)]
struct Had {
    /// No message up to this id is handed out again.
    floor: Id,
    /// The ids above the floor, ascending.
    ids: VecDeque<Id>,
}

/// Messages up to the cursor that returned and were not handed out.
#[derive(Debug, Default)]
struct Owed {
    /// Number of the topic's put-backs that were examined.
    seen: u64,
    /// Ascending. Some messages may be gone again.
    ids: VecDeque<Id>,
    /// Whether there may be more than these.
    more: bool,
}

impl Had {
    fn add(&mut self, id: Id, state: Option<&Arc<TopicState>>) {
        if !state.is_some_and(|state| state.is_taken_from()) {
            // No message up to here has been taken, so none can return.
            self.floor = id;
            return;
        }
        match self.ids.back() {
            Some(last) if *last > id => {
                let at = self.ids.partition_point(|had| *had < id);
                self.ids.insert(at, id);
            }
            _ => self.ids.push_back(id),
        }
        if self.ids.len() > limits::HANDED_OUT {
            self.floor = self.ids.pop_front().unwrap_or(self.floor);
        }
    }

    fn may_have(&self, id: Id) -> bool {
        id <= self.floor || self.ids.binary_search(&id).is_ok()
    }

    fn begin_after(&mut self, id: Id) {
        self.floor = id;
        self.ids.clear();
    }
}

impl Owed {
    fn is_new(&self, state: &TopicState) -> bool {
        state.put_backs() != self.seen || (self.more && self.ids.is_empty())
    }
}

impl Cursor {
    pub fn new(after: Id, state: Option<Arc<TopicState>>) -> Cursor {
        Cursor {
            after,
            chunk: Arc::default(),
            next: 0,
            chunk_messages: FIRST_CHUNK_MESSAGES,
            had: Had { floor: after, ids: VecDeque::new() },
            owed: Owed {
                seen: state.as_ref().map_or(0, |state| state.put_backs()),
                ..Owed::default()
            },
            state,
        }
    }

    /// Sets the cursor, forwards or back.
    pub fn move_to(&mut self, after: Id) {
        self.after = after;
        self.had.begin_after(after);
        self.owed.ids.clear();
        self.owed.more = false;
        match self.chunk.position(after) {
            Some(next) => self.next = next,
            None => self.stand_in(Arc::default()),
        }
    }

    /// Makes `next` the next message to hand out, if the store has one. Returns its id.
    pub fn advance(&mut self, store: &dyn Store, topic: &str) -> Result<Option<Id>> {
        self.find_state(store, topic);
        self.look_back(store)?;
        if !self.owed.ids.is_empty()
            && let Some(id) = self.advance_to_owed(store)?
        {
            return Ok(Some(id));
        }
        let Some(state) = &self.state else { return Ok(None) };
        if let Some(message) = self.chunk.get(self.next)
            && !store.is_stale(state, &self.chunk)
        {
            return Ok(Some(message.id));
        }
        let newest = state.newest();
        if newest <= self.after {
            return Ok(None);
        }
        let chunk = store.chunk(state, self.after, self.chunk_messages)?;
        self.chunk_messages = (self.chunk_messages * 2).min(limits::CHUNK_MESSAGES);
        if chunk.is_empty() {
            // The messages put since then are removed: do not look for them again.
            self.after = newest;
        }
        self.stand_in(chunk);
        Ok(self.chunk.get(self.next).map(|message| message.id))
    }

    /// As [`Cursor::advance`], to the newest message.
    pub fn advance_to_newest(&mut self, store: &dyn Store, topic: &str) -> Result<()> {
        self.find_state(store, topic);
        self.look_back(store)?;
        let Some(state) = self.state.clone() else { return Ok(()) };
        let newest = state.newest();
        self.stand_in(Arc::default());
        if newest > self.after {
            let chunk = store.read_last(&state, 1)?;
            if chunk.is_empty() {
                self.after = newest;
            } else if chunk.last_id() > self.after {
                self.after = chunk.last_id() - 1;
                self.pass_over(self.after);
                self.stand_in(chunk);
                return Ok(());
            }
        }
        while let Some(id) = self.owed.ids.back().copied() {
            if self.stand_at(store, id)? {
                self.pass_over(id - 1);
                return Ok(());
            }
            self.owed.ids.pop_back();
        }
        Ok(())
    }

    /// Finds the topic's state once and does not clone it: all sessions share its reference count,
    /// which is slow to change.
    fn find_state(&mut self, store: &dyn Store, topic: &str) {
        if self.state.is_none() {
            self.state = store.topic(topic);
        }
    }

    fn stand_in(&mut self, chunk: Arc<Chunk>) {
        self.next = chunk.position(self.after).unwrap_or(0);
        self.chunk = chunk;
    }

    /// Whether messages returned since the last look.
    pub fn has_put_backs(&self) -> bool {
        self.state.as_ref().is_some_and(|state| self.owed.is_new(state))
    }

    /// Finds the returned messages that the cursor owes.
    fn look_back(&mut self, store: &dyn Store) -> Result<()> {
        let Some(state) = self.state.as_ref().filter(|state| self.owed.is_new(state)) else {
            return Ok(());
        };
        let (seen, ids) = state.put_backs_after(self.owed.seen);
        let ids = match ids {
            Some(ids) if !self.owed.more => ids,
            _ => self.find_owed(store, state)?,
        };
        let more = ids.len() >= limits::PUT_BACKS;
        for id in ids {
            if id <= self.after
                && !self.had.may_have(id)
                && let Err(at) = self.owed.ids.binary_search(&id)
            {
                self.owed.ids.insert(at, id);
            }
        }
        (self.owed.seen, self.owed.more) = (seen, more);
        Ok(())
    }

    /// Reads messages that the cursor has passed, as far back as its memory goes, and returns those
    /// that it has not handed out and does not know to owe. At most [`limits::PUT_BACKS`].
    fn find_owed(&self, store: &dyn Store, state: &TopicState) -> Result<Vec<Id>> {
        let (mut found, mut from) = (Vec::new(), self.had.floor);
        while from < self.after && found.len() < limits::PUT_BACKS {
            let chunk = store.chunk(state, from, limits::CHUNK_MESSAGES)?;
            let Some(start) = chunk.position(from) else { break };
            let ids = (start..chunk.len()).filter_map(|index| Some(chunk.get(index)?.id));
            let passed = ids.take_while(|id| *id <= self.after);
            let owed = passed
                .filter(|id| !self.had.may_have(*id) && self.owed.ids.binary_search(id).is_err());
            found.extend(owed);
            from = chunk.last_id();
        }
        found.truncate(limits::PUT_BACKS);
        Ok(found)
    }

    /// Makes `next` the first owed message that the store still has.
    fn advance_to_owed(&mut self, store: &dyn Store) -> Result<Option<Id>> {
        while let Some(id) = self.owed.ids.front().copied() {
            if self.stand_at(store, id)? {
                return Ok(Some(id));
            }
            self.owed.ids.pop_front();
        }
        Ok(None)
    }

    /// Makes `next` the message with this id; false if the store does not have it.
    fn stand_at(&mut self, store: &dyn Store, id: Id) -> Result<bool> {
        let Some(state) = &self.state else { return Ok(false) };
        let is_at = |chunk: &Chunk, index| chunk.get(index).is_some_and(|message| message.id == id);
        if is_at(&self.chunk, self.next) && !store.is_stale(state, &self.chunk) {
            return Ok(true);
        }
        let chunk = store.chunk(state, id - 1, 1)?;
        let next = chunk.position(id - 1).unwrap_or(0);
        if !is_at(&chunk, next) {
            return Ok(false);
        }
        (self.chunk, self.next) = (chunk, next);
        Ok(true)
    }

    /// Skips owed messages up to this id.
    fn pass_over(&mut self, id: Id) {
        self.owed.ids.retain(|owed| *owed > id);
        self.owed.more &= !self.owed.ids.is_empty();
        self.had.floor = self.had.floor.max(id);
        self.had.ids.retain(|had| *had > id);
    }

    /// Hands out the next message and moves past it.
    pub fn take(&mut self) -> Option<Message<'_>> {
        let index = self.next;
        let id = self.chunk.get(index)?.id;
        self.hand_out(id);
        self.chunk.get(index)
    }

    /// Hands out the messages of the chunk from the next on that have an id below `before`, and
    /// moves past them. An owed message is handed out alone.
    pub fn take_chunk(&mut self, before: Id) -> (Arc<Chunk>, std::ops::Range<usize>) {
        let mut range = self.next..self.next;
        while let Some(message) = self.chunk.get(self.next).filter(|message| message.id < before) {
            range.end = self.next + 1;
            self.hand_out(message.id);
        }
        (self.chunk.clone(), range)
    }

    /// Moves past the next message.
    fn hand_out(&mut self, id: Id) {
        self.had.add(id, self.state.as_ref());
        if id > self.after {
            self.after = id;
            self.next += 1;
        } else {
            self.owed.ids.pop_front();
            // Messages after it in the chunk may have been handed out already.
            self.next = self.chunk.len();
        }
    }

    /// Whether it holds a chunk that an idle connection does not need.
    pub fn is_bulky(&self) -> bool {
        self.chunk.bytes() > limits::BUFFER_BYTES
    }

    /// Whether the chunk is one large message.
    pub fn is_large(&self) -> bool {
        self.chunk.bytes() > limits::CHUNK_BYTES
    }

    /// Frees the chunk, which is read again when needed.
    pub fn shrink(&mut self) {
        self.stand_in(Arc::default());
    }
}

/// The error for a connection with [`limits::CURSORS`] cursors.
pub fn too_many_cursors() -> Error {
    let text = format!(
        "this connection has a place in {} topics: use another connection",
        limits::CURSORS
    );
    Error::new(Code::TooManyPlaces, text)
}
