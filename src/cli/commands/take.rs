//! `dsmq take`, `dsmq ack` and `dsmq nack`: messages for one taker alone.

use std::time::Duration;

use super::super::args::{Ack, Nack, Take};
use super::super::terminal::stdout;
use super::{Failure, connect, meta, say, text};
use crate::Config;
use crate::client::Taken;

/// Without a lease, a message is taken under this one until it is printed.
const UNTIL_PRINTED: Duration = Duration::from_secs(60);

/// Takes and prints, one after another: what was not printed comes back. False if there was
/// nothing.
pub fn take(args: &Take, config: &Config) -> Result<bool, Failure> {
    let mut client = connect(config)?;
    let mut output = stdout(args.shown.json || args.shown.meta);
    let wait = args.wait.unwrap_or(Duration::ZERO);
    let mut taken = 0;
    while taken < args.count
        && let Some(next) =
            client.take_wait(&args.topic, args.lease.or(Some(UNTIL_PRINTED)), wait)?
    {
        let line = line(&next, args);
        say(&mut output, |output| writeln!(output, "{line}"))?;
        if args.lease.is_none() {
            client.ack(&next)?;
        }
        taken += 1;
    }
    Ok(taken > 0)
}

/// With a lease, what `ack` must be told stands first.
fn line(Taken { message, deliveries, .. }: &Taken, args: &Take) -> String {
    if args.shown.meta {
        return meta(message, &[("deliveries", deliveries)]);
    }
    let text = text(message, args.shown.json);
    match args.lease {
        Some(_) => format!("{}\t{deliveries}\t{text}", message.id),
        None => text,
    }
}

pub fn ack(args: &Ack, config: &Config) -> Result<bool, Failure> {
    connect(config)?.ack_by_id(&args.topic, args.id, args.deliveries)?;
    Ok(true)
}

pub fn nack(Nack { ack, delay }: &Nack, config: &Config) -> Result<bool, Failure> {
    let delay = delay.unwrap_or(Duration::ZERO);
    connect(config)?.nack_by_id(&ack.topic, ack.id, ack.deliveries, delay)?;
    Ok(true)
}
