//! The broker: what one server knows. It answers, or it keeps a waker; it never blocks on a peer.
//! A method for each word of the protocol; protocols call them and write what they return.

mod session;
mod waiters;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Waker;

pub use self::session::Session;
use self::waiters::Waiters;
pub use self::waiters::Watch;
use crate::error::{Code, Error, Result};
use crate::message::{Id, Message, Topic};
use crate::store::{PutBatch, Store};

/// One server's broker, shared by all of its connections.
pub struct Broker {
    store: Arc<dyn Store>,
    waiters: Waiters,
    closing: AtomicBool,
}

impl Broker {
    pub fn new(store: Arc<dyn Store>) -> Broker {
        Broker { store, waiters: Waiters::default(), closing: AtomicBool::new(false) }
    }

    /// Begins a session: it will be handed what is put from now on.
    pub fn session(&self) -> Session {
        Session::new(self.store.last_id())
    }

    /// Stores a batch, then wakes who waits for its topics. The outcomes are in the batch.
    pub fn put(&self, batch: &mut PutBatch) {
        self.store.put(batch);
        // Either a waiter that registers now sees the messages, or we see the waiter.
        fence(Ordering::SeqCst);
        if self.waiters.any() {
            batch.topics().for_each(|topic| self.waiters.wake(topic));
        }
    }

    /// The oldest message of the topic after this session's place, which moves behind it.
    /// `since` sets the place first.
    pub fn get<'s>(
        &self,
        session: &'s mut Session,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        session.get(self.store.as_ref(), topic, since)
    }

    /// The newest message of the topic after this session's place; older ones are passed over.
    pub fn get_latest<'s>(
        &self,
        session: &'s mut Session,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        session.get_latest(self.store.as_ref(), topic, since)
    }

    /// Wakes `waker` at every put to the topic until the watch is dropped. What was put before
    /// this returns wakes nobody: look again after it.
    pub fn watch(&self, topic: Topic, waker: Waker) -> Watch<'_> {
        let watch = self.waiters.watch(topic, waker);
        fence(Ordering::SeqCst);
        watch
    }

    /// The server stops: everyone who waits is woken and told so.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.waiters.wake_all();
    }

    /// `closing`, once the server stops.
    pub fn check_open(&self) -> Result<()> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Closing, "the server is closing: connect again later"));
        }
        Ok(())
    }
}
