//! `dsmq sub`: prints the messages of topics as they are put.

use std::time::Duration;

use super::super::args::Sub;
use super::super::terminal::stdout;
use super::{Failure, connect, in_json, meta, one_line, say};
use crate::Config;
use crate::client::Push;

/// Prints until the count or the wait is over; false if there was no message.
pub fn sub(args: &Sub, config: &Config) -> Result<bool, Failure> {
    let mut client = connect(config)?;
    let mut output = stdout(args.json);
    client.subscribe(&args.topics, args.from)?;
    let wait = args.wait.unwrap_or(Duration::MAX);
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count)
        && let Some(push) = client.next_push(wait)?
    {
        let line = line(&push, args);
        say(&mut output, |output| writeln!(output, "{line}"))?;
        printed += 1;
    }
    Ok(printed > 0)
}

/// The line begins with the topic if there may be several.
fn line(Push { topic, message }: &Push, args: &Sub) -> String {
    if args.json {
        return meta(message, &[("topic", &in_json(topic))]);
    }
    match args.topics.as_slice() {
        [only] if !only.ends_with('*') => one_line(message),
        _ => format!("{topic}\t{}", one_line(message)),
    }
}
