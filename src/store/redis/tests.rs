//! Tests of the store in Redis: the contract, and what two servers see of one another. Each starts a
//! Redis of its own, which listens on a socket in a folder.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::store::contract;

/// The longest that anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis, which ends with the test.
pub struct Server {
    child: Child,
    folder: TempDir,
    stores: AtomicUsize,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("redis"));
        command.arg("--dir").arg(folder.path()).stdout(Stdio::null());
        let child = command.spawn().expect("Debian's redis-server: make tools installs it");
        let server = Server { child, folder, stores: AtomicUsize::new(0) };
        let deadline = Instant::now() + PATIENCE;
        while server.client().get_connection().is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        server
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis").display())
    }

    fn client(&self) -> Client {
        Client::open(self.url()).unwrap()
    }

    /// A prefix that no store has had.
    pub fn prefix(&self) -> String {
        format!("test{}:", self.stores.fetch_add(1, Ordering::SeqCst))
    }

    pub fn open(&self, prefix: &str, rules: Rules, clock: Option<fn() -> Id>) -> RedisStore {
        RedisStore::open(&RedisAt { url: &self.url(), prefix, pool: 8 }, rules, clock).unwrap()
    }

    /// Rows of a store, whatever they are, but what is known of topics, and hints at them.
    pub fn rows(&self, prefix: &str) -> i64 {
        let mut connection = self.client().get_connection().unwrap();
        let keys: Vec<String> =
            cmd("KEYS").arg(format!("{prefix}*")).query(&mut connection).unwrap();
        let about = |key: &&String| {
            let kind = &key[prefix.len() + TAG.len()..];
            !(kind.starts_with("topic:") || ["topics", "store", "oldest", "due"].contains(&kind))
        };
        let rows = keys.iter().filter(about).map(|key| {
            let kind: String = cmd("TYPE").arg(key).query(&mut connection).unwrap();
            let count = match kind.as_str() {
                "zset" => "ZCARD",
                "hash" => "HLEN",
                "stream" => "XLEN",
                other => panic!("{key} is a {other}"),
            };
            cmd(count).arg(key).query::<i64>(&mut connection).unwrap()
        });
        rows.sum()
    }
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn in_redis_holds_the_contract() {
    let server = Server::start();
    contract::hold(&|| {
        Arc::new(server.open(&server.prefix(), Rules::default(), Some(contract::clock)))
    });
}
