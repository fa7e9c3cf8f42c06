//! A session: one connection's places in its topics. It removes nothing from the store.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::{Id, Message, Topic};
use crate::store::{Head, Run, Store};

/// How many messages a session's first read of a topic takes; each further read takes twice as
/// many, so that one who asks once holds little and one who reads on asks the store seldom.
const FIRST_RUN_MESSAGES: usize = 4;

/// What one connection has had. Its start is the last id given out when it connected.
#[derive(Debug)]
pub struct Session {
    start: Id,
    places: HashMap<Topic, Place>,
    bulky: bool,
}

/// A session's place in one topic.
#[derive(Debug)]
struct Place {
    /// Everything up to this id has been handed out or passed over.
    after: Id,
    /// Known from the first message on.
    head: Option<Arc<Head>>,
    /// The run that was read last, and the index in it of the message after `after`.
    run: Arc<Run>,
    next: usize,
    run_messages: usize,
}

impl Session {
    pub fn new(start: Id) -> Session {
        Session { start, places: HashMap::new(), bulky: false }
    }

    /// Where this session began: `since` this id, another session goes on in its stead.
    pub fn start(&self) -> Id {
        self.start
    }

    pub fn get<'s>(
        &'s mut self,
        store: &dyn Store,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        let Some(place) = place(&mut self.places, self.start, store, topic, since)? else {
            return Ok(None);
        };
        place.advance(store, topic)?;
        self.bulky |= place.is_bulky();
        Ok(place.take())
    }

    pub fn get_latest<'s>(
        &'s mut self,
        store: &dyn Store,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        let Some(place) = place(&mut self.places, self.start, store, topic, since)? else {
            return Ok(None);
        };
        place.advance_to_newest(store, topic)?;
        self.bulky |= place.is_bulky();
        Ok(place.take())
    }

    /// Whether runs are held that an idle session does not need.
    pub fn is_bulky(&self) -> bool {
        self.bulky
    }

    /// Lets go of the large runs; they are read again if the session goes on.
    pub fn shrink(&mut self) {
        self.bulky = false;
        let bulky = self.places.values_mut().filter(|place| place.is_bulky());
        bulky.for_each(|place| place.stand_in(Arc::default()));
    }
}

/// The session's place in a topic, set to `since` if that is given; `None` if the topic has
/// nothing for the session.
fn place<'p>(
    places: &'p mut HashMap<Topic, Place>,
    start: Id,
    store: &dyn Store,
    topic: &str,
    since: Option<Id>,
) -> Result<Option<&'p mut Place>> {
    // Looked up twice: the borrow of a place that is found would last to the end otherwise.
    if !places.contains_key(topic) {
        let name = Topic::new(topic)?;
        let head = store.head(topic);
        if since.is_none() && head.as_ref().is_none_or(|head| head.newest() <= start) {
            return Ok(None);
        }
        if places.len() >= limits::PLACES {
            let text = format!(
                "this connection has a place in {} topics: use another connection",
                limits::PLACES
            );
            return Err(Error::new(Code::TooManyPlaces, text));
        }
        places.insert(name, Place::new(start, head));
    }
    let mut place = places.get_mut(topic);
    if let (Some(place), Some(id)) = (&mut place, since) {
        place.move_to(id);
    }
    Ok(place)
}

impl Place {
    fn new(after: Id, head: Option<Arc<Head>>) -> Place {
        let run_messages = FIRST_RUN_MESSAGES;
        Place { after, head, run: Arc::default(), next: 0, run_messages }
    }

    /// Sets the place, forwards or back.
    fn move_to(&mut self, after: Id) {
        self.after = after;
        match self.run.position(after) {
            Some(next) => self.next = next,
            None => self.stand_in(Arc::default()),
        }
    }

    /// Makes `next` the next message of the run, if there is one in the store.
    fn advance(&mut self, store: &dyn Store, topic: &str) -> Result<()> {
        if self.run.get(self.next).is_some() {
            return Ok(());
        }
        let Some(head) = self.head(store, topic) else { return Ok(()) };
        if head.newest() <= self.after {
            return Ok(());
        }
        let run = store.run(&head, self.after, self.run_messages)?;
        self.run_messages = (self.run_messages * 2).min(limits::RUN_MESSAGES);
        self.stand_in(run);
        Ok(())
    }

    fn advance_to_newest(&mut self, store: &dyn Store, topic: &str) -> Result<()> {
        let Some(head) = self.head(store, topic) else { return Ok(()) };
        let newest = head.newest();
        if newest <= self.after {
            return Ok(());
        }
        // One id before the newest, a run at hand holds the newest if any does.
        let run = match self.run.position(newest - 1) {
            Some(_) => self.run.clone(),
            None => store.read_newest(&head)?,
        };
        self.after = self.after.max(run.last_id() - 1);
        self.stand_in(run);
        Ok(())
    }

    fn is_bulky(&self) -> bool {
        self.run.bytes() > limits::BUFFER_BYTES
    }

    fn head(&mut self, store: &dyn Store, topic: &str) -> Option<Arc<Head>> {
        if self.head.is_none() {
            self.head = store.head(topic);
        }
        self.head.clone()
    }

    fn stand_in(&mut self, run: Arc<Run>) {
        self.next = run.position(self.after).unwrap_or(0);
        self.run = run;
    }

    /// Hands out the next message and moves behind it.
    fn take(&mut self) -> Option<Message<'_>> {
        let message = self.run.get(self.next)?;
        self.after = message.id;
        self.next += 1;
        Some(message)
    }
}
