//! What the tests share: servers on free ports, and how long anything may take.

pub mod folder;
pub mod line;
pub mod peer;
pub mod process;
pub mod random;
#[cfg(feature = "redis")]
#[expect(dead_code, reason = "the benchmarks, which have it too, ask for more")]
pub mod redis_cluster;

use std::time::{Duration, Instant};

use dsmq::{Config, Server};

/// The longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port.
pub fn server() -> Server {
    server_with(Config::default())
}

/// A server with this configuration, on a free port.
pub fn server_with(config: Config) -> Server {
    Server::start(Config { port: 0, ..config }).unwrap()
}

/// Asks until it is so.
pub fn until(mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not yet");
    }
}
