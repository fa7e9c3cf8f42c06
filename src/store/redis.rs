//! The store in Redis, which any number of servers share. Only this folder names redis.
//!
//! Batches of those who meet go through a [`leader`](super::leader) and are one call of a script
//! ([`scripts`]), which Redis runs as one transaction; so is what time does. What is [`known`] of topics here is what scripts told: those of this server in their
//! answers, those of others as [`news`]. docs/scaling.md lists the keys.

mod copy;
mod known;
mod link;
mod news;
mod request;
mod scripts;
mod shared;
#[cfg(test)]
pub mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::time::Duration;

use redis::{Client, Cmd, Value, cmd};

use self::known::{From, Known};
use self::link::Link;
use self::news::News;
use self::scripts::Script;
use self::shared::Shared;
use super::leader::Leader;
use super::{Batch, Due, Extent, Head, Kept, Place, Rules, Run, Shelf, Store, system_clock};
use crate::error::{Error, Result};
use crate::limits;
use crate::message::{ID_END, Id, Topic};

/// What the keys of one store have in common, so that they stand on one node of a cluster.
const TAG: &str = "{0}:";

/// The layout of the keys.
const SCHEMA: &str = "1";

/// What a consumer has not had for so long goes to another: a minute, in microseconds.
const CONSUMER_LEASE: u64 = 60_000_000;

/// From the order to open to its end.
const OPEN: Duration = Duration::from_secs(10);

/// Where a store is, and how it is reached.
#[derive(Clone, Debug)]
pub struct RedisAt<'a> {
    pub url: &'a str,
    /// What every key begins with.
    pub prefix: &'a str,
    /// Connections at most, beside the one that hears news.
    pub pool: usize,
    /// Replicas that must have what is promised.
    pub replicas: u32,
}

pub struct RedisStore {
    shared: Arc<Shared>,
    leader: Leader,
    shelf: Shelf,
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.shared.news.end();
    }
}

impl RedisStore {
    /// Opens the store, which is made if it is not there. An error is for the person who started
    /// the server.
    pub fn open(
        at: &RedisAt<'_>,
        rules: Rules,
        clock: Option<fn() -> Id>,
    ) -> std::result::Result<RedisStore, String> {
        let client = Client::open(at.url).map_err(|error| error.to_string())?;
        let key = format!("{}{TAG}store", at.prefix);
        let shared = Arc::new(Shared {
            link: Link::new(client, key.clone(), at.pool),
            known: Known::new(),
            news: News::default(),
            channel: format!("{}{TAG}news", at.prefix),
            server: format!("{:016x}", RandomState::new().build_hasher().finish()),
            rules,
            replicas: at.replicas,
            clock,
        });
        // First it listens, then it asks: so nothing is missed.
        let (ready, listening) = mpsc::channel();
        news::listen(&shared, ready).map_err(|error| error.to_string())?;
        let listens = listening.recv_timeout(OPEN).map_err(|_| "it does not answer".to_owned());
        listens.and_then(|listens| listens)?;
        let store = RedisStore { shared, leader: Leader::default(), shelf: Shelf::default() };
        store.check(&key)?;
        let all = store.shared.learn_all(From::Before);
        all.map_err(|error| error.text.into_owned())?;
        // Whatever is due is found by the first tick.
        store.shared.known.due_at(0);
        Ok(store)
    }

    /// Refuses what is no store of ours, and a Redis that is too old for it.
    fn check(&self, key: &str) -> std::result::Result<(), String> {
        let ask = |call: &Cmd| self.shared.link.call(call).map_err(|failed| failed.error);
        // Not every user may ask.
        if let Ok(Value::BulkString(info)) = ask(&cmd("INFO")) {
            let info = String::from_utf8_lossy(&info);
            if version(&info).is_some_and(|version| version < (6, 2)) {
                return Err("it is too old: 6.2 or later is needed".to_owned());
            }
            if let Some(policy) = evicts(&info) {
                tracing::warn!(
                    "this Redis removes keys when its memory is full, and messages with them \
                     (maxmemory-policy {policy}): noeviction would refuse new ones instead"
                );
            }
        }
        let say = |error: Error| error.text.into_owned();
        ask(cmd("HSETNX").arg(key).arg("schema").arg(SCHEMA)).map_err(say)?;
        match ask(cmd("HGET").arg(key).arg("schema")).map_err(say)? {
            Value::BulkString(schema) if schema == SCHEMA.as_bytes() => Ok(()),
            _ => Err(format!("{key} is of another version of dsmq: --redis-prefix names another")),
        }
    }

    /// What is read of a topic.
    fn read_script(&self, how: &str, topic: &Topic, args: &[u64]) -> Result<Value> {
        let mut call = self.shared.script(Script::Read);
        call.arg(how).arg(topic.as_str());
        for arg in args {
            call.arg(*arg);
        }
        self.shared.call(&call)
    }
}

impl Store for RedisStore {
    fn blocks(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        true
    }

    /// A server that is gone does not come back to say so; another's consumers then get them.
    fn consumer_lease(&self) -> u64 {
        CONSUMER_LEASE
    }

    fn look(&self, topic: &str) -> Result<()> {
        let answer = self.read_script("topic", &Topic::new(topic)?, &[])?;
        let Value::Array(answer) = answer else { return Err(request::senseless()) };
        self.shared.learn(answer.into_iter().next(), From::Own).map(drop)
    }

    fn when_told(&self, waker: Waker) {
        self.shared.news.when_told(waker);
    }

    fn last_id(&self) -> Id {
        self.shared.known.last_id()
    }

    fn now(&self) -> Id {
        match self.shared.clock {
            Some(clock) => clock(),
            None => self.shared.known.clock(system_clock()),
        }
    }

    fn head(&self, topic: &str) -> Option<Arc<Head>> {
        self.shared.known.head(topic)
    }

    fn heads(&self) -> Vec<Arc<Head>> {
        self.shared.known.heads()
    }

    fn apply(&self, batch: &mut Batch) {
        if batch.is_empty() {
            return;
        }
        self.leader.submit(batch, |batches| self.shared.commit(batches));
    }

    fn read(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>> {
        let limit = limit.clamp(1, limits::RUN_MESSAGES) as u64;
        let run = Run::new(after, head.removals());
        let messages = self.read_script("run", head.topic(), &[after.min(ID_END), limit])?;
        request::read_run(run, messages).map(Arc::new)
    }

    fn read_last(&self, head: &Head, limit: usize) -> Result<Arc<Run>> {
        if limit == 0 {
            return Ok(Arc::default());
        }
        let run = Run::new(0, head.removals());
        let messages = self.read_script("last", head.topic(), &[limit as u64])?;
        request::read_run(run, messages).map(|run| Arc::new(run.reversed()))
    }

    fn delayed(&self, head: &Head, limit: usize) -> Result<Run> {
        if limit == 0 {
            return Ok(Run::default());
        }
        let messages = self.read_script("delayed", head.topic(), &[limit as u64])?;
        request::read_run(Run::default(), messages)
    }

    fn kept(&self, head: &Head, after: Place) -> Result<Vec<Kept>> {
        copy::kept(after, |how, args| self.read_script(how, head.topic(), args))
    }

    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn ends(&self, head: &Head) -> Result<(Option<Id>, Option<Id>)> {
        let Value::Array(ends) = self.read_script("ends", head.topic(), &[])? else {
            return Err(request::senseless());
        };
        let mut ends = ends.into_iter().map(|end| match end {
            Value::Int(id) if id > 0 => Some(id.cast_unsigned()),
            _ => None,
        });
        Ok((ends.next().flatten(), ends.next().flatten()))
    }

    fn extent(&self) -> Extent {
        let max_bytes = self.shared.rules.max_bytes;
        Extent { kind: "redis", bytes: self.shared.known.bytes(), max_bytes, refused: 0 }
    }

    fn due(&self) -> Id {
        if self.shared.news.any() { 0 } else { self.shared.known.due() }
    }

    fn tick(&self) -> Result<Due> {
        let mut due = self.shared.news.take();
        if self.shared.known.due() > self.now() {
            return Ok(due);
        }
        // What is due next is told by the script.
        self.shared.known.forget_due();
        match self.shared.tick() {
            Ok(done) => {
                due.put.extend(done.put);
                due.returned.extend(done.returned);
                Ok(due)
            }
            Err(error) => {
                self.shared.known.due_at(self.now() + limits::RETRY.as_micros() as u64);
                if due.put.is_empty() && due.returned.is_empty() {
                    return Err(error);
                }
                Ok(due)
            }
        }
    }
}

/// How a Redis makes room by itself, if it does.
fn evicts(info: &str) -> Option<&str> {
    let value = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let policy = value("maxmemory_policy:").filter(|policy| *policy != "noeviction");
    policy.filter(|_| value("maxmemory:").is_some_and(|bytes| bytes != "0"))
}

/// The first two numbers of the version that Redis says.
fn version(info: &str) -> Option<(u32, u32)> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    let mut numbers = version.split('.').map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
