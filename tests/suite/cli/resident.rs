//! What a server keeps resident: memory that is free for some seconds goes back to the system.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::suite::support::PATIENCE;
use crate::suite::support::line::Line;
use crate::suite::support::process::{Process, dsmq};

const MIB: u64 = 1024 * 1024;

/// Bytes of the process that are in memory.
fn resident(server: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib * 1024
}

#[test]
fn what_was_purged_goes_back_to_the_system() {
    let (server, addr) = Process::server(&mut dsmq(&["--port", "0", "--log", "off"]));
    let mut line = Line::<Value>::connect(addr);
    let mut ask = |request: Value| {
        line.send(&request.to_string()).unwrap();
        line.reply().unwrap()
    };
    // Half of the rows are small: one that stays in use must not hold back what lies before it.
    let messages = ["x".repeat(100), "x".repeat(64 * 1024)];
    for message in messages.iter().cycle().take(2_000) {
        ask(json!({"action": "put", "topic": "t", "message": message, "confirm": true}));
    }
    ask(json!({"action": "put", "topic": "kept", "message": "", "confirm": true}));
    assert!(resident(&server) > 60 * MIB);
    assert_eq!(ask(json!({"action": "purge", "topic": "t"})), json!({"ok": true, "purged": 2_000}));
    let deadline = Instant::now() + PATIENCE;
    while resident(&server) > 24 * MIB {
        assert!(Instant::now() < deadline, "{} MiB are resident", resident(&server) / MIB);
        thread::park_timeout(Duration::from_millis(100));
    }
}
