//! A broker and a model side by side: what is done is done to both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::action::{Action, Do, Name, PATTERNS, TOPICS, UNIT};
use super::log::{Hand, Log};
use super::readers::{Reader, matches};
use super::{NOW, Open, clock};
use crate::broker::{Broker, Caller, Session, TakeWaiter, TopicStats, Watch};
use crate::ops::{Batch, Id, Requeue, Taken, Topic};
use crate::store::Rules;

pub struct World {
    pub broker: Broker,
    rows: Box<dyn Fn() -> i64>,
    pub log: Log,
    pub peers: Vec<Peer>,
    pub takers: Vec<Taker>,
    /// Leases that were given, live or not: topic, id and deliveries.
    pub leases: Vec<(Name, Id, u32)>,
    /// Messages that were taken without a lease.
    pub hands: Vec<(Name, Requeue)>,
    /// How many bodies were made: each is another.
    pub bodies: usize,
    /// Goes when everything else has gone.
    _folder: Option<tempfile::TempDir>,
}

/// One connection: a session of the broker, and its model.
pub struct Peer {
    pub session: Session,
    pub reader: Reader,
    /// A get that waits, and where.
    pub watch: Option<(Watch, Name)>,
    pub watch_woken: Arc<Woken>,
    /// Whether it has read all pushes, and waits to be woken.
    pub idle: bool,
    pub push_woken: Arc<Woken>,
}

/// A take that waits.
pub struct Taker {
    pub waiting: TakeWaiter,
    pub woken: Arc<Woken>,
    pub topic: Name,
    pub lease: Option<u64>,
    /// What it was handed, by the model.
    pub hand: Option<Hand>,
}

/// A waker that counts.
#[derive(Default)]
pub struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub fn reset(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

pub fn topic(name: Name) -> Topic {
    Topic::new(TOPICS[name]).unwrap()
}

/// The number of a topic that the broker names.
pub fn name(topic: &Topic) -> Name {
    TOPICS.iter().position(|known| *known == topic.as_str()).unwrap()
}

/// A taken message as the model has it.
pub fn hand(taken: &Taken, body: &[u8]) -> Hand {
    Hand {
        id: taken.id,
        body: body.to_vec(),
        deliveries: taken.deliveries,
        priority: taken.priority,
        expires: taken.expires,
        origin: taken.origin.as_ref().map(|origin| (name(&origin.0), origin.1)),
    }
}

/// A lease's length in microseconds. Leases of different topics never end at the same time, for
/// nothing says which message would come back first; within a topic it is the older one.
pub fn microseconds(units: u64, topic: Name) -> u64 {
    units * UNIT + topic as u64
}

impl World {
    pub fn new(open: Open<'_>, dead_letter_after: u32) -> World {
        let opened = open(Rules { dead_letter_after, ..Rules::default() });
        let log = Log::new(clock(), opened.parts, &*opened.store, dead_letter_after);
        let mut world = World {
            broker: Broker::new(opened.store),
            rows: opened.rows,
            log,
            peers: Vec::new(),
            takers: Vec::new(),
            leases: Vec::new(),
            hands: Vec::new(),
            bodies: 0,
            _folder: opened.folder,
        };
        world.connect();
        world.connect();
        world
    }

    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Batch(operations) => self.batch(operations),
            Action::Connect => self.connect(),
            Action::Disconnect(which) => self.disconnect(*which),
            Action::Get { session, topic, since, latest } => {
                // A waiting session sends no other request.
                if !self.waits(*session) {
                    self.get(*session, *topic, *since, *latest);
                }
            }
            Action::Watch { session, topic } => self.watch(*session, *topic),
            Action::Subscribe { session, pattern, from } => {
                self.subscribe(*session, *pattern, from);
            }
            Action::Unsubscribe { session, pattern } => self.unsubscribe(*session, *pattern),
            Action::Read { session, most } => self.read(*session, *most),
            Action::Join { topic, lease } => self.join(*topic, *lease),
            Action::Collect(which) => self.collect(*which),
            Action::GiveUp(which) => self.give_up(*which),
            Action::History { topic, limit } => self.history(*topic, *limit),
            Action::Pass { units, tick } => self.pass(*units, *tick),
        }
    }

    fn pass(&mut self, units: u64, tick: bool) {
        NOW.set(clock() + units * UNIT);
        self.log.now = clock();
        if tick {
            self.broker.catch_up();
            // A lease may end at once.
            loop {
                self.log.tick();
                if !self.serve() {
                    break;
                }
            }
            self.check_topics();
        }
    }

    /// What holds after every action.
    pub fn check(&mut self) {
        for taker in &self.takers {
            let handed = usize::from(taker.hand.is_some());
            assert_eq!(taker.woken.count(), handed, "a taker is woken once, when it is served");
        }
        for peer in &mut self.peers {
            if let Some((_, topic)) = peer.watch
                && peer.reader.has_news(&self.log, topic)
            {
                assert!(peer.watch_woken.count() > 0, "a get that waits is woken");
            }
            if peer.idle && peer.reader.has_pushes(&self.log) {
                assert!(peer.push_woken.count() > 0, "a subscriber is woken");
            }
        }
        self.answer_watches();
    }

    /// The lists of topics, when nothing is left that the timer has yet to do.
    fn check_topics(&self) {
        let listed = self.broker.topics(&Caller::server()).unwrap();
        let made = self.log.topics.iter().filter(|known| known.made).count();
        assert_eq!(listed.len(), made, "a topic is made by its first put");
        assert!(listed.is_sorted_by(|a, b| a.topic < b.topic), "by name");
        listed.iter().for_each(|stats| self.check_topic(stats));
        let stats = self.broker.stats(&Caller::server());
        let sum = |of: fn(&TopicStats) -> u64| listed.iter().map(of).sum::<u64>();
        assert_eq!(stats.connections, self.peers.len() as u64);
        assert_eq!(stats.messages, sum(|topic| topic.counts.length));
        assert_eq!(stats.bytes, sum(|topic| topic.counts.bytes));
        assert_eq!(stats.puts, sum(|topic| topic.counts.puts));
    }

    /// topics: length, bytes, oldest and newest id, leased, delayed, consumers, policy, state.
    fn check_topic(&self, stats: &TopicStats) {
        let topic = name(&stats.topic);
        let known = &self.log.topics[topic];
        assert!(known.made);
        let messages: Vec<_> = self.log.visible(topic).collect();
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        assert_eq!(stats.counts.length, messages.len() as u64, "length of {}", stats.topic);
        assert_eq!(stats.counts.bytes, bytes as u64, "bytes of {}", stats.topic);
        assert_eq!(stats.counts.leased, self.log.leased(topic), "leased of {}", stats.topic);
        assert_eq!(stats.counts.delayed, self.log.delayed(topic), "delayed of {}", stats.topic);
        assert_eq!(stats.counts.puts, known.puts, "puts to {}", stats.topic);
        assert_eq!(stats.counts.takes, known.takes, "takes of {}", stats.topic);
        assert_eq!(stats.oldest, messages.first().map(|message| message.id));
        assert_eq!(stats.newest, messages.last().map(|message| message.id));
        assert_eq!((stats.counts.stopped, stats.counts.policy), (known.stopped, known.policy));
        let patterns = self.peers.iter().flat_map(|peer| &peer.reader.patterns);
        let followers = patterns.filter(|pattern| matches(**pattern, topic)).count();
        assert_eq!(stats.consumers, followers, "consumers of {}", stats.topic);
    }

    /// The end of a case: everyone reads what is left, then everything is purged, or taken; and
    /// nothing may remain.
    pub fn end(&mut self, purge: bool) {
        self.pass(0, true);
        (0..TOPICS.len()).for_each(|topic| self.history(topic, 1_000));
        for session in 0..self.peers.len() {
            (0..PATTERNS.len()).for_each(|_| self.read(session, usize::MAX));
            for topic in 0..TOPICS.len() {
                while self.get(session, topic, None, false) {}
            }
        }
        if purge {
            self.batch(&(0..TOPICS.len()).map(|topic| Do::Purge { topic }).collect::<Vec<_>>());
        } else {
            while !self.takers.is_empty() {
                self.give_up(0);
            }
            // Leases end, delayed messages come, keys are forgotten.
            self.pass(10, true);
            for topic in 0..TOPICS.len() {
                let count = self.log.visible(topic).count() + 1;
                self.batch(&[Do::Take { topic, lease: None, count }]);
            }
        }
        self.pass(0, true);
        assert!(self.log.messages.is_empty());
        assert_eq!((self.rows)(), 0, "rows are left of what was removed");
    }

    /// Waiting takers are served in the order in which they began, one message each.
    /// True if one was.
    pub fn serve(&mut self) -> bool {
        let mut served = false;
        for taker in self.takers.iter_mut().filter(|taker| taker.hand.is_none()) {
            taker.hand = self.log.take(taker.topic, taker.lease);
            served |= taker.hand.is_some();
        }
        served
    }

    /// The id of a message that there is, or one that is none.
    pub fn some_id(&self, which: usize) -> Id {
        match self.log.messages.get(which) {
            Some(message) => message.id,
            None if which.is_multiple_of(2) => 0,
            None => self.log.last_id(which % TOPICS.len()),
        }
    }

    pub fn apply(&self, batch: &mut Batch) {
        self.broker.apply(&Caller::server(), batch);
    }
}

pub fn waker(woken: &Arc<Woken>) -> Waker {
    woken.clone().into()
}
