//! The nodes of a store: one Redis, or the masters of a cluster that serve the partitions' slots.
//! A `MOVED` reply moves a partition at once; when a node does not answer, the others are asked
//! for the slots.

use std::cell::Cell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, TryLockError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, ConnectionInfo, Value, cmd};

use super::address::{Address, RedisAt};
use super::node_pool::{CallError, NodePool};
use super::preflight::{check, preflight};
use crate::sync::lock;

/// Redirections that one call follows.
const REDIRECTS: usize = 5;

const NO_NODE: &str = "the URL names no node: redis-cluster://HOST:PORT,…";

/// Least time between two refreshes of the slots.
const REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// Number of hash slots of a cluster.
const SLOTS: u16 = 16_384;

pub struct Nodes {
    /// Connection settings; each node replaces the address.
    info: ConnectionInfo,
    /// Connections to each node.
    pool: usize,
    /// Replicas that must confirm a durable change.
    replicas: u32,
    /// The nodes named in the URL of a cluster; empty for a single Redis.
    seeds: Vec<ConnectionInfo>,
    /// One for each partition.
    routes: Vec<Arc<Route>>,
    refreshed: Mutex<Option<Instant>>,
    moving: Mutex<()>,
    /// Called after each probe; true if the node was down before.
    probed: OnceLock<Arc<dyn Fn(bool) + Send + Sync>>,
}

/// The node that serves one partition.
pub struct Route {
    index: usize,
    /// The hash slot of the partition's keys.
    slot: u16,
    node_pool: RwLock<Arc<NodePool>>,
}

impl Route {
    pub fn index(&self) -> usize {
        self.index
    }

    /// The node that serves the partition, as far as is known.
    pub fn node_pool(&self) -> Arc<NodePool> {
        self.node_pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, node_pool: Arc<NodePool>) {
        *self.node_pool.write().unwrap_or_else(PoisonError::into_inner) = node_pool;
    }
}

impl Nodes {
    fn new(
        info: ConnectionInfo,
        at: &RedisAt<'_>,
        seeds: Vec<ConnectionInfo>,
        routes: Vec<Arc<Route>>,
    ) -> Nodes {
        let (pool, replicas) = (at.pool, at.replicas);
        let (refreshed, moving, probed) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Nodes { info, pool, replicas, seeds, routes, refreshed, moving, probed }
    }

    /// One Redis with all partitions.
    pub fn single(
        info: ConnectionInfo,
        at: &RedisAt<'_>,
        partitions: usize,
    ) -> redis::RedisResult<Nodes> {
        let node_pool = Arc::new(NodePool::new(info.clone(), at.pool)?);
        let route = |partition| {
            Arc::new(Route { index: partition, slot: 0, node_pool: RwLock::new(node_pool.clone()) })
        };
        let routes = (0..partitions).map(route).collect();
        Ok(Nodes::new(info, at, Vec::new(), routes))
    }

    /// A cluster with these seed nodes; `keys` has one key of each partition.
    pub fn cluster(
        seeds: Vec<ConnectionInfo>,
        at: &RedisAt<'_>,
        keys: &[String],
    ) -> std::result::Result<Nodes, String> {
        let node_pools =
            seeds.iter().map(|seed| NodePool::new(seed.clone(), at.pool).map(Arc::new));
        let node_pools: Vec<_> =
            node_pools.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let first = &first_reachable(&node_pools)?;
        let info = seeds.first().cloned().ok_or(NO_NODE)?;
        let routes = keys.iter().enumerate().map(|(partition, key)| {
            let node_pool = RwLock::new(first.clone());
            slot(first, key).map(|slot| Arc::new(Route { index: partition, slot, node_pool }))
        });
        let routes = routes.collect::<std::result::Result<_, String>>()?;
        let nodes = Nodes::new(info, at, seeds, routes);
        let ranges = nodes
            .query_slots()
            .ok_or("no node reports the slots of the cluster: check CLUSTER SLOTS")?;
        nodes.apply_slots(&ranges);
        Ok(nodes)
    }

    pub fn is_cluster(&self) -> bool {
        !self.seeds.is_empty()
    }

    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Starts the probes.
    pub fn probe(&self, probed: impl Fn(bool) + Send + Sync + 'static) {
        if self.probed.set(Arc::new(probed)).is_ok() {
            self.node_pools().iter().for_each(|(node_pool, _)| self.start_probe(node_pool, false));
        }
    }

    /// A `new` node, found after opening, is checked at its first answer.
    fn start_probe(&self, node_pool: &Arc<NodePool>, new: bool) {
        let Some(probed) = self.probed.get().cloned() else { return };
        let (unchecked, weak) = (Cell::new(new), Arc::downgrade(node_pool));
        let (in_cluster, replicas) = (self.is_cluster(), self.replicas);
        let watched = node_pool.probe(move |answers, is_back| {
            if answers
                && unchecked.take()
                && let Some(node_pool) = weak.upgrade()
            {
                check(&node_pool, in_cluster, replicas)
                    .unwrap_or_else(|error| tracing::warn!("{error}"));
            }
            probed(is_back);
        });
        if let Err(error) = watched {
            tracing::error!("cannot start the probe of Redis at {}: {error}", node_pool.address());
        }
    }

    /// The nodes with the partitions that each serves.
    pub fn node_pools(&self) -> Vec<(Arc<NodePool>, Vec<usize>)> {
        let mut node_pools: Vec<(Arc<NodePool>, Vec<usize>)> = Vec::new();
        for route in &self.routes {
            let node_pool = route.node_pool();
            match node_pools.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &node_pool)) {
                Some((_, partitions)) => partitions.push(route.index),
                None => node_pools.push((node_pool, vec![route.index])),
            }
        }
        node_pools
    }

    /// Makes a call for one partition, then waits until this many replicas have its changes;
    /// returns how many have.
    pub fn call(
        &self,
        route: &Route,
        call: &Cmd,
        replicas: u32,
    ) -> Result<(Value, Option<u32>), CallError> {
        let mut redirects = 0;
        loop {
            let node_pool = route.node_pool();
            let failed = match node_pool.call_with(call, replicas) {
                Err(failed) if self.is_cluster() && redirects < REDIRECTS => failed,
                answer => return answer,
            };
            redirects += 1;
            match &failed.moved {
                Some(address) => self.move_to(route, &node_pool, address),
                None => self.refresh_slots(),
            }
            // A call that may have been carried out is never repeated. A call that was not is
            // repeated at the new node, or again while the nodes disagree.
            let asks_again = failed.moved.is_some() || !Arc::ptr_eq(&node_pool, &route.node_pool());
            if failed.may_be_done || !asks_again {
                return Err(failed);
            }
        }
    }

    /// Handles a `MOVED` reply.
    pub fn move_to(&self, route: &Route, from: &NodePool, address: &str) {
        // Other slots probably moved too. The node asked for them may not know this move yet: the
        // redirecting node knows best about this slot.
        self.refresh_slots();
        if let Some(address) = Address::parse(address, from.address())
            && self.set_address(route, &address)
        {
            tracing::info!("partition {} has moved to {address}", route.index);
        }
    }

    /// Refreshes the slots, unless another thread is doing so or just has.
    pub fn refresh_slots(&self) {
        let mut refreshed = match self.refreshed.try_lock() {
            Ok(refreshed) => refreshed,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if !self.is_cluster() || refreshed.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return;
        }
        if let Some(ranges) = self.query_slots()
            && self.apply_slots(&ranges)
        {
            tracing::info!("partitions have moved: {}", self.summary());
        }
        *refreshed = Some(Instant::now());
    }

    /// The slot ranges (from, to, master) according to the first node that answers.
    fn query_slots(&self) -> Option<Vec<(u16, u16, Address)>> {
        let node_pools = self.node_pools().into_iter().map(|(node_pool, _)| node_pool);
        let seeds = self.seeds.iter().filter_map(|seed| NodePool::new(seed.clone(), 1).ok());
        // A call to a node that is down fails at once.
        node_pools.chain(seeds.map(Arc::new)).find_map(|node_pool| {
            let answer = node_pool.call(cmd("CLUSTER").arg("SLOTS")).ok()?;
            slots(answer, node_pool.address())
        })
    }

    /// Moves partitions to their masters; true if any has moved.
    fn apply_slots(&self, ranges: &[(u16, u16, Address)]) -> bool {
        let mut moved = false;
        for route in &self.routes {
            let serves = |(from, to, _): &&(u16, u16, Address)| (*from..=*to).contains(&route.slot);
            if let Some((_, _, address)) = ranges.iter().find(serves) {
                moved |= self.set_address(route, address);
            }
        }
        moved
    }

    /// The number of partitions of each node, for the log.
    pub fn summary(&self) -> String {
        let summary = self.node_pools().into_iter();
        let summary = summary.map(|(node_pool, partitions)| {
            format!("{} at {}", partitions.len(), node_pool.address())
        });
        summary.collect::<Vec<_>>().join(", ")
    }

    /// Sets the node of a partition; false if it was there already.
    fn set_address(&self, route: &Route, address: &Address) -> bool {
        // One move at a time: otherwise two threads could create two pools for one node.
        let _moving = lock(&self.moving);
        if route.node_pool().address() == address {
            return false;
        }
        let Some(node_pool) = self.pool_for(address) else { return false };
        route.set(node_pool);
        true
    }

    /// The pool of the node at this address, shared by its partitions.
    fn pool_for(&self, address: &Address) -> Option<Arc<NodePool>> {
        let existing =
            self.node_pools().into_iter().find(|(node_pool, _)| node_pool.address() == address);
        existing.map(|(node_pool, _)| node_pool).or_else(|| {
            let info = self.info.clone().set_addr(address.of(self.info.addr()));
            let node_pool = NodePool::new(info, self.pool).map(Arc::new).ok()?;
            self.start_probe(&node_pool, true);
            Some(node_pool)
        })
    }
}

/// Asks all at once, because several may be silent.
fn first_reachable(node_pools: &[Arc<NodePool>]) -> std::result::Result<Arc<NodePool>, String> {
    let (answered, answers) = mpsc::channel();
    for node_pool in node_pools {
        let (node_pool, answered) = (node_pool.clone(), answered.clone());
        let builder = thread::Builder::new().name("preflight".into());
        let spawned =
            builder.spawn(move || answered.send(preflight(&node_pool).map(|()| node_pool)));
        spawned.map_err(|error| error.to_string())?;
    }
    drop(answered);
    let mut why = Err(NO_NODE.to_owned());
    for answer in answers {
        match answer {
            Ok(node_pool) => return Ok(node_pool),
            refused => why = refused,
        }
    }
    why
}

/// Asks for the hash slot of a key.
fn slot(node_pool: &NodePool, key: &str) -> std::result::Result<u16, String> {
    let answer = node_pool.call(cmd("CLUSTER").arg("KEYSLOT").arg(key));
    let why = |failed: CallError| match failed.error.text.contains("cluster support disabled") {
        true => {
            format!("{0} is not part of a cluster: use --store redis://{0}", node_pool.address())
        }
        false => failed.error.text.into_owned(),
    };
    match answer.map_err(why)? {
        Value::Int(slot) => u16::try_from(slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    }
    .ok_or_else(|| {
        format!(
            "Redis at {} does not report the hash slot of a key: check that it is a cluster node",
            node_pool.address()
        )
    })
}

/// Parses a reply to CLUSTER SLOTS: each range has from, to, the master's host and port, then its
/// replicas.
fn slots(answer: Value, asked: &Address) -> Option<Vec<(u16, u16, Address)>> {
    let Value::Array(ranges) = answer else { return None };
    let range = |range: Value| {
        let Value::Array(range) = range else { return None };
        let mut range = range.into_iter();
        let (Some(Value::Int(from)), Some(Value::Int(to)), Some(Value::Array(master))) =
            (range.next(), range.next(), range.next())
        else {
            return None;
        };
        let mut master = master.into_iter();
        let host = match master.next() {
            Some(Value::BulkString(host)) => String::from_utf8(host).ok()?,
            // The node does not know its own host.
            _ => String::new(),
        };
        let Some(Value::Int(port)) = master.next() else { return None };
        let address = Address::new(&host, u16::try_from(port).ok()?, asked);
        Some((u16::try_from(from).ok()?, u16::try_from(to).ok()?, address))
    };
    ranges.into_iter().map(range).collect()
}
