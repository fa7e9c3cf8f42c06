//! `dsmq copy`, as the person sees it who moves topics from one store to another.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[cfg(feature = "redis")]
use crate::suite::cluster::Redis;
use crate::suite::support::PATIENCE;
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Ended, Process, dsmq, run};
#[cfg(feature = "redis")]
use crate::suite::support::redis_cluster::{CALM, Cluster};

/// Messages of a copy that is killed on its way.
const MANY: usize = 60_000;

/// Stores in a folder: files, and perhaps one in a Redis.
struct Places(Folder);

impl Places {
    fn new() -> Places {
        Places(Folder::new("copy"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn dsmq(&self, args: &[&str]) -> Command {
        let mut command = dsmq(args);
        command.current_dir(self.path(""));
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        run(&mut self.dsmq(args), "")
    }

    /// Runs the command, which says nothing but this line, and ends with this code.
    fn says(&self, args: &[&str], code: i32, line: &str) {
        let ended = self.run(args);
        let said = match code {
            2 => ended.stderr.trim_end().to_owned(),
            _ => ended.stdout.join("\n"),
        };
        assert_eq!((ended.code, said.as_str()), (Some(code), line), "{args:?}");
    }

    fn server(&self, store: &str, args: &[&str]) -> (Process, SocketAddr) {
        let begin = ["--store", store, "--port", "0", "--log", "error"];
        Process::server(self.dsmq(&begin).args(args))
    }

    /// What a subscriber to everything is shown of the store: so many messages of these topics.
    fn all(&self, store: &str, topics: &str, count: usize) -> Vec<String> {
        let (server, addr) = self.server(store, &[]);
        let count = count.to_string();
        let mut sub = self.dsmq(&["sub", topics, "--from", "oldest", "--json", "--count", &count]);
        let shown = run(sub.env("DSMQ_PORT", addr.port().to_string()), "");
        assert_eq!(shown.code, Some(0), "{shown:?}");
        stop(server);
        shown.stdout
    }

    /// A file with `MANY` messages in one topic.
    fn fill(&self, store: &str) {
        let (server, addr) = self.server(store, &["--sync", "off"]);
        let lines: String = (0..MANY).map(|n| format!("message {n}\n")).collect();
        let mut put = self.dsmq(&["put", "many"]);
        let put = run(put.env("DSMQ_PORT", addr.port().to_string()), &lines);
        assert_eq!(put.code, Some(0), "{put:?}");
        stop(server);
    }

    /// Copies, is killed when this is so, and copies again.
    fn copies_though_it_is_killed(&self, to: &str, has_begun: impl Fn() -> bool) {
        self.fill("queue.db");
        let before = self.all("queue.db", "many", MANY);
        let copy = Process::spawn(self.dsmq(&["copy", "queue.db", to]).stderr(Stdio::null()));
        let deadline = Instant::now() + PATIENCE;
        while !has_begun() {
            assert!(Instant::now() < deadline, "nothing is copied");
            thread::park_timeout(Duration::from_millis(1));
        }
        signal(&copy, "-KILL");
        assert_eq!(copy.end().code, None, "it was done before it was killed");
        let copied = self.run(&["copy", "queue.db", to]);
        assert_eq!(copied.code, Some(0), "{copied:?}");
        let bytes: usize = (0..MANY).map(|n| format!("\"message {n}\"").len()).sum();
        let line = format!("copied: topics 1, messages {MANY}, bytes {bytes}; ");
        let before_it = copied.stdout[0].strip_prefix(&line).expect("it went on").to_owned();
        let end = " of the messages were there from before";
        let there: usize = before_it.strip_suffix(end).unwrap().parse().unwrap();
        assert!((1..MANY).contains(&there), "{there}");
        assert!(self.all(to, "many", MANY) == before, "it is another store");
    }
}

fn signal(process: &Process, signal: &str) {
    let id = process.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

fn stop(process: Process) {
    signal(&process, "-TERM");
    assert_eq!(process.end().code, Some(0));
}

fn ask(peer: &mut Peer, request: Value) -> Value {
    peer.send(request.to_string());
    let reply = peer.receive_reply();
    assert!(reply.get("error").is_none(), "{request}: {reply}");
    reply
}

fn put(peer: &mut Peer, topic: &str, more: Value) -> Value {
    let mut request = json!({"action": "put", "topic": topic, "confirm": true});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(peer, request)
}

/// A bit of everything.
fn work(peer: &mut Peer) {
    peer.send("{\"action\":\"put\",\"topic\":\"t\",\"message\":{ \"a\" :1.50,\"é\":[ ] }}");
    put(peer, "t", json!({"message": "first", "priority": 9}));
    put(peer, "t", json!({"message": "x".repeat(100_000), "ttl": 3_600}));
    put(peer, "t", json!({"message": "last", "priority": 0}));
    put(peer, "t", json!({"message": "later", "delay": 3_600}));
    let taken = ask(peer, json!({"action": "take", "topic": "t", "lease": 3_600}));
    assert_eq!(taken["message"], "first");
    put(peer, "jobs", json!({"message": "hopeless"}));
    let take = json!({"action": "take", "topic": "jobs", "lease": 3_600});
    let Value::Object(taken) = ask(peer, take) else { panic!("it is an object") };
    let (id, deliveries) = (&taken["id"], &taken["deliveries"]);
    ask(peer, json!({"action": "nack", "topic": "jobs", "id": id, "deliveries": deliveries}));
    ask(peer, json!({"action": "stop", "topic": "jobs"}));
    ask(peer, json!({"action": "policy", "topic": "jobs", "policy": "roundrobin"}));
}

/// The state that must be equal in both stores.
fn look(peer: &mut Peer) -> Vec<Value> {
    let topics = ask(peer, json!({"action": "topics"}));
    let fields = ["topic", "length", "bytes", "oldest", "newest", "delayed", "policy", "state"];
    let known = topics["topics"].as_array().unwrap().iter().map(|topic| {
        fields.iter().map(|field| topic.get(*field).cloned().unwrap_or_default()).collect()
    });
    let histories = ["t", "jobs", "jobs.dead"]
        .map(|topic| ask(peer, json!({"action": "history", "topic": topic})));
    known.chain(histories).collect()
}

fn everything_is_copied(to: &str) {
    let places = Places::new();
    let (server, addr) = places.server("queue.db", &["--dead-letter-after", "1"]);
    let mut peer = Peer::connect(addr);
    work(&mut peer);
    let before = look(&mut peer);
    assert_eq!(before[1][0], "jobs.dead", "{before:?}");
    let used = format!(
        "dsmq: cannot open the store: queue.db: another dsmq has it open (process {}): stop it, or \
         copy what 'dsmq --store queue.db backup DEST' makes of it",
        server.id()
    );
    places.says(&["copy", "queue.db", to], 2, &used);
    stop(server);

    let checked = places.run(&["check", "queue.db"]);
    let bytes = 100_000 + r#"{ "a" :1.50,"é":[ ] }"first""""last""later""hopeless""#.len();
    let copied = format!("copied: topics 3, messages 6, bytes {bytes}");
    places.says(&["copy", "queue.db", to], 0, &copied);
    assert_eq!(places.run(&["check", "queue.db"]), checked, "it is as it was");

    let (server, addr) = places.server(to, &[]);
    let mut peer = Peer::connect(addr);
    assert_eq!(look(&mut peer), before);
    let text = "{ \"a\" :1.50,\"é\":[ ] }";
    peer.send("{\"action\":\"get\",\"topic\":\"t\",\"since\":0}");
    assert_eq!(peer.receive_text(), format!("{{\"message\":{text}}}"), "byte for byte");
    let mut take = |deliveries: u64| {
        let taken = ask(&mut peer, json!({"action": "take", "topic": "t"}));
        assert_eq!(taken["deliveries"], deliveries, "{taken}");
        taken["message"].to_string()
    };
    assert_eq!(take(2), "\"first\"", "it can be taken again");
    assert_eq!(take(1), json!({"a": 1.5, "é": []}).to_string());
    assert_eq!(take(1).len(), 100_002);
    assert_eq!(take(1), "\"last\"");
    let delayed = ask(&mut peer, json!({"action": "topics"}))["topics"][2]["delayed"].clone();
    assert_eq!(delayed, 1);
    stop(server);
}

#[test]
fn everything_is_copied_to_a_file() {
    everything_is_copied("copy.db");
}

#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn everything_is_copied_to_redis() {
    everything_is_copied(&Redis::start().url());
}

#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn everything_is_copied_to_a_cluster() {
    everything_is_copied(&Cluster::start(CALM).url());
}

#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn topics_come_back_from_a_cluster() {
    let places = Places::new();
    let cluster = Cluster::start(CALM);
    let (server, addr) = places.server("queue.db", &[]);
    let mut peer = Peer::connect(addr);
    for n in 0..400 {
        put(&mut peer, &format!("t{}", n % 40), json!({"message": n}));
    }
    stop(server);
    let copied = "copied: topics 40, messages 400, bytes 1090";
    places.says(&["copy", "queue.db", &cluster.url()], 0, copied);
    places.says(&["copy", &cluster.url(), "back.db"], 0, copied);
    let [before, between, after] = ["queue.db", &cluster.url(), "back.db"].map(|store| {
        let mut all = places.all(store, "t*", 400);
        all.sort();
        all
    });
    assert_eq!(before, between);
    assert_eq!(before, after);
}

#[test]
fn a_copy_to_a_file_that_is_killed_goes_on() {
    let places = Places::new();
    let log = places.path("copy.db-wal");
    let has_begun = || fs::metadata(&log).is_ok_and(|log| log.len() > 500_000);
    places.copies_though_it_is_killed("copy.db", has_begun);
    assert_eq!(places.run(&["check", "copy.db"]).code, Some(0));
}

#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn a_copy_to_redis_that_is_killed_goes_on() {
    let (places, redis) = (Places::new(), Redis::start());
    let has_begun = || !redis.ask(&["XLEN", "dsmq:{0}:log:many"]).starts_with('0');
    places.copies_though_it_is_killed(&redis.url(), has_begun);
}

#[test]
fn what_cannot_be_copied_is_refused_in_a_line() {
    let places = Places::new();
    let memory = "dsmq: copy: what is in memory ends with its server: say the path of a file, or \
                  redis://HOST:PORT";
    places.says(&["copy", "memory", "copy.db"], 2, memory);
    places.says(&["copy", "queue.db", "memory"], 2, memory);
    places.says(&["copy", "queue.db", "queue.db"], 2, "dsmq: copy: FROM and TO are one store");
    places.says(&["copy", "queue.db", "copy.db"], 2, "dsmq: queue.db: no such file");
    assert!(!places.path("queue.db").exists() && !places.path("copy.db").exists());

    stop(places.server("queue.db", &[]).0);
    places.says(&["copy", "queue.db", "copy.db"], 1, "copied: topics 0, messages 0, bytes 0");
    for store in ["queue.db", "copy.db"] {
        let (server, addr) = places.server(store, &[]);
        put(&mut Peer::connect(addr), "t", json!({"message": store}));
        put(&mut Peer::connect(addr), store, json!({"message": store}));
        stop(server);
    }
    let none = "dsmq: queue.db: there is no topic \"a*\"";
    places.says(&["copy", "queue.db", "copy.db", "t", "a*"], 2, none);
    let own = "dsmq: copy.db: the topic \"t\" already has other messages: purge it \
               there, or name the topics to copy; nothing was written";
    places.says(&["copy", "queue.db", "copy.db"], 2, own);
    let one = "copied: topics 1, messages 1, bytes 10";
    places.says(&["copy", "queue.db", "copy.db", "queue*"], 0, one);
}

#[test]
fn a_copy_that_has_no_room_says_so_and_goes_on_in_a_larger_store() {
    let places = Places::new();
    places.fill("queue.db");
    let full = places.run(&["--max-store", "1MiB", "copy", "queue.db", "copy.db"]);
    assert_eq!((full.code, full.stdout.len()), (Some(2), 0), "{full:?}");
    let said = full.stderr.lines().last().unwrap();
    assert!(said.starts_with("dsmq: copy.db: topic \"many\": the store is full (--max-store"));
    assert!(said.ends_with("and the same command resumes after them"), "{said}");
    assert_eq!(places.run(&["copy", "queue.db", "copy.db"]).code, Some(0));
    assert!(places.all("copy.db", "many", MANY) == places.all("queue.db", "many", MANY));
}

#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn a_redis_is_copied_to_another_prefix_and_to_a_file() {
    let (places, redis) = (Places::new(), Redis::start());
    let url = redis.url();
    let (server, addr) = places.server(&url, &["--redis-prefix", "old:"]);
    let mut peer = Peer::connect(addr);
    (0..10).for_each(|n| drop(put(&mut peer, "t", json!({"message": n}))));
    stop(server);
    let copied = "copied: topics 1, messages 10, bytes 10";
    places.says(&["copy", &url, &url, "--from-prefix", "old:"], 0, copied);
    let one = "dsmq: copy: FROM and TO are one store";
    places.says(&["copy", &url, &url, "--to-prefix", "dsmq:"], 2, one);
    let file = ["--redis-prefix", "old:", "copy", &url, "copy.db"];
    places.says(&file, 0, copied);
    assert_eq!(redis.ask(&["XLEN", "old:{0}:log:t"]), "10\n");
    assert_eq!(places.all(&url, "t", 10), places.all("copy.db", "t", 10));
}
