//! `dsmq get` and `dsmq history`: print messages without removing them.

use std::io::Write;
use std::time::Duration;

use super::super::args::{Get, History};
use super::super::terminal::stdout;
use super::{Failure, connect, print_all};
use crate::{Client, Config};

/// Largest batch of messages that `get` requests.
const BATCH_MAX: usize = 256;

/// Gets and prints messages; false if there were none.
pub fn get(args: &Get, config: &Config) -> Result<bool, Failure> {
    let mut client = connect(config)?;
    if let Some(since) = start(args) {
        client.since(&args.topic, since);
    }
    let mut output = stdout(args.shown.json || args.shown.meta);
    if args.latest {
        return print_all(client.get_latest(&args.topic)?.as_slice(), args.shown, &mut output);
    }
    get_each(args, &mut client, &mut output)
}

/// Where to start: with a wait at the next message, without one at the oldest.
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
        printed |= print_all(&[message], args.shown, output)?;
        left -= 1;
        left -= get_rest(left, args, client, output)?;
    }
    Ok(printed)
}

/// Gets the remaining messages in growing batches. Returns their number.
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
        print_all(&batch, args.shown, output)?;
        got += batch.len();
        if batch.len() < wanted {
            break;
        }
        size = (size * 2).min(BATCH_MAX);
    }
    Ok(got as u64)
}

/// Prints the last messages; false if there are none.
pub fn history(args: &History, config: &Config) -> Result<bool, Failure> {
    let last = connect(config)?.history(&args.topic, args.limit)?;
    print_all(&last, args.shown, &mut stdout(args.shown.json || args.shown.meta))
}
