//! Watermarks of a shared store: the last ids that the nodes had assigned when a connection was
//! accepted.
//!
//! The change feed lags, so the nodes are asked. Concurrent sessions share one query, and only a
//! read waits for its reply.
//!
//! By the time a node answers, later messages may have been put. But an id is never below its
//! node's clock: the node's time, minus the time since the connection was accepted, is a bound
//! below all later ids.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use redis::{Value, cmd, pipe};

use super::node_pool::{NodePool, REPLY_TIMEOUT};
use super::partition::{Partition, SharedState};
use crate::ops::{Id, WatermarkQuery};
use crate::sync::lock;

/// How long a query waits for further sessions to join, unless a session needs the reply.
const GATHER: Duration = Duration::from_millis(10);

/// How often a node's clock is read again while a put falls into the uncertain interval. The
/// fastest reply counts.
const CLOCK_RETRIES: usize = 3;

/// Stack size of the query threads; their calls are shallow.
const STACK_BYTES: usize = 256 * 1024;

/// The next query, which sessions can still join.
#[derive(Default)]
pub struct QuerySlot {
    state: Mutex<SlotState>,
    wanted: Condvar,
}

#[derive(Default)]
struct SlotState {
    next: Option<Arc<Query>>,
    ended: bool,
}

/// A query for the last ids of all partitions.
#[derive(Debug)]
pub struct Query {
    /// When the first session joined.
    started: Instant,
    state: Mutex<QueryState>,
    changed: Condvar,
}

#[derive(Debug)]
struct QueryState {
    /// A session is waiting for a reply.
    urgent: bool,
    /// One for each partition; `None` until its node has replied.
    answers: Box<[Option<PartitionReply>]>,
}

/// The reply for one partition.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PartitionReply {
    /// No reply, or a malformed one.
    Unknown,
    /// The last id, and the node's clock read after it.
    Known { last: Id, time: ClockReading },
}

/// A reading of a node's clock, and when it arrived here.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ClockReading {
    clock: Id,
    arrived: Instant,
}

impl QuerySlot {
    /// Joins the next query, or creates it. It is sent after this call, never before.
    pub fn join(&self, partitions: usize) -> Arc<Query> {
        let mut state = lock(&self.state);
        if let Some(next) = &state.next {
            return next.clone();
        }
        let query = Arc::new(Query::new(partitions));
        if state.ended {
            query.cancel();
            return query;
        }
        state.next = Some(query.clone());
        drop(state);
        self.wanted.notify_one();
        query
    }

    /// Ends the query thread and cancels the next query.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        let left = state.next.take();
        drop(state);
        if let Some(query) = left {
            query.cancel();
        }
        self.wanted.notify_one();
    }

    /// Waits for a query, then for further sessions to join it; `None` at the end.
    fn next(&self) -> Option<Arc<Query>> {
        let state = lock(&self.state);
        let idle = |state: &mut SlotState| state.next.is_none() && !state.ended;
        let state = self.wanted.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        let query = state.next.clone().filter(|_| !state.ended)?;
        drop(state);
        query.gather();
        lock(&self.state).next = None;
        Some(query)
    }
}

impl Query {
    fn new(partitions: usize) -> Query {
        let state = QueryState { urgent: false, answers: vec![None; partitions].into() };
        Query { started: Instant::now(), state: Mutex::new(state), changed: Condvar::new() }
    }

    fn gather(&self) {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, GATHER, |state| !state.urgent);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn resolve(&self, partitions: &[usize], answers: impl Iterator<Item = PartitionReply>) {
        let mut state = lock(&self.state);
        for (partition, answer) in partitions.iter().zip(answers) {
            if let Some(place) = state.answers.get_mut(*partition) {
                *place = Some(answer);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Resolves the missing replies as unknown.
    fn cancel(&self) {
        let mut state = lock(&self.state);
        for answer in &mut state.answers {
            answer.get_or_insert(PartitionReply::Unknown);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the reply of a partition's node, at most as long as a call.
    fn answer(&self, partition: usize) -> PartitionReply {
        let mut state = lock(&self.state);
        let pending =
            |state: &mut QueryState| state.answers.get(partition).is_some_and(Option::is_none);
        if pending(&mut state) {
            state.urgent = true;
            self.changed.notify_all();
            let waited = self.changed.wait_timeout_while(state, REPLY_TIMEOUT, pending);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.answers.get(partition).copied().flatten().unwrap_or(PartitionReply::Unknown)
    }

    /// The partition's last id at some time during the query; `None` if unknown.
    pub fn last_id(&self, partition: usize) -> Option<Id> {
        match self.answer(partition) {
            PartitionReply::Known { last, .. } => Some(last),
            PartitionReply::Unknown => None,
        }
    }
}

impl WatermarkQuery for Query {
    fn last_id(&self, partition: usize, at: Instant) -> Option<Id> {
        self.answer(partition).bound_at(at)
    }
}

impl PartitionReply {
    /// An id below all ids assigned after `at`. Its precision is the travel time of the node's
    /// reply.
    fn bound_at(self, at: Instant) -> Option<Id> {
        match self {
            PartitionReply::Known { last, time } if last <= time.clock => {
                Some(last.min(time.at(at)))
            }
            // The clock of the node was set back: its time says nothing about the ids.
            _ => None,
        }
    }
}

impl ClockReading {
    /// The node's clock at `at`, too low by at most the travel time of the reply.
    fn at(self, at: Instant) -> Id {
        let since = self.arrived.saturating_duration_since(at).as_micros();
        self.clock.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// Starts the query thread, which runs until the store is dropped.
pub fn begin(shared: &Arc<SharedState>, partitions: &[Arc<Partition>]) -> std::io::Result<()> {
    let (watermarks, shared) = (shared.watermarks.clone(), Arc::downgrade(shared));
    let keys: Vec<String> = partitions.iter().map(|partition| partition.key.clone()).collect();
    let thread = Builder::new().name("watermarks".into()).stack_size(STACK_BYTES);
    thread.spawn(move || run(&watermarks, &shared, &keys)).map(drop)
}

fn run(watermarks: &QuerySlot, shared: &Weak<SharedState>, keys: &[String]) {
    let mut workers = Vec::new();
    while let Some(query) = watermarks.next() {
        // All sessions that joined have ended.
        if Arc::strong_count(&query) == 1 {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        send(&query, &shared, keys, &mut workers);
    }
}

/// Sends a query to all nodes. With several nodes each has a thread, so a silent node delays no
/// other.
fn send(query: &Arc<Query>, shared: &SharedState, keys: &[String], workers: &mut Vec<NodeWorker>) {
    workers.retain(|worker| lock(&worker.queue).busy);
    let node_pools = shared.nodes.node_pools();
    let is_one = node_pools.len() == 1;
    for (node_pool, partitions) in node_pools {
        let keys =
            partitions.iter().filter_map(|partition| keys.get(*partition)).cloned().collect();
        let has_test_clock = shared.clock.is_some();
        let node_query =
            NodeQuery { node_pool: node_pool.clone(), partitions, keys, has_test_clock };
        if is_one {
            node_query.ask(std::slice::from_ref(query));
        } else if let Some(worker) =
            workers.iter().find(|worker| Arc::ptr_eq(&worker.node_pool, &node_pool))
        {
            worker.send(query, node_query);
        } else {
            let worker = NodeWorker { node_pool, queue: Arc::default() };
            worker.send(query, node_query);
            workers.push(worker);
        }
    }
}

/// A thread that sends queries to one node while there are any.
struct NodeWorker {
    node_pool: Arc<NodePool>,
    queue: Arc<Mutex<WatermarkQueries>>,
}

/// Queries waiting for a node: those that arrive during a call are sent together afterwards.
#[derive(Default)]
struct WatermarkQueries {
    waiting: Vec<(Arc<Query>, NodeQuery)>,
    busy: bool,
}

impl NodeWorker {
    fn send(&self, query: &Arc<Query>, node_query: NodeQuery) {
        let mut queue = lock(&self.queue);
        queue.waiting.push((query.clone(), node_query));
        if std::mem::replace(&mut queue.busy, true) {
            return;
        }
        drop(queue);
        let queue = self.queue.clone();
        let thread = Builder::new().name("watermark".into()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            while let Some((queries, node_query)) = next_queries(&queue) {
                node_query.ask(&queries);
            }
        });
        if spawned.is_err() {
            while let Some((queries, node_query)) = next_queries(&self.queue) {
                node_query.resolve(&queries, &[]);
            }
        }
    }
}

/// The waiting queries that the next call answers; `None`, and no longer busy, if there are none.
fn next_queries(queue: &Mutex<WatermarkQueries>) -> Option<(Vec<Arc<Query>>, NodeQuery)> {
    let mut queue = lock(queue);
    let mut waiting = std::mem::take(&mut queue.waiting).into_iter();
    let Some((first, node_query)) = waiting.next() else {
        queue.busy = false;
        return None;
    };
    // The node's partitions may have changed between two queries.
    let (same, others) = waiting.partition(|(_, other)| other.partitions == node_query.partitions);
    queue.waiting = others;
    let same: Vec<(Arc<Query>, NodeQuery)> = same;
    Some((
        std::iter::once(first).chain(same.into_iter().map(|(next, _)| next)).collect(),
        node_query,
    ))
}

/// What to ask one node.
struct NodeQuery {
    node_pool: Arc<NodePool>,
    partitions: Vec<usize>,
    keys: Vec<String>,
    /// Ids follow a test's clock instead of the node's.
    has_test_clock: bool,
}

impl NodeQuery {
    /// The first query is the oldest.
    fn ask(&self, queries: &[Arc<Query>]) {
        let started = queries.first().map(|query| query.started);
        let answers = started.and_then(|started| self.answers(started)).unwrap_or_default();
        self.resolve(queries, &answers);
    }

    fn resolve(&self, queries: &[Arc<Query>], answers: &[PartitionReply]) {
        for query in queries {
            let unknown = std::iter::repeat(PartitionReply::Unknown);
            query.resolve(&self.partitions, answers.iter().copied().chain(unknown));
        }
    }

    /// The replies for these partitions, as precise as possible for times since `started`; `None` if
    /// the node does not answer.
    fn answers(&self, started: Instant) -> Option<Vec<PartitionReply>> {
        let mut calls = pipe();
        for key in &self.keys {
            calls.cmd("HGET").arg(key).arg("last");
        }
        // TIME comes last: ids assigned after it are not below it.
        calls.cmd("TIME");
        let mut answers = self.node_pool.read_all(&calls)?;
        let mut time = self.time(answers.pop()?)?;
        let last_ids: Vec<Option<Id>> =
            answers.into_iter().map(|last| redis::from_redis_value(last).ok()).collect();
        let unsure = |time: ClockReading| (time.at(started) + 1)..=time.clock;
        for _ in 0..CLOCK_RETRIES {
            if !last_ids.iter().flatten().any(|last| unsure(time).contains(last)) {
                break;
            }
            let again = self.node_pool.call(&cmd("TIME")).ok().and_then(|again| self.time(again));
            let Some(again) = again else { break };
            time = if again.at(started) > time.at(started) { again } else { time };
        }
        let to_reply = |last: Option<Id>| {
            last.map_or(PartitionReply::Unknown, |last| PartitionReply::Known { last, time })
        };
        Some(last_ids.into_iter().map(to_reply).collect())
    }

    /// Parses a reply to TIME that has just arrived.
    fn time(&self, answer: Value) -> Option<ClockReading> {
        let arrived = Instant::now();
        let (seconds, microseconds): (u64, u64) = redis::from_redis_value(answer).ok()?;
        let clock = seconds.checked_mul(1_000_000)?.checked_add(microseconds)?;
        // A reading of 0 is a bound that says nothing.
        Some(ClockReading { clock: if self.has_test_clock { 0 } else { clock }, arrived })
    }
}

#[cfg(test)]
mod tests;
