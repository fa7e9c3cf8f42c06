//! Three servers over one Redis, which are killed at random while they are put to and taken from on
//! all of them: every message is acknowledged once, and none is lost.
//!
//! An ack whose reply never came may have worked or not. One that worked is the last that is heard of
//! its message: so of the acks of a message one surely worked, or none surely did and one may have.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::Redis;
use crate::suite::line::Line;
use crate::suite::process::{Process, dsmq};
use crate::suite::random::{Random, number, seed};
use crate::suite::support::PATIENCE;

const SERVERS: usize = 3;
const PRODUCERS: usize = 4;
const TAKERS: usize = 6;

/// Requests that are sent at once.
const PIPELINE: usize = 32;

/// What producers and takers share.
struct Field {
    addrs: [Mutex<SocketAddr>; SERVERS],
    /// Producers that have not ended.
    producing: AtomicUsize,
    acked: AtomicUsize,
    empty: AtomicBool,
    doubtful_puts: AtomicUsize,
}

/// What became of the acks of a message: how many worked, and how many may have.
#[derive(Clone, Copy, Debug, Default)]
struct Acks {
    sure: usize,
    doubtful: usize,
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn servers_that_are_killed_lose_and_double_nothing() {
    let (messages, kills) = (number("DSMQ_REDIS_MESSAGES", 20_000) as usize, 20);
    let seed = seed();
    let redis = Redis::start();
    let start = || {
        let url = redis.url();
        Process::server(&mut dsmq(&["--port", "0", "--log", "error", "--store", &url]))
    };
    let mut servers: Vec<(Process, SocketAddr)> = (0..SERVERS).map(|_| start()).collect();
    let field = Field {
        addrs: std::array::from_fn(|number| Mutex::new(servers[number].1)),
        producing: AtomicUsize::new(PRODUCERS),
        acked: AtomicUsize::new(0),
        empty: AtomicBool::new(false),
        doubtful_puts: AtomicUsize::new(0),
    };
    let acks: Vec<(u64, bool)> = thread::scope(|scope| {
        let field = &field;
        for producer in 0..PRODUCERS {
            let random = Random(seed.wrapping_add(1 + producer as u64));
            scope.spawn(move || field.produce(random, (producer..messages).step_by(PRODUCERS)));
        }
        let takers: Vec<_> = (0..TAKERS)
            .map(|taker| {
                scope.spawn(move || field.work(Random(seed.wrapping_add(50 + taker as u64))))
            })
            .collect();
        let mut random = Random(seed);
        for kill in 1..=kills {
            while field.acked.load(Ordering::SeqCst) < kill * messages / (kills + 2) {
                thread::yield_now();
            }
            let victim = random.below(SERVERS as u64) as usize;
            servers[victim] = start();
            *field.addrs[victim].lock().unwrap() = servers[victim].1;
        }
        field.wait_until_empty();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    let mut of: HashMap<u64, Acks> = HashMap::new();
    for (message, sure) in &acks {
        let acks = of.entry(*message).or_default();
        *(if *sure { &mut acks.sure } else { &mut acks.doubtful }) += 1;
    }
    assert_eq!(of.len(), messages, "none is lost, seed {seed}");
    let wrong = of.iter().find(|(_, acks)| acks.sure > 1 || acks.sure + acks.doubtful == 0);
    assert!(wrong.is_none(), "{wrong:?}, seed {seed}");
    let doubtful = acks.iter().filter(|(_, sure)| !sure).count();
    let puts = field.doubtful_puts.load(Ordering::SeqCst);
    println!("{messages} messages, {kills} kills: {puts} puts and {doubtful} acks had no reply");
}

impl Field {
    fn connect(&self, random: &mut Random) -> Line {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let server = random.below(SERVERS as u64) as usize;
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
            while !put(&mut line, some) {
                self.doubtful_puts.fetch_add(some.len(), Ordering::SeqCst);
                line = self.connect(&mut random);
            }
        }
        self.producing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes and acks until there is nothing left; each message whose ack worked, or may have.
    fn work(&self, mut random: Random) -> Vec<(u64, bool)> {
        let mut acks = Vec::new();
        while !self.empty.load(Ordering::SeqCst) {
            let mut line = self.connect(&mut random);
            let mut alive = true;
            while alive && !self.empty.load(Ordering::SeqCst) {
                alive = self.take_and_ack(&mut line, &mut acks);
            }
        }
        acks
    }

    /// False once the connection is dead.
    fn take_and_ack(&self, line: &mut Line, acks: &mut Vec<(u64, bool)>) -> bool {
        let take =
            |wait: u8| json!({"action":"take","topic":"jobs","lease":2,"wait":wait}).to_string();
        if line.send(&(take(1) + &take(0).repeat(PIPELINE - 1))).is_err() {
            return false;
        }
        let mut taken = Vec::new();
        for _ in 0..PIPELINE {
            let Some(reply) = line.reply() else { return false };
            if reply["message"].is_u64() {
                taken.push(reply);
            }
        }
        let ack = |m: &Value| {
            json!({"action":"ack","topic":"jobs","id":m["id"],"deliveries":m["deliveries"]})
                .to_string()
        };
        let sent = line.send(&taken.iter().map(ack).collect::<String>()).is_ok();
        let mut alive = sent;
        for message in taken {
            let reply = if alive { line.reply() } else { None };
            alive = reply.is_some();
            match reply {
                Some(reply) if reply["ok"] == true => {
                    acks.push((message["message"].as_u64().unwrap(), true));
                    self.acked.fetch_add(1, Ordering::SeqCst);
                }
                Some(reply) => assert_eq!(reply["code"], "gone", "{reply}"),
                None => acks.push((message["message"].as_u64().unwrap(), false)),
            }
        }
        alive
    }

    fn wait_until_empty(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut line = self.connect(&mut Random(1));
        loop {
            let produced = self.producing.load(Ordering::SeqCst) == 0;
            line.send(r#"{"action":"topics"}"#).unwrap();
            let reply = line.reply().unwrap();
            if produced && reply["topics"][0]["length"] == 0 {
                self.empty.store(true, Ordering::SeqCst);
                return;
            }
            assert!(Instant::now() < deadline, "{reply}");
            thread::yield_now();
        }
    }
}

/// True if all of them are stored now, and were told so.
fn put(line: &mut Line, messages: &[usize]) -> bool {
    let put = |message: &usize| {
        let key = message.to_string();
        json!({"action":"put","topic":"jobs","message":message,"confirm":true,"dedupe":key})
            .to_string()
    };
    if line.send(&messages.iter().map(put).collect::<String>()).is_err() {
        return false;
    }
    messages.iter().all(|_| line.reply().is_some_and(|reply| reply["ok"] == true))
}
