//! A server that loses its Redis for a while, in several ways, recovers by itself: waiting clients
//! keep waiting, overdue work is done, no confirmed message is lost, and no acked message comes
//! back.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use dsmq::{Config, Server};
use serde_json::{Value, json};

use super::Redis;
use super::proxy::{Proxy, Way};
use crate::suite::support::peer::Peer;
use crate::suite::support::random::number;
use crate::suite::support::{PATIENCE, server_with};

/// Messages that are taken before, during and after the cut.
const JOBS: u64 = 1_000;

/// Longest time that a request may go without a reply.
const BOUND: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn server_recovers_after_losing_redis() {
    // Each way has a Redis of its own and mostly waits, so they run at the same time.
    thread::scope(|scope| {
        for way in [Way::Refuses, Way::Swallows, Way::Breaks] {
            scope.spawn(move || cut(way));
        }
    });
}

fn cut(way: Way) {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.socket());
    let cut_off = server_with(Config { store: proxy.url().parse().unwrap(), ..Config::default() });
    let other = redis.server();
    let time = Duration::from_secs(number("DSMQ_CUT_SECONDS", 10));

    let mut waiting = Waiting::begin(&cut_off, time / 2);
    let mut work = Work::begin(&cut_off);
    work.some();
    assert_eq!(work.unavailable, 0);
    healthz(&cut_off, 200, "ok");
    proxy.set(way);
    let end = Instant::now() + time;
    work.until(|work| work.unavailable > 0);
    healthz(&cut_off, 503, &proxy.address());
    // Clients that already wait keep waiting; new requests fail.
    let mut late = Peer::connect(cut_off.addr());
    late.send(r#"{"action":"take","topic":"taken","wait":600,"tag":"late"}"#);
    assert_eq!(late.expect_error("unavailable")["tag"], "late");
    while Instant::now() < end {
        work.some();
    }
    proxy.set(Way::Open);

    // First the requests that other clients have abandoned.
    waiting.expect_due_messages();
    work.until(Work::is_done);
    waiting.expect_new_messages(&mut Peer::connect(other.addr()));
    healthz(&cut_off, 200, "ok");
    work.expect_all_there(&mut Peer::connect(other.addr()));
    println!(
        "{way:?}: {} refused, {} acks in doubt, the longest reply {:?}",
        work.unavailable,
        work.doubtful.len(),
        work.longest
    );
}

/// Waits until the server has this status, with this text.
fn healthz(server: &Server, status: u16, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut peer = Peer::connect_silent(server.addr());
        peer.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = peer.receive_all();
        if answer.starts_with(&format!("HTTP/1.1 {status} ")) {
            assert!(answer.split_once("\r\n\r\n").unwrap().1.contains(text), "{answer}");
            return;
        }
        assert!(Instant::now() < deadline, "{answer}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Clients that wait at the server that is cut off, and send nothing more.
struct Waiting {
    getter: Peer,
    taker: Peer,
    subscriber: Peer,
    /// For a message due during the cut, and one whose lease ends then.
    delayed: Peer,
    leased: Peer,
}

impl Waiting {
    fn begin(server: &Server, due: Duration) -> Waiting {
        let mut peer = Peer::connect(server.addr());
        let due = due.as_secs_f64();
        for put in [
            json!({"action":"put","topic":"delayed","message":1,"delay":due,"confirm":true}),
            json!({"action":"put","topic":"leased","message":2,"confirm":true}),
        ] {
            peer.send(put.to_string());
            assert_eq!(peer.receive_reply()["ok"], true);
        }
        peer.send(json!({"action":"take","topic":"leased","lease":due}).to_string());
        assert_eq!(peer.receive_reply()["message"], 2);
        let waiting = |request: &Value| {
            let mut peer = Peer::connect(server.addr());
            peer.send(request.to_string());
            peer
        };
        let take = |topic: &str| waiting(&json!({"action":"take","topic":topic,"wait":600}));
        let [taker, delayed, leased] = ["taken", "delayed", "leased"].map(take);
        let getter = waiting(&json!({"action":"get","topic":"got","wait":600}));
        let mut subscriber = waiting(&json!({"action":"subscribe","topic":"pushed"}));
        subscriber.expect(r#"{"ok":true}"#);
        let deadline = Instant::now() + PATIENCE;
        loop {
            peer.send(r#"{"action":"stats"}"#);
            let reply = peer.receive_reply();
            if reply["stats"]["waiting"] == 3 {
                return Waiting { getter, taker, subscriber, delayed, leased };
            }
            assert!(Instant::now() < deadline, "{reply}");
        }
    }

    fn expect_due_messages(&mut self) {
        assert_eq!(self.delayed.receive_reply()["message"], 1);
        let again = self.leased.receive_reply();
        assert_eq!((&again["message"], &again["deliveries"]), (&json!(2), &json!(2)));
    }

    fn expect_new_messages(&mut self, elsewhere: &mut Peer) {
        let each = [
            ("got", &mut self.getter),
            ("taken", &mut self.taker),
            ("pushed", &mut self.subscriber),
        ];
        for (topic, peer) in each {
            let put = json!({"action":"put","topic":topic,"message":topic,"confirm":true});
            elsewhere.send(put.to_string());
            assert_eq!(elsewhere.receive_reply()["ok"], true);
            assert_eq!(peer.receive_reply()["message"], topic);
        }
    }
}

/// Puts, takes and acks that continue during the cut.
struct Work {
    peer: Peer,
    next: u64,
    /// A taken job that is acked before the next take.
    taken: Option<Value>,
    confirmed: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// Jobs whose ack had no reply.
    doubtful: BTreeSet<u64>,
    unavailable: usize,
    longest: Duration,
}

impl Work {
    fn begin(server: &Server) -> Work {
        let mut peer = Peer::connect(server.addr());
        for some in 0..JOBS / 100 {
            let put = |job| json!({"action":"put","topic":"jobs","message":job}).to_string();
            peer.send((some * 100..(some + 1) * 100).map(put).collect::<String>());
        }
        peer.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
        Work {
            peer,
            next: 0,
            taken: None,
            confirmed: BTreeSet::new(),
            acked: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            unavailable: 0,
            longest: Duration::ZERO,
        }
    }

    fn until(&mut self, done: impl Fn(&Work) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            self.some();
            assert!(Instant::now() < deadline, "{} acked of {JOBS}", self.acked.len());
        }
    }

    /// The reply; `None` if the store is unavailable.
    fn ask(&mut self, mut request: Value) -> Option<Value> {
        request["tag"] = json!(self.next);
        self.next += 1;
        let began = Instant::now();
        self.peer.send(request.to_string());
        let reply = self.peer.receive_reply();
        self.longest = self.longest.max(began.elapsed());
        assert!(began.elapsed() < BOUND, "{request}: {reply}");
        assert_eq!(reply["tag"], request["tag"], "{reply}");
        if reply["code"] == "unavailable" {
            self.unavailable += 1;
            // Do not repeat it endlessly.
            thread::park_timeout(Duration::from_millis(5));
            return None;
        }
        Some(reply)
    }

    fn some(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.ack(&taken);
        }
        let message = self.next;
        let put = json!({"action":"put","topic":"kept","message":message,"confirm":true});
        if let Some(reply) = self.ask(put) {
            assert_eq!(reply["ok"], true, "{reply}");
            self.confirmed.insert(message);
        }
        let take = json!({"action":"take","topic":"jobs","lease":1});
        self.taken = self.ask(take).filter(|taken| taken["message"].is_u64());
    }

    fn ack(&mut self, taken: &Value) {
        let job = taken["message"].as_u64().unwrap();
        assert!(!self.acked.contains(&job), "{job} was acknowledged, and comes back");
        let (id, deliveries) = (&taken["id"], &taken["deliveries"]);
        let ack = json!({"action":"ack","topic":"jobs","id":id,"deliveries":deliveries});
        match self.ask(ack) {
            Some(reply) if reply["ok"] == true => drop(self.acked.insert(job)),
            // Its lease has ended.
            Some(reply) => assert_eq!(reply["code"], "gone", "{reply}"),
            None => drop(self.doubtful.insert(job)),
        }
    }

    /// Every job is acked, or may be.
    fn is_done(&self) -> bool {
        self.acked.union(&self.doubtful).count() as u64 == JOBS
    }

    fn expect_all_there(&mut self, peer: &mut Peer) {
        // Jobs in doubt that were not acked come back after their leases.
        let take = r#"{"action":"take","topic":"jobs","lease":60,"wait":3}"#;
        loop {
            peer.send(take);
            let taken = peer.receive_reply();
            let Some(job) = taken["message"].as_u64() else { break };
            assert!(self.doubtful.contains(&job), "{taken}");
        }
        let mut kept = BTreeSet::new();
        peer.send(r#"{"action":"get","topic":"kept","since":0}"#);
        while let Some(message) = peer.receive_reply()["message"].as_u64() {
            kept.insert(message);
            peer.send(r#"{"action":"get","topic":"kept"}"#);
        }
        let lost: Vec<_> = self.confirmed.difference(&kept).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
