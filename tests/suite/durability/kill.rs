//! Kills the server with SIGKILL at random moments, again and again over one store file, while
//! clients put and take. After each restart the store must have kept every promise.
//!
//! `work` has the clients and their notes, `model` derives the expected store from the notes,
//! `restart` reads the store of the restarted server. `DSMQ_KILLS` sets the number of kills.
//! `DSMQ_SEED` repeats the random choices, but not the moments of the kills.

mod message;
mod model;
mod repeats;
mod restart;
mod work;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use self::message::TOPICS;
use self::restart::Examiner;
use self::work::{Notes, Worker};
use crate::suite::support::folder::{Folder, copy_store};
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::random::{Random, number, seed};

const PRODUCERS: usize = 4;
const ACKERS: usize = 2;
const TAKERS: usize = 1;

/// The longest life of a server before its kill, and the longest start before a kill during the
/// start.
const LIFE_MS: u64 = 300;
const START_MS: u64 = 30;

/// The store is drained when it may have more than `KEPT` messages, and every `EMPTIED_EVERY`
/// kills.
const KEPT: usize = 4_000;
const EMPTIED_EVERY: u64 = 10;

/// The number of messages before a test tampers with the file.
const FILLED: usize = 1_000;

/// Longer than any delay of the producers.
const DELAYS: Duration = Duration::from_secs(3);

#[test]
fn confirmed_changes_survive_kills() {
    let (kills, seed) = (number("DSMQ_KILLS", 10), seed());
    let began = Instant::now();
    let next = AtomicU64::new(1);
    let mut killer = Killer::new(&next, seed);
    let mut takes = [0; TOPICS.len()];
    while killer.examiner.model.figures.kills < kills {
        takes = killer.round(takes);
    }
    killer.finish(takes);
    let figures = &killer.examiner.model.figures;
    println!("{figures:#?}");
    println!(
        "{} kills in {:.0?}: {} confirmed puts and {} acks kept their promise, {} puts, {} takes \
         and {} acks were in flight; violations 0; DSMQ_SEED={seed}",
        figures.kills,
        began.elapsed(),
        figures.confirmed_puts,
        figures.acks + figures.held_acks,
        figures.unanswered_puts,
        figures.unanswered_takes,
        figures.unanswered_acks,
    );
    assert!(figures.confirmed_puts > 0 && figures.acks > 0 && figures.takes > 0);
}

/// The examiner detects what a store must not do: the test tampers with the file between two lives.
#[test]
fn examiner_detects_tampering() {
    let tampers = [
        ("lost", "DELETE FROM log WHERE id IN (SELECT id FROM log ORDER BY id DESC LIMIT 200)"),
        ("twice", "UPDATE log SET id = id + 10000000000 WHERE body IS NOT NULL"),
        ("moved", "UPDATE log SET topic = topic % 5 + 1"),
        ("text", "UPDATE log SET body = replace(body, 'pad', 'pat')"),
        ("key", "DELETE FROM dedupe"),
        ("state", "UPDATE topics SET stopped = 1 - stopped"),
    ];
    for (name, sql) in tampers {
        let next = AtomicU64::new(1);
        let mut killer = Killer::new(&next, seed());
        let takes = killer.fill();
        let store = killer.folder.path("store.db");
        rusqlite::Connection::open(&store).unwrap().execute(sql, []).unwrap();
        match killer.try_start() {
            Some((_process, addr)) => killer.examiner.examine(addr, takes),
            None => killer.examiner.model.fault("it does not start".to_owned()),
        }
        assert!(!killer.examiner.model.faults.is_empty(), "{name} was not detected");
    }
}

/// The examiner detects taken or acked messages that return: an earlier copy replaces the file.
#[test]
fn examiner_detects_an_older_file() {
    let next = AtomicU64::new(1);
    let mut killer = Killer::new(&next, seed());
    let takes = killer.fill();
    let (store, earlier) = (killer.folder.path("store.db"), killer.folder.path("earlier.db"));
    copy_store(&store, &earlier);
    let takes = killer.take_all(takes);
    copy_store(&earlier, &store);
    let (_process, addr) = killer.start();
    killer.examiner.examine(addr, takes);
    let told = killer.examiner.model.faults.join("\n");
    assert!(told.contains("unexpected message, taken or never put"), "{told}");
}

struct Killer<'a> {
    folder: Folder,
    examiner: Examiner<'a>,
    next: &'a AtomicU64,
    random: Random,
    seed: u64,
    /// The kill at which the store was last drained.
    emptied: u64,
}

impl<'a> Killer<'a> {
    fn new(next: &'a AtomicU64, seed: u64) -> Killer<'a> {
        Killer {
            folder: Folder::new("kill"),
            examiner: Examiner::new(next, Random(seed)),
            next,
            random: Random(!seed),
            seed,
            emptied: 0,
        }
    }

    fn command(&self) -> Command {
        let store = self.folder.path("store.db");
        let mut command = dsmq(&["--port", "0", "--log", "warn", "--store"]);
        command.arg(store).stderr(self.folder.output("stderr"));
        command
    }

    /// Runs one life: start, examination, load, kill. Returns the unanswered takes of each topic,
    /// for the next round.
    fn round(&mut self, takes: [u64; TOPICS.len()]) -> [u64; TOPICS.len()] {
        if self.random.once_in(5) {
            self.kill_while_it_starts();
        }
        let (process, addr) = self.start();
        self.examine(addr, takes);
        let notes = self.live(process, addr);
        self.check_stderr();
        self.check_file();
        self.examiner.model.absorb(notes)
    }

    /// Runs lives until the store has enough messages.
    fn fill(&mut self) -> [u64; TOPICS.len()] {
        let mut takes = [0; TOPICS.len()];
        while self.examiner.model.len() < FILLED {
            takes = self.round(takes);
        }
        takes
    }

    /// Runs a life that drains the store, and kills the server.
    fn take_all(&mut self, takes: [u64; TOPICS.len()]) -> [u64; TOPICS.len()] {
        let (process, addr) = self.start();
        self.examine(addr, takes);
        self.examiner.drain(addr);
        drop(process);
        [0; TOPICS.len()]
    }

    fn start(&self) -> (Process, SocketAddr) {
        let started = self.try_start();
        started.unwrap_or_else(|| panic!("it does not start: {}", self.folder.text("stderr")))
    }

    fn try_start(&self) -> Option<(Process, SocketAddr)> {
        let mut process = Process::spawn(&mut self.command());
        let addr = process.address()?;
        Some((process, addr))
    }

    fn examine(&mut self, addr: SocketAddr, takes: [u64; TOPICS.len()]) {
        self.examiner.examine(addr, takes);
        self.examiner.model.must_hold(self.seed);
        let (kills, kept) = (self.examiner.model.figures.kills, self.examiner.model.len());
        if kept > KEPT || kills >= self.emptied + EMPTIED_EVERY {
            self.emptied = kills;
            self.examiner.drain(addr);
            self.examiner.model.must_hold(self.seed);
        }
    }

    /// The moment is random, so this waits for a time and not for an event.
    fn kill_while_it_starts(&mut self) {
        let process = Process::spawn(&mut self.command());
        let life = self.random.below(START_MS * 1_000);
        thread::park_timeout(Duration::from_micros(life));
        drop(process);
        self.examiner.model.figures.kills += 1;
        self.examiner.model.figures.starts_killed += 1;
        self.check_stderr();
        self.check_file();
    }

    /// Runs a server under load until it is killed or, once in ten times, stopped with SIGTERM.
    fn live(&mut self, process: Process, addr: SocketAddr) -> Vec<Notes> {
        let life = Duration::from_micros(self.random.below(LIFE_MS * 1_000));
        let stop = self.random.once_in(10);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in 0..PRODUCERS + ACKERS + TAKERS {
                let random = Random(self.random.next());
                let worker = Worker { addr, next: self.next, random, notes: Notes::default() };
                threads.push(scope.spawn(move || match number {
                    0..PRODUCERS => worker.produce(number),
                    number if number < PRODUCERS + ACKERS => worker.take_and_ack(),
                    _ => worker.take_for_good(),
                }));
            }
            thread::park_timeout(life);
            if stop {
                self.examiner.model.figures.stops += 1;
                let id = process.id().to_string();
                assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
                let ended = process.end();
                assert_eq!(ended.code, Some(0), "{}", self.folder.text("stderr"));
            } else {
                self.examiner.model.figures.kills += 1;
                drop(process);
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn check_stderr(&mut self) {
        let text = self.folder.text("stderr");
        if !text.is_empty() {
            self.examiner.model.fault(format!("standard error has {text}"));
        }
    }

    /// Runs SQLite's integrity check on a copy, which SQLite recovers first.
    fn check_file(&mut self) {
        let (store, copy) = (self.folder.path("store.db"), self.folder.path("copy.db"));
        copy_store(&store, &copy);
        if !copy.exists() {
            return;
        }
        let said = integrity(&copy).unwrap_or_else(|error| error.to_string());
        if said != "ok" {
            self.examiner.model.fault(format!("PRAGMA integrity_check reports {said}"));
        }
    }

    /// Waits for all delayed messages and drains the store.
    fn finish(&mut self, takes: [u64; TOPICS.len()]) {
        let (process, addr) = self.start();
        self.examiner.examine(addr, takes);
        self.examiner.wait_for_delayed(addr, DELAYS);
        self.examiner.drain(addr);
        self.examiner.model.must_hold(self.seed);
        drop(process);
        self.check_stderr();
        self.check_file();
        self.examiner.model.must_hold(self.seed);
    }
}

fn integrity(file: &Path) -> rusqlite::Result<String> {
    let connection = rusqlite::Connection::open(file)?;
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}
