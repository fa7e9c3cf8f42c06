//! When sessions begin: the last ids that nodes had given out when a connection was accepted. What is
//! heard of other servers is behind by the time that news takes, so nodes are asked: once for all who
//! came meanwhile, and nobody waits for the answer but who reads.
//!
//! When a node is asked more may have been put than when the connection was accepted. But no id is below
//! its node's clock: with what that shows, and how long ago the connection was accepted, an id is known
//! that all later ones are above.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use redis::{Value, cmd, pipe};

use super::node_pool::{ANSWER, NodePool};
use super::partition::{Partition, SharedState};
use crate::ops::{Id, WatermarkQuery};
use crate::sync::lock;

/// So long others are waited for, who are asked for too, unless somebody needs the answer.
const GATHER: Duration = Duration::from_millis(10);

/// How often a node is asked again for its clock, while something was put at about the time that
/// matters: the answer that came fastest counts.
const CLOCK_RETRIES: usize = 3;

/// Threads do little.
const STACK_BYTES: usize = 256 * 1024;

/// The question that is put next, if somebody wants to know.
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

/// What the last ids are: a question to all nodes.
#[derive(Debug)]
pub struct Query {
    /// When the first wanted to know.
    begun: Instant,
    state: Mutex<QueryState>,
    changed: Condvar,
}

#[derive(Debug)]
struct QueryState {
    /// Somebody waits for an answer.
    urgent: bool,
    /// One for each part, in time.
    answers: Box<[Option<PartitionReply>]>,
}

/// What a part's node says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PartitionReply {
    /// Nothing, or nothing that makes sense.
    Unknown,
    /// The last id, and what the clock said behind it.
    Known { last: Id, time: ClockReading },
}

/// What a node's clock said, as it arrived at this time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ClockReading {
    clock: Id,
    arrived: Instant,
}

impl QuerySlot {
    /// A question of so many parts that will be put later than this is called.
    pub fn ask(&self, partitions: usize) -> Arc<Query> {
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

    /// No question is put any more.
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

    /// Waits for a question, and then for more who want to know the same; `None` at the end.
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
        let asked = QueryState { urgent: false, answers: vec![None; partitions].into() };
        Query { begun: Instant::now(), state: Mutex::new(asked), changed: Condvar::new() }
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

    /// Nobody answers it.
    fn cancel(&self) {
        let mut state = lock(&self.state);
        for answer in &mut state.answers {
            answer.get_or_insert(PartitionReply::Unknown);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for what a part's node says, no longer than a call would.
    fn answer(&self, partition: usize) -> PartitionReply {
        let mut state = lock(&self.state);
        let pending =
            |state: &mut QueryState| state.answers.get(partition).is_some_and(Option::is_none);
        if pending(&mut state) {
            state.urgent = true;
            self.changed.notify_all();
            let waited = self.changed.wait_timeout_while(state, ANSWER, pending);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.answers.get(partition).copied().flatten().unwrap_or(PartitionReply::Unknown)
    }

    /// The last id of the part at some time while it was asked; `None` if it cannot be known.
    pub fn last_id(&self, partition: usize) -> Option<Id> {
        match self.answer(partition) {
            PartitionReply::Known { last, .. } => Some(last),
            PartitionReply::Unknown => None,
        }
    }
}

impl WatermarkQuery for Query {
    fn last_id(&self, partition: usize, at: Instant) -> Option<Id> {
        self.answer(partition).by(at)
    }
}

impl PartitionReply {
    /// An id that all are above that were given out after this time, as good as the way back from
    /// the node was short.
    fn by(self, at: Instant) -> Option<Id> {
        match self {
            PartitionReply::Known { last, time } if last <= time.clock => {
                Some(last.min(time.at(at)))
            }
            // Where it was set back the clock tells nothing.
            _ => None,
        }
    }
}

impl ClockReading {
    /// What it said at this time, or somewhat less: as much as the way back took.
    fn at(self, at: Instant) -> Id {
        let since = self.arrived.saturating_duration_since(at).as_micros();
        self.clock.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// Asks on a thread of its own until the store is dropped.
pub fn begin(shared: &Arc<SharedState>, partitions: &[Arc<Partition>]) -> std::io::Result<()> {
    let (watermarks, shared) = (shared.watermarks.clone(), Arc::downgrade(shared));
    let keys: Vec<String> = partitions.iter().map(|partition| partition.key.clone()).collect();
    let thread = Builder::new().name("moments".into()).stack_size(STACK_BYTES);
    thread.spawn(move || run(&watermarks, &shared, &keys)).map(drop)
}

fn run(watermarks: &QuerySlot, shared: &Weak<SharedState>, keys: &[String]) {
    let mut workers = Vec::new();
    while let Some(query) = watermarks.next() {
        // Those who wanted to know may be gone by now.
        if Arc::strong_count(&query) == 1 {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        put(&query, &shared, keys, &mut workers);
    }
}

/// Puts a question to all nodes: where there are several each is asked on a thread of its own, so that one
/// that is silent holds up no other.
fn put(query: &Arc<Query>, shared: &SharedState, keys: &[String], workers: &mut Vec<NodeWorker>) {
    workers.retain(|worker| lock(&worker.queue).busy);
    let node_pools = shared.nodes.node_pools();
    let is_one = node_pools.len() == 1;
    for (node_pool, partitions) in node_pools {
        let keys =
            partitions.iter().filter_map(|partition| keys.get(*partition)).cloned().collect();
        let has_other_clock = shared.clock.is_some();
        let node_query =
            NodeQuery { node_pool: node_pool.clone(), partitions, keys, has_other_clock };
        if is_one {
            node_query.ask(std::slice::from_ref(query));
        } else if let Some(worker) =
            workers.iter().find(|worker| Arc::ptr_eq(&worker.node_pool, &node_pool))
        {
            worker.put(query, node_query);
        } else {
            let worker = NodeWorker { node_pool, queue: Arc::default() };
            worker.put(query, node_query);
            workers.push(worker);
        }
    }
}

/// Asks a node as long as there are questions to it.
struct NodeWorker {
    node_pool: Arc<NodePool>,
    queue: Arc<Mutex<WatermarkQueries>>,
}

/// Questions to a node that were not put yet: those that come while it is asked are put together then.
#[derive(Default)]
struct WatermarkQueries {
    waiting: Vec<(Arc<Query>, NodeQuery)>,
    busy: bool,
}

impl NodeWorker {
    fn put(&self, query: &Arc<Query>, node_query: NodeQuery) {
        let mut queue = lock(&self.queue);
        queue.waiting.push((query.clone(), node_query));
        if std::mem::replace(&mut queue.busy, true) {
            return;
        }
        drop(queue);
        let queue = self.queue.clone();
        let thread = Builder::new().name("moment".into()).stack_size(STACK_BYTES);
        let asks = thread.spawn(move || {
            while let Some((queries, node_query)) = next(&queue) {
                node_query.ask(&queries);
            }
        });
        if asks.is_err() {
            while let Some((queries, node_query)) = next(&self.queue) {
                node_query.resolve(&queries, &[]);
            }
        }
    }
}

/// The questions that are put next, which one answer is for; without any nobody is busy any more.
fn next(queue: &Mutex<WatermarkQueries>) -> Option<(Vec<Arc<Query>>, NodeQuery)> {
    let mut queue = lock(queue);
    let mut waiting = std::mem::take(&mut queue.waiting).into_iter();
    let Some((first, node_query)) = waiting.next() else {
        queue.busy = false;
        return None;
    };
    // The node may have got other parts meanwhile.
    let (same, others) = waiting.partition(|(_, other)| other.partitions == node_query.partitions);
    queue.waiting = others;
    let same: Vec<(Arc<Query>, NodeQuery)> = same;
    Some((
        std::iter::once(first).chain(same.into_iter().map(|(next, _)| next)).collect(),
        node_query,
    ))
}

/// A node that is asked.
struct NodeQuery {
    node_pool: Arc<NodePool>,
    partitions: Vec<usize>,
    keys: Vec<String>,
    /// Whether its ids are not by its own clock, but by that of a test.
    has_other_clock: bool,
}

impl NodeQuery {
    /// The first question is the oldest.
    fn ask(&self, queries: &[Arc<Query>]) {
        let begun = queries.first().map(|query| query.begun);
        let answers = begun.and_then(|begun| self.answers(begun)).unwrap_or_default();
        self.resolve(queries, &answers);
    }

    fn resolve(&self, queries: &[Arc<Query>], answers: &[PartitionReply]) {
        for query in queries {
            let unknown = std::iter::repeat(PartitionReply::Unknown);
            query.resolve(&self.partitions, answers.iter().copied().chain(unknown));
        }
    }

    /// What it says of the parts with these keys, to those who want to know it as it was at some time
    /// since the question was made; `None` if it does not answer.
    fn answers(&self, begun: Instant) -> Option<Vec<PartitionReply>> {
        let mut calls = pipe();
        for key in &self.keys {
            calls.cmd("HGET").arg(key).arg("last");
        }
        // Behind them: so no id that follows the clock is above it.
        calls.cmd("TIME");
        let mut answers = self.node_pool.read_all(&calls)?;
        let mut time = self.time(answers.pop()?)?;
        let last_ids: Vec<Option<Id>> =
            answers.into_iter().map(|last| redis::from_redis_value(last).ok()).collect();
        let unsure = |time: ClockReading| (time.at(begun) + 1)..=time.clock;
        for _ in 0..CLOCK_RETRIES {
            if !last_ids.iter().flatten().any(|last| unsure(time).contains(last)) {
                break;
            }
            let again = self.node_pool.call(&cmd("TIME")).ok().and_then(|again| self.time(again));
            let Some(again) = again else { break };
            time = if again.at(begun) > time.at(begun) { again } else { time };
        }
        let known = |last: Option<Id>| {
            last.map_or(PartitionReply::Unknown, |last| PartitionReply::Known { last, time })
        };
        Some(last_ids.into_iter().map(known).collect())
    }

    /// What TIME answered just now.
    fn time(&self, answer: Value) -> Option<ClockReading> {
        let arrived = Instant::now();
        let (seconds, microseconds): (u64, u64) = redis::from_redis_value(answer).ok()?;
        let clock = seconds.checked_mul(1_000_000)?.checked_add(microseconds)?;
        // No id is below zero: that it is tells nothing.
        Some(ClockReading { clock: if self.has_other_clock { 0 } else { clock }, arrived })
    }
}

#[cfg(test)]
mod tests;
