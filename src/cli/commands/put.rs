//! `dsmq put`: puts a message, or each line of standard input.

use std::io::{self, BufRead, BufReader};

use serde_json::value::{RawValue, to_raw_value};

use super::super::args::Put;
use super::{Failure, connect};
use crate::client::{self, Error};
use crate::{Client, Config};

/// Returns when the server has stored all of it.
pub fn put(args: &Put, config: &Config) -> Result<bool, Failure> {
    let read_lines = args.message.as_deref().is_none_or(|message| message == "-");
    if let Some(message) = args.message.as_deref()
        && !read_lines
    {
        let message = to_message(message.as_bytes(), args.json)?;
        connect(config)?.put_with(&args.topic, &message, &options(args))?;
    } else if args.dedupe.is_some() {
        // All lines would count as one message.
        let text = "--dedupe applies to one message: give it after the topic";
        return Err(Failure::Input(text.to_owned()));
    } else {
        put_lines(BufReader::new(io::stdin().lock()), args, &mut connect(config)?)?;
    }
    Ok(true)
}

/// Puts all lines that are available together, without waiting for the next.
fn put_lines<R: io::Read>(
    mut input: BufReader<R>,
    args: &Put,
    client: &mut Client,
) -> Result<(), Failure> {
    let (options, mut stored) = (options(args), 0);
    loop {
        let mut batch = Vec::new();
        let end = read_batch(&mut input, args.json, &mut batch);
        client.put_batch_with(&args.topic, &batch, &options).map_err(|error| match error {
            Error::Batch { stored: before, source } => {
                line_failure(stored + before.len() as u64 + 1, Failure::Client(*source))
            }
            error => Failure::Client(error),
        })?;
        stored += batch.len() as u64;
        match end {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // The lines before the wrong one have been put.
            Err(failure @ Failure::Input(_)) => return Err(line_failure(stored + 1, failure)),
            Err(failure) => return Err(failure),
        }
    }
}

/// Names the line, unless the connection failed.
fn line_failure(line: u64, failure: Failure) -> Failure {
    match failure {
        Failure::Client(Error::Connect(_)) => failure,
        failure => Failure::Line(line, Box::new(failure)),
    }
}

/// Reads one line and all those that are available; true at the end of the input.
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
    let text =
        std::str::from_utf8(text).map_err(|error| Failure::Input(format!("not UTF-8: {error}")))?;
    if json {
        serde_json::from_str(text).map_err(|error| Failure::Input(format!("not JSON: {error}")))
    } else {
        to_raw_value(text).map_err(|error| Failure::Client(error.into()))
    }
}

fn options(args: &Put) -> client::Put {
    let mut options = client::Put::new();
    if let Some(priority) = args.priority {
        options = options.priority(priority);
    }
    if let Some(ttl) = args.ttl {
        options = options.ttl(ttl);
    }
    if let Some(delay) = args.delay {
        options = options.delay(delay);
    }
    if let Some(key) = &args.dedupe {
        options = options.dedupe(key);
    }
    options
}
