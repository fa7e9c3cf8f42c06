//! The loss of the store's file: its log is there without it at the start, or it disappears under a
//! running server. The server confirms nothing that the next server would not find, and deletes no
//! log.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Ended, Process, dsmq, run};
use crate::suite::support::until;

/// A folder with the store `queue.db` in `data/`. The link `link/` leads to `data/`.
struct Store {
    folder: Folder,
}

impl Store {
    fn new() -> Store {
        let folder = Folder::new("lost-file");
        fs::create_dir(folder.path("data")).unwrap();
        symlink("data", folder.path("link")).unwrap();
        Store { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path("data").join(name)
    }

    fn dsmq(&self, args: &[&str]) -> Command {
        let mut command = dsmq(args);
        command.current_dir(self.folder.path("link"));
        command
    }

    fn server(&self) -> (Process, SocketAddr) {
        let store = self.folder.path("link").join("queue.db");
        let mut command = self.dsmq(&["--port", "0", "--log", "info", "--store"]);
        command.arg(store).stderr(self.folder.output("log"));
        Process::server(&mut command)
    }

    /// Leaves the log of a killed server, with one confirmed message in it.
    fn with_a_log(&self) -> Vec<u8> {
        let (server, addr) = self.server();
        assert_eq!(put(&mut Peer::connect(addr), 1)["ok"], true);
        drop(server);
        fs::read(self.path("queue.db-wal")).unwrap()
    }

    fn run(&self, args: &[&str]) -> Ended {
        run(&mut self.dsmq(args), "")
    }

    /// The number of log lines with this text.
    fn logged(&self, what: &str) -> usize {
        self.folder.text("log").lines().filter(|line| line.contains(what)).count()
    }

    fn expect_logged(&self, what: &str) {
        until(|| self.logged(what) > 0);
    }
}

fn ask(peer: &mut Peer, request: &str) -> Value {
    peer.send(request);
    peer.receive_reply()
}

fn put(peer: &mut Peer, message: u64) -> Value {
    let put = format!(r#"{{"action":"put","topic":"t","message":{message},"confirm":true}}"#);
    ask(peer, &put)
}

/// The messages of a history, oldest first.
fn messages(peer: &mut Peer) -> Vec<u64> {
    let reply = ask(peer, r#"{"action":"history","topic":"t","count":100}"#);
    let messages = reply["messages"].as_array().unwrap_or_else(|| panic!("{reply}"));
    messages.iter().map(|message| message["message"].as_u64().unwrap()).collect()
}

#[cfg(feature = "http")]
fn healthz(addr: SocketAddr) -> String {
    let mut peer = Peer::connect_silent(addr);
    peer.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    peer.receive_all()
}

#[cfg(not(feature = "http"))]
fn healthz(_: SocketAddr) -> String {
    String::new()
}

fn stop(process: Process) -> Option<i32> {
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    process.end().code
}

const LONE_LOG: &str = "but its log queue.db-wal is there and may hold confirmed messages: move the \
                        database file back beside its log; or, to start with an empty store, remove \
                        the log\n";

#[test]
fn log_without_its_file_is_refused_and_kept() {
    let store = Store::new();
    let log = store.with_a_log();
    assert!(!log.is_empty());
    fs::rename(store.path("queue.db"), store.path("elsewhere.db")).unwrap();
    let refused = |args: &[&str], missing: &str| {
        let ended = store.run(args);
        assert!(matches!(ended.code, Some(1 | 2)), "{args:?}: {ended:?}");
        let why = format!("queue.db: the database file {missing}, {LONE_LOG}");
        let log =
            format!("log {}", fs::canonicalize(store.path("queue.db-wal")).unwrap().display());
        let said = ended.stderr.replace(&log, "log queue.db-wal");
        assert!(said.ends_with(&why) && said.lines().count() == 1, "{args:?}: {ended:?}");
    };
    let all: [&[&str]; 5] = [
        &["--port", "0", "--store", "queue.db"],
        &["check", "queue.db"],
        &["--store", "queue.db", "backup", "copy.db"],
        &["copy", "queue.db", "other.db"],
        &["copy", "elsewhere.db", "queue.db"],
    ];
    for missing in ["is missing", "is empty"] {
        all.iter().for_each(|args| refused(args, missing));
        assert_eq!(fs::read(store.path("queue.db-wal")).unwrap(), log);
        fs::write(store.path("queue.db"), "").unwrap();
    }
    fs::rename(store.path("elsewhere.db"), store.path("queue.db")).unwrap();
    let (_server, addr) = store.server();
    assert_eq!(messages(&mut Peer::connect(addr)), [1]);
}

#[test]
fn start_line_reports_the_messages_of_the_store() {
    let store = Store::new();
    let (server, addr) = store.server();
    store.expect_logged("queue.db (a new store), at most");
    let mut peer = Peer::connect(addr);
    put(&mut peer, 1);
    ask(&mut peer, r#"{"action":"put","topic":"u","message":2,"delay":600,"confirm":true}"#);
    assert_eq!(stop(server), Some(0));
    let (_server, _) = store.server();
    store.expect_logged("queue.db (messages: 2, topics: 2), at most");
}

/// A loss of a file, and its reversal if there is one.
struct Loss {
    name: &'static str,
    lose: fn(&Store),
    /// A part of the error text.
    error: &'static str,
    find: Option<fn(&Store)>,
}

const LOSSES: [Loss; 5] = [
    Loss {
        name: "moved",
        lose: |store| fs::rename(store.path("queue.db"), store.path("elsewhere.db")).unwrap(),
        error: "queue.db has been removed or moved",
        find: Some(|store| {
            fs::rename(store.path("elsewhere.db"), store.path("queue.db")).unwrap();
        }),
    },
    Loss {
        name: "removed",
        lose: |store| fs::remove_file(store.path("queue.db")).unwrap(),
        error: "queue.db has been removed or moved",
        find: None,
    },
    Loss {
        name: "replaced",
        lose: |store| {
            fs::copy(store.path("queue.db"), store.path("new.db")).unwrap();
            fs::rename(store.path("new.db"), store.path("queue.db")).unwrap();
        },
        error: "queue.db has been replaced by another file",
        find: None,
    },
    Loss {
        name: "its log removed",
        lose: |store| fs::remove_file(store.path("queue.db-wal")).unwrap(),
        error: "queue.db-wal has been removed or moved",
        find: None,
    },
    // As if another file system were mounted over the folder.
    Loss {
        name: "another folder in place of its own",
        lose: |store| {
            fs::create_dir(store.folder.path("other")).unwrap();
            fs::remove_file(store.folder.path("link")).unwrap();
            symlink("other", store.folder.path("link")).unwrap();
        },
        error: "queue.db has been removed or moved",
        find: Some(|store| {
            fs::remove_file(store.folder.path("link")).unwrap();
            symlink("data", store.folder.path("link")).unwrap();
        }),
    },
];

#[test]
fn nothing_is_confirmed_while_the_file_is_lost() {
    LOSSES.iter().for_each(lose);
}

fn lose(loss: &Loss) {
    println!("{}", loss.name);
    let store = Store::new();
    let (server, addr) = store.server();
    let mut peer = Peer::connect(addr);
    assert_eq!(put(&mut peer, 1)["ok"], true);
    (loss.lose)(&store);
    for request in [
        // The first take discovers the loss after its commit, and returns the message.
        r#"{"action":"take","topic":"t"}"#,
        r#"{"action":"put","topic":"t","message":2,"confirm":true}"#,
        r#"{"action":"put","topic":"t","message":3}"#,
        r#"{"action":"take","topic":"t"}"#,
        r#"{"action":"purge","topic":"t"}"#,
    ] {
        peer.send(request);
        let reply = peer.expect_error("store_failed");
        assert!(reply["error"].as_str().unwrap().contains(loss.error), "{reply}");
    }
    assert_eq!(messages(&mut peer), [1], "stored messages can still be read");
    let health = healthz(addr);
    if cfg!(feature = "http") {
        assert!(health.starts_with("HTTP/1.1 503") && health.contains(loss.error), "{health}");
    }
    store.expect_logged(&format!("{}: changes are refused until it is back", loss.error));
    let Some(find) = loss.find else {
        assert_eq!(stop(server), Some(0));
        store.expect_logged("the store is closed, and");
        return;
    };
    find(&store);
    assert_eq!(put(&mut peer, 4)["ok"], true);
    if cfg!(feature = "http") {
        assert!(healthz(addr).starts_with("HTTP/1.1 200"));
    }
    store.expect_logged("the store's files are back");
    assert_eq!(store.logged(loss.error), 1);
    drop(server);
    let (_server, addr) = store.server();
    assert_eq!(messages(&mut Peer::connect(addr)), [1, 4]);
}

#[test]
fn idle_server_logs_and_reports_a_lost_file() {
    let store = Store::new();
    let (_server, addr) = store.server();
    fs::remove_file(store.path("queue.db")).unwrap();
    store.expect_logged("queue.db has been removed or moved");
    assert!(!cfg!(feature = "http") || healthz(addr).starts_with("HTTP/1.1 503"));
}

#[test]
fn server_without_its_file_spares_the_next_servers_file() {
    let store = Store::new();
    let (first, addr) = store.server();
    put(&mut Peer::connect(addr), 1);
    for beside in ["", "-wal", "-shm", "-lock"] {
        fs::remove_file(store.path(&format!("queue.db{beside}"))).unwrap();
    }
    let (second, addr) = store.server();
    let mut peer = Peer::connect(addr);
    assert_eq!(put(&mut peer, 2)["ok"], true);
    assert_eq!(stop(first), Some(0));
    assert_eq!(put(&mut peer, 3)["ok"], true);
    drop(second);
    let (_third, addr) = store.server();
    assert_eq!(messages(&mut Peer::connect(addr)), [2, 3]);
}

#[test]
fn stop_saves_everything_if_only_the_log_was_removed() {
    let store = Store::new();
    let (server, addr) = store.server();
    assert_eq!(put(&mut Peer::connect(addr), 1)["ok"], true);
    fs::remove_file(store.path("queue.db-wal")).unwrap();
    assert_eq!(stop(server), Some(0));
    let (_server, addr) = store.server();
    assert_eq!(messages(&mut Peer::connect(addr)), [1]);
}

#[test]
fn backup_and_lock_have_the_permissions_of_the_store() {
    let store = Store::new();
    let mode = |name: &str| fs::metadata(store.path(name)).unwrap().permissions().mode() & 0o777;
    for allowed in [0o600, 0o660, 0o644] {
        let (server, _) = store.server();
        assert_eq!(stop(server), Some(0));
        fs::set_permissions(store.path("queue.db"), fs::Permissions::from_mode(allowed)).unwrap();
        fs::remove_file(store.path("queue.db-lock")).unwrap();
        let (_server, _) = store.server();
        let backed = store.run(&["--store", "queue.db", "backup", "copy.db"]);
        assert_eq!(backed.code, Some(0), "{backed:?}");
        assert_eq!(mode("copy.db"), allowed);
        for beside in ["-wal", "-shm", "-lock"] {
            // The umask removes some permissions.
            let mode = mode(&format!("queue.db{beside}"));
            assert_eq!(mode & !allowed, 0, "{beside} has {mode:o}");
        }
        fs::remove_file(store.path("copy.db")).unwrap();
    }
}
