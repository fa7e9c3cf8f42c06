//! What the connections of a server share: the messages that are kept until they are acknowledged,
//! which are published again as the leases end under which they are taken here.

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

/// The topic of what is kept.
const UNACKED: &str = "mezzenger.unacked";

/// Messages that are taken together.
const TAKEN_AT_ONCE: usize = 64;

pub struct MezzengerHub {
    broker: Arc<Broker>,
    topic: Topic,
    /// Microseconds from one publication to the next.
    lease: u64,
    unacked: UnackedIndex,
    recent: FrameCache,
    resend_queues: Mutex<Vec<Weak<ResendQueue>>>,
    /// Held by those whose messages are in the store, but not yet in `unacked` and `recent`.
    publishing: RwLock<()>,
}

impl MezzengerHub {
    /// What is not acknowledged is published again after `resend`.
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
            // What was not read is found as it is published again.
            tracing::error!("not all that is kept for Mezzenger can be read: {error}");
        }
        Ok(hub)
    }

    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// While this is held, what is put is not yet looked for.
    pub fn publish(&self) -> RwLockReadGuard<'_, ()> {
        self.publishing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all who publish now.
    fn wait_for_publishers(&self) {
        drop(self.publishing.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Remembers the frame of a message, for those who subscribe to it.
    pub fn add_frame(&self, id: Id, frame: &[u8]) {
        self.recent.add(id, frame);
    }

    /// The frame with which a message came; `None` if it came otherwise, or long ago.
    pub fn frame(&self, id: Id) -> Option<Arc<[u8]>> {
        self.recent.get(id).or_else(|| {
            self.wait_for_publishers();
            self.recent.get(id)
        })
    }

    /// A message is about to be kept; false if it is already.
    pub fn announce(&self, checksum: &str) -> bool {
        if self.unacked.is_crowded() {
            self.prune_unacked();
        }
        // The store may have dropped it, or somebody purged it.
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

    /// A message is kept under this id, or, without one, is not.
    pub fn note(&self, checksum: &str, id: Option<Id>) {
        self.unacked.note(checksum, id);
    }

    /// The id of a message that is kept: the caller removes it.
    pub fn forget(&self, checksum: &str) -> Option<Id> {
        self.unacked.forget(checksum).or_else(|| {
            self.wait_for_publishers();
            self.unacked.forget(checksum)
        })
    }

    /// Forgets the checksums of what the store has dropped, or somebody has removed.
    fn prune_unacked(&self) {
        let last = self.broker.session(&Caller::server()).start().of(self.topic.as_str());
        let mut in_store = HashSet::new();
        match self.each_unacked(|id, _| {
            in_store.insert(id);
        }) {
            Ok(()) => self.unacked.prune(&in_store, last),
            Err(error) => tracing::error!("what is kept for Mezzenger is not counted: {error}"),
        }
    }

    /// Reads all messages that are kept.
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

    /// An outbox for a subscriber, from now on.
    pub fn resend_queue(&self, waker: Waker) -> Arc<ResendQueue> {
        let resend_queue = Arc::new(ResendQueue::new(waker));
        lock(&self.resend_queues).push(Arc::downgrade(&resend_queue));
        resend_queue
    }

    /// Publishes again what is not acknowledged, on the calling thread, until the broker closes.
    pub fn run(&self) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        while self.broker.check_open(&Caller::server()).is_ok() {
            match self.take_all() {
                Ok(()) => self.wait_for_more(&waker),
                Err(error) => {
                    tracing::error!("what is kept for Mezzenger has to wait: {error}");
                    thread::park_timeout(limits::RETRY);
                }
            }
        }
    }

    /// Takes every message that nobody has a lease of.
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

    /// Sleeps until there is a message to take, and takes it.
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
                tracing::error!("what is kept for Mezzenger has to wait: {error}");
                thread::park_timeout(limits::RETRY);
            }
            None => {}
        }
    }

    /// A message's lease begins. With the first it has just been published, through its own topic.
    fn taken(&self, id: Id, deliveries: u32, body: &[u8]) {
        if deliveries < 2 {
            return;
        }
        let Some((checksum, frame)) = frame::read_unacked(body) else {
            tracing::warn!("the message {id} of {UNACKED} was put by somebody else: delete it");
            return;
        };
        self.unacked.note(&checksum, Some(id));
        tracing::debug!("{checksum} is published again");
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

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
