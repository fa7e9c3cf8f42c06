//! The verbs of the `dsmq` command that are a client's: `put` and `get`.

use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};

use super::args::{Get, Put};
use crate::client::{Error, Message};
use crate::{Client, Config};

const EXIT_NOTHING: u8 = 1;
const EXIT_FAILED: u8 = 2;

/// Messages that `get` asks for at a time, at most, when more and more of them are there.
const BATCH_MAX: usize = 256;

/// Why a verb ended early.
#[derive(Debug)]
pub enum Failure {
    Client(Error),
    /// What was put is no message.
    Input(String),
    /// A line of standard input could not be put.
    Line(u64, Box<Failure>),
    Stdin(io::Error),
    Stdout(io::Error),
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
            Failure::Input(text) => write!(f, "{text}"),
            Failure::Line(line, failure) => write!(f, "line {line}: {failure}"),
            Failure::Stdin(error) => write!(f, "cannot read standard input: {error}"),
            Failure::Stdout(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

/// The exit code of a verb that did something or nothing; says on standard error why it failed.
pub fn exit_code(outcome: Result<bool, Failure>, config: &Config) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NOTHING),
        // Who closes the other end, as `head` does, has seen enough.
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

/// Puts a message or the lines of standard input; returns when all of it is stored.
pub fn put(args: &Put, config: &Config) -> Result<bool, Failure> {
    let read_lines = args.message.as_deref().is_none_or(|message| message == "-");
    if let Some(message) = args.message.as_deref()
        && !read_lines
    {
        let message = to_message(message.as_bytes(), args.json)?;
        connect(config)?.put_confirmed(&args.topic, &message)?;
    } else {
        put_lines(BufReader::new(io::stdin().lock()), args, &mut connect(config)?)?;
    }
    Ok(true)
}

/// Puts line after line: all those at once that are there, and none waits for the next.
fn put_lines<R: io::Read>(
    mut input: BufReader<R>,
    args: &Put,
    client: &mut Client,
) -> Result<(), Failure> {
    let mut stored = 0;
    loop {
        let mut batch = Vec::new();
        let end = read_batch(&mut input, args.json, &mut batch);
        client.put_confirmed_batch(&args.topic, &batch).map_err(|error| match error {
            Error::Batch { stored: before, source } => {
                line_failure(stored + before.len() as u64 + 1, Failure::Client(*source))
            }
            error => Failure::Client(error),
        })?;
        stored += batch.len() as u64;
        match end {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // What stands before the wrong line has been put.
            Err(failure @ Failure::Input(_)) => return Err(line_failure(stored + 1, failure)),
            Err(failure) => return Err(failure),
        }
    }
}

/// Names the line, unless it is the connection that failed.
fn line_failure(line: u64, failure: Failure) -> Failure {
    match failure {
        Failure::Client(Error::Connect(_)) => failure,
        failure => Failure::Line(line, Box::new(failure)),
    }
}

/// Reads one line and all those that are already there; true at the end of the input.
fn read_batch<R: io::Read>(
    input: &mut BufReader<R>,
    json: bool,
    batch: &mut Vec<Box<RawValue>>,
) -> Result<bool, Failure> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(Failure::Stdin)? == 0 {
            return Ok(true);
        }
        batch.push(to_message(without_end(&line), json)?);
        if !input.buffer().contains(&b'\n') {
            return Ok(false);
        }
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn to_message(text: &[u8], json: bool) -> Result<Box<RawValue>, Failure> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Failure::Input(format!("this is no UTF-8: {error}")))?;
    if json {
        serde_json::from_str(text)
            .map_err(|error| Failure::Input(format!("this is no JSON: {error}")))
    } else {
        to_raw_value(text).map_err(|error| Failure::Client(error.into()))
    }
}

/// Gets and prints; false if there was nothing.
pub fn get(args: &Get, config: &Config) -> Result<bool, Failure> {
    let mut client = connect(config)?;
    if let Some(since) = start(args) {
        client.since(&args.topic, since);
    }
    let mut output = BufWriter::new(io::stdout().lock());
    if args.latest {
        return print_all(client.get_latest(&args.topic)?.as_slice(), args, &mut output);
    }
    get_each(args, &mut client, &mut output)
}

/// Where to begin: who waits wants what comes, who does not wants what is there.
fn start(args: &Get) -> Option<u64> {
    let waits = args.follow || args.wait.is_some();
    args.since.or((!waits).then_some(0))
}

fn get_each(args: &Get, client: &mut Client, output: &mut impl Write) -> Result<bool, Failure> {
    let forever = if args.follow { Duration::MAX } else { Duration::ZERO };
    let wait = args.wait.unwrap_or(forever);
    let end = if args.follow { u64::MAX } else { 1 };
    let mut left = args.count.unwrap_or(end);
    let mut printed = false;
    while left > 0
        && let Some(message) = client.get_wait(&args.topic, wait)?
    {
        printed |= print_all(&[message], args, output)?;
        left -= 1;
        left -= get_rest(left, args, client, output)?;
    }
    Ok(printed)
}

/// Gets what else is there, in growing batches, and returns how many that were.
fn get_rest(
    left: u64,
    args: &Get,
    client: &mut Client,
    output: &mut impl Write,
) -> Result<u64, Failure> {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let (mut got, mut size) = (0, 1);
    while got < left {
        let wanted = size.min(left - got);
        let batch = client.get_batch(&args.topic, wanted)?;
        print_all(&batch, args, output)?;
        got += batch.len();
        if batch.len() < wanted {
            break;
        }
        size = (size * 2).min(BATCH_MAX);
    }
    Ok(got as u64)
}

/// Prints messages so that whoever reads them has them now; false if there are none.
fn print_all(messages: &[Message], args: &Get, output: &mut impl Write) -> Result<bool, Failure> {
    for message in messages {
        print(message, args, output).map_err(Failure::Stdout)?;
    }
    output.flush().map_err(Failure::Stdout)?;
    Ok(!messages.is_empty())
}

fn print(message: &Message, args: &Get, output: &mut impl Write) -> io::Result<()> {
    let (id, timestamp, json) = (message.id, message.timestamp, message.json());
    if args.meta {
        return writeln!(output, r#"{{"id":{id},"timestamp":{timestamp},"message":{json}}}"#);
    }
    match message.text() {
        Some(text) if !args.json => writeln!(output, "{text}"),
        _ => writeln!(output, "{json}"),
    }
}
