//! What the broker must do, as properties: random interleavings of sessions and actions are carried
//! out by a broker and by a model of it, and must come to the same. The model is a list of messages
//! and a few sets, with no thought of speed; every rule of DESIGN.md section 3 that is built stands
//! in it, named where it is applied.
//!
//! | file | what |
//! | --- | --- |
//! | `action` | what can happen, and how it is made up |
//! | `log` | the model of a store: messages, leases, delays, keys |
//! | `readers` | the model of who reads and waits: places, subscriptions, lines |
//! | `world` | a broker and a model side by side, and their comparison |
//! | `batches`, `talk` | the actions: on the store, and on sessions |
//! | `found` | cases that failed once |
//!
//! `DSMQ_MODEL_CASES` says how many cases are run; `make test` runs 100,000. They are the same ones
//! each time, unless `DSMQ_MODEL_SEED` is a number of another lot: who looks for a bug tries many.

mod action;
mod batches;
mod found;
mod log;
mod readers;
mod talk;
mod world;

use std::cell::Cell;
use std::sync::Arc;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use tempfile::TempDir;

use self::action::Case;
use self::world::World;
use crate::ops::Id;
use crate::store::{Rules, Store};

/// Cases of a bare `cargo test`.
const CASES: u32 = 3_000;

/// Threads that share the cases out.
const SHARES: u32 = 2;

/// A store under test.
pub struct Opened {
    /// Where it is, if that is a file.
    pub folder: Option<TempDir>,
    pub store: Arc<dyn Store>,
    /// Rows of all tables but the topics': nothing may be left of what was removed.
    pub rows: Box<dyn Fn() -> i64>,
    /// How many parts it has.
    pub parts: usize,
}

/// Makes an empty store whose clock is [`clock`], and that keeps these rules.
pub type Open<'a> = &'a (dyn Fn(Rules) -> Opened + Sync);

/// The beginning of time.
const START: Id = 1_780_000_000_000_000;

thread_local! {
    /// The clock of the stores under test stands still until an action advances it.
    static NOW: Cell<Id> = const { Cell::new(START) };
}

pub fn clock() -> Id {
    NOW.get()
}

/// The suite, against a store of any kind. The cases are shared out among threads.
pub fn holds(open: Open<'_>, cases: u32) {
    let seed = number("DSMQ_MODEL_SEED", 0);
    found::cases().iter().for_each(|case| live(open, case));
    std::thread::scope(|scope| {
        for share in 0..SHARES {
            scope.spawn(move || run(open, cases.div_ceil(SHARES), seed, share));
        }
    });
}

fn number(variable: &str, default: u32) -> u32 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{variable}: a number")))
}

fn run(open: Open<'_>, cases: u32, seed: u32, share: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let seed = [seed.to_le_bytes(), share.to_le_bytes()].concat().repeat(4);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let ran = TestRunner::new_with_rng(config, rng).run(&action::case(), |case| {
        live(open, &case);
        Ok(())
    });
    if let Err(failure) = ran {
        panic!("{failure}");
    }
}

/// One case, from an empty store to its end.
fn live(open: Open<'_>, case: &Case) {
    NOW.set(START);
    let mut world = World::new(open, case.dead_letter_after);
    for action in &case.actions {
        world.act(action);
        world.check();
    }
    world.end(case.purge_at_the_end);
}

#[test]
fn sqlite_in_memory_does_as_the_model() {
    let open = |rules| {
        let (store, rows) = crate::store::in_memory_with(clock, rules);
        Opened { folder: None, store, rows, parts: 1 }
    };
    holds(&open, number("DSMQ_MODEL_CASES", CASES));
}

/// A file costs more to make, so it has fewer cases.
#[test]
fn sqlite_in_a_file_does_as_the_model() {
    let open = |rules| {
        let folder = tempfile::tempdir().unwrap();
        let (store, rows) =
            crate::store::in_file_with(&folder.path().join("dsmq.db"), clock, rules);
        Opened { folder: Some(folder), store, rows, parts: 1 }
    };
    holds(&open, number("DSMQ_MODEL_CASES", CASES) / 20);
}

/// Each operation is a round trip, so it has fewer cases.
#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn redis_does_as_the_model() {
    redis_holds(1, number("DSMQ_MODEL_CASES", CASES) / 30);
}

/// The topics stand in different parts, as they do over a cluster.
#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn parts_of_a_store_do_as_the_model() {
    assert_ne!(crate::ops::partition("a", 16), crate::ops::partition("ab", 16));
    redis_holds(16, number("DSMQ_MODEL_CASES", CASES) / 60);
}

#[cfg(feature = "redis")]
fn redis_holds(parts: usize, cases: u32) {
    let server = Arc::new(crate::store::RedisServer::start());
    let open = |rules| {
        let prefix = server.prefix();
        let store = Arc::new(server.open_parts(&prefix, rules, clock, parts));
        let server = server.clone();
        Opened { folder: None, store, rows: Box::new(move || server.rows(&prefix)), parts }
    };
    holds(&open, cases);
}

/// The same over a cluster, whose nodes refuse what is not theirs.
#[cfg(feature = "redis")]
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn a_redis_cluster_does_as_the_model() {
    let server = Arc::new(crate::store::RedisCluster::start());
    let open = |rules| {
        let prefix = server.prefix();
        let store = Arc::new(server.open(&prefix, rules, clock));
        let server = server.clone();
        Opened { folder: None, store, rows: Box::new(move || server.rows(&prefix)), parts: 16 }
    };
    holds(&open, number("DSMQ_MODEL_CASES", CASES) / 200);
}
