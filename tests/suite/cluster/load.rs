//! Load for the tests of this folder: producers and takers on several servers over one store.
//! Every message is acked exactly once, and none is lost.
//!
//! An ack without a conclusive reply may have worked. A successful ack is the last event of its
//! message: so each message has either one certain success, or none and at least one possible
//! success.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::suite::support::PATIENCE;
use crate::suite::support::line::Line;
use crate::suite::support::random::Random;

pub const PRODUCERS: usize = 4;
const TAKERS: usize = 6;

/// Requests sent at once.
pub const PIPELINE: usize = 32;

/// Consecutive requests to one topic.
const TOGETHER: usize = 8;

/// Pause of a producer or taker before it tries again.
pub const PAUSE: Duration = Duration::from_millis(5);

/// The parameters of a load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub messages: usize,
    pub topics: usize,
    pub seed: u64,
    /// Once in this many rounds a taker ends while it holds messages or before it reads the
    /// replies to its acks; another replaces it.
    pub taker_ends: u64,
}

/// State shared by producers and takers.
pub struct Load {
    plan: Plan,
    addrs: Vec<Mutex<SocketAddr>>,
    /// Producers still running.
    producing: AtomicUsize,
    acked: AtomicUsize,
    /// Messages with a successful or possibly successful ack.
    seen: Mutex<HashSet<u64>>,
    empty: AtomicBool,
    doubtful_puts: AtomicUsize,
    ended_takers: AtomicUsize,
    answered: AtomicUsize,
    unavailable: AtomicUsize,
    unconfirmed: AtomicUsize,
}

/// Acks of a message: how many succeeded, and how many may have.
#[derive(Clone, Copy, Debug, Default)]
struct Acks {
    sure: usize,
    doubtful: usize,
}

/// Runs the load on these servers, with `trouble` at the same time; returns a summary line.
pub fn run(plan: Plan, servers: &[SocketAddr], trouble: impl FnOnce(&Load)) -> String {
    let load = Load {
        plan,
        addrs: servers.iter().copied().map(Mutex::new).collect(),
        producing: AtomicUsize::new(PRODUCERS),
        acked: AtomicUsize::new(0),
        seen: Mutex::default(),
        empty: AtomicBool::new(false),
        doubtful_puts: AtomicUsize::new(0),
        ended_takers: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
        unavailable: AtomicUsize::new(0),
        unconfirmed: AtomicUsize::new(0),
    };
    let (messages, seed) = (plan.messages, plan.seed);
    let acks: Vec<(u64, bool)> = thread::scope(|scope| {
        let load = &load;
        for producer in 0..PRODUCERS {
            let random = Random(seed.wrapping_add(1 + producer as u64));
            scope.spawn(move || load.produce(random, (producer..messages).step_by(PRODUCERS)));
        }
        let takers: Vec<_> = (0..TAKERS)
            .map(|taker| {
                scope.spawn(move || load.work(Random(seed.wrapping_add(50 + taker as u64))))
            })
            .collect();
        // After a failure all threads must end.
        let end = End(&load.empty);
        trouble(load);
        load.wait_until_empty();
        drop(end);
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    // A failure message contains the seed.
    eprintln!("{plan:?}");
    judge(messages, &acks);
    let doubtful = acks.iter().filter(|(_, sure)| !sure).count();
    let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    format!(
        "{} puts were sent again, {doubtful} acks are in doubt, {} requests were answered unavailable \
         and {} unconfirmed, {} takers ended early",
        of(&load.doubtful_puts),
        of(&load.unavailable),
        of(&load.unconfirmed),
        of(&load.ended_takers)
    )
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Number of messages according to `topics`; `None` while a node is down.
pub fn messages(reply: &Value) -> Option<u64> {
    if reply["code"] == "unavailable" {
        return None;
    }
    let topics = reply["topics"].as_array().unwrap_or_else(|| panic!("{reply}"));
    Some(topics.iter().map(|topic| topic["length"].as_u64().unwrap()).sum())
}

/// Asserts that no message is missing and none was acked twice.
pub fn judge(messages: usize, acks: &[(u64, bool)]) {
    let mut of: HashMap<u64, Acks> = HashMap::new();
    for (message, sure) in acks {
        let acks = of.entry(*message).or_default();
        *(if *sure { &mut acks.sure } else { &mut acks.doubtful }) += 1;
    }
    let lost: Vec<u64> = (0..messages as u64).filter(|message| !of.contains_key(message)).collect();
    assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
    assert_eq!(of.len(), messages, "unexpected messages were acked");
    let wrong: Vec<_> = of.iter().filter(|(_, acks)| acks.sure > 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

impl Load {
    /// Replaces the server with this number.
    pub fn replace(&self, server: usize, addr: SocketAddr) {
        *self.addrs[server].lock().unwrap() = addr;
    }

    /// Waits until this many messages are acked.
    pub fn until_acked(&self, count: usize) {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let acked = self.acked.load(Ordering::SeqCst);
            if acked >= count.min(self.plan.messages) {
                return;
            }
            if acked > before {
                (before, since) = (acked, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "nothing is acknowledged after {acked}");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits for another reply `unconfirmed`.
    pub fn until_unconfirmed(&self) {
        let deadline = Instant::now() + PATIENCE;
        let before = self.unconfirmed.load(Ordering::SeqCst);
        while self.unconfirmed.load(Ordering::SeqCst) == before {
            assert!(Instant::now() < deadline, "all is confirmed");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits for this many further replies.
    pub fn until_answered(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let before = self.answered.load(Ordering::SeqCst);
        while self.answered.load(Ordering::SeqCst) < before + count {
            assert!(Instant::now() < deadline, "nothing is answered");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn topic(&self, message: usize) -> String {
        format!("jobs{}", message / TOGETHER % self.plan.topics)
    }

    fn connect(&self, random: &mut Random) -> Line {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let server = random.below(self.addrs.len() as u64) as usize;
            let addr = *self.addrs[server].lock().unwrap();
            if let Ok(line) = Line::try_connect(addr) {
                return line;
            }
            assert!(Instant::now() < deadline, "no server answers");
        }
    }

    /// Puts these messages, and repeats each until it is confirmed.
    fn produce(&self, mut random: Random, messages: impl Iterator<Item = usize>) {
        let messages: Vec<usize> = messages.collect();
        let mut line = self.connect(&mut random);
        for some in messages.chunks(PIPELINE) {
            while !self.put(&mut line, some) {
                self.doubtful_puts.fetch_add(some.len(), Ordering::SeqCst);
                line = self.connect(&mut random);
            }
        }
        self.producing.fetch_sub(1, Ordering::SeqCst);
    }

    /// True if all of them are stored and confirmed.
    fn put(&self, line: &mut Line, messages: &[usize]) -> bool {
        let put = |message: &usize| {
            json!({
                "action": "put", "topic": self.topic(*message), "message": message,
                "confirm": true, "dedupe": message.to_string(),
            })
            .to_string()
        };
        if line.send(&messages.iter().map(put).collect::<String>()).is_err() {
            return false;
        }
        messages.iter().all(|_| line.reply().is_some_and(|reply| self.is_there(&reply)))
    }

    /// Whether the reply is a success; counts the permitted errors, and pauses after them.
    fn is_there(&self, reply: &Value) -> bool {
        self.answered.fetch_add(1, Ordering::SeqCst);
        if reply["error"].is_null() {
            return true;
        }
        let count = match reply["code"].as_str() {
            Some("unavailable") => &self.unavailable,
            Some("unconfirmed") => &self.unconfirmed,
            _ => panic!("{reply}"),
        };
        count.fetch_add(1, Ordering::SeqCst);
        thread::park_timeout(PAUSE);
        false
    }

    /// Takes and acks until nothing is left; returns each message with a successful or possible
    /// ack.
    fn work(&self, mut random: Random) -> Vec<(u64, bool)> {
        let mut acks = Vec::new();
        while !self.empty.load(Ordering::SeqCst) {
            let mut line = self.connect(&mut random);
            let mut wait = 0;
            while !self.empty.load(Ordering::SeqCst) {
                let Some(taken) = self.take(&mut line, &mut random, wait) else { break };
                wait = u8::from(taken.is_empty());
                if !self.ack(&mut line, &mut random, taken, &mut acks) {
                    break;
                }
            }
        }
        acks
    }

    /// Messages of some topics; `None` once the connection or the taker is dead.
    fn take(&self, line: &mut Line, random: &mut Random, wait: u8) -> Option<Vec<Value>> {
        let take = |topic: u64, wait: u8| {
            json!({"action":"take","topic":format!("jobs{topic}"),"lease":2,"wait":wait,"tag":topic})
                .to_string()
        };
        let mut takes = String::new();
        for request in 0..PIPELINE / TOGETHER {
            let topic = random.below(self.plan.topics as u64);
            takes += &take(topic, if request == 0 { wait } else { 0 });
            takes += &take(topic, 0).repeat(TOGETHER - 1);
        }
        line.send(&takes).ok()?;
        let mut taken = Vec::new();
        for _ in 0..PIPELINE {
            let reply = line.reply()?;
            if self.is_there(&reply) && reply["message"].is_u64() {
                taken.push(reply);
            }
        }
        let ends = random.once_in(self.plan.taker_ends);
        self.ended_takers.fetch_add(usize::from(ends), Ordering::SeqCst);
        (!ends).then_some(taken)
    }

    /// False once the connection or the taker is dead.
    fn ack(
        &self,
        line: &mut Line,
        random: &mut Random,
        taken: Vec<Value>,
        acks: &mut Vec<(u64, bool)>,
    ) -> bool {
        let ack = |m: &Value| {
            let topic = format!("jobs{}", m["tag"]);
            json!({"action":"ack","topic":topic,"id":m["id"],"deliveries":m["deliveries"]})
                .to_string()
        };
        let mut alive = line.send(&taken.iter().map(ack).collect::<String>()).is_ok();
        if random.once_in(self.plan.taker_ends) {
            self.ended_takers.fetch_add(1, Ordering::SeqCst);
            alive = false;
        }
        for message in taken {
            let message = message["message"].as_u64().unwrap();
            let reply = if alive { line.reply() } else { None };
            alive = reply.is_some();
            let sure = match reply {
                Some(reply) if reply["code"] == "gone" => continue,
                Some(reply) => self.is_there(&reply),
                None => false,
            };
            acks.push((message, sure));
            self.seen.lock().unwrap().insert(message);
            self.acked.fetch_add(usize::from(sure), Ordering::SeqCst);
        }
        alive
    }

    /// Waits until nothing is left, while the number of messages still changes.
    fn wait_until_empty(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut line = self.connect(&mut Random(1));
        loop {
            let produced = self.producing.load(Ordering::SeqCst) == 0;
            line.send(r#"{"action":"topics"}"#).unwrap();
            let reply = line.reply().unwrap();
            let all = self.seen.lock().unwrap().len() == self.plan.messages;
            if produced && all && messages(&reply) == Some(0) {
                return;
            }
            if Instant::now() > deadline {
                // The final check reports missing messages.
                eprintln!("messages are left: {reply}");
                return;
            }
            thread::park_timeout(PAUSE);
        }
    }
}
