//! Stores in Redis and in a Redis Cluster: several servers share one, and it fails in many ways.
//! Each test starts a Redis that listens on a Unix socket in a temporary folder, or a cluster.

mod begins;
mod cut;
mod failovers;
mod killed;
mod load;
mod memory;
mod moved;
mod nodes;
mod partitions;
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

/// A Redis that ends with the test.
pub struct Redis {
    child: Child,
    folder: Folder,
    flags: Vec<String>,
}

impl Redis {
    /// A Redis without persistence.
    pub fn start() -> Redis {
        Redis::start_with(words(&["--save", ""]))
    }

    /// A Redis that syncs its file before each reply (appendfsync always).
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
        // With a password it refuses PING, and runs nevertheless.
        while !["PONG", "NOAUTH"].iter().any(|said| ask(folder, &["PING"]).starts_with(said)) {
            assert!(Instant::now() < deadline, "Redis does not answer");
            thread::park_timeout(Duration::from_millis(1));
        }
        child
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path("socket").display())
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path("socket")
    }

    pub fn config(&self) -> Config {
        Config { store: self.url().parse().unwrap(), ..Config::default() }
    }

    /// A dsmq server over this Redis.
    pub fn server(&self) -> Server {
        server_with(self.config())
    }

    /// The output of redis-cli for a command.
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

    /// Suspends the process.
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

/// The reply to a request, repeated while Redis is down; calls `away` before each repetition.
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

/// Arguments of redis-server.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn ask(folder: &Folder, command: &[&str]) -> String {
    let socket = folder.path("socket");
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(command).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
