//! A Redis Cluster on loopback: three masters, each with a replica if that is wanted, and what may befall
//! them. The tests of the store and the benchmarks have it too, so it names nothing of the suite's.
//!
//! Its processes end when it is dropped, and when the thread that started them is gone. What they keep is in
//! memory: a node that waits for a busy disk is silent, and the others would take it for dead.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::redis::{Client, Cmd, FromRedisValue, RedisError, RedisResult, Value, cmd};
use tempfile::TempDir;

const HOST: &str = "127.0.0.1";

const MASTERS: usize = 3;

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// The longest that anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// To connect, and to be answered: longer than a busy machine lets a node wait.
const ANSWER: Duration = Duration::from_secs(30);

/// A file system in memory, on Linux.
const MEMORY: &str = "/dev/shm";

/// How a cluster is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Whether each master has a replica.
    pub replicas: bool,
    /// Silence after which the other nodes consider a node dead, in milliseconds.
    pub node_timeout: u32,
}

/// One that nothing befalls but what a test does: no node is taken for dead because others are busy.
pub const CALM: Shape = Shape { replicas: true, node_timeout: PATIENT };

/// Long enough that no node is considered dead.
pub const PATIENT: u32 = 60_000;

/// One in which a replica soon stands in for its master.
pub const NERVOUS: Shape = Shape { replicas: true, node_timeout: 2_000 };

/// A cluster, which ends with the test. A node is known by its number from 0 on.
pub struct Cluster {
    shape: Shape,
    folder: TempDir,
    nodes: Vec<Node>,
    /// Slots that were moved, and where to, until all agree.
    moved: Mutex<BTreeMap<u16, usize>>,
}

struct Node {
    port: u16,
    bus: u16,
    child: Child,
    answers: bool,
}

/// What a node says of another, or of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    id: String,
    port: u16,
    /// The master of a replica.
    master: Option<String>,
    slots: Vec<(u16, u16)>,
    is_well: bool,
    /// The later one wins what two claim.
    epoch: u64,
}

impl Cluster {
    /// One that serves when this returns.
    pub fn start(shape: Shape) -> Cluster {
        let count = if shape.replicas { 2 * MASTERS } else { MASTERS };
        let folder = tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir()).unwrap();
        let nodes = (0..count).map(|_| Node::start(folder.path())).collect();
        let cluster = Cluster { shape, folder, nodes, moved: Mutex::default() };
        for node in 0..count {
            cluster.order(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(node + 1).to_string()]);
        }
        for node in 0..MASTERS {
            let bound = |node: usize| node * SLOTS / MASTERS;
            let (first, last) = (bound(node).to_string(), (bound(node + 1) - 1).to_string());
            cluster.order(node, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        cluster.meet();
        for replica in MASTERS..count {
            let master: String = cluster.ask(replica - MASTERS, &["CLUSTER", "MYID"]).unwrap();
            cluster.order(replica, &["CLUSTER", "REPLICATE", &master]);
        }
        cluster.until_healthy();
        (0..count).for_each(|node| cluster.hurry(node));
        cluster
    }

    /// From now on those are taken for dead that are silent for so long. Until they know each other they
    /// are patient: a handshake that takes longer is forgotten.
    fn hurry(&self, node: usize) {
        let timeout = self.shape.node_timeout.to_string();
        self.order(node, &["CONFIG", "SET", "cluster-node-timeout", &timeout]);
    }

    /// Each is told of all others, since gossip takes seconds.
    fn meet(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            for other in 0..number {
                let (port, bus) = (node.port.to_string(), node.bus.to_string());
                self.order(other, &["CLUSTER", "MEET", HOST, &port, &bus]);
            }
        }
        for node in 0..self.nodes.len() {
            until("they know each other", || {
                let seen = self.seen_by(node)?;
                Ok(seen.len() == self.nodes.len() && seen.iter().all(|seen| seen.is_well))
            });
        }
    }

    /// The store over it: its masters at the beginning.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.nodes.iter().take(MASTERS).map(|node| format!("{HOST}:{}", node.port)).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].port
    }

    /// The process of each node.
    pub fn ids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.child.id()).collect()
    }

    /// What a node answers. A machine that stood still interrupts whoever waits: it is asked again.
    pub fn ask<T: FromRedisValue>(&self, node: usize, words: &[&str]) -> RedisResult<T> {
        loop {
            match self.nodes[node].ask(words) {
                Err(error) if is_interrupted(&error) => {}
                answer => return answer,
            }
        }
    }

    fn order(&self, node: usize, words: &[&str]) {
        let answer: RedisResult<Value> = self.ask(node, words);
        assert!(answer.is_ok(), "{words:?}: {answer:?}");
    }

    /// What a node that answers knows of all nodes.
    fn seen(&self) -> Vec<Seen> {
        let node = self.nodes.iter().position(|node| node.answers).expect("a node is alive");
        self.seen_by(node).unwrap()
    }

    fn seen_by(&self, node: usize) -> RedisResult<Vec<Seen>> {
        let text: String = self.ask(node, &["CLUSTER", "NODES"])?;
        Ok(text.lines().map(Seen::read).collect())
    }

    fn at_port(&self, port: u16) -> usize {
        self.nodes.iter().position(|node| node.port == port).expect("no node is another's")
    }

    /// Those that have slots.
    pub fn masters(&self) -> Vec<usize> {
        let seen = self.seen();
        let masters = seen.iter().filter(|seen| !seen.slots.is_empty());
        masters.map(|seen| self.at_port(seen.port)).collect()
    }

    pub fn replica_of(&self, master: usize) -> usize {
        let (seen, port) = (self.seen(), self.port(master));
        let id = &seen.iter().find(|seen| seen.port == port).unwrap().id;
        let replica = seen.iter().find(|seen| seen.master.as_ref() == Some(id));
        self.at_port(replica.expect("it has a replica").port)
    }

    /// A master and its replica: the first, the second or the third.
    pub fn pair(&self, number: usize) -> (usize, usize) {
        let seen = self.seen();
        let follows = |master: &Seen| {
            let replica = seen.iter().find(|seen| seen.master.as_ref() == Some(&master.id))?;
            Some((self.at_port(master.port), self.at_port(replica.port)))
        };
        let pairs: Vec<_> = seen.iter().filter_map(follows).collect();
        pairs[number % pairs.len()]
    }

    /// Whose slot this is.
    pub fn master_of(&self, slot: u16) -> usize {
        self.at_port(owner(&self.seen(), slot).expect("all slots are someone's").port)
    }

    pub fn slot_of(&self, key: &str) -> u16 {
        let node = self.nodes.iter().position(|node| node.answers).expect("a node is alive");
        self.ask(node, &["CLUSTER", "KEYSLOT", key]).unwrap()
    }

    /// It ends at once.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// One that was killed comes back with nothing but its name.
    pub fn start_again(&mut self, node: usize) {
        let Node { port, bus, .. } = self.nodes[node];
        let again = Node::start_at(self.folder.path(), port, bus);
        self.nodes[node] = again.expect("its ports are free");
        self.hurry(node);
    }

    /// It goes on living, and does nothing.
    pub fn pause(&mut self, node: usize) {
        self.nodes[node].signal("-STOP");
        self.nodes[node].answers = false;
    }

    pub fn go_on(&mut self, node: usize) {
        self.nodes[node].signal("-CONT");
        self.nodes[node].answers = true;
    }

    /// The replica does not hear its master any more, nor what is put there.
    pub fn cut_off(&self, replica: usize, master: usize) {
        // What it says to be let in again is refused.
        self.order(replica, &["CONFIG", "SET", "masterauth", "wrong"]);
        self.order(master, &["CLIENT", "KILL", "TYPE", "replica"]);
    }

    /// What ends [`Cluster::cut_off`].
    pub fn let_in(&self, replica: usize) {
        self.order(replica, &["CONFIG", "SET", "masterauth", ""]);
    }

    /// The replica takes its master's place, in agreement with it.
    pub fn fail_over(&self, replica: usize) {
        until("it takes its master's place", || {
            // It may not be ready, or a master by now.
            let _: RedisResult<Value> = self.ask(replica, &["CLUSTER", "FAILOVER"]);
            self.is_master(replica)
        });
    }

    /// Waits until a replica has taken its master's place.
    pub fn until_master(&self, node: usize) {
        until("it is a master", || self.is_master(node));
    }

    fn is_master(&self, node: usize) -> RedisResult<bool> {
        let role: Vec<Value> = self.ask(node, &["ROLE"])?;
        Ok(role[0] == Value::BulkString(b"master".to_vec()))
    }

    /// Moves a slot and its keys to another master, while all go on; calls `between` when a part of the
    /// keys is there, and again behind each further one.
    pub fn move_slot(&self, slot: u16, to: usize, mut between: impl FnMut()) {
        self.tell_again().unwrap();
        self.until_epochs_known(to);
        let from = self.master_of(slot);
        let id = |node| -> String { self.ask(node, &["CLUSTER", "MYID"]).unwrap() };
        let (number, port) = (slot.to_string(), self.port(to).to_string());
        self.order(to, &["CLUSTER", "SETSLOT", &number, "IMPORTING", &id(from)]);
        self.order(from, &["CLUSTER", "SETSLOT", &number, "MIGRATING", &id(to)]);
        loop {
            let keys: Vec<String> =
                self.ask(from, &["CLUSTER", "GETKEYSINSLOT", &number, "2"]).unwrap();
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", HOST, &port, "", "0", "30000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            self.order(from, &migrate);
            between();
        }
        // The new owner is told first, so that the slot always has an owner.
        let others = self.masters().into_iter().filter(|node| ![from, to].contains(node));
        for node in [to, from].into_iter().chain(others) {
            self.order(node, &["CLUSTER", "SETSLOT", &number, "NODE", &id(to)]);
        }
        self.moved.lock().unwrap().insert(slot, to);
    }

    /// Waits until a node knows the epochs of all masters. The one that it then takes with a slot is the
    /// latest; with an earlier one it would give the slot back when it hears an older claim, and delete all keys
    /// in it.
    fn until_epochs_known(&self, node: usize) {
        let epoch =
            |seen: &[Seen], port| seen.iter().find(|seen| seen.port == port).map(|s| s.epoch);
        until("it knows all epochs", || {
            let known = self.seen_by(node)?;
            for master in self.masters() {
                let port = self.port(master);
                if epoch(&known, port) != epoch(&self.seen_by(master)?, port) {
                    return Ok(false);
                }
            }
            Ok(true)
        });
    }

    /// A master that was told where a slot has gone takes back what it knows if it hears next what another
    /// said before, and that has the later epoch: then it is told again.
    fn tell_again(&self) -> RedisResult<()> {
        for (slot, to) in &*self.moved.lock().unwrap() {
            let id: String = self.ask(*to, &["CLUSTER", "MYID"])?;
            for node in self.masters() {
                let known = owner(&self.seen_by(node)?, *slot).map(|seen| seen.port);
                if known != Some(self.port(*to)) {
                    let number = slot.to_string();
                    let _: Value = self.ask(node, &["CLUSTER", "SETSLOT", &number, "NODE", &id])?;
                }
            }
        }
        Ok(())
    }

    /// Waits until all nodes live, agree, and have what their masters have.
    pub fn until_healthy(&self) {
        until("the cluster is healthy", || {
            self.tell_again()?;
            let views: RedisResult<BTreeSet<Vec<Seen>>> =
                (0..self.nodes.len()).map(|node| self.seen_by(node).map(sorted)).collect();
            let views = views?;
            let Some(seen) = views.first().filter(|_| views.len() == 1) else { return Ok(false) };
            let known = seen.len() == self.nodes.len() && seen.iter().all(|seen| seen.is_well);
            let all: RedisResult<Vec<bool>> =
                (0..self.nodes.len()).map(|node| self.is_ready(node)).collect();
            Ok(known && all?.into_iter().all(|ready| ready))
        });
        self.moved.lock().unwrap().clear();
    }

    /// Whether a node serves, and a replica of it, or it as a replica, is up to date.
    fn is_ready(&self, node: usize) -> RedisResult<bool> {
        let cluster: String = self.ask(node, &["CLUSTER", "INFO"])?;
        let replication: String = self.ask(node, &["INFO", "replication"])?;
        let linked = if replication.contains("role:slave") {
            replication.contains("master_link_status:up")
        } else {
            !self.shape.replicas || replication.contains("state=online")
        };
        Ok(linked && cluster.contains("cluster_state:ok"))
    }
}

fn sorted(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort();
    seen
}

impl Seen {
    /// A line of CLUSTER NODES.
    fn read(line: &str) -> Seen {
        let fields: Vec<&str> = line.split(' ').collect();
        let [id, addr, flags, master, _, _, epoch, link, slots @ ..] = &fields[..] else {
            panic!("{line:?}");
        };
        let port = addr.split_once('@').and_then(|(addr, _)| addr.rsplit(':').next()).unwrap();
        let slot = |text: &&str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (first.parse().unwrap(), last.parse().unwrap())
        };
        Seen {
            id: id.to_string(),
            port: port.parse().unwrap(),
            master: (*master != "-").then(|| master.to_string()),
            // Behind them stand, in brackets, those that are on the move.
            slots: slots.iter().filter(|text| !text.starts_with('[')).map(slot).collect(),
            is_well: *link == "connected" && !flags.contains("fail") && !flags.contains("hand"),
            epoch: epoch.parse().unwrap(),
        }
    }
}

impl Node {
    fn start(folder: &Path) -> Node {
        // Another may have the port by then.
        (0..20).find_map(|_| Node::start_at(folder, free_port(), free_port())).expect("free ports")
    }

    /// A node at these ports; `None` if it cannot have them.
    fn start_at(folder: &Path, port: u16, bus: u16) -> Option<Node> {
        // It ends with this thread, whatever becomes of this process.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server", "--bind", HOST, "--save", ""]);
        command.args(["--port", &port.to_string(), "--cluster-port", &bus.to_string()]);
        command.arg("--dir").arg(folder).args(["--cluster-enabled", "yes"]);
        command.args(["--cluster-config-file", &format!("nodes-{port}.conf")]);
        command.args(["--cluster-node-timeout", &PATIENT.to_string()]);
        command.args(["--cluster-allow-replica-migration", "no"]);
        // A replica that was cut off for minutes takes over all the same; one that never had anything does not.
        command.args(["--cluster-replica-validity-factor", "60"]);
        command.args(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("setpriv, and Debian's redis-server: make tools installs it");
        let mut node = Node { port, bus, child, answers: true };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let own = format!("process_id:{}\r\n", node.child.id());
            let info = node.ask::<String>(&["INFO", "server"]);
            if info.is_ok_and(|info| info.contains(&own)) {
                return Some(node);
            }
            if node.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "it does not answer");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = Client::open(format!("redis://{HOST}:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(ANSWER)?;
        connection.set_read_timeout(Some(ANSWER))?;
        let mut call: Cmd = cmd(words[0]);
        call.arg(&words[1..]).query(&mut connection)
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn kill(&mut self) {
        self.answers = false;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free, below those that systems give away by themselves: a node that was killed has it
/// again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next =
            NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(61));
        let port = 12_000 + (next % 20_000) as u16;
        if TcpListener::bind((HOST, port)).is_ok() {
            return port;
        }
    }
}

/// The owner of a slot.
fn owner(seen: &[Seen], slot: u16) -> Option<&Seen> {
    let has = |seen: &&Seen| seen.slots.iter().any(|(a, b)| (*a..=*b).contains(&slot));
    seen.iter().find(has)
}

/// Whether a process that waited was stopped meanwhile, and goes on.
fn is_interrupted(error: &RedisError) -> bool {
    error.source().is_some_and(|cause| cause.to_string().contains("Interrupted"))
}

/// Waits for it; a node that does not answer is asked again.
fn until(what: &str, mut is: impl FnMut() -> RedisResult<bool>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = is();
        if matches!(now, Ok(true)) {
            return;
        }
        assert!(Instant::now() < deadline, "not yet: {what} ({now:?})");
        thread::park_timeout(Duration::from_millis(10));
    }
}
