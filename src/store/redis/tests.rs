//! Tests of the store in Redis: the contract, and stores that several servers share. Each test
//! starts a Redis that listens on a Unix socket in a temporary folder.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use ::redis::{Client, Connection, cmd};

use super::*;
use crate::error::Code;
use crate::ops::{Op, Outcome};
use crate::store::leader::Works;
use crate::store::{WhenFull, contract};

impl RedisStore {
    /// Carries out a batch as `dyn Store` does.
    fn apply(&self, batch: &mut Batch) {
        (self as &dyn Store).apply(batch);
    }
}

/// Time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis that ends with the test.
pub struct Server {
    child: Child,
    folder: TempDir,
    stores: AtomicUsize,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("redis"));
        command.arg("--dir").arg(folder.path()).stdout(Stdio::null());
        let child = command.spawn().expect("Debian's redis-server: make tools installs it");
        let server = Server { child, folder, stores: AtomicUsize::new(0) };
        let deadline = Instant::now() + PATIENCE;
        while server.client().get_connection().is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        server
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis").display())
    }

    fn client(&self) -> Client {
        Client::open(self.url()).unwrap()
    }

    /// A prefix that no other store uses.
    pub fn prefix(&self) -> String {
        format!("test{}:", self.stores.fetch_add(1, Ordering::SeqCst))
    }

    pub fn open(&self, prefix: &str, rules: Rules, clock: Option<fn() -> Id>) -> RedisStore {
        RedisStore::open(&RedisAt { url: &self.url(), prefix, pool: 8, replicas: 0 }, rules, clock)
            .unwrap()
    }

    /// A store with this many partitions, all in this Redis.
    pub fn open_parts(
        &self,
        prefix: &str,
        rules: Rules,
        clock: fn() -> Id,
        partitions: usize,
    ) -> RedisStore {
        let url = self.url();
        let at = RedisAt { url: &url, prefix, pool: 8, replicas: 0 };
        let Ok(StoreUrl::One(info)) = address::parse(&url) else { panic!("{url} is one") };
        let nodes = Nodes::single(info, &at, partitions).unwrap();
        RedisStore::over(nodes, &at, rules, Some(clock)).unwrap()
    }

    pub fn rows(&self, prefix: &str) -> i64 {
        rows(&mut self.client().get_connection().unwrap(), prefix)
    }
}

/// Number of rows that belong to messages: not the topics' fields, nor the hints `due` and
/// `oldest`.
pub fn rows(connection: &mut Connection, prefix: &str) -> i64 {
    let keys: Vec<String> = cmd("KEYS").arg(format!("{prefix}*")).query(connection).unwrap();
    let about = |key: &&String| {
        let (_, kind) = key.split_once("}:").unwrap();
        !(kind.starts_with("topic:") || ["topics", "store", "oldest", "due"].contains(&kind))
    };
    let rows = keys.iter().filter(about).map(|key| {
        let kind: String = cmd("TYPE").arg(key).query(connection).unwrap();
        let count = match kind.as_str() {
            "zset" => "ZCARD",
            "hash" => "HLEN",
            "stream" => "XLEN",
            other => panic!("{key} is a {other}"),
        };
        cmd(count).arg(key).query::<i64>(connection).unwrap()
    });
    rows.sum()
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn store_in_redis_holds_the_contract() {
    let server = Server::start();
    contract::hold(&|| {
        Arc::new(server.open(&server.prefix(), Rules::default(), Some(contract::clock)))
    });
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn partitioned_store_holds_the_contract() {
    let server = Server::start();
    contract::hold_in_parts(&|| {
        Arc::new(server.open_parts(&server.prefix(), Rules::default(), contract::clock, 7))
    });
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

/// Puts this many messages of this size; returns the outcomes.
fn put(store: &RedisStore, name: &str, count: usize, size: usize) -> Vec<Result<Outcome>> {
    let mut batch = Batch::default();
    (0..count).for_each(|_| batch.put(topic(name), &vec![b'7'; size], None));
    store.apply(&mut batch);
    batch.outcomes
}

fn take(store: &RedisStore, name: &str, lease: Option<u64>) -> Result<Outcome> {
    let mut batch = Batch::default();
    batch.ops.push(Op::Take { topic: topic(name), lease });
    store.apply(&mut batch);
    batch.outcomes.remove(0)
}

fn code<T>(result: &Result<T>) -> Option<Code> {
    result.as_ref().err().map(|error| error.code)
}

fn length(store: &RedisStore, name: &str) -> u64 {
    store.topic(name).unwrap().counts().length
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn scripts_missing_in_redis_are_loaded_again() {
    let server = Server::start();
    let store = server.open("t:", Rules::default(), None);
    assert!(put(&store, "t", 1, 1)[0].is_ok());
    let mut connection = server.client().get_connection().unwrap();
    cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
    assert!(put(&store, "t", 1, 1)[0].is_ok());
    assert_eq!(length(&store, "t"), 2);
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn opening_a_store_loads_every_topic() {
    let server = Server::start();
    let (store, mut batch) = (server.open("t:", Rules::default(), None), Batch::default());
    (0..3_000).for_each(|i| batch.put(topic(&format!("topic {i}")), b"1", None));
    store.apply(&mut batch);
    drop(store);
    let store = server.open("t:", Rules::default(), None);
    assert_eq!(store.topics().len(), 3_000);
    assert_eq!((length(&store, "topic 0"), length(&store, "topic 2999")), (1, 1));
    assert_eq!(store.last_id(), batch.last_id());
    assert_eq!(store.topic("topic 1").unwrap().counts().puts, 0, "since it was opened");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn watermark_is_current_without_the_change_feed() {
    let server = Server::start();
    let prefix = server.prefix();
    let [here, there] = [(); 2].map(|()| server.open(&prefix, Rules::default(), None));
    let put = || match put(&here, "t", 1, 1).pop().unwrap() {
        Ok(Outcome::Stored { id, .. }) => id,
        other => panic!("{other:?}"),
    };
    for _ in 0..100 {
        let before = put();
        assert_eq!(there.watermark().of("t"), before);
        // The query is answered later, with the ids of that time.
        let beginning = there.watermark_lazy();
        let after = put();
        assert!(beginning.of("t") < after, "{after} {beginning:?}");
    }
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn redis_without_memory_refuses_puts_atomically() {
    let server = Server::start();
    let store = server.open("t:", Rules::default(), None);
    put(&store, "t", 3, 10);
    let mut connection = server.client().get_connection().unwrap();
    let mut memory = |bytes: &str| {
        let mut call = cmd("CONFIG");
        call.arg("SET").arg("maxmemory").arg(bytes).exec(&mut connection).unwrap();
    };
    memory("1");
    for outcome in [&put(&store, "t", 2, 10)[1], &put(&store, "new", 1, 10)[0]] {
        assert_eq!(code(outcome), Some(Code::Full));
    }
    assert!(matches!(take(&store, "t", None), Ok(Outcome::Taken(Some(_)))), "that makes room");
    assert_eq!(length(&store, "t"), 2);
    // A put after an operation that frees memory is still refused.
    let mut both = Batch::default();
    both.ops.push(Op::Take { topic: topic("t"), lease: None });
    both.put(topic("t"), b"1", None);
    store.apply(&mut both);
    assert!(both.outcomes[0].is_ok());
    assert_eq!((code(&both.outcomes[1]), length(&store, "t")), (Some(Code::Full), 1));
    memory("0");
    assert!(put(&store, "t", 1, 10)[0].is_ok());
    assert_eq!(length(&store, "t"), 2);
    assert_eq!(store.read(&store.topic("t").unwrap(), 0, 9).unwrap().len(), 2);
    assert!(store.topic("new").is_none());
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn full_store_refuses_puts_until_there_is_room() {
    let server = Server::start();
    let rules = Rules { max_bytes: Some(20_000), ..Rules::default() };
    let store = server.open("t:", rules, None);
    let outcomes = put(&store, "t", 100, 400);
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    // Against the bound a topic counts 1,002 bytes and a message 500.
    assert_eq!(stored, (20_000 - 1_002) / 500);
    assert!(outcomes[stored..].iter().all(|outcome| code(outcome) == Some(Code::Full)));
    assert_eq!(store.usage().refused as usize, outcomes.len() - stored);
    assert!(take(&store, "t", None).is_ok());
    assert!(put(&store, "t", 1, 400)[0].is_ok());
    assert_eq!(code(&put(&store, "t", 1, 400)[0]), Some(Code::Full));
    // Topics may use a quarter of it.
    (0..20).for_each(|_| drop(take(&store, "t", None)));
    let made = ["a", "b", "c", "d"].map(|name| code(&put(&store, name, 1, 1)[0]));
    assert_eq!(made, [None, None, None, Some(Code::TooManyTopics)]);
    assert!(store.usage().bytes <= 20_000);
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn drop_oldest_keeps_the_newest_messages() {
    let server = Server::start();
    let rules =
        Rules { max_bytes: Some(100_000), when_full: WhenFull::DropOldest, ..Rules::default() };
    let store = server.open("t:", rules, None);
    put(&store, "old", 20, 900);
    assert!(matches!(take(&store, "old", Some(60_000_000)), Ok(Outcome::Taken(Some(_)))));
    for _ in 0..20 {
        assert!(put(&store, "t", 10, 900).iter().all(Result::is_ok));
        assert!(store.usage().bytes <= 100_000);
    }
    let counts = store.topic("old").unwrap().counts();
    assert_eq!((counts.length, counts.dropped, counts.leased, counts.in_line), (0, 20, 0, 0));
    let counts = store.topic("t").unwrap().counts();
    assert_eq!((counts.length, counts.dropped), ((100_000 - 2_008) / 1_000, 200 - 97));
    let run = store.read_last(&store.topic("t").unwrap(), 1_000).unwrap();
    assert_eq!((run.len(), run.last_id()), (97, store.last_id()));
    assert_eq!(code(&put(&store, "t", 1, 100_000)[0]), Some(Code::Full), "larger than the store");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn messages_older_than_keep_are_dropped() {
    let server = Server::start();
    let rules = Rules { keep: Some(1_000_000), ..Rules::default() };
    let store = server.open("t:", rules, Some(contract::clock));
    put(&store, "t", 2_500, 10);
    store.tick(0).unwrap();
    assert!(store.due(0) > store.now());
    contract::advance(600_000);
    put(&store, "t", 5, 10);
    contract::advance(600_000);
    while store.due(0) <= store.now() {
        store.tick(0).unwrap();
    }
    assert_eq!(length(&store, "t"), 5);
    assert_eq!(store.topic("t").unwrap().counts().dropped, 2_500);
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn store_with_another_layout_is_refused() {
    let server = Server::start();
    let mut connection = server.client().get_connection().unwrap();
    let mut call = cmd("HSET");
    call.arg("t:{0}:store").arg("schema").arg("2").exec(&mut connection).unwrap();
    let at = RedisAt { url: &server.url(), prefix: "t:", pool: 1, replicas: 0 };
    let refused = RedisStore::open(&at, Rules::default(), None).err().unwrap();
    assert!(refused.contains("another version"), "{refused}");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn concurrent_batches_do_not_affect_each_other() {
    let server = Server::start();
    let store = server.open("t:", Rules::default(), None);
    put(&store, "large", 3, 1 << 20);
    put(&store, "small", 2, 10);
    let takes = |name: &str, count: usize| {
        let mut batch = Batch::default();
        batch.ops.extend((0..count).map(|_| Op::Take { topic: topic(name), lease: None }));
        batch
    };
    let (mut large, mut none, mut small) = (takes("large", 2), takes("none", 1), takes("small", 3));
    let mut puts = Batch::default();
    (0..request::OPERATIONS + 1).for_each(|_| puts.put(topic("many"), b"1", None));
    store.partitions[0].commit(&mut [&mut large, &mut none, &mut small, &mut puts]);
    // A batch that reaches its limit of bytes leaves the rest; the other batches are not affected.
    assert!(matches!(large.outcomes[..], [Ok(Outcome::Taken(Some(_))), Ok(Outcome::Later)]));
    assert_eq!(large.taken.len(), 1 << 20);
    assert_eq!(none.outcomes, [Ok(Outcome::Taken(None))]);
    let taken = |outcome: &Result<Outcome>| matches!(outcome, Ok(Outcome::Taken(Some(_))));
    assert_eq!(small.outcomes.iter().map(taken).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(puts.outcomes.len(), request::OPERATIONS + 1);

    // A batch without room fails alone.
    let mut connection = server.client().get_connection().unwrap();
    let mut memory = cmd("CONFIG");
    memory.arg("SET").arg("maxmemory").arg("1").exec(&mut connection).unwrap();
    let mut more = Batch::default();
    more.put(topic("many"), b"2", None);
    let mut some = takes("many", 1);
    store.partitions[0].commit(&mut [&mut more, &mut some]);
    assert_eq!(code(&more.outcomes[0]), Some(Code::Full));
    assert_eq!(store.usage().refused, 1);
    assert!(taken(&some.outcomes[0]));
}
