//! Producers and takers on several servers over one store, while something befalls these: every message
//! is acknowledged once, and none is lost.
//!
//! An ack whose reply never came, or says no more, may have worked or not. One that worked is the last that is heard of
//! its message: so of the acks of a message one surely worked, or none surely did and one may have.

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

/// Requests that are sent at once.
pub const PIPELINE: usize = 32;

/// How many requests to one topic stand together.
const TOGETHER: usize = 8;

/// How long a producer or taker that was told to try again thinks it over.
pub const PAUSE: Duration = Duration::from_millis(5);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub messages: usize,
    pub topics: usize,
    pub seed: u64,
    /// Once in so many rounds a taker ends with messages in its hands, or without hearing what became
    /// of its acks; another takes its place.
    pub taker_ends: u64,
}

/// What producers and takers share.
pub struct Load {
    plan: Plan,
    addrs: Vec<Mutex<SocketAddr>>,
    /// Producers that have not ended.
    producing: AtomicUsize,
    acked: AtomicUsize,
    /// Messages of which an ack worked, or may have.
    seen: Mutex<HashSet<u64>>,
    empty: AtomicBool,
    doubtful_puts: AtomicUsize,
    ended_takers: AtomicUsize,
    answered: AtomicUsize,
    unavailable: AtomicUsize,
    unconfirmed: AtomicUsize,
}

/// What became of the acks of a message: how many worked, and how many may have.
#[derive(Clone, Copy, Debug, Default)]
struct Acks {
    sure: usize,
    doubtful: usize,
}

/// Carries out the plan on these servers, and `trouble` meanwhile; what was seen, in a line.
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
        // Whoever fails, all come to an end.
        let end = End(&load.empty);
        trouble(load);
        load.wait_until_empty();
        drop(end);
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    // What fails says with which seed.
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

/// How many messages there are, as `topics` tells; `None` while a node has not come back.
pub fn messages(reply: &Value) -> Option<u64> {
    if reply["code"] == "unavailable" {
        return None;
    }
    let topics = reply["topics"].as_array().unwrap_or_else(|| panic!("{reply}"));
    Some(topics.iter().map(|topic| topic["length"].as_u64().unwrap()).sum())
}

/// Of these acks, of which each worked or may have, none is missing and none worked twice.
pub fn judge(messages: usize, acks: &[(u64, bool)]) {
    let mut of: HashMap<u64, Acks> = HashMap::new();
    for (message, sure) in acks {
        let acks = of.entry(*message).or_default();
        *(if *sure { &mut acks.sure } else { &mut acks.doubtful }) += 1;
    }
    let lost: Vec<u64> = (0..messages as u64).filter(|message| !of.contains_key(message)).collect();
    assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
    assert_eq!(of.len(), messages, "and nothing else is there");
    let wrong: Vec<_> = of.iter().filter(|(_, acks)| acks.sure > 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

impl Load {
    /// The server that has this number is another one from now on.
    pub fn replace(&self, server: usize, addr: SocketAddr) {
        *self.addrs[server].lock().unwrap() = addr;
    }

    /// Waits until so many messages are acknowledged.
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

    /// Waits until one more request was answered unconfirmed.
    pub fn until_unconfirmed(&self) {
        let deadline = Instant::now() + PATIENCE;
        let before = self.unconfirmed.load(Ordering::SeqCst);
        while self.unconfirmed.load(Ordering::SeqCst) == before {
            assert!(Instant::now() < deadline, "all is confirmed");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits until so many more requests were answered, one way or the other.
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

    /// Puts these messages, each again until it is confirmed.
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

    /// True if all of them are stored now, and were told so.
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

    /// Whether the reply is no error; those that it may be are counted, and thought over.
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

    /// Takes and acks until there is nothing left; each message whose ack worked, or may have.
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

    /// Messages of some topics; `None` once the connection is dead, or the taker is.
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

    /// False once the connection is dead, or the taker is.
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

    /// Waits until nothing is left, as long as something goes.
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
                // What is missing is told with the rest.
                eprintln!("messages are left: {reply}");
                return;
            }
            thread::park_timeout(PAUSE);
        }
    }
}
