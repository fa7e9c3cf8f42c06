//! A store in Redis, or over a cluster: several servers over one, and what becomes of them when it goes
//! away or fails over. Each test starts a Redis of its own, which listens on a socket in a folder, or a
//! cluster of them.

mod begins;
mod cut;
mod failovers;
mod killed;
mod load;
mod memory;
mod moved;
mod nodes;
mod parts;
mod proxy;
mod refused;
mod replicas;
mod shared;
mod silent;
mod start;
#[cfg(feature = "tls")]
mod tls;
mod trouble;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dsmq::{Config, Server};
use serde_json::Value;

use crate::suite::support::folder::Folder;
use crate::suite::support::peer::{self, Peer};
use crate::suite::support::{PATIENCE, server_with};

/// A Redis, which ends with the test.
pub struct Redis {
    child: Child,
    folder: Folder,
    flags: Vec<String>,
}

impl Redis {
    /// One that keeps nothing over its end.
    pub fn start() -> Redis {
        Redis::start_with(words(&["--save", ""]))
    }

    /// One that has written what it answered to disk.
    pub fn durable() -> Redis {
        Redis::start_with(words(&["--appendonly", "yes", "--appendfsync", "always"]))
    }

    pub fn start_with(flags: Vec<String>) -> Redis {
        let folder = Folder::new("redis");
        let child = Redis::spawn(&folder, &flags);
        Redis { child, folder, flags }
    }

    fn spawn(folder: &Folder, flags: &[String]) -> Child {
        let socket = folder.path("socket");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path(""));
        let child = command.args(flags).stdout(Stdio::null()).spawn();
        let child = child.expect("Debian's redis-server: make tools installs it");
        let deadline = Instant::now() + PATIENCE;
        // It says no before it lets anybody in, if it has a password.
        while !["PONG", "NOAUTH"].iter().any(|said| ask(folder, &["PING"]).starts_with(said)) {
            assert!(Instant::now() < deadline, "it does not answer");
            thread::park_timeout(Duration::from_millis(1));
        }
        child
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path("socket").display())
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path("socket")
    }

    pub fn config(&self) -> Config {
        Config { store: self.url().parse().unwrap(), ..Config::default() }
    }

    /// A dsmq server over it.
    pub fn server(&self) -> Server {
        server_with(self.config())
    }

    /// What redis-cli prints of a command.
    pub fn ask(&self, command: &[&str]) -> String {
        ask(&self.folder, command)
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = Redis::spawn(&self.folder, &self.flags);
    }

    /// It goes on living, and does nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reply to a request, which is sent again while Redis is away; `away` is called then.
fn ask_again(peer: &mut Peer, request: &Value, mut away: impl FnMut()) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = peer::ask(peer, request);
        assert_eq!(reply["tag"], request["tag"], "{reply}");
        if reply["code"] != "unavailable" {
            return reply;
        }
        assert!(Instant::now() < deadline, "{request}: {reply}");
        away();
        thread::yield_now();
    }
}

/// Flags of redis-server.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn ask(folder: &Folder, command: &[&str]) -> String {
    let socket = folder.path("socket");
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(command).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
