//! The store in Redis, which any number of servers share. Only this folder names redis.
//!
//! Over a cluster it has several parts, each at some node; a topic stands in one of them, and what follows
//! is so of each part. Batches of those who meet go through a [`leader`](super::leader) and are one call of
//! a script ([`scripts`]), which Redis runs as one transaction; so is what time does. What is [`known`] of
//! topics here is what scripts told: those of this server in their answers, those of others as
//! [`news`]. docs/reference/redis.md lists the keys.

mod address;
mod backoff;
mod check;
#[cfg(test)]
pub mod cluster_tests;
mod copy;
mod greet;
mod known;
mod link;
mod moments;
mod news;
mod nodes;
mod open;
mod presence;
mod request;
mod scripts;
mod shard;
mod split;
#[cfg(test)]
pub mod tests;
mod watch;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::task::Waker;
use std::time::{Duration, Instant};

use redis::Value;

use self::address::Named;
pub use self::address::RedisAt;
use self::known::From;
use self::news::News;
use self::nodes::Nodes;
use self::open::Opened;

use self::shard::{Common, Shard};
use super::{Due, Extent, Head, ReadCache, Rules, SharedStore, Store, system_clock};
use crate::error::Result;
use crate::limits;
use crate::ops::{
    Batch, Chunk, Completion, ID_END, Id, Node, Op, ScanCursor, StoredMessage, Topic, Watermark,
    completion, partition,
};

/// What a consumer has not had for so long goes to another: a minute, in microseconds.
const CONSUMER_LEASE: u64 = 60_000_000;

/// From the order to open to its end.
const OPEN: Duration = Duration::from_secs(10);

/// How far clocks of nodes may differ, and be from what is known of them, in microseconds.
const CLOCK_ERROR: u64 = 1_000_000;

pub struct RedisStore {
    common: Arc<Common>,
    /// One, unless there is a cluster.
    shards: Vec<Arc<Shard>>,
    cache: ReadCache,
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.common.news.end();
        self.common.moments.end();
    }
}

impl RedisStore {
    /// Opens the store, which is made if it is not there.
    pub fn open(at: &RedisAt<'_>, rules: Rules, clock: Option<fn() -> Id>) -> Opened<RedisStore> {
        let nodes = match address::parse(at.url)? {
            Named::One(info) => at.one(info)?,
            Named::Cluster { seeds, partitions } => at.cluster(seeds, partitions)?,
        };
        RedisStore::over(nodes, at, rules, clock)
    }

    fn over(
        nodes: Nodes,
        at: &RedisAt<'_>,
        rules: Rules,
        clock: Option<fn() -> Id>,
    ) -> Opened<RedisStore> {
        open::check_share(&rules, nodes.routes().len())?;
        let common = Arc::new(Common {
            nodes,
            news: News::default(),
            moments: Arc::default(),
            server: format!("{:016x}", RandomState::new().build_hasher().finish()),
            rules,
            refused: AtomicU64::new(0),
            losses: Mutex::default(),
            replicas: at.replicas,
            clock,
            total: Arc::default(),
        });
        let shard = |(partition, route)| {
            Arc::new(Shard::new(common.clone(), Arc::clone(route), &at.keys(partition)))
        };
        let shards: Vec<_> = common.nodes.routes().iter().enumerate().map(shard).collect();
        let store = RedisStore { common, shards, cache: ReadCache::default() };
        store.listen()?;
        moments::begin(&store.common, &store.shards).map_err(|error| error.to_string())?;
        for shard in &store.shards {
            shard.claim()?;
            let all = shard.learn_all(From::Before);
            all.map_err(|error| error.text.into_owned())?;
            // Whatever is due is found by the first tick.
            shard.known.due_at(0);
        }
        store.watch();
        if store.common.nodes.is_cluster() {
            tracing::info!("parts of the store: {}", store.common.nodes.told());
        }
        Ok(store)
    }

    /// First it listens, then it asks: so nothing is missed.
    fn listen(&self) -> Opened<()> {
        let deadline = Instant::now() + OPEN;
        let (ready, listening) = mpsc::channel();
        for shard in &self.shards {
            news::listen(shard, ready.clone()).map_err(|error| error.to_string())?;
        }
        for _ in &self.shards {
            let left = deadline.saturating_duration_since(Instant::now());
            let listens = listening.recv_timeout(left).map_err(|_| "it does not answer".to_owned());
            listens.and_then(|listens| listens)?;
        }
        Ok(())
    }

    /// Has the nodes watched over, also those that are found later.
    fn watch(&self) {
        let common = Arc::downgrade(&self.common);
        let shards: Vec<_> = self.shards.iter().map(Arc::downgrade).collect();
        self.common.nodes.watch(move |is_back| {
            // One that is away, or has become a replica, has parts no more.
            if let Some(common) = common.upgrade() {
                common.nodes.look();
            }
            if is_back {
                let shards = shards.iter().filter_map(Weak::upgrade);
                shards.for_each(|shard| shard.come_back());
            }
        });
    }

    fn moment_of(&self, last_id: impl Fn(&Shard) -> Id) -> Watermark {
        if let [shard] = self.shards.as_slice() {
            return Watermark::at(last_id(shard));
        }
        let ids: Arc<[Id]> = self.shards.iter().map(|shard| last_id(shard)).collect();
        // In a part where nothing was put for long, what is put next has an id by its clock.
        let since = self.shards.iter().zip(ids.iter());
        let since = since.map(|(shard, id)| shard.now().saturating_sub(CLOCK_ERROR).max(*id));
        Watermark::of_partitions(since.min().unwrap_or(0), ids)
    }

    fn shard(&self, topic: &str) -> Result<&Arc<Shard>> {
        self.shards.get(partition(topic, self.shards.len())).ok_or_else(scripts::senseless)
    }

    fn read_script(&self, how: &str, topic: &Topic, args: &[u64]) -> Result<Value> {
        self.shard(topic.as_str())?.read(how, topic, args)
    }
}

impl Shard {
    /// The part's clock.
    fn now(&self) -> Id {
        match self.common.clock {
            Some(clock) => clock(),
            None => self.known.clock(system_clock()),
        }
    }

    /// Does some of what is due by now, and tells what was heard.
    fn tick(&self) -> Result<Due> {
        let mut heard = self.heard.take();
        if self.known.due() > self.now() {
            return Ok(heard);
        }
        // What is due next is told by the script.
        self.known.forget_due();
        let done = self.call_tick();
        if done.is_err() {
            self.known.due_at(self.now() + limits::RETRY.as_micros() as u64);
        }
        let any = !heard.put.is_empty() || !heard.returned.is_empty();
        match done {
            Ok(done) => {
                heard.add(done);
                Ok(heard)
            }
            // That its node is away is said already.
            Err(_) if any || self.route.link().is_away() => Ok(heard),
            Err(error) => Err(error),
        }
    }
}

impl Store for RedisStore {
    fn last_id(&self) -> Id {
        self.shards.iter().map(|shard| shard.known.last_id()).max().unwrap_or(0)
    }

    fn watermark(&self) -> Watermark {
        let question = self.common.moments.ask(self.shards.len());
        let told = |shard: &Shard| question.last_id(shard.route.partition()).unwrap_or(0);
        self.moment_of(|shard| told(shard).max(shard.known.last_id()))
    }

    /// The latest of its clocks.
    fn now(&self) -> Id {
        self.shards.iter().map(|shard| shard.now()).max().unwrap_or(0)
    }

    fn topic(&self, name: &str) -> Option<Arc<Head>> {
        self.shard(name).ok()?.known.head(name)
    }

    fn topics(&self) -> Vec<Arc<Head>> {
        self.shards.iter().flat_map(|shard| shard.known.heads()).collect()
    }

    fn submit(&self, mut batch: Batch, completion: Box<dyn Completion>) {
        let of = |op: &Op| partition(op.topic().as_str(), self.shards.len());
        let mut partitions = batch.ops.iter().map(of);
        let Some(first) = partitions.next() else { return completion.complete(batch) };
        match self.shards.get(first) {
            Some(shard) if partitions.all(|partition| partition == first) => {
                shard.submit(batch, completion)
            }
            _ => {
                split::apply(&mut batch, of, |partition, share| match self.shards.get(partition) {
                    Some(shard) => {
                        completion::apply(share, |batch, done| shard.submit(batch, done))
                    }
                    None => request::fail(share, &scripts::senseless()),
                });
                completion.complete(batch);
            }
        }
    }

    fn read(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Chunk>> {
        let limit = limit.clamp(1, limits::CHUNK_MESSAGES) as u64;
        let chunk = Chunk::new(after, head.removals());
        let messages = self.read_script("run", head.topic(), &[after.min(ID_END), limit])?;
        request::read_run(chunk, messages).map(Arc::new)
    }

    fn read_last(&self, head: &Head, limit: usize) -> Result<Arc<Chunk>> {
        if limit == 0 {
            return Ok(Arc::default());
        }
        let chunk = Chunk::new(0, head.removals());
        let messages = self.read_script("last", head.topic(), &[limit as u64])?;
        request::read_run(chunk, messages).map(|chunk| Arc::new(chunk.reversed()))
    }

    fn delayed(&self, head: &Head, limit: usize) -> Result<Chunk> {
        if limit == 0 {
            return Ok(Chunk::default());
        }
        let messages = self.read_script("delayed", head.topic(), &[limit as u64])?;
        request::read_run(Chunk::default(), messages)
    }

    fn scan(&self, head: &Head, after: ScanCursor) -> Result<Vec<StoredMessage>> {
        copy::kept(after, |how, args| self.read_script(how, head.topic(), args))
    }

    fn cache(&self) -> &ReadCache {
        &self.cache
    }

    fn ends(&self, head: &Head) -> Result<(Option<Id>, Option<Id>)> {
        let Value::Array(ends) = self.read_script("ends", head.topic(), &[])? else {
            return Err(scripts::senseless());
        };
        let mut ends = ends.into_iter().map(|end| match end {
            Value::Int(id) if id > 0 => Some(id.cast_unsigned()),
            _ => None,
        });
        Ok((ends.next().flatten(), ends.next().flatten()))
    }

    fn usage(&self) -> Extent {
        let kind = if self.common.nodes.is_cluster() { "redis-cluster" } else { "redis" };
        Extent {
            kind,
            blocks: true,
            is_new: false,
            fault: None,
            bytes: self.common.total.bytes(),
            max_bytes: self.common.rules.max_bytes,
            refused: self.common.refused.load(Ordering::Relaxed),
        }
    }

    /// By the latest of the clocks: what is due in a part is by its own.
    fn due(&self, partition: usize) -> Id {
        let Some(shard) = self.shards.get(partition) else { return Id::MAX };
        if shard.heard.any() {
            return 0;
        }
        self.now().saturating_add(shard.known.due().saturating_sub(shard.now()))
    }

    fn tick(&self, partition: usize) -> Result<Due> {
        self.shards.get(partition).map_or_else(|| Ok(Due::default()), |shard| shard.tick())
    }
    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

impl SharedStore for RedisStore {
    fn refresh(&self, topic: &str) -> Result<()> {
        let answer = self.read_script("topic", &Topic::new(topic)?, &[])?;
        let Value::Array(answer) = answer else { return Err(scripts::senseless()) };
        self.shard(topic)?.learn(answer.into_iter().next(), From::Own).map(drop)
    }

    fn partitions(&self) -> usize {
        self.shards.len()
    }

    fn on_change(&self, partition: usize, waker: Waker) {
        if let Some(shard) = self.shards.get(partition) {
            shard.heard.on_change(waker);
        }
    }

    fn watermark_lazy(&self) -> Watermark {
        let now = Instant::now();
        let question = self.common.moments.ask(self.shards.len());
        self.moment_of(|shard| shard.known.last_id()).pending(now, question)
    }

    /// As far as clocks of different partitions may differ.
    fn clock_skew(&self) -> u64 {
        if self.shards.len() > 1 { CLOCK_ERROR } else { 0 }
    }

    /// A server that crashed never returns the messages of its consumers; this lease does.
    fn consumer_lease(&self) -> u64 {
        CONSUMER_LEASE
    }

    fn nodes(&self) -> Vec<Node> {
        let nodes = self.common.nodes.links().into_iter().map(|(link, partitions)| {
            let lost =
                self.shards.iter().filter(|shard| partitions.contains(&shard.route.partition()));
            let lost = { lost }.any(|shard| shard.lost.load(Ordering::Acquire));
            let news_lag = self.common.news.lag().filter(|_| lost);
            let partitions = partitions
                .into_iter()
                .filter_map(|partition| u16::try_from(partition).ok())
                .collect();
            Node { partitions, news_lag, ..link.presence().node() }
        });
        nodes.collect()
    }
}
