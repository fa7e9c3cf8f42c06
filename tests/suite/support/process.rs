//! Child processes that never outlive their test, and none of which is waited for without end.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// The `dsmq` command, and nothing of the environment's.
pub fn dsmq(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dsmq"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DSMQ_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// The `dsmq` command as a client of this server.
pub fn dsmq_at(addr: SocketAddr, args: &[&str]) -> Command {
    let mut command = dsmq(args);
    command.env("DSMQ_PORT", addr.port().to_string());
    command
}

/// A running child, whose pipes are the test's.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Process { child, stdin, stdout }
    }

    /// `dsmq` as a server, and the address that it prints.
    pub fn server(command: &mut Command) -> (Process, SocketAddr) {
        let mut process = Process::spawn(command);
        let addr = process.address().expect("it has ended");
        (process, addr)
    }

    /// The address that a server prints; `None` if it ends instead.
    pub fn address(&mut self) -> Option<SocketAddr> {
        self.next_address().map(|(addr, _)| addr)
    }

    /// The further address at which a server says that this is spoken.
    pub fn address_of(&mut self, protocol: &str) -> SocketAddr {
        let (addr, spoken) = self.next_address().expect("it has ended");
        assert_eq!(spoken, format!("({protocol})"));
        addr
    }

    /// The next address that a server prints and what it says is spoken there; `None` once it has ended.
    pub fn next_address(&mut self) -> Option<(SocketAddr, String)> {
        let line = self.next_line()?;
        let (addr, spoken) =
            line.strip_prefix("dsmq listening on ").and_then(|rest| rest.split_once(' ')).unwrap();
        Some((addr.parse().unwrap(), spoken.to_owned()))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        self.next_line().expect("it has ended")
    }

    fn next_line(&mut self) -> Option<String> {
        let mut lines = self.stdout.take().unwrap();
        let (line, lines) = self.within(move || (lines.next(), lines));
        self.stdout = Some(lines);
        line.map(Result::unwrap)
    }

    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Waits for its end.
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "process {} does not end", self.id());
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Closes its standard input, and waits for its end and for what it says until then.
    pub fn end(mut self) -> Ended {
        self.stdin = None;
        let lines = self.stdout.take();
        let stderr = self.child.stderr.take();
        let (stdout, stderr) = self.within(move || {
            let errors = thread::spawn(move || {
                let mut text = String::new();
                stderr.map(|mut stderr| stderr.read_to_string(&mut text).unwrap());
                text
            });
            let stdout = lines.into_iter().flatten().map(Result::unwrap).collect();
            (stdout, errors.join().unwrap())
        });
        Ended { code: self.wait().code(), stdout, stderr }
    }

    /// The result of work that ends when the process does, at the latest.
    fn within<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        thread::spawn(move || done.send(work()));
        result.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            let _ = self.child.kill();
            panic!("nothing from process {}: {error}", self.id());
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process came to.
#[derive(Debug, PartialEq)]
pub struct Ended {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The lines that it printed and the test has not read.
    pub stdout: Vec<String>,
    pub stderr: String,
}

/// Runs a command on this standard input to its end.
pub fn run(command: &mut Command, input: &str) -> Ended {
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    if let Some(mut stdin) = process.stdin.take() {
        let input = input.to_owned();
        // A process that reads nothing closes it.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    process.end()
}
