//! What may be typed behind `dsmq`. The doc comments here are the text of `--help`.

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::Config;

const TRY_IT: &str = "\
Try it in three terminals:
  dsmq                                start the server
  dsmq get greetings --follow         print what is put into the topic 'greetings'
  dsmq put greetings 'Hello!'         put something into it

Any program that can open a socket can do the same, with JSON and nothing else:
  echo '{\"action\":\"put\",\"topic\":\"greetings\",\"message\":\"Hello!\"}' | nc -w1 127.0.0.1 30008";

/// A dead simple message queue: one binary, one port.
///
/// Without a command this starts the server, which runs until it is told to stop (Ctrl-C).
#[derive(Debug, Parser)]
#[command(name = "dsmq", version, after_help = TRY_IT)]
pub struct Args {
    #[command(flatten, next_help_heading = "Server")]
    pub config: Config,

    #[command(subcommand)]
    pub verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Put(Put),
    Get(Get),
    /// Measure a running server
    #[cfg(feature = "bench")]
    Bench(super::bench::BenchArgs),
}

/// Put a message, or the lines of standard input, into a topic
///
/// Exit code 0: the server has stored all of it. 2: an error; what was stored before it stays.
#[derive(clap::Args, Debug)]
pub struct Put {
    /// Topic to put into; it need not exist
    pub topic: String,

    /// Message to put; without it, or with '-', each line of standard input is a message
    ///
    /// A line ends with \n or \r\n, which are no part of the message. The last line needs no end,
    /// and an empty line is a message too.
    #[arg(allow_negative_numbers = true)]
    pub message: Option<String>,

    /// The message, or each line, is JSON and put as it is written, instead of a string
    #[arg(long)]
    pub json: bool,
}

/// Get messages from a topic; this removes nothing
///
/// Prints the oldest message that is there. With --wait or --follow it does not look back, and
/// prints what is put from now on; --since says otherwise.
///
/// Exit code 0: something was printed. 1: nothing was there. 2: an error.
#[derive(clap::Args, Debug)]
pub struct Get {
    /// Topic to get from
    pub topic: String,

    /// Wait so long for each message; fractions are allowed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,

    /// Go on with the next message, until --wait seconds pass without one; without --wait for ever
    #[arg(long)]
    pub follow: bool,

    /// Begin behind the message of this id; 0 is before the oldest
    #[arg(long, value_name = "ID")]
    pub since: Option<u64>,

    /// The newest message instead of the oldest
    #[arg(long, conflicts_with_all = ["wait", "follow", "count"])]
    pub latest: bool,

    /// End after so many messages [default: 1, with --follow no end]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Print strings as JSON too, so that each can be told from what is no string
    #[arg(long)]
    pub json: bool,

    /// Print each message as {"id": …, "timestamp": …, "message": …}
    #[arg(long)]
    pub meta: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_wait_is_a_number_of_seconds() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "soon", "-1", "NaN", "inf", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
