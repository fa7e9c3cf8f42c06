//! The store in Redis, shared by any number of servers. Only this folder names the redis crate.
//!
//! A store in a Redis Cluster has several partitions, each on one node; a topic lies in one of
//! them. The following is true of each partition. A [`leader`](super::leader) gathers concurrent
//! batches into one call of a Lua script ([`scripts`]), which Redis runs as one transaction; due
//! work is a script as well. [`topic_cache`] keeps what this server knows of the topics: from the
//! replies to its own scripts, and from the [`change_feed`] of the other servers.
//! docs/reference/redis.md lists the keys.

mod address;
mod change_feed;
#[cfg(test)]
pub mod cluster_tests;
mod copy;
mod node_health;
mod node_pool;
mod nodes;
mod open;
mod partition;
mod preflight;
mod request;
mod scripts;
mod split;
#[cfg(test)]
pub mod tests;
mod topic_cache;
mod watermarks;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::task::Waker;
use std::time::{Duration, Instant};

use redis::Value;

pub use self::address::RedisAt;
use self::address::StoreUrl;
use self::change_feed::ChangeFeed;
use self::nodes::Nodes;
use self::open::OpenResult;
use self::topic_cache::UpdateSource;

use self::partition::{Partition, SharedState};
use super::{Due, ReadCache, Rules, SharedStore, Store, TopicState, Usage, system_clock};
use crate::error::Result;
use crate::limits;
use crate::ops::{
    Batch, Chunk, Completion, ID_END, Id, Node, Op, ScanCursor, StoredMessage, Topic, Watermark,
    completion, partition,
};

/// Lease of a message sent to a consumer, in microseconds: one minute.
const CONSUMER_LEASE: u64 = 60_000_000;

/// Time limit for opening a store.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest assumed difference between the clocks of two nodes, and between a node's clock and its
/// estimate here, in microseconds.
const CLOCK_ERROR: u64 = 1_000_000;

pub struct RedisStore {
    shared: Arc<SharedState>,
    /// Exactly one without a cluster.
    partitions: Vec<Arc<Partition>>,
    cache: ReadCache,
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.shared.change_feed.end();
        self.shared.watermarks.end();
    }
}

impl RedisStore {
    /// Opens the store; creates it if it does not exist.
    pub fn open(
        at: &RedisAt<'_>,
        rules: Rules,
        clock: Option<fn() -> Id>,
    ) -> OpenResult<RedisStore> {
        let nodes = match address::parse(at.url)? {
            StoreUrl::One(info) => at.single(info)?,
            StoreUrl::Cluster { seeds, partitions } => at.cluster(seeds, partitions)?,
        };
        RedisStore::over(nodes, at, rules, clock)
    }

    fn over(
        nodes: Nodes,
        at: &RedisAt<'_>,
        rules: Rules,
        clock: Option<fn() -> Id>,
    ) -> OpenResult<RedisStore> {
        open::check_share(&rules, nodes.routes().len())?;
        let shared = Arc::new(SharedState {
            nodes,
            change_feed: ChangeFeed::default(),
            watermarks: Arc::default(),
            server: format!("{:016x}", RandomState::new().build_hasher().finish()),
            rules,
            refused: AtomicU64::new(0),
            drop_log: Mutex::default(),
            replicas: at.replicas,
            clock,
            total: Arc::default(),
        });
        let partition = |(partition, route)| {
            Arc::new(Partition::new(shared.clone(), Arc::clone(route), &at.keys(partition)))
        };
        let partitions: Vec<_> = shared.nodes.routes().iter().enumerate().map(partition).collect();
        let store = RedisStore { shared, partitions, cache: ReadCache::default() };
        store.listen()?;
        watermarks::begin(&store.shared, &store.partitions).map_err(|error| error.to_string())?;
        for partition in &store.partitions {
            partition.claim()?;
            let all = partition.load_topics(UpdateSource::Startup);
            all.map_err(|error| error.text.into_owned())?;
            // The first tick finds everything that is due.
            partition.topic_cache.due_at(0);
        }
        store.probe();
        if store.shared.nodes.is_cluster() {
            tracing::info!("partitions: {}", store.shared.nodes.summary());
        }
        Ok(store)
    }

    /// Subscribes to the change feed of every partition. This happens before the topics are
    /// loaded, so no change is missed.
    fn listen(&self) -> OpenResult<()> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let (ready, listening) = mpsc::channel();
        for partition in &self.partitions {
            change_feed::listen(partition, ready.clone()).map_err(|error| error.to_string())?;
        }
        for _ in &self.partitions {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = |_| "Redis does not answer: check that it is running".to_owned();
            listening.recv_timeout(left).map_err(timeout)??;
        }
        Ok(())
    }

    /// Probes all nodes, including those found later.
    fn probe(&self) {
        let shared = Arc::downgrade(&self.shared);
        let partitions: Vec<_> = self.partitions.iter().map(Arc::downgrade).collect();
        self.shared.nodes.probe(move |is_back| {
            // A node that is down, or has become a replica, no longer serves its partitions.
            if let Some(shared) = shared.upgrade() {
                shared.nodes.refresh_slots();
            }
            if is_back {
                let partitions = partitions.iter().filter_map(Weak::upgrade);
                partitions.for_each(|partition| partition.on_reconnect());
            }
        });
    }

    fn watermark_of(&self, last_id: impl Fn(&Partition) -> Id) -> Watermark {
        if let [partition] = self.partitions.as_slice() {
            return Watermark::at(last_id(partition));
        }
        let ids: Arc<[Id]> = self.partitions.iter().map(|partition| last_id(partition)).collect();
        // In a partition without recent puts, the next id follows the node's clock, not the last
        // id.
        let since = self.partitions.iter().zip(ids.iter());
        let since =
            since.map(|(partition, id)| partition.now().saturating_sub(CLOCK_ERROR).max(*id));
        Watermark::of_partitions(since.min().unwrap_or(0), ids)
    }

    fn partition(&self, topic: &str) -> Result<&Arc<Partition>> {
        self.partitions.get(partition(topic, self.partitions.len())).ok_or_else(scripts::bad_reply)
    }

    fn read_script(&self, mode: &str, topic: &Topic, args: &[u64]) -> Result<Value> {
        self.partition(topic.as_str())?.read(mode, topic, args)
    }
}

impl Partition {
    /// The partition's clock, in microseconds.
    fn now(&self) -> Id {
        match self.shared.clock {
            Some(clock) => clock(),
            None => self.topic_cache.clock(system_clock()),
        }
    }

    /// Carries out a limited amount of due work; returns its changes and the pending remote ones.
    fn tick(&self) -> Result<Due> {
        let mut pending_changes = self.pending_changes.take();
        if self.topic_cache.due() > self.now() {
            return Ok(pending_changes);
        }
        // The script's reply contains the next due time.
        self.topic_cache.forget_due();
        match self.call_tick() {
            Ok(done) => {
                pending_changes.add(done);
                Ok(pending_changes)
            }
            Err(error) => {
                self.topic_cache.due_at(self.now() + limits::RETRY.as_micros() as u64);
                let any = !pending_changes.put.is_empty() || !pending_changes.returned.is_empty();
                // The node's outage is logged already.
                let is_reported = any || self.route.node_pool().is_away();
                if is_reported { Ok(pending_changes) } else { Err(error) }
            }
        }
    }
}

impl Store for RedisStore {
    fn last_id(&self) -> Id {
        self.partitions.iter().map(|partition| partition.topic_cache.last_id()).max().unwrap_or(0)
    }

    fn watermark(&self) -> Watermark {
        let query = self.shared.watermarks.join(self.partitions.len());
        let last_id_of =
            |partition: &Partition| query.last_id(partition.route.index()).unwrap_or(0);
        self.watermark_of(|partition| last_id_of(partition).max(partition.topic_cache.last_id()))
    }

    /// The latest of the partitions' clocks.
    fn now(&self) -> Id {
        self.partitions.iter().map(|partition| partition.now()).max().unwrap_or(0)
    }

    fn topic(&self, name: &str) -> Option<Arc<TopicState>> {
        self.partition(name).ok()?.topic_cache.state(name)
    }

    fn topics(&self) -> Vec<Arc<TopicState>> {
        self.partitions.iter().flat_map(|partition| partition.topic_cache.states()).collect()
    }

    fn submit(&self, mut batch: Batch, completion: Box<dyn Completion>) {
        let of = |op: &Op| partition(op.topic().as_str(), self.partitions.len());
        let mut partitions = batch.ops.iter().map(of);
        let Some(first) = partitions.next() else { return completion.complete(batch) };
        match self.partitions.get(first) {
            Some(partition) if partitions.all(|partition| partition == first) => {
                partition.submit(batch, completion)
            }
            _ => {
                split::apply(&mut batch, of, |partition, share| {
                    match self.partitions.get(partition) {
                        Some(partition) => {
                            completion::apply(share, |batch, done| partition.submit(batch, done))
                        }
                        None => request::fail(share, &scripts::bad_reply()),
                    }
                });
                completion.complete(batch);
            }
        }
    }

    fn read(&self, state: &TopicState, after: Id, limit: usize) -> Result<Arc<Chunk>> {
        let limit = limit.clamp(1, limits::CHUNK_MESSAGES) as u64;
        let chunk = Chunk::new(after, state.removals());
        let messages = self.read_script("run", state.topic(), &[after.min(ID_END), limit])?;
        request::read_messages(chunk, messages).map(Arc::new)
    }

    fn read_last(&self, state: &TopicState, limit: usize) -> Result<Arc<Chunk>> {
        if limit == 0 {
            return Ok(Arc::default());
        }
        let chunk = Chunk::new(0, state.removals());
        let messages = self.read_script("last", state.topic(), &[limit as u64])?;
        request::read_messages(chunk, messages).map(|chunk| Arc::new(chunk.reversed()))
    }

    fn delayed(&self, state: &TopicState, limit: usize) -> Result<Chunk> {
        if limit == 0 {
            return Ok(Chunk::default());
        }
        let messages = self.read_script("delayed", state.topic(), &[limit as u64])?;
        request::read_messages(Chunk::default(), messages)
    }

    fn scan(&self, state: &TopicState, after: ScanCursor) -> Result<Vec<StoredMessage>> {
        copy::scan(after, |mode, args| self.read_script(mode, state.topic(), args))
    }

    fn cache(&self) -> &ReadCache {
        &self.cache
    }

    fn ends(&self, state: &TopicState) -> Result<(Option<Id>, Option<Id>)> {
        let Value::Array(ends) = self.read_script("ends", state.topic(), &[])? else {
            return Err(scripts::bad_reply());
        };
        let mut ends = ends.into_iter().map(|end| match end {
            Value::Int(id) if id > 0 => Some(id.cast_unsigned()),
            _ => None,
        });
        Ok((ends.next().flatten(), ends.next().flatten()))
    }

    fn usage(&self) -> Usage {
        let kind = if self.shared.nodes.is_cluster() { "redis-cluster" } else { "redis" };
        Usage {
            kind,
            blocks: true,
            is_new: false,
            fault: None,
            bytes: self.shared.total.bytes(),
            max_bytes: self.shared.rules.max_bytes,
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }

    /// In terms of `now`, the latest of the clocks; the partition itself goes by its own clock.
    fn due(&self, partition: usize) -> Id {
        let Some(partition) = self.partitions.get(partition) else { return Id::MAX };
        if partition.pending_changes.any() {
            return 0;
        }
        self.now().saturating_add(partition.topic_cache.due().saturating_sub(partition.now()))
    }

    fn tick(&self, partition: usize) -> Result<Due> {
        self.partitions
            .get(partition)
            .map_or_else(|| Ok(Due::default()), |partition| partition.tick())
    }
    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

impl SharedStore for RedisStore {
    fn refresh(&self, topic: &str) -> Result<()> {
        let answer = self.read_script("topic", &Topic::new(topic)?, &[])?;
        let Value::Array(answer) = answer else { return Err(scripts::bad_reply()) };
        self.partition(topic)?
            .apply_update(answer.into_iter().next(), UpdateSource::Local)
            .map(drop)
    }

    fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn on_change(&self, partition: usize, waker: Waker) {
        if let Some(partition) = self.partitions.get(partition) {
            partition.pending_changes.on_change(waker);
        }
    }

    fn watermark_lazy(&self) -> Watermark {
        let now = Instant::now();
        let query = self.shared.watermarks.join(self.partitions.len());
        self.watermark_of(|partition| partition.topic_cache.last_id()).pending(now, query)
    }

    /// Largest difference between the clocks of two partitions.
    fn clock_skew(&self) -> u64 {
        if self.partitions.len() > 1 { CLOCK_ERROR } else { 0 }
    }

    /// A server that crashed cannot return the messages of its consumers; this lease does.
    fn consumer_lease(&self) -> u64 {
        CONSUMER_LEASE
    }

    fn nodes(&self) -> Vec<Node> {
        let nodes = self.shared.nodes.node_pools().into_iter().map(|(node_pool, partitions)| {
            let lost = partitions.iter().filter_map(|index| self.partitions.get(*index));
            let lost = { lost }.any(|partition| partition.feed_lost.load(Ordering::Acquire));
            let news_lag = self.shared.change_feed.lag().filter(|_| lost);
            let partitions = partitions
                .into_iter()
                .filter_map(|partition| u16::try_from(partition).ok())
                .collect();
            Node { partitions, news_lag, ..node_pool.node_health().node() }
        });
        nodes.collect()
    }
}
