//! A small disk and a full disk. The log never takes the last space for good: on a full disk
//! messages can be taken, acked and purged, and the server recovers by itself.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::STORE;
use crate::suite::support::folder::Folder;
use crate::suite::support::line::Line;
#[cfg(feature = "http")]
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::until;

/// A server on its own small file system.
pub struct SmallDisk {
    server: Process,
    pub addr: SocketAddr,
    /// Keeps the file system reachable after the server's end.
    inside: File,
}

impl SmallDisk {
    /// Starts a server on a disk of `kib` KiB. `None` if no file system can be mounted here.
    pub fn start(disk: &Path, kib: u64, args: &[&str], log: File) -> Option<SmallDisk> {
        // Root can mount directly, other users need a user namespace.
        let ways: [&[&str]; 2] = [&["-m"], &["-r", "-m"]];
        let Some(way) = ways.into_iter().find(|way| can_mount(way)) else {
            println!("NOT TRIED: no file system can be mounted here, not even in a user namespace");
            return None;
        };
        fs::create_dir(disk).unwrap();
        let mount = format!(r#"mount -t tmpfs -o size={kib}k tmpfs "$0" && exec "$@""#);
        let store = disk.join(STORE);
        let server = dsmq(&["--port", "0", "--store", store.to_str().unwrap()]);
        let mut command = Command::new("unshare");
        command.args(way).args(["sh", "-c", &mount]).arg(disk).arg(server.get_program());
        command.args(server.get_args()).args(args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).stderr(log);
        let (server, addr) = Process::server(&mut command);
        let inside = format!("/proc/{}/root{}", server.id(), disk.display());
        Some(SmallDisk { server, addr, inside: File::open(inside).unwrap() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.inside.as_raw_fd())).join(name)
    }

    /// Kills the server and copies its files to an ordinary folder.
    pub fn kill_and_copy_to(self, folder: &Path) {
        let inside = format!("/proc/self/fd/{}", self.inside.as_raw_fd());
        drop(self.server);
        for name in [STORE.to_owned(), format!("{STORE}-wal")] {
            fs::copy(Path::new(&inside).join(&name), folder.join(&name)).unwrap();
        }
    }

    /// Fills the rest of the disk, as another program might.
    fn fill(&self) {
        let mut ballast = File::create(self.path("ballast")).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

fn can_mount(way: &[&str]) -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(way).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null());
    unshare.status().is_ok_and(|status| status.success())
}

struct Client {
    line: Line,
    addr: SocketAddr,
}

impl Client {
    fn connect(addr: SocketAddr) -> Client {
        Client { line: Line::connect(addr), addr }
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.line.send(&request.to_string()).unwrap();
        self.line.reply().expect("the server answers")
    }

    fn put(&mut self, bytes: usize) -> Value {
        let message = "x".repeat(bytes - 2);
        self.ask(&json!({"action": "put", "topic": "t", "message": message, "confirm": true}))
    }

    fn put_ok(&mut self, bytes: usize) {
        let reply = self.put(bytes);
        assert_eq!(reply["ok"], true, "{reply}");
    }

    /// Puts until the disk is full. Returns the number of stored messages.
    fn put_until_full(&mut self, bytes: usize) -> usize {
        for stored in 0..1_000_000 {
            let reply = self.put(bytes);
            if reply["ok"] != true {
                assert_eq!(reply["code"], "full", "{reply}");
                return stored;
            }
        }
        panic!("the disk is never full");
    }

    /// Takes a message with a lease and acks it. Returns false if there is none.
    fn take_and_ack(&mut self) -> bool {
        let taken = self.ask(&json!({"action": "take", "topic": "t", "lease": 60}));
        if taken["empty"] == true {
            return false;
        }
        let ack = json!({"action": "ack", "topic": "t", "id": taken["id"], "deliveries": 1});
        let acked = self.ask(&ack);
        assert_eq!(acked["ok"], true, "{taken} {acked}");
        true
    }

    #[cfg(feature = "http")]
    fn healthz(&self) -> String {
        let mut peer = Peer::connect_silent(self.addr);
        peer.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        peer.receive_all()
    }

    #[cfg(feature = "http")]
    fn expect_unhealthy(&self) {
        let health = self.healthz();
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
        assert!(health.contains("is full: free space on it"), "{health}");
    }

    #[cfg(feature = "http")]
    fn becomes_healthy(&self) {
        until(|| self.healthz().starts_with("HTTP/1.1 200"));
    }

    #[cfg(not(feature = "http"))]
    fn expect_unhealthy(&self) {
        let _ = self.addr;
    }

    /// Without HTTP the log shows the fault.
    #[cfg(not(feature = "http"))]
    fn becomes_healthy(&self) {}
}

fn logged(folder: &Folder, what: &str) -> usize {
    folder.text("log").lines().filter(|line| line.contains(what)).count()
}

fn log(folder: &Folder) -> File {
    File::create(folder.path("log")).unwrap()
}

#[test]
fn log_stays_short_for_a_small_store() {
    let folder = Folder::new("short-log");
    let store = folder.path(STORE);
    let args = ["--port", "0", "--max-store", "1MiB", "--log", "error", "--store"];
    let (_server, addr) = Process::server(dsmq(&args).arg(&store));
    let length = |suffix: &str| fs::metadata(format!("{}{suffix}", store.display())).unwrap().len();
    // The tables have their pages from the start.
    assert!(length("") > 64 * 1024, "{}", length(""));
    let mut client = Client::connect(addr);
    for _ in 0..1_000 {
        client.put_ok(100);
        assert!(client.take_and_ack());
    }
    assert!(length("-wal") < 512 * 1024, "{}", length("-wal"));
}

#[test]
fn log_never_fills_a_small_disk() {
    let folder = Folder::new("small-disk");
    let args = ["--max-store", "1MiB"];
    let disk = SmallDisk::start(&folder.path("disk"), 8 << 10, &args, log(&folder));
    let Some(disk) = disk else { return };
    let mut client = Client::connect(disk.addr);
    for _ in 0..5_000 {
        client.put_ok(100);
        let taken = client.ask(&json!({"action": "take", "topic": "t"}));
        assert!(taken["message"].is_string(), "{taken}");
    }
    client.becomes_healthy();
    assert_eq!(logged(&folder, "is full"), 0);
}

#[test]
fn full_disk_refuses_only_puts() {
    let folder = Folder::new("full-disk");
    let disk = SmallDisk::start(&folder.path("disk"), 8 << 10, &[], log(&folder));
    let Some(disk) = disk else { return };
    let mut client = Client::connect(disk.addr);
    (0..1_000).for_each(|_| client.put_ok(100));
    disk.fill();
    client.put_until_full(100);
    client.expect_unhealthy();
    for _ in 0..500 {
        assert!(client.take_and_ack());
    }
    client.expect_unhealthy();
    let purged = client.ask(&json!({"action": "purge", "topic": "t"}));
    assert_eq!(purged["ok"], true, "{purged}");
    assert_eq!(logged(&folder, "is full: puts are refused"), 1);
    disk.make_room();
    // The server recovers without any request but those for its health.
    client.becomes_healthy();
    until(|| logged(&folder, "has space again") == 1);
    client.put_ok(100);
    disk.kill_and_copy_to(&folder.path("."));
    let checked = run(dsmq(&["check"]).arg(folder.path(STORE)), "");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout[0].ends_with("topics 1, messages 1, bytes 100"), "{checked:?}");
}

#[test]
fn drained_store_recovers_from_a_full_disk() {
    fill_and_drain(24, 1_000);
    // This file has fewer free pages than are usually given back.
    fill_and_drain(4, 100);
}

/// Checks that a disk of `mib` MiB holds at least `least` messages of 5 kB, and works again after
/// they are taken.
fn fill_and_drain(mib: u64, least: usize) {
    let folder = Folder::new("filled-disk");
    let disk = SmallDisk::start(&folder.path("disk"), mib << 10, &[], log(&folder));
    let Some(disk) = disk else { return };
    let mut client = Client::connect(disk.addr);
    for _ in 0..2 {
        let stored = client.put_until_full(5_000);
        assert!(stored > least, "{stored} messages of 5 kB are too few for {mib} MiB");
        client.expect_unhealthy();
        while client.take_and_ack() {}
        client.becomes_healthy();
        client.put_ok(5_000);
    }
}
