//! The broker: one server's sessions, waiting clients, subscriptions and timers, over a store. It
//! answers, or it keeps a waker; it never waits for a client or for time.
//!
//! It has a method for each action. Protocols call them and write what they return; the broker
//! knows no protocol, no socket and no tokio.

mod caller;
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "HTTP alone consumes"))]
mod consumers;
mod cursor;
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone shows it"))]
mod health;
#[cfg(test)]
mod model;
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone shows it"))]
mod overview;
mod protocol_gauge;
mod session;
mod stats;
mod subscribers;
mod subscription;
mod takers;
mod timer;
mod waiters;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

pub use self::caller::Caller;
use self::consumers::Consumers;
#[cfg_attr(not(feature = "http"), expect(unused_imports, reason = "HTTP alone consumes"))]
pub use self::consumers::{Consumer, Delivery, Received};
#[cfg(feature = "http")]
pub use self::health::{Health, Vitals, rules};
#[cfg(feature = "http")]
pub use self::overview::Busy;
use self::protocol_gauge::ProtocolGauge;
#[cfg(feature = "http")]
pub use self::protocol_gauge::ProtocolGuard;
#[cfg(feature = "http")]
pub use self::protocol_gauge::UpgradeGuard;
#[cfg(feature = "http")]
pub use self::session::Page;
pub use self::session::Session;
pub use self::stats::{Stats, TopicStats};
pub use self::subscribers::Pattern;
use self::subscribers::Subscribers;
pub use self::subscription::{From, Pushes};
pub use self::takers::TakeWaiter;
use self::takers::Takers;
use self::timer::Timers;
use self::waiters::Waiters;
pub use self::waiters::{Watch, look_again};
use crate::error::{Code, Error, Result};
use crate::ops::{Batch, Chunk, Id, Message, Op, Policy, Requeue, Topic};
use crate::store::{Store, WriteThrough};

/// One server's broker, shared by all of its connections.
pub struct Broker {
    store: Arc<dyn Store>,
    blocks: bool,
    waiters: Arc<Waiters>,
    takers: Arc<Takers>,
    consumers: Arc<Consumers>,
    subscribers: Arc<Subscribers>,
    timers: Timers,
    closing: AtomicBool,
    opened: Instant,
    sessions: Arc<AtomicU64>,
    /// Stops the server, if clients may do that.
    stop: OnceLock<Box<dyn Fn() + Send + Sync>>,
    protocols: Arc<ProtocolGauge>,
    /// Messages handed out by get and by subscriptions.
    reads: AtomicU64,
}

impl Broker {
    pub fn new(store: Arc<dyn Store>) -> Broker {
        Broker {
            timers: Timers::new(&*store),
            blocks: store.usage().blocks,
            store,
            waiters: Arc::default(),
            takers: Arc::default(),
            consumers: Arc::default(),
            subscribers: Arc::default(),
            closing: AtomicBool::new(false),
            opened: Instant::now(),
            sessions: Arc::default(),
            stop: OnceLock::new(),
            protocols: Arc::default(),
            reads: AtomicU64::new(0),
        }
    }

    /// Whether a call can wait for a disk or a network. Then no thread may make it on which others
    /// depend.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "a thread for each connection"))]
    pub fn blocks(&self) -> bool {
        self.blocks
    }

    /// An id below every message put to the topic from now on.
    #[cfg(feature = "http")]
    pub fn last_id(&self, _: &Caller, topic: &str) -> Id {
        self.store.watermark().of(topic)
    }

    /// Starts a session, which receives the messages put from now on.
    pub fn session(&self, _: &Caller) -> Session {
        let start = match self.store.shared() {
            Some(shared) => shared.watermark_lazy(),
            None => self.store.watermark(),
        };
        Session::new(start, self.sessions.clone())
    }

    /// Carries out a batch, then wakes the clients that wait for what it made available. The
    /// outcomes are in the batch.
    pub fn apply(&self, _: &Caller, batch: &mut Batch) {
        if self.takers.any() {
            // Waiting takers come before the takes of this batch.
            let takes = batch.ops.iter().filter(|op| matches!(op, Op::Take { .. }));
            let mut topics: Vec<&Topic> = takes.map(Op::topic).collect();
            topics.dedup();
            topics.iter().for_each(|topic| self.serve_takers(topic));
        }
        let through =
            self.subscribers.any().then(|| WriteThrough::new(&*self.store, batch)).flatten();
        self.store.apply(batch);
        self.set_timers(batch);
        let id = batch.last_id();
        // Pairs with the fences after a waiter registers: either the waiter sees the new messages,
        // or this thread sees the waiter.
        fence(Ordering::SeqCst);
        if !self.anyone_waits() {
            return;
        }
        if let Some(through) = through {
            through.finish(&*self.store, batch);
        }
        let put: Vec<&Topic> = batch.topics_put().collect();
        self.put_to(&put, id);
        for (op, outcome) in batch.ops.iter().zip(&batch.outcomes) {
            match (op, outcome) {
                // Sessions that have passed this id must receive the message. Its put has already
                // reported which ids are complete, so this reports none.
                (Op::PutBack { topic, message }, Ok(_)) if message.lease.is_none() => {
                    self.put_to(&[topic], 0);
                }
                (Op::Nack { topic, .. } | Op::PutBack { topic, .. }, Ok(_)) => self.returned(topic),
                (Op::SetStopped { topic, stopped: false }, Ok(_)) => self.serve(topic),
                (Op::Purge { topic }, Ok(_)) => self.recall(topic),
                _ => {}
            }
        }
    }

    fn anyone_waits(&self) -> bool {
        self.takers.any() || self.waiters.any() || self.subscribers.any() || self.consumers.any()
    }

    /// Wakes everyone who waits for a put to these topics, whose ids go up to `id`.
    fn put_to(&self, topics: &[&Topic], id: Id) {
        self.subscribers.tell(topics.iter().copied(), id);
        for topic in topics {
            self.waiters.wake(topic);
            self.serve(topic);
        }
    }

    /// Gives the topic's messages to waiting takers and consumers.
    fn serve(&self, topic: &Topic) {
        if self.takers.any() {
            self.serve_takers(topic);
            // Served takers may have leases, whose ends the timer must know.
            self.set_timer_of(topic);
        }
        if self.consumers.any() {
            self.consumers.wake(topic);
        }
    }

    /// Gives the topic's messages to its waiting takers.
    fn serve_takers(&self, topic: &Topic) {
        if !self.takers.serve(&*self.store, topic) {
            self.serve_later(topic);
        }
    }

    /// Messages of this topic can be taken again, or have become dead letters.
    fn returned(&self, topic: &Topic) {
        self.serve(topic);
        if let Some(dead) = topic.dead() {
            self.put_to(&[&dead], self.store.last_id());
        }
    }

    /// The oldest message of the topic after the session's cursor, which moves past it. `since`
    /// sets the cursor first.
    pub fn get<'s>(
        &self,
        _: &Caller,
        session: &'s mut Session,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        let message = session.get(&*self.store, topic, since)?;
        self.count_reads(message.iter().len());
        Ok(message)
    }

    /// The newest message of the topic after the session's cursor, which moves past it.
    pub fn get_latest<'s>(
        &self,
        _: &Caller,
        session: &'s mut Session,
        topic: &str,
        since: Option<Id>,
    ) -> Result<Option<Message<'s>>> {
        let message = session.get_latest(&*self.store, topic, since)?;
        self.count_reads(message.iter().len());
        Ok(message)
    }

    fn count_reads(&self, messages: usize) {
        if messages > 0 {
            self.reads.fetch_add(messages as u64, Ordering::Relaxed);
        }
    }

    /// Wakes `waker` at every put to the topic until the watch is dropped. A put before this
    /// returns wakes nobody: look for messages after it.
    pub fn watch(&self, _: &Caller, topic: Topic, waker: Waker) -> Watch {
        let watch = self.waiters.watch(topic, waker);
        fence(Ordering::SeqCst);
        watch
    }

    /// Whether a taker waits, for any topic.
    pub fn takers_wait(&self, _: &Caller) -> bool {
        self.takers.any()
    }

    /// Waits for a message of the topic, in turn. `lease` is in microseconds. Wakes `waker` when
    /// there is a message or an error.
    pub fn wait_to_take(
        &self,
        _: &Caller,
        topic: &Topic,
        lease: Option<u64>,
        waker: Waker,
    ) -> TakeWaiter {
        let waiting = self.takers.join(topic, lease, waker);
        fence(Ordering::SeqCst);
        self.serve(topic);
        waiting
    }

    /// Ends the wait of a taker that is gone. A message that it received goes to the next taker.
    pub fn give_up(&self, caller: &Caller, waiting: TakeWaiter) {
        let topic = waiting.topic().clone();
        if let Some(Ok(message)) = waiting.leave() {
            self.put_back(caller, topic, message);
        }
    }

    /// Returns a message that did not reach its taker. The delivery does not count.
    pub fn put_back(&self, caller: &Caller, topic: Topic, message: Requeue) {
        let (leased, mut batch) = (message.lease.is_some(), Batch::default());
        batch.ops.push(Op::PutBack { topic, message: Box::new(message) });
        self.apply(caller, &mut batch);
        match batch.only() {
            // Its lease has ended in the meantime, which returned it already.
            Err(error) if error.code == Code::Gone => {}
            Err(error) if leased => {
                tracing::warn!(
                    "cannot return an undelivered message, it returns when its lease ends: {error}"
                );
            }
            Err(error) => {
                tracing::error!(
                    "cannot return an undelivered message to its topic, it is lost: {error}"
                );
            }
            Ok(_) => {}
        }
    }

    /// Pushes the messages that match to this session from now on. Wakes `waker` when there are
    /// some. Returns an id below all messages put from now on.
    pub fn subscribe(
        &self,
        _: &Caller,
        session: &mut Session,
        patterns: Vec<Pattern>,
        from: From,
        waker: &Waker,
    ) -> Result<Id> {
        let start = session.start().clone();
        let subscriptions = session.subscriptions.get_or_insert_with(|| {
            Box::new(subscription::Subscriptions::new(self.subscribers.clone(), waker.clone()))
        });
        subscriptions.subscribe(&*self.store, patterns, from, &start)
    }

    pub fn unsubscribe(&self, _: &Caller, session: &mut Session, pattern: &Pattern) {
        if let Some(subscriptions) = &mut session.subscriptions {
            subscriptions.unsubscribe(pattern);
        }
    }

    /// The next messages to push to this session.
    pub fn pushes(&self, _: &Caller, session: &mut Session) -> Result<Option<Pushes>> {
        let Some(subscriptions) = &mut session.subscriptions else { return Ok(None) };
        let pushes = subscriptions.next(&*self.store)?;
        self.count_reads(pushes.iter().map(|pushes| pushes.range.len()).sum());
        Ok(pushes)
    }

    /// The last `limit` messages of a topic, oldest first.
    pub fn history(&self, _: &Caller, topic: &str, limit: usize) -> Result<Arc<Chunk>> {
        self.store.refresh(topic)?;
        match self.store.topic(topic) {
            Some(state) => self.store.read_last(&state, limit),
            None => Ok(Arc::default()),
        }
    }

    /// Delayed messages of a topic, the next one first, with due times in place of ids.
    pub fn delayed(&self, _: &Caller, topic: &str, limit: usize) -> Result<Chunk> {
        self.store.refresh(topic)?;
        match self.store.topic(topic) {
            Some(state) => self.store.delayed(&state, limit),
            None => Ok(Chunk::default()),
        }
    }

    /// The policy of the topic, if one was ever set.
    pub fn policy(&self, _: &Caller, topic: &str) -> Option<Policy> {
        self.store.topic(topic).and_then(|state| state.counts().policy)
    }

    /// Stops the broker: wakes all waiting clients, which then find it closing.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.timers.stop();
        self.waiters.wake_all();
        self.takers.wake_all();
        self.subscribers.wake_all();
    }

    /// Lets clients stop the server, by calling `stop`.
    pub fn allow_shutdown(&self, stop: impl Fn() + Send + Sync + 'static) {
        // A second call changes nothing.
        let _ = self.stop.set(Box::new(stop));
    }

    /// Stops the server for a client, if that is allowed.
    pub fn shutdown(&self, _: &Caller) -> Result<()> {
        let text = "this server does not let its clients stop it: --allow-shutdown does";
        let stop = self.stop.get().ok_or_else(|| Error::new(Code::Forbidden, text))?;
        tracing::info!("a client stops the server");
        stop();
        Ok(())
    }

    /// Fails with `closing` once the server stops.
    pub fn check_open(&self, _: &Caller) -> Result<()> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Closing, "the server is closing: connect again later"));
        }
        Ok(())
    }
}
