//! A write, a sync or an allocation of SQLite's fails, or the disk is full: the server says so and
//! goes on, and what was confirmed is there. docs/explanation/reliability.md says what of this is
//! promised. The server runs on tests/faults/faults.c.

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

/// What a server may answer while its store fails.
const CODES: [&str; 2] = ["store_failed", "full"];

/// The file, in the folder that is watched.
const STORE: &str = "queue.db";

/// A server and its address, or what it came to instead.
pub fn try_server(command: &mut Command) -> Result<(Process, SocketAddr), Ended> {
    let mut server = Process::spawn(command);
    match server.address() {
        Some(addr) => Ok((server, addr)),
        None => Err(server.end()),
    }
}

/// A server's file, and the servers that are started on it one after another.
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

    /// What all servers have said.
    fn said(&self) -> String {
        fs::read_to_string(self.errors()).unwrap()
    }

    /// A server whose operations may fail.
    fn start_on_shim(&self) -> Result<(Process, SocketAddr), Ended> {
        try_server(self.shim.under(&mut self.command()))
    }

    /// A server on a sound machine.
    fn start(&self) -> (Process, SocketAddr) {
        Process::server(&mut self.command())
    }
}
