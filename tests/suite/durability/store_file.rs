//! The store in a file, seen from outside: at the start of a server, over its protocol, and in the
//! file with SQLite's own shell.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Ended, Process, dsmq, run};

const DOCUMENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/store.md"));

struct Store {
    folder: TempDir,
}

impl Store {
    fn new() -> Store {
        Store { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue.db")
    }

    /// The dsmq command, in the store's folder.
    fn dsmq(&self, args: &[&str]) -> Command {
        let mut command = dsmq(args);
        command.current_dir(self.folder.path()).env("DSMQ_STORE", "queue.db");
        command
    }

    fn server(&self, args: &[&str]) -> (Process, SocketAddr) {
        Process::server(self.dsmq(&["--port", "0", "--log", "error"]).args(args))
    }

    fn run(&self, args: &[&str]) -> Ended {
        run(&mut self.dsmq(args), "")
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn stop(process: Process) {
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(process.end().code, Some(0));
}

fn put(peer: &mut Peer, message: &str) {
    let request =
        format!(r#"{{"action":"put","topic":"greetings","message":{message},"confirm":true}}"#);
    peer.send(request);
    assert_eq!(peer.receive_reply()["ok"], true);
}

#[test]
fn messages_survive_a_restart() {
    let store = Store::new();
    let (server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    put(&mut peer, r#""Hello!""#);
    let subscribed = r#"{"action":"subscribe","topic":"greetings"}"#;
    peer.ask(subscribed, r#"{"ok":true}"#);
    stop(server);
    // The last connection has closed, so there is no log, even though a client was connected.
    assert_eq!(store.files(), ["queue.db", "queue.db-lock"]);
    let (_server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    let take = r#"{"action":"take","topic":"greetings"}"#;
    peer.send(take);
    assert_eq!(peer.receive_reply()["message"], "Hello!");
    peer.ask(take, r#"{"message":"","empty":true}"#);
}

#[test]
fn second_server_on_the_file_is_refused() {
    let store = Store::new();
    let (server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    let second = store.run(&["--port", "0"]);
    assert_eq!((second.code, second.stdout.len()), (Some(1), 0));
    let expected = format!(
        "dsmq: cannot open the store: queue.db: another dsmq has it open (process {})\n",
        server.id()
    );
    assert_eq!(second.stderr, expected);
    put(&mut peer, "1");
}

#[test]
fn invalid_store_paths_are_refused_in_one_line() {
    let store = Store::new();
    let refused = |path: &str, why: &str| {
        let ended = store.run(&["--port", "0", "--store", path]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stderr, format!("dsmq: cannot open the store: {path}: {why}\n"));
    };
    fs::write(store.folder.path().join("letter"), "Dear queue, ".repeat(1_000)).unwrap();
    refused(
        "letter",
        "not an SQLite file: if it was a store, its first page is damaged: restore a backup",
    );
    refused("nowhere/queue.db", "no such folder: nowhere");
    refused(".", "the path is a folder");
    refused("/dev/null", "not a regular file");
    assert_eq!(store.files(), ["letter"]);
}

#[test]
#[cfg(unix)]
fn second_server_is_refused_under_any_name() {
    let store = Store::new();
    let (server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    put(&mut peer, "1");
    let other = store.folder.path().join("other.db");
    let second = || store.run(&["--port", "0", "--store", "other.db"]);
    let refused = |why: &str| format!("dsmq: cannot open the store: other.db: {why}\n");
    std::os::unix::fs::symlink("queue.db", &other).unwrap();
    let process = server.id();
    let expected = refused(&format!("another dsmq has it open (process {process})"));
    assert_eq!(second().stderr, expected);
    fs::remove_file(&other).unwrap();
    fs::hard_link(store.path(), &other).unwrap();
    let expected = "the file has a second name (a hard link), under which another server could open it: \
                    remove one of them";
    assert_eq!(second().stderr, refused(expected));
    fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink("nowhere.db", &other).unwrap();
    assert_eq!(second().stderr, refused("the link leads to a missing file"));
    put(&mut peer, "2");
}

/// Runs the command as a user without root's permissions.
#[cfg(unix)]
fn without_root(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if root { command.uid(65_534).gid(65_534) } else { command }
}

#[test]
#[cfg(unix)]
fn unwritable_file_is_refused_but_can_be_checked() {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::new();
    let (server, addr) = store.server(&[]);
    put(&mut Peer::connect(addr), "1");
    stop(server);
    let mode = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(store.path(), 0o444);
    fs::remove_file(store.folder.path().join("queue.db-lock")).unwrap();
    // A folder in which a lock file can be created, and one in which it cannot.
    for folder in [0o777, 0o555] {
        mode(store.folder.path().to_owned(), folder);
        let refused = run(without_root(&mut store.dsmq(&["--port", "0"])), "");
        let why = "dsmq: cannot open the store: queue.db: the file is not writable\n";
        assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), why));
    }
    let checked = run(without_root(&mut store.dsmq(&["check", "queue.db"])), "");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    mode(store.folder.path().to_owned(), 0o755);
    assert_eq!(store.files(), ["queue.db"]);
}

#[test]
fn full_store_refuses_puts_until_takes_free_space() {
    let store = Store::new();
    let (_server, addr) = store.server(&["--max-store", "1MiB"]);
    let mut peer = Peer::connect(addr);
    let text = "x".repeat(10_000);
    let request =
        format!(r#"{{"action":"put","topic":"t","message":"{text}","confirm":true,"tag":7}}"#);
    let mut stored = 0;
    let refused = loop {
        peer.send(&request);
        let reply = peer.receive_reply();
        if reply.get("error").is_some() {
            break reply;
        }
        stored += 1;
        assert!(stored < 110, "it is over its bound");
    };
    assert_eq!((&refused["code"], &refused["tag"]), (&"full".into(), &7.into()));
    assert!(stored > 60, "{stored} messages of 10 kB are too few for 1 MiB");
    peer.send(r#"{"action":"stats"}"#);
    let stats = peer.receive_reply()["stats"].take();
    assert_eq!(stats["max_size"], 1 << 20);
    assert!(stats["size"].as_u64().unwrap() <= 1 << 20);
    for _ in 0..5 {
        peer.send(r#"{"action":"take","topic":"t"}"#);
        assert_eq!(peer.receive_reply()["message"], text);
    }
    peer.send(&request);
    assert_eq!(peer.receive_reply()["ok"], true);
}

#[test]
fn check_and_backup_work_beside_a_server() {
    let store = Store::new();
    let (_server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    (0..100).for_each(|n| put(&mut peer, &n.to_string()));
    assert_eq!(
        store.run(&["check", "queue.db"]).stdout,
        ["queue.db: all is well: topics 1, messages 100, bytes 190"]
    );
    let copied = store.run(&["backup", "copy.db"]);
    assert_eq!(copied.code, Some(0), "{copied:?}");
    put(&mut peer, "100");
    assert_eq!(
        store.run(&["check", "copy.db"]).stdout,
        ["copy.db: all is well: topics 1, messages 100, bytes 190"]
    );
    let again = store.run(&["backup", "copy.db"]);
    assert_eq!((again.code, &*again.stderr), (Some(2), "dsmq: copy.db: the file already exists\n"));
}

#[test]
fn damaged_message_is_reported_and_never_delivered() {
    let store = Store::new();
    let (server, addr) = store.server(&[]);
    put(&mut Peer::connect(addr), r#""an apple""#);
    stop(server);
    let bytes = fs::read(store.path()).unwrap();
    let at = bytes.windows(8).position(|window| window == b"an apple").unwrap();
    let damaged = [&bytes[..at], b"no", &bytes[at + 2..]].concat();
    fs::write(store.path(), damaged).unwrap();
    let (_server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    peer.send(r#"{"action":"get","topic":"greetings","since":0}"#);
    peer.expect_error("damaged");
    peer.send(r#"{"action":"take","topic":"greetings"}"#);
    peer.expect_error("damaged");
    put(&mut peer, "1");
    let checked = store.run(&["check", "queue.db"]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout[0].ends_with("the checksum does not match"), "{checked:?}");
}

#[test]
fn damaged_topic_row_is_refused_in_one_line() {
    let store = Store::new();
    let (server, addr) = store.server(&[]);
    put(&mut Peer::connect(addr), "1");
    stop(server);
    let sqlite = rusqlite::Connection::open(store.path()).unwrap();
    sqlite.execute("UPDATE topics SET length = 'two'", []).unwrap();
    drop(sqlite);
    let refused = store.run(&["--port", "0", "--store", "queue.db"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
}

/// The blocks of a document in this language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    document.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn sqlite3(store: &Store, sql: &str) -> Vec<String> {
    let mut command = Command::new("sqlite3");
    let ended = run(command.arg("-readonly").arg(store.path()).arg(sql), "");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{sql}");
    ended.stdout
}

/// Runs a document's SQL on a store while a server uses it.
pub fn check_sql(document: &str) {
    let store = Store::new();
    let (_server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    put(&mut peer, r#""Hello!""#);
    put(&mut peer, &format!(r#""{}""#, "x".repeat(5_000)));
    let sql = blocks(document, "sql");
    assert!(sql.len() >= 3);
    for sql in sql {
        let rows = sqlite3(&store, sql);
        assert_eq!(rows.len(), 2, "{sql}: {rows:?}");
        assert!(rows.iter().any(|row| row.ends_with(r#"|"Hello!""#)), "{rows:?}");
        assert!(rows.iter().any(|row| row.len() > 5_000));
    }
    put(&mut peer, "3");
    assert_eq!(sqlite3(&store, "select count(*) from messages"), ["3"]);
}

/// Copies a store's messages into another server with a document's recipe.
pub fn check_recipe(document: &str) {
    let store = Store::new();
    let (server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    for message in [r#""Hello!""#, "1.50", r#"{"b": [1, null], "a": "\u00e9"}"#] {
        put(&mut peer, message);
    }
    stop(server);
    let (_other, addr) = Process::server(&mut dsmq(&["--port", "0", "--log", "error"]));
    let recipe =
        blocks(document, "sh").into_iter().find(|block| block.contains("json_object")).unwrap();
    let recipe = recipe.replace("30008", &addr.port().to_string());
    let mut shell = Command::new("sh");
    let ended = run(shell.args(["-c", &recipe]).current_dir(store.folder.path()), "");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let mut peer = Peer::connect(addr);
    let next = r#"{"action":"take","topic":"greetings"}"#;
    let mut taken = || {
        peer.send(next);
        peer.receive_reply()["message"].take()
    };
    assert_eq!([taken(), taken()], ["Hello!".into(), serde_json::json!(1.5)]);
    assert_eq!(taken(), serde_json::json!({"b": [1, null], "a": "é"}));
}

/// Follows a topic with a document's shell commands.
pub fn check_follow(document: &str) {
    let store = Store::new();
    let (_server, addr) = store.server(&[]);
    let mut peer = Peer::connect(addr);
    put(&mut peer, "{\"a\":\n[1, \"x, ]\"]}");
    put(&mut peer, "\"old\"");
    let follow =
        blocks(document, "sh").into_iter().find(|block| block.contains("while sleep 1")).unwrap();
    // Polls at each line of input instead of every second, and reports each poll.
    let follow = follow.replace("while sleep 1; do", "while read tick; do");
    let follow = follow.replace("\n  fi\n", "\n  fi\n  echo asked\n");
    let mut shell =
        Process::spawn(Command::new("sh").arg("-c").arg(follow).current_dir(store.folder.path()));
    let mut asked = || {
        shell.write("tick\n");
        let lines = std::iter::from_fn(|| Some(shell.line()).filter(|line| line != "asked"));
        let messages = lines.map(|line| {
            let (id, message): (u64, serde_json::Value) = serde_json::from_str(&line).unwrap();
            assert!(id > 0);
            message
        });
        messages.collect::<Vec<_>>()
    };
    assert_eq!(asked(), [serde_json::json!({"a": [1, "x, ]"]}), "old".into()]);
    assert_eq!(asked(), Vec::<serde_json::Value>::new());
    assert_eq!(asked(), Vec::<serde_json::Value>::new());
    put(&mut peer, "3");
    assert_eq!(asked(), [serde_json::json!(3)]);
    assert_eq!(asked(), Vec::<serde_json::Value>::new());
}

#[test]
#[ignore = "needs the sqlite3 command: make test installs it"]
fn others_read_it_with_sql_while_it_is_used() {
    check_sql(DOCUMENT);
}

#[test]
#[ignore = "needs the sqlite3 and nc commands: make test installs them"]
fn what_is_in_a_file_can_be_put_into_another_server() {
    check_recipe(DOCUMENT);
}

#[test]
#[ignore = "needs sqlite3: make test"]
fn the_shell_follows_a_topic_and_shows_each_message_once() {
    check_follow(DOCUMENT);
}

#[test]
fn backup_into_a_missing_folder_creates_nothing() {
    let store = Store::new();
    let (_server, addr) = store.server(&[]);
    put(&mut Peer::connect(addr), "1");
    let before = store.files();
    let ended = store.run(&["backup", "nowhere/copy.db"]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
    assert_eq!(store.files(), before);
}
