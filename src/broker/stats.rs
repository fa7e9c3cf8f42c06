//! Statistics of the topics and their sums. Part of the broker.

use std::sync::atomic::Ordering;

use super::{Broker, Caller};
use crate::error::{Code, Error, Result};
use crate::ops::{Away, Id, Node, Topic};
use crate::store::{Counts, SharedStore, TopicState, Usage};

/// The figures of one topic.
#[derive(Debug)]
pub struct TopicStats {
    pub topic: Topic,
    pub counts: Counts,
    pub oldest: Option<Id>,
    pub newest: Option<Id>,
    pub put_rate: f64,
    pub take_rate: f64,
    pub consumers: usize,
}

/// The sums over all topics.
#[derive(Debug, Default)]
pub struct Stats {
    pub uptime_seconds: f64,
    pub connections: u64,
    /// Number of waiting takers.
    pub waiting: u64,
    pub topics: u64,
    pub messages: u64,
    pub bytes: u64,
    pub leased: u64,
    pub delayed: u64,
    pub puts: u64,
    pub takes: u64,
    /// Messages handed out by get and by subscriptions.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone shows it"))]
    pub reads: u64,
    pub dropped: u64,
    pub store: Usage,
    /// The nodes that hold the store, if it is in Redis.
    pub nodes: Vec<Node>,
}

impl Broker {
    /// All topics, ordered by name.
    pub fn topics(&self, _: &Caller) -> Result<Vec<TopicStats>> {
        let topics = self.store.topics().into_iter().map(|state| self.topic_stats(&state));
        let mut topics = topics.collect::<Result<Vec<_>>>()?;
        topics.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        Ok(topics)
    }

    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone asks for it"))]
    pub fn topic(&self, _: &Caller, name: &str) -> Result<Option<TopicStats>> {
        self.store.refresh(name)?;
        self.store.topic(name).map(|state| self.topic_stats(&state)).transpose()
    }

    fn topic_stats(&self, state: &TopicState) -> Result<TopicStats> {
        let (put_rate, take_rate) = state.rates(self.store.now());
        let (oldest, newest) = self.store.ends(state)?;
        Ok(TopicStats {
            topic: state.topic().clone(),
            counts: state.counts(),
            oldest,
            newest,
            put_rate,
            take_rate,
            consumers: self.subscribers.followers(state.topic()) + self.consumers.of(state.topic()),
        })
    }

    /// Fails with `unavailable` and the reason while the store cannot be changed, or while none of
    /// its nodes can be used. One unreachable node of several is not an error: it is unreachable
    /// for every server.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone asks for it"))]
    pub fn check_store(&self, _: &Caller) -> Result<()> {
        if let Some(fault) = self.store.usage().fault {
            return Err(Error::new(Code::Unavailable, fault.text));
        }
        let mut first = None;
        for Node { address, away, .. } in self.nodes() {
            let Some(Away { time, why }) = away else { return Ok(()) };
            first.get_or_insert_with(|| {
                format!("{address} has been away for {} s ({why})", time.as_secs())
            });
        }
        first.map_or(Ok(()), |text| Err(Error::new(Code::Unavailable, text)))
    }

    fn nodes(&self) -> Vec<Node> {
        self.store.shared().map_or_else(Vec::new, SharedStore::nodes)
    }

    /// What the store holds, for the log: that it is new, or its number of messages.
    pub fn held(&self) -> String {
        if self.store.usage().is_new {
            return "a new store".to_owned();
        }
        let Stats { messages, delayed, topics, .. } = self.stats(&Caller::server());
        format!("messages: {}, topics: {topics}", messages + delayed)
    }

    pub fn stats(&self, _: &Caller) -> Stats {
        let mut stats = Stats {
            uptime_seconds: self.opened.elapsed().as_secs_f64(),
            connections: self.sessions.load(Ordering::Relaxed),
            waiting: self.takers.count() as u64,
            reads: self.reads.load(Ordering::Relaxed),
            store: self.store.usage(),
            nodes: self.nodes(),
            ..Stats::default()
        };
        for state in self.store.topics() {
            let counts = state.counts();
            stats.topics += 1;
            stats.messages += counts.length;
            stats.bytes += counts.bytes;
            stats.leased += counts.leased;
            stats.delayed += counts.delayed;
            stats.puts += counts.puts;
            stats.takes += counts.takes;
            stats.dropped += counts.dropped;
        }
        stats
    }
}
