//! The client commands of `dsmq`, and what they share: failures, exit codes, and the form of
//! printed messages.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use super::args::{Command, Shown};
use crate::client::{Error, Message};
use crate::{Client, Config};

mod backup;
mod check;
mod copy;
mod get;
mod put;
mod sub;
mod take;
mod topics;

const EXIT_NOTHING: u8 = 1;
const EXIT_FAILED: u8 = 2;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    Client(Error),
    /// The message to put is not valid.
    Input(String),
    /// A line of standard input could not be put.
    Line(u64, Box<Failure>),
    Stdin(io::Error),
    Stdout(io::Error),
    /// A failed operation on a store; the text names it.
    Store(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Client(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Client(error) => write!(f, "{error}"),
            Failure::Input(text) | Failure::Store(text) => write!(f, "{text}"),
            Failure::Line(line, failure) => write!(f, "line {line}: {failure}"),
            Failure::Stdin(error) => write!(f, "cannot read standard input: {error}"),
            Failure::Stdout(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

/// Runs a command, most of them over a connection to the configured server.
pub fn run(command: &Command, config: &Config) -> ExitCode {
    let outcome = match command {
        Command::Put(args) => put::put(args, config),
        Command::Get(args) => get::get(args, config),
        Command::Take(args) => take::take(args, config),
        Command::Ack(args) => take::ack(args, config),
        Command::Nack(args) => take::nack(args, config),
        Command::Sub(args) => sub::sub(args, config),
        Command::History(args) => get::history(args, config),
        Command::Topics(args) => topics::topics(args, config),
        Command::Stats(args) => topics::stats(args, config),
        Command::Purge(args) => topics::purge(args, config),
        Command::Check(args) => check::check(args),
        Command::Backup(args) => backup::backup(args, config),
        Command::Copy(args) => copy::copy(args, config),
        #[cfg(feature = "bench")]
        Command::Bench(args) => return super::bench::run(args, &config.host, config.port),
    };
    exit_code(outcome, config)
}

/// The exit code of a command. Reports a failure on standard error.
fn exit_code(outcome: Result<bool, Failure>, config: &Config) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NOTHING),
        // A reader that closes the pipe early, as `head` does, has seen enough.
        Err(Failure::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Client(Error::Connect(error))) => {
            eprintln!("dsmq: {}", not_connected(&error, config));
            ExitCode::from(EXIT_FAILED)
        }
        Err(failure) => {
            eprintln!("dsmq: {failure}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn not_connected(error: &io::Error, Config { host, port, .. }: &Config) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("no server at {host}:{port}: start one with 'dsmq'")
        }
        _ => format!("cannot connect to {host}:{port}: {error}"),
    }
}

fn connect(config: &Config) -> Result<Client, Failure> {
    Ok(Client::connect_once((config.host.as_str(), config.port))?)
}

/// Writes to standard output and flushes it, so that a reader receives each message at once.
fn say(
    output: &mut impl Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    write(output).and_then(|()| output.flush()).map_err(Failure::Stdout)
}

/// Prints messages, one per line; false if there are none.
fn print_all(messages: &[Message], shown: Shown, output: &mut impl Write) -> Result<bool, Failure> {
    let lines = |output: &mut dyn Write| {
        for message in messages {
            let line = if shown.meta { meta(message, &[]) } else { text(message, shown.json) };
            writeln!(output, "{line}")?;
        }
        Ok(())
    };
    say(output, lines)?;
    Ok(!messages.is_empty())
}

/// A string as its own text, anything else as JSON.
fn text(message: &Message, json: bool) -> String {
    match message.text() {
        Some(text) if !json => text,
        _ => message.json().to_owned(),
    }
}

/// A message on one line: a string as its own text unless it has control characters, anything else
/// as JSON.
fn one_line(message: &Message) -> String {
    match message.text() {
        Some(text) if !text.contains(char::is_control) => text,
        // JSON strings contain no raw line ends, so these are between the parts of the message.
        _ => message.json().replace(['\n', '\r'], " "),
    }
}

/// A message as a JSON object with its metadata. Further fields follow its id.
fn meta(message: &Message, more: &[(&str, &dyn fmt::Display)]) -> String {
    let mut line = format!(r#"{{"id":{},"timestamp":{}"#, message.id, message.timestamp);
    for (name, value) in more {
        line += &format!(r#","{name}":{value}"#);
    }
    if let Some(from) = &message.from {
        line += &format!(r#","from":{}"#, in_json(from));
    }
    line + &format!(r#","message":{}}}"#, message.json())
}

/// The value consists of numbers and text, so this cannot fail.
fn in_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
