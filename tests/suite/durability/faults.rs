//! Injects failures of SQLite's writes, syncs and allocations, and fills the disk. The server
//! reports the failure and continues, and confirmed messages survive.
//! `docs/explanation/reliability.md` lists the promises. The server runs with
//! `tests/faults/faults.c` preloaded.

mod disk;
mod full;
mod nth;
pub mod shim;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use self::shim::Shim;
use crate::suite::support::process::{Ended, Process, dsmq};

/// The error codes that a server may return while its store fails.
const CODES: [&str; 2] = ["store_failed", "full"];

/// The store, in the watched folder.
const STORE: &str = "queue.db";

/// Starts a server. The error is the result of a process that did not start.
pub fn try_server(command: &mut Command) -> Result<(Process, SocketAddr), Ended> {
    let mut server = Process::spawn(command);
    match server.address() {
        Some(addr) => Ok((server, addr)),
        None => Err(server.end()),
    }
}

/// A store that several servers open one after another.
struct Home {
    shim: Shim,
}

impl Home {
    fn new() -> Home {
        Home { shim: Shim::new("faults") }
    }

    fn command(&self) -> Command {
        let store = self.shim.folder().join(STORE);
        let mut command =
            dsmq(&["--port", "0", "--log", "error", "--store", store.to_str().unwrap()]);
        command.stderr(File::options().append(true).create(true).open(self.errors()).unwrap());
        command
    }

    fn errors(&self) -> PathBuf {
        self.shim.beside("stderr")
    }

    /// The standard error of all servers so far.
    fn stderr(&self) -> String {
        fs::read_to_string(self.errors()).unwrap()
    }

    /// Starts a server with failure injection.
    fn start_on_shim(&self) -> Result<(Process, SocketAddr), Ended> {
        try_server(self.shim.under(&mut self.command()))
    }

    /// Starts a server without failure injection.
    fn start(&self) -> (Process, SocketAddr) {
        Process::server(&mut self.command())
    }
}
