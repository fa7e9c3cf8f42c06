//! Messages put without confirm, and later confirmed ones. SQLite reads the log up to the first
//! hole, so a hole in an unconfirmed message would lose the confirmed ones after it.

use std::fs;

use super::STORE;
use super::disk::{Disk, History, records};
use crate::suite::durability::faults::shim::{EIO, Kind, Shim};
use crate::suite::durability::faults::try_server;
use crate::suite::durability::ledger::{Fault, KEPT, LOOSE, Ledger, With, put_request};
use crate::suite::support::line::Line;
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::random::Random;

/// The number of possible disks that are tested.
const DISKS: usize = 6;

/// More than the log may have before a checkpoint.
const LOG_BYTES: usize = 12 << 20;

/// The approximate size of a message in bytes.
const MESSAGE: usize = 20_000;

/// SQLite ignores the failure of a checkpoint that it starts by itself.
#[test]
fn failed_checkpoint_sync_loses_no_later_confirm() {
    let case = Case::new();
    let (server, mut line, mut ledger) = case.start();
    case.shim.fail(Kind::Sync, 1, 1, EIO);
    for number in 0..LOG_BYTES / MESSAGE {
        let key = format!("client-{number}");
        case.put_without_confirm(&mut line, &mut ledger, key, With::Nothing);
        if case.shim.counts().injected > 0 {
            break;
        }
    }
    assert!(case.shim.counts().injected > 0, "no checkpoint took place");
    case.put(&mut line, &mut ledger, "client-1000000");
    drop(server);
    case.check(&ledger);
}

/// A confirm that depends on an earlier put waits for a sync of that put, even while a reader is
/// active.
#[test]
fn duplicate_is_confirmed_after_the_first_is_synced() {
    let case = Case::new();
    let (server, mut line, mut ledger) = case.start();
    case.put_twice(&mut line, &mut ledger, "client-1");
    // The reader reads the file without its log, and prevents a complete checkpoint.
    let reader = rusqlite::Connection::open(case.shim.folder().join(STORE)).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM sqlite_schema").unwrap();
    case.put_twice(&mut line, &mut ledger, "client-2");
    drop(server);
    drop(reader);
    case.check(&ledger);
}

/// A duplicate writes nothing, so its sync is the only operation that can fail.
#[test]
fn failed_sync_of_a_duplicate_loses_no_later_confirm() {
    // The server repairs the first failure before the reply, and reports the second.
    for (failures, code) in [(1, None), (2, Some("store_failed"))] {
        let case = Case::new();
        let (server, mut line, mut ledger) = case.start();
        let key = "client-1";
        let first = case.put_without_confirm(&mut line, &mut ledger, key.to_owned(), With::Dedupe);
        case.shim.fail(Kind::Sync, 1, failures, EIO);
        line.send(&put_request(LOOSE, key, With::Dedupe, MESSAGE)).unwrap();
        let reply = line.reply().unwrap();
        assert_eq!(reply["code"].as_str(), code, "{reply}");
        assert_eq!(case.shim.counts().injected, failures);
        if code.is_none() {
            ledger.confirmed(first, reply["id"].as_u64(), case.moment());
        }
        case.put(&mut line, &mut ledger, "client-2");
        drop(server);
        case.check(&ledger);
    }
}

/// A take without lease removes its message in the commit whose sync fails.
#[test]
fn take_that_cannot_be_synced_returns_its_message() {
    let case = Case::new();
    let (_server, mut line, mut ledger) = case.start();
    case.put(&mut line, &mut ledger, "client-1");
    let take = format!(r#"{{"action":"take","topic":"{KEPT}"}}"#);
    case.shim.fail(Kind::Sync, 1, 2, EIO);
    line.send(&take).unwrap();
    assert_eq!(line.reply().unwrap()["code"], "store_failed");
    line.send(&take).unwrap();
    let taken = line.reply().unwrap();
    assert_eq!(taken["message"][0], "client-1", "{taken}");
    assert_eq!(taken["deliveries"], 1, "{taken}");
}

/// A disk that failed a sync also loses its power while the server repairs the log.
#[test]
fn power_cut_at_any_moment_of_a_log_repair_loses_nothing() {
    let mut case = Case::new();
    let (server, mut line, mut ledger) = case.start();
    for number in 0..100 {
        case.put(&mut line, &mut ledger, &format!("client-{number}"));
        let key = format!("client-{number}");
        case.put_without_confirm(&mut line, &mut ledger, key, With::Nothing);
    }
    let (found, _) = ledger.check(line.stream.peer_addr().unwrap(), u64::MAX);
    drop(server);
    ledger.settle(found, u64::MAX);
    case.empty_the_log();
    let (server, mut line) = case.start_again();
    // Confirmed, then stored without confirm, then refused.
    case.put(&mut line, &mut ledger, "client-100");
    for number in 100..130 {
        let key = format!("client-{number}");
        case.put_without_confirm(&mut line, &mut ledger, key, With::Nothing);
    }
    let failing = case.moment();
    case.shim.fail(Kind::Sync, 1, 2, EIO);
    line.send(&put_request(KEPT, "client-101", With::Nothing, 10)).unwrap();
    assert_eq!(line.reply().unwrap()["code"], "store_failed");
    ledger.sent(KEPT, "client-101".to_owned(), With::Nothing, failing);
    case.put(&mut line, &mut ledger, "client-102");
    drop(server);
    case.check_from(&ledger, failing);
}

pub struct Case {
    pub shim: Shim,
    /// The content that is certainly on the disk when the journal starts.
    start: Disk,
}

impl Case {
    pub fn new() -> Case {
        Case { shim: Shim::new("doubtful"), start: Disk::default() }
    }

    fn command(&self) -> std::process::Command {
        let store = self.shim.folder().join(STORE);
        let mut command =
            dsmq(&["--port", "0", "--log", "off", "--store", store.to_str().unwrap()]);
        command.stderr(std::process::Stdio::null());
        command
    }

    pub fn start(&self) -> (Process, Line, Ledger) {
        let (server, line) = self.start_again();
        (server, line, Ledger::default())
    }

    fn start_again(&self) -> (Process, Line) {
        let mut command = self.command();
        let (server, addr) = Process::server(self.shim.journalled(&mut command));
        (server, Line::connect(addr))
    }

    /// Moves everything into the synced file and restarts the journal.
    fn empty_the_log(&mut self) {
        let sqlite = rusqlite::Connection::open(self.shim.folder().join(STORE)).unwrap();
        sqlite.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(sqlite);
        self.start = Disk::read(&self.shim.folder());
        fs::write(self.shim.journal(), "").unwrap();
    }

    pub fn moment(&self) -> u64 {
        fs::metadata(self.shim.journal()).unwrap().len()
    }

    pub fn put(&self, line: &mut Line, ledger: &mut Ledger, key: &str) {
        let put = ledger.sent(KEPT, key.to_owned(), With::Nothing, self.moment());
        line.send(&put_request(KEPT, key, With::Nothing, 10)).unwrap();
        let reply = line.reply().unwrap();
        assert_eq!(reply["ok"], true, "{reply}");
        ledger.confirmed(put, reply["id"].as_u64(), self.moment());
    }

    pub fn put_without_confirm(
        &self,
        line: &mut Line,
        ledger: &mut Ledger,
        key: String,
        with: With,
    ) -> usize {
        let put = put_request(LOOSE, &key, with, MESSAGE).replace(r#","confirm":true"#, "");
        let sent = ledger.sent(LOOSE, key, with, self.moment());
        line.send(&(put + r#"{"action":"ping"}"#)).unwrap();
        // A failed put without confirm is answered as well.
        while line.reply().unwrap()["ok"] != true {}
        sent
    }

    /// Puts without confirm, then again with confirm.
    fn put_twice(&self, line: &mut Line, ledger: &mut Ledger, key: &str) {
        let first = self.put_without_confirm(line, ledger, key.to_owned(), With::Dedupe);
        line.send(&put_request(LOOSE, key, With::Dedupe, MESSAGE)).unwrap();
        let second = line.reply().unwrap();
        assert_eq!(second["duplicate"], true, "{second}");
        ledger.confirmed(first, second["id"].as_u64(), self.moment());
    }

    /// Checks the disks of a power cut at the end.
    pub fn check(&self, ledger: &Ledger) {
        self.check_from(ledger, self.moment());
    }

    /// Checks the disks of a power cut at this moment and after each later change.
    fn check_from(&self, ledger: &Ledger, moment: u64) {
        let journal = fs::read(self.shim.journal()).unwrap();
        let records = records(&journal);
        let mut random = Random(1);
        let mut faults: Vec<(u64, Fault)> = Vec::new();
        for cut in records.iter().map(|record| record.end).filter(|end| *end >= moment) {
            let history = History::new(&self.start, &records, cut);
            for _ in 0..DISKS {
                let disk = history.disk(&mut random).0;
                let found = self.check_disk(ledger, cut, &disk);
                faults.extend(found.into_iter().map(|fault| (cut, fault)));
            }
        }
        println!("{} things were lost or wrong", faults.len());
        assert_eq!(faults.into_iter().take(3).collect::<Vec<_>>(), []);
    }

    fn check_disk(&self, ledger: &Ledger, cut: u64, disk: &Disk) -> Vec<Fault> {
        disk.write(&self.shim.folder());
        let _ = fs::remove_file(self.shim.folder().join(format!("{STORE}-shm")));
        match try_server(&mut self.command()) {
            Ok((_server, addr)) => ledger.check(addr, cut).1,
            Err(ended) => vec![Fault::Broken(format!("{ended:?}"))],
        }
    }
}
