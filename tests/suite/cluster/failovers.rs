//! Failovers of a cluster under puts confirmed with `--redis-replicas 1`: every confirmed message
//! is there exactly once, and every lost one was reported as unconfirmed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dsmq::{Config, Server};
use serde_json::{Value, json};

use super::load::{self, PAUSE, PIPELINE, PRODUCERS};
use crate::suite::support::peer::Peer;
use crate::suite::support::random::{Random, number, seed};
use crate::suite::support::redis_cluster::{Cluster, NERVOUS};
use crate::suite::support::{PATIENCE, server_with};

const TOPICS: usize = 24;

/// Longest time to read everything.
const READ: Duration = Duration::from_secs(600);

/// Puts between two failovers.
const EACH: usize = 5_000;

/// How a master fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Killed; restarted once its replica has taken over.
    Killed,
    /// Suspended until its replica has taken over, then resumed.
    Paused,
    /// Hands over to its replica (CLUSTER FAILOVER).
    Agreed,
    /// Killed after its replica was disconnected for a while: the latest changes are lost.
    CutOff,
}

const FAILURES: [Failure; 4] = [Failure::Killed, Failure::Paused, Failure::Agreed, Failure::CutOff];

/// The replies to the puts of one message.
#[derive(Clone, Copy, Debug, Default)]
struct PutReplies {
    confirmed: bool,
    unconfirmed: bool,
    /// Replies that asked to try again.
    unavailable: usize,
    /// The time until the confirmation.
    took: Duration,
}

struct Puts {
    count: usize,
    next: AtomicUsize,
    /// Producers wait here while the cluster recovers, so that every failure meets puts.
    allowed: AtomicUsize,
    answered: AtomicUsize,
    unconfirmed: AtomicUsize,
    replies: Mutex<Vec<PutReplies>>,
}

fn servers(cluster: &Cluster) -> [Server; 2] {
    let start = || {
        let store = cluster.url().parse().unwrap();
        server_with(Config { store, redis_replicas: 1, ..Config::default() })
    };
    [start(), start()]
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn confirmed_puts_survive_failovers() {
    let failovers = number("DSMQ_FAILOVERS", 4) as usize;
    let seed = seed();
    let mut cluster = Cluster::start(NERVOUS);
    let servers = servers(&cluster);
    let puts = Puts::new(failovers * EACH);
    let mut random = Random(seed);
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (puts, server) = (&puts, &servers[producer % servers.len()]);
            scope.spawn(move || puts.produce(server));
        }
        for failover in 0..failovers {
            puts.allow_until((failover + 1) * EACH);
            puts.wait(|| puts.answered.load(Ordering::SeqCst) >= failover * EACH + EACH / 4);
            fail(&mut cluster, failover, &mut random, || {
                let before = puts.unconfirmed.load(Ordering::SeqCst);
                puts.wait(|| puts.unconfirmed.load(Ordering::SeqCst) > before);
            });
        }
    });
    let replies = puts.replies.into_inner().unwrap();
    let stored = stored(&cluster);
    servers.iter().for_each(|server| until_known(server, stored));
    let present = read_all(&servers[0]);
    report(failovers, &replies, &present);
    judge(&replies, &present, seed);
    assert_eq!(present.values().sum::<usize>(), stored, "seed {seed}");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn acks_survive_failovers() {
    let failovers = number("DSMQ_FAILOVERS", 4) as usize;
    let mut cluster = Cluster::start(NERVOUS);
    let servers = servers(&cluster);
    let addrs: Vec<SocketAddr> = servers.iter().map(Server::addr).collect();
    let messages = failovers * EACH;
    let plan = load::Plan { messages, topics: TOPICS, seed: seed(), taker_ends: 50 };
    let seen = load::run(plan, &addrs, |load| {
        let mut random = Random(plan.seed);
        for failover in 0..failovers {
            load.until_acked(failover * EACH + EACH / 4);
            fail(&mut cluster, failover, &mut random, || load.until_unconfirmed());
        }
    });
    println!("{failovers} failovers, {messages} messages put, taken and acked: {seen}");
}

/// Makes a master fail in the next way, and waits until the cluster is complete. `confirms_fail`
/// waits for a put without confirmation.
fn fail(cluster: &mut Cluster, number: usize, random: &mut Random, confirms_fail: impl FnOnce()) {
    let (master, replica) = cluster.pair(random.below(3) as usize);
    let back = |cluster: &mut Cluster| {
        cluster.until_master(replica);
        cluster.let_in(replica);
        cluster.start_again(master);
    };
    match FAILURES[number % FAILURES.len()] {
        Failure::Agreed => cluster.fail_over(replica),
        Failure::Paused => {
            cluster.pause(master);
            cluster.until_master(replica);
            cluster.go_on(master);
        }
        Failure::Killed => {
            cluster.kill(master);
            back(cluster);
        }
        Failure::CutOff => {
            cluster.cut_off(replica, master);
            confirms_fail();
            cluster.kill(master);
            back(cluster);
        }
    }
    cluster.until_healthy();
}

impl Puts {
    fn new(count: usize) -> Puts {
        Puts {
            count,
            next: AtomicUsize::new(0),
            allowed: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            unconfirmed: AtomicUsize::new(0),
            replies: Mutex::new(vec![PutReplies::default(); count]),
        }
    }

    fn allow_until(&self, put: usize) {
        self.allowed.store(put, Ordering::SeqCst);
    }

    fn wait(&self, until: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !until() {
            let answered = self.answered.load(Ordering::SeqCst);
            assert!(Instant::now() < deadline, "{answered} of {} puts answered", self.count);
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn produce(&self, server: &Server) {
        let mut peer = Peer::connect(server.addr());
        loop {
            let first = self.next.fetch_add(PIPELINE, Ordering::SeqCst);
            let some: Vec<usize> = (first..self.count.min(first + PIPELINE)).collect();
            if some.is_empty() {
                return;
            }
            self.wait(|| self.allowed.load(Ordering::SeqCst) >= some[some.len() - 1]);
            self.put(&mut peer, some);
        }
    }

    /// Puts these messages, and repeats each while the reply asks to try again.
    fn put(&self, peer: &mut Peer, mut messages: Vec<usize>) {
        let start = Instant::now();
        while !messages.is_empty() {
            assert!(start.elapsed() < PATIENCE, "the cluster does not come back for {messages:?}");
            peer.send(messages.iter().map(put).collect::<String>());
            messages.retain(|message| {
                let reply = peer.receive_reply();
                assert_eq!(reply["tag"], *message, "{reply}");
                self.hear(*message, &reply, start.elapsed())
            });
            if !messages.is_empty() {
                thread::park_timeout(PAUSE);
            }
        }
    }

    /// Whether to try again.
    fn hear(&self, message: usize, reply: &Value, took: Duration) -> bool {
        let replies = &mut self.replies.lock().unwrap()[message];
        match reply["code"].as_str() {
            None => (replies.confirmed, replies.took) = (true, took),
            Some("unconfirmed") => {
                replies.unconfirmed = true;
                self.unconfirmed.fetch_add(1, Ordering::SeqCst);
            }
            Some("unavailable") => {
                replies.unavailable += 1;
                return true;
            }
            _ => panic!("{reply}"),
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        false
    }
}

fn put(message: &usize) -> String {
    json!({
        "action": "put", "topic": format!("t{}", message % TOPICS), "message": message,
        "confirm": true, "dedupe": message.to_string(), "tag": message,
    })
    .to_string()
}

/// Waits until a server knows this number of messages: it reloads what it missed.
fn until_known(server: &Server, present: usize) {
    let deadline = Instant::now() + PATIENCE;
    let mut peer = Peer::connect(server.addr());
    loop {
        peer.send(r#"{"action":"topics"}"#);
        let reply = peer.receive_reply();
        if load::messages(&reply) == Some(present as u64) {
            return;
        }
        assert!(Instant::now() < deadline, "{present} messages expected: {reply}");
        thread::park_timeout(PAUSE);
    }
}

/// Number of messages on the nodes.
fn stored(cluster: &Cluster) -> usize {
    let of = |node| -> usize {
        let logs: Vec<String> = cluster.ask(node, &["KEYS", "dsmq:{*}:log:*"]).unwrap();
        logs.iter().map(|log| cluster.ask::<usize>(node, &["XLEN", log]).unwrap()).sum()
    };
    cluster.masters().into_iter().map(of).sum()
}

/// How often each message is there, according to a reader of all topics.
fn read_all(server: &Server) -> BTreeMap<usize, usize> {
    let deadline = Instant::now() + READ;
    let (mut peer, mut present) = (Peer::connect(server.addr()), BTreeMap::new());
    // Each topic with the last id read from it.
    let mut places: Vec<(usize, u64)> = (0..TOPICS).map(|topic| (topic, 0)).collect();
    while !places.is_empty() {
        let get = |(topic, last): &(usize, u64)| {
            json!({"action":"get","topic":format!("t{topic}"),"since":last,"meta":true}).to_string()
        };
        peer.send(places.iter().map(get).collect::<String>());
        places.retain_mut(|(_, last)| {
            let reply = peer.receive_reply();
            if let Some(message) = reply["message"].as_u64() {
                *present.entry(message as usize).or_insert(0) += 1;
                *last = reply["id"].as_u64().unwrap();
            }
            assert!(reply["error"].is_null() || reply["code"] == "unavailable", "{reply}");
            reply["empty"] != true
        });
        assert!(Instant::now() < deadline, "{} topics are not read to their end", places.len());
    }
    present
}

fn report(failovers: usize, replies: &[PutReplies], present: &BTreeMap<usize, usize>) {
    let count = |which: &dyn Fn(&PutReplies) -> bool| {
        replies.iter().filter(|replies| which(replies)).count()
    };
    let lost = |which: &dyn Fn(&PutReplies) -> bool| {
        let lost = |(number, replies): &(usize, &PutReplies)| {
            which(replies) && !present.contains_key(number)
        };
        replies.iter().enumerate().filter(lost).count()
    };
    println!(
        "{failovers} failovers during {} puts: {} confirmed, {} of them lost; {} unconfirmed, {} of \
         them lost; {} answered with try again at first; the longest confirm took {:.1} s",
        replies.len(),
        count(&|replies| replies.confirmed),
        lost(&|replies| replies.confirmed),
        count(&|replies| replies.unconfirmed),
        lost(&|replies| replies.unconfirmed),
        count(&|replies| replies.unavailable > 0),
        replies.iter().map(|replies| replies.took).max().unwrap_or_default().as_secs_f32(),
    );
}

fn judge(replies: &[PutReplies], present: &BTreeMap<usize, usize>, seed: u64) {
    let wrong: Vec<_> = replies
        .iter()
        .enumerate()
        .filter(|(number, replies)| match present.get(number) {
            None => replies.confirmed || !replies.unconfirmed,
            Some(times) => *times > 1,
        })
        .collect();
    assert!(wrong.is_empty(), "lost or doubled: {wrong:?}, seed {seed}");
    assert!(
        present.keys().all(|number| *number < replies.len()),
        "a message that was never put, seed {seed}"
    );
}
