//! The state that all Mezzenger connections share. Unacknowledged messages lie in a topic of their
//! own, which this hub takes from with a lease: when the lease ends, the message is sent again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::cache::{FrameCache, ResendQueue, UnackedIndex};
use super::frame;
use crate::broker::{Broker, Caller, From, Pattern};
use crate::error::Result;
use crate::limits;
use crate::ops::{Batch, Id, Op, Outcome, Topic};
use crate::sync::lock;

/// The topic of unacknowledged messages.
const UNACKED: &str = "mezzenger.unacked";

/// Messages taken in one batch.
const TAKEN_AT_ONCE: usize = 64;

pub struct MezzengerHub {
    broker: Arc<Broker>,
    topic: Topic,
    /// The interval between two sendings of a message, in microseconds.
    lease: u64,
    pub(super) unacked: UnackedIndex,
    pub(super) recent: FrameCache,
    resend_queues: Mutex<Vec<Weak<ResendQueue>>>,
    /// Read-locked while messages are in the store but not yet in `unacked` and `recent`. Lookups
    /// that find nothing write-lock it once, and try again.
    publishing: RwLock<()>,
}

impl MezzengerHub {
    /// `resend` is the interval between two sendings of an unacknowledged message.
    pub fn new(broker: Arc<Broker>, resend: Duration) -> Result<MezzengerHub> {
        let hub = MezzengerHub {
            broker,
            topic: Topic::new(UNACKED)?,
            lease: u64::try_from(resend.as_micros()).unwrap_or(u64::MAX),
            unacked: UnackedIndex::default(),
            recent: FrameCache::default(),
            resend_queues: Mutex::default(),
            publishing: RwLock::default(),
        };
        let read = hub.each_unacked(|id, body| {
            if let Some((checksum, _)) = frame::read_unacked(body) {
                hub.unacked.note(&checksum, Some(id));
            }
        });
        if let Err(error) = read {
            // Messages that were not read are registered when they are next sent.
            tracing::error!("cannot read all unacknowledged Mezzenger messages: {error}");
        }
        Ok(hub)
    }

    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Registers a publisher: lookups wait until the guard is dropped.
    pub fn publish(&self) -> RwLockReadGuard<'_, ()> {
        self.publishing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no publisher holds the lock.
    fn wait_for_publishers(&self) {
        drop(self.publishing.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The original frame of a message; `None` if another protocol put it or it is no longer in
    /// memory.
    pub fn frame(&self, id: Id) -> Option<Arc<[u8]>> {
        self.recent.get(id).or_else(|| {
            self.wait_for_publishers();
            self.recent.get(id)
        })
    }

    /// Registers a message that is about to be stored; returns false if it is stored already.
    pub fn announce(&self, checksum: &str) -> bool {
        if self.unacked.is_crowded() {
            self.prune_unacked();
        }
        // The store may have dropped the message, or a client purged it.
        if let Some(id) = self.unacked.id(checksum)
            && !self.is_in_store(id)
        {
            self.unacked.forget(checksum);
        }
        self.unacked.announce(checksum)
    }

    fn is_in_store(&self, id: Id) -> bool {
        let page =
            self.broker.read(&Caller::server(), self.topic.as_str(), id.saturating_sub(1), 1);
        page.is_ok_and(|page| page.last == id)
    }

    /// Unregisters an acknowledged message and returns its id. The caller deletes it from the
    /// store.
    pub fn forget(&self, checksum: &str) -> Option<Id> {
        self.unacked.forget(checksum).or_else(|| {
            self.wait_for_publishers();
            self.unacked.forget(checksum)
        })
    }

    /// Removes the entries of messages that are no longer in the store.
    fn prune_unacked(&self) {
        let last = self.broker.session(&Caller::server()).start().of(self.topic.as_str());
        let mut in_store = HashSet::new();
        match self.each_unacked(|id, _| {
            in_store.insert(id);
        }) {
            Ok(()) => self.unacked.prune(&in_store, last),
            Err(error) => tracing::error!(
                "cannot compare Mezzenger's unacknowledged messages with the store: {error}"
            ),
        }
    }

    /// Calls `each` for every unacknowledged message in the store.
    fn each_unacked(&self, mut each: impl FnMut(Id, &[u8])) -> Result<()> {
        let mut session = self.broker.session(&Caller::server());
        let topic = vec![Pattern::Topic(self.topic.clone())];
        self.broker.subscribe(
            &Caller::server(),
            &mut session,
            topic,
            From::Oldest,
            Waker::noop(),
        )?;
        while let Some(pushes) = self.broker.pushes(&Caller::server(), &mut session)? {
            let messages = pushes.range.clone().filter_map(|index| pushes.chunk.get(index));
            messages.for_each(|message| each(message.id, message.body));
        }
        Ok(())
    }

    /// Creates the resend queue of a subscriber.
    pub fn resend_queue(&self, waker: Waker) -> Arc<ResendQueue> {
        let resend_queue = Arc::new(ResendQueue::new(waker));
        lock(&self.resend_queues).push(Arc::downgrade(&resend_queue));
        resend_queue
    }

    /// Sends unacknowledged messages again until the broker closes. Blocks the calling thread.
    pub fn run(&self) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        while self.broker.check_open(&Caller::server()).is_ok() {
            match self.take_all() {
                Ok(()) => self.wait_for_more(&waker),
                Err(error) => {
                    tracing::error!(
                        "cannot send unacknowledged Mezzenger messages again, trying later: {error}"
                    );
                    thread::park_timeout(limits::RETRY);
                }
            }
        }
    }

    /// Takes all messages without a lease.
    pub(super) fn take_all(&self) -> Result<()> {
        let take = || Op::Take { topic: self.topic.clone(), lease: Some(self.lease) };
        loop {
            let mut batch = Batch::default();
            batch.ops.extend(std::iter::repeat_with(take).take(TAKEN_AT_ONCE));
            self.broker.apply(&Caller::server(), &mut batch);
            for outcome in std::mem::take(&mut batch.outcomes) {
                match outcome? {
                    Outcome::Taken(Some(taken)) => {
                        self.taken(taken.id, taken.deliveries, batch.taken_body(&taken));
                    }
                    Outcome::Later => break,
                    _ => return Ok(()),
                }
            }
        }
    }

    /// Sleeps until a message can be taken, and takes it.
    fn wait_for_more(&self, waker: &Waker) {
        let mut waiting = self.broker.wait_to_take(
            &Caller::server(),
            &self.topic,
            Some(self.lease),
            waker.clone(),
        );
        let delivery = loop {
            let delivery = waiting.handed();
            if delivery.is_some() || self.broker.check_open(&Caller::server()).is_err() {
                break delivery;
            }
            thread::park();
        };
        match delivery.or_else(|| waiting.leave()) {
            Some(Ok(message)) => {
                self.taken(message.taken.id, message.taken.deliveries, &message.body);
            }
            Some(Err(error)) => {
                tracing::error!(
                    "cannot send unacknowledged Mezzenger messages again, trying later: {error}"
                );
                thread::park_timeout(limits::RETRY);
            }
            None => {}
        }
    }

    /// Handles a taken message: the first delivery only starts the lease, each later one sends the
    /// message again.
    fn taken(&self, id: Id, deliveries: u32, body: &[u8]) {
        if deliveries < 2 {
            return;
        }
        let Some((checksum, frame)) = frame::read_unacked(body) else {
            tracing::warn!(
                "skipping message {id} of {UNACKED}, which Mezzenger did not put there: delete it"
            );
            return;
        };
        self.unacked.note(&checksum, Some(id));
        tracing::debug!("sending message {checksum} again");
        let frame = Arc::from(frame);
        lock(&self.resend_queues).retain(|resend_queue| match resend_queue.upgrade() {
            Some(resend_queue) => {
                resend_queue.add(&frame);
                true
            }
            None => false,
        });
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
