//! Cuts the power while clients put, take and ack. Confirmed messages are there after the restart,
//! and acked messages are not. `docs/explanation/reliability.md` lists the promises.
//!
//! The server runs with `tests/faults/faults.c`, which records every change of its files. The test
//! kills the server and replaces its folder by a state that the disk could have had at the cut.

mod clients;
mod disk;
mod doubtful;
mod duplicates;
mod repeats;

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;

use self::clients::Clients;
use self::disk::{Disk, History, records};
use self::repeats::Repeater;
use super::faults::shim::{EIO, Kind, Shim};
use super::faults::try_server;
use super::ledger::{Fault, Ledger};
use crate::suite::support::PATIENCE;
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::random::{Random, number, seed};

/// Power cuts for one store.
const LIVES: usize = 5;

/// The most replies to puts before a cut.
const REPLIES: u64 = 1_500;

/// The most steps of the repeater before a cut, when it runs alone.
const STEPS: u64 = 300;

/// The average number of replies between two failed syncs.
const BETWEEN_FAILURES: u64 = 50;

/// The average number of steps between two failed syncs, when the repeater runs alone.
const STEPS_BETWEEN_FAILURES: u64 = 20;

/// The store, in the watched folder.
const STORE: &str = "queue.db";

/// SQLite's log of the store.
const LOG: &str = "queue.db-wal";

/// The number of power cuts, from DSMQ_POWER_CUTS.
fn cuts() -> usize {
    number("DSMQ_POWER_CUTS", 10) as usize
}

#[test]
fn confirmed_changes_survive_power_cuts() {
    let total = cut_power(cuts(), "full", Crowd::All);
    assert!(total.faults.is_empty());
    assert!(total.unsynced > 0, "no cut hit an unsynced write");
    assert!(total.moved > 0 || total.cuts < 10, "no checkpoint took place");
}

#[test]
fn duplicates_and_retries_survive_power_cuts() {
    // These lives are short, and one in eight shows a missing sync.
    let total = cut_power(2 * cuts(), "full", Crowd::Repeater);
    assert!(total.faults.is_empty());
    assert!(total.unsynced > 0, "no cut hit an unsynced write");
}

#[test]
fn sync_normal_loses_only_the_latest_changes() {
    let total = cut_power(cuts().div_ceil(2), "normal", Crowd::All);
    let is_loss = |fault: &Fault| matches!(fault, Fault::Lost(_) | Fault::Back(_));
    let worse: Vec<_> = total.faults.into_iter().filter(|fault| !is_loss(fault)).collect();
    assert_eq!(worse, []);
}

/// Shows that the tests above can fail.
#[test]
fn with_sync_off_confirmed_messages_are_lost() {
    let total = cut_power(cuts().div_ceil(2), "off", Crowd::All);
    assert!(total.bad_cuts > 0);
}

/// The clients of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Crowd {
    All,
    /// [`Repeater`] alone, so that other clients' syncs do not hide a missing one.
    Repeater,
}

/// The results of all cuts.
#[derive(Debug, Default)]
struct Total {
    cuts: usize,
    bad_cuts: usize,
    confirmed: usize,
    unsynced: usize,
    failed_syncs: usize,
    /// Pages that checkpoints moved out of the log.
    moved: usize,
    faults: Vec<Fault>,
}

fn cut_power(cuts: usize, sync: &str, crowd: Crowd) -> Total {
    let seed = seed();
    let mut random = Random(seed);
    let mut total = Total::default();
    while total.cuts < cuts {
        let mut store = Store::new(sync, crowd, Random(random.below(u64::MAX)));
        for _ in 0..LIVES.min(cuts - total.cuts) {
            let faults = store.live(&mut total);
            total.cuts += 1;
            if !faults.is_empty() {
                total.bad_cuts += 1;
                total.faults.extend(faults);
                if sync == "full" {
                    store.shim.keep();
                }
                break;
            }
        }
    }
    println!(
        "--sync {sync}, {crowd:?}, seed {seed}: the power was cut {} times, after {} confirmed puts, {} syncs \
         that failed and {} pages moved by checkpoints, with {} writes not synced; {} times \
         something was lost or wrong, {} things in all",
        total.cuts,
        total.confirmed,
        total.failed_syncs,
        total.moved,
        total.unsynced,
        total.bad_cuts,
        total.faults.len()
    );
    for fault in total.faults.iter().take(5) {
        println!("  {fault:?}");
    }
    total
}

/// A store that loses its power again and again.
struct Store<'a> {
    shim: Shim,
    sync: &'a str,
    crowd: Crowd,
    random: Random,
    ledger: Mutex<Ledger>,
    generation: usize,
}

impl Store<'_> {
    fn new(sync: &str, crowd: Crowd, random: Random) -> Store<'_> {
        let shim = Shim::new("power");
        Store { shim, sync, crowd, random, ledger: Mutex::default(), generation: 0 }
    }

    /// Runs one server from its start to the check of the remains.
    fn live(&mut self, total: &mut Total) -> Vec<Fault> {
        self.generation += 1;
        let start = Disk::read(&self.shim.folder());
        self.serve_until_killed();

        let journal = records(&fs::read(self.shim.journal()).unwrap());
        let end = journal.last().map_or(0, |record| record.end);
        // Often at the end, when the latest replies are at stake.
        let cut = if self.random.below(2) == 0 { end } else { self.random.below(end + 1) };
        let (disk, chance) = History::new(&start, &journal, cut).disk(&mut self.random);
        disk.write(&self.shim.folder());
        // Kept for inspection if the check fails.
        disk.write(&self.shim.beside("cut"));
        self.spoil_shm();
        total.confirmed += self.ledger.lock().unwrap().confirmed_by(cut);
        let done = || journal.iter().take_while(|record| record.end <= cut);
        total.failed_syncs += done().filter(|record| record.is_failed_sync()).count();
        total.moved += done().filter(|record| record.is_write(STORE)).count();
        total.unsynced += chance.kept + chance.dropped + chance.torn;

        let mut faults = self.check_file(&disk, cut);
        faults.extend(self.check_server(cut));
        faults
    }

    fn command(&self) -> std::process::Command {
        let store = self.shim.folder().join(STORE);
        let store = store.to_str().unwrap();
        let mut command =
            dsmq(&["--port", "0", "--log", "error", "--store", store, "--sync", self.sync]);
        command.stderr(File::options().append(true).create(true).open(self.errors()).unwrap());
        command
    }

    fn errors(&self) -> std::path::PathBuf {
        self.shim.beside("stderr")
    }

    /// Kills the server after some replies.
    fn serve_until_killed(&mut self) {
        let journal = self.shim.journal();
        fs::write(&journal, "").unwrap();
        self.shim.clear();
        let mut command = self.command();
        let (server, addr) = Process::server(self.shim.journalled(&mut command));
        // Half of the disks sometimes fail a sync and lose its data. SQLite cannot repair that
        // where it syncs only now and then.
        let failing = self.sync == "full" && self.random.below(2) == 0;
        let (most, between_failures) = match self.crowd {
            Crowd::All => (REPLIES, BETWEEN_FAILURES),
            Crowd::Repeater => (STEPS, STEPS_BETWEEN_FAILURES),
        };
        let replies = 1 + self.random.below(most);
        let mut random = || Random(self.random.below(u64::MAX));
        let randoms: Vec<_> = (0..6).map(|_| random()).collect();
        let mut chance = random();
        let (ledger, generation) = (&self.ledger, self.generation);
        let clients = &Clients { addr, journal: &journal, ledger, generation };
        let (progress, told) = mpsc::channel();
        thread::scope(|scope| {
            let mut randoms = randoms.into_iter();
            let mut random = || randoms.next().unwrap();
            let (repeater, told_by) = (Repeater::new(clients, random()), progress.clone());
            scope.spawn(move || repeater.run(&told_by));
            if self.crowd == Crowd::All {
                for name in ["a", "b", "c"] {
                    let (random, progress) = (random(), progress.clone());
                    scope.spawn(move || clients.put(name, random, &progress));
                }
                let (taking, loose) = (random(), random());
                scope.spawn(move || clients.take(taking));
                scope.spawn(move || clients.put_without_confirm_loop(loose));
            }
            drop(progress);
            for _ in 0..replies {
                told.recv_timeout(PATIENCE).expect("clients are served");
                if failing && chance.below(between_failures) == 0 {
                    // The server repairs one failure before the reply, and reports several.
                    let times = 1 + chance.below(3) as i64;
                    self.shim.fail(Kind::Sync, 1, times, EIO);
                }
            }
            drop(server);
        });
    }

    /// Fills `-shm` with random bytes: the content of mapped memory is unknown after a cut.
    fn spoil_shm(&mut self) {
        let shm = self.shim.folder().join(format!("{STORE}-shm"));
        if self.random.below(2) == 0 {
            let garbage: Vec<u8> = (0..32_768).map(|_| self.random.below(256) as u8).collect();
            fs::write(shm, garbage).unwrap();
        } else {
            let _ = fs::remove_file(shm);
        }
    }

    /// Runs SQLite's integrity check and `dsmq check` on a copy.
    fn check_file(&self, disk: &Disk, cut: u64) -> Vec<Fault> {
        let copy = self.shim.beside("copy");
        disk.write(&copy);
        let file = copy.join(STORE);
        // Before the first confirm there need not be a store.
        if self.generation == 1 && self.ledger.lock().unwrap().confirmed_by(cut) == 0 {
            return Vec::new();
        }
        let mut faults = Vec::new();
        let said = integrity(&file).unwrap_or_else(|error| error.to_string());
        if said != "ok" {
            faults.push(Fault::Broken(said));
        }
        disk.write(&copy);
        let checked = run(&mut dsmq(&["check", file.to_str().unwrap()]), "");
        // Without syncs even the tables may be lost.
        let nothing = self.sync != "full" && checked.stderr.contains("the file has no store yet");
        if checked.code != Some(0) && !nothing {
            faults.push(Fault::Broken(format!("{checked:?}")));
        }
        faults
    }

    fn check_server(&mut self, cut: u64) -> Vec<Fault> {
        let (_server, addr) = match try_server(&mut self.command()) {
            Ok(started) => started,
            Err(ended) => {
                let errors = fs::read_to_string(self.errors()).unwrap();
                return vec![Fault::Broken(format!("{ended:?}, {errors}"))];
            }
        };
        let mut ledger = self.ledger.lock().unwrap();
        let (found, faults) = ledger.check(addr, cut);
        ledger.settle(found, cut);
        faults
    }
}

fn integrity(file: &Path) -> rusqlite::Result<String> {
    let sqlite = rusqlite::Connection::open(file)?;
    sqlite.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}
