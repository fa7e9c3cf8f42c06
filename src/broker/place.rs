//! A place in one topic: what was handed out, and what comes next. Sessions have one for each
//! topic that they get, subscriptions for each that they follow.

use std::sync::Arc;

use crate::error::Result;
use crate::limits;
use crate::message::{Id, Message};
use crate::store::{Head, Run, Store};

/// How many messages the first read takes; each further read takes twice as many, so that one who
/// asks once holds little and one who reads on asks the store seldom.
const FIRST_RUN_MESSAGES: usize = 4;

#[derive(Debug)]
pub struct Place {
    /// Everything up to this id has been handed out or passed over.
    after: Id,
    /// Known from the topic's first message on.
    head: Option<Arc<Head>>,
    /// The run that was read last, and the index in it of the message after `after`.
    run: Arc<Run>,
    next: usize,
    run_messages: usize,
    /// Whether it goes with others from run to run.
    shared: bool,
}

impl Place {
    pub fn new(after: Id, head: Option<Arc<Head>>) -> Place {
        let run_messages = FIRST_RUN_MESSAGES;
        Place { after, head, run: Arc::default(), next: 0, run_messages, shared: false }
    }

    /// A subscriber's place: all who follow the topic stand at about the same one.
    pub fn following(after: Id, head: Arc<Head>) -> Place {
        Place { shared: true, ..Place::new(after, Some(head)) }
    }

    /// Sets the place, forwards or back.
    pub fn move_to(&mut self, after: Id) {
        self.after = after;
        match self.run.position(after) {
            Some(next) => self.next = next,
            None => self.stand_in(Arc::default()),
        }
    }

    /// Makes `next` the next message of the run, if there is one in the store; its id.
    pub fn advance(&mut self, store: &dyn Store, topic: &str) -> Result<Option<Id>> {
        self.find_head(store, topic);
        let Some(head) = &self.head else { return Ok(None) };
        if let Some(message) = self.run.get(self.next)
            && !store.is_stale(head, &self.run)
        {
            return Ok(Some(message.id));
        }
        let newest = head.newest();
        if newest <= self.after {
            return Ok(None);
        }
        let run = match self.shared {
            true => store.shared_run(head, self.after, self.run_messages)?,
            false => store.run(head, self.after, self.run_messages)?,
        };
        self.run_messages = (self.run_messages * 2).min(limits::RUN_MESSAGES);
        if run.is_empty() {
            // What was put has been removed: it need not be looked for again.
            self.after = newest;
        }
        self.stand_in(run);
        Ok(self.run.get(self.next).map(|message| message.id))
    }

    /// As [`Place::advance`], to the newest message.
    pub fn advance_to_newest(&mut self, store: &dyn Store, topic: &str) -> Result<()> {
        self.find_head(store, topic);
        let Some(head) = self.head.clone() else { return Ok(()) };
        let newest = head.newest();
        self.stand_in(Arc::default());
        if newest <= self.after {
            return Ok(());
        }
        let run = store.read_last(&head, 1)?;
        let passed = if run.is_empty() { newest } else { run.last_id() - 1 };
        if passed >= self.after {
            self.after = passed;
            self.stand_in(run);
        }
        Ok(())
    }

    /// Looks for the head once, and never copies it: all sessions count its owners in one place.
    fn find_head(&mut self, store: &dyn Store, topic: &str) {
        if self.head.is_none() {
            self.head = store.head(topic);
        }
    }

    fn stand_in(&mut self, run: Arc<Run>) {
        self.next = run.position(self.after).unwrap_or(0);
        self.run = run;
    }

    /// Hands out the next message and moves behind it.
    pub fn take(&mut self) -> Option<Message<'_>> {
        let message = self.run.get(self.next)?;
        self.after = message.id;
        self.next += 1;
        Some(message)
    }

    /// Hands out the messages of the run from the next on that have an id below `before`, and
    /// moves behind them.
    pub fn take_run(&mut self, before: Id) -> (Arc<Run>, std::ops::Range<usize>) {
        let start = self.next;
        while let Some(message) = self.run.get(self.next).filter(|message| message.id < before) {
            self.after = message.id;
            self.next += 1;
        }
        (self.run.clone(), start..self.next)
    }

    /// Whether a run is held that an idle connection does not need.
    pub fn is_bulky(&self) -> bool {
        self.run.bytes() > limits::BUFFER_BYTES
    }

    /// Whether the run is one large message.
    pub fn is_large(&self) -> bool {
        self.run.bytes() > limits::RUN_BYTES
    }

    /// Lets go of the run; it is read again if need be.
    pub fn shrink(&mut self) {
        self.stand_in(Arc::default());
    }
}
