//! The arguments of `dsmq`. The doc comments here are the text of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::Config;
use crate::client::Start;
use crate::config::{StoreLocation, redis_prefix};

const TRY_IT: &str = "\
Try it in three terminals:
  dsmq                                start the server
  dsmq get greetings --follow         print what is put into the topic 'greetings'
  dsmq put greetings 'Hello!'         put something into it

Share work among workers:
  dsmq put jobs 'wash up'
  dsmq take jobs --lease 60           print the id, the deliveries and a job
  dsmq ack jobs ID DELIVERIES         the job is done; otherwise another worker gets it after 60 s

Any program that can open a socket can do the same, with JSON and nothing else:
  echo '{\"action\":\"put\",\"topic\":\"greetings\",\"message\":\"Hello!\"}' | nc -w1 127.0.0.1 30008";

/// A dead simple message queue: one binary, one port.
///
/// Without a command this starts the server, which runs until it is stopped (Ctrl-C).
#[derive(Debug, Parser)]
#[command(name = "dsmq", version, after_help = TRY_IT)]
pub struct Args {
    #[command(flatten, next_help_heading = "Server")]
    pub config: Config,

    /// Configuration file: each flag's name is a key, as in port = 30008. The environment and flags
    /// override it [default: dsmq.toml, if it exists]
    #[arg(long = "config", env = "DSMQ_CONFIG", value_name = "PATH", global = true)]
    pub config_file: Option<PathBuf>,

    /// Configuration file of O3one MQ, its O3one.yaml: serve its programs with these settings.
    /// dsmq.toml, the environment and flags override it
    #[arg(long, env = "DSMQ_O3ONE_CONF", value_name = "PATH")]
    pub o3one_conf: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Put(Put),
    Get(Get),
    Take(Take),
    Ack(Ack),
    Nack(Nack),
    Sub(Sub),
    History(History),
    /// List the topics
    ///
    /// Exit code 0: there are some. 1: there are none. 2: an error.
    Topics(Listed),
    /// Show statistics of the server: what it holds, and what it did since it started
    Stats(Listed),
    Purge(Purge),
    Check(Check),
    Backup(Backup),
    Copy(Copy),
    /// Measure a running server
    #[cfg(feature = "bench")]
    Bench(super::bench::BenchArgs),
}

/// Put a message, or the lines of standard input, into a topic
///
/// Exit code 0: the server has stored all of it. 2: an error; messages that were stored before it
/// stay.
#[derive(clap::Args, Debug)]
pub struct Put {
    /// Topic to put into; the first put creates it
    pub topic: String,

    /// Message to put; without it, or with '-', each line of standard input is a message
    ///
    /// A line ends with \n or \r\n, which are not part of the message. The last line needs no end,
    /// and an empty line is a message too.
    #[arg(allow_negative_numbers = true)]
    pub message: Option<String>,

    /// Put the message, or each line, as JSON instead of as a string
    #[arg(long)]
    pub json: bool,

    /// Priority from 0 to 9: takes return higher ones first [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,

    /// Expire after this time: nobody receives the message any more
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub ttl: Option<Duration>,

    /// Enter the topic after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub delay: Option<Duration>,

    /// Do not store the message if one with the same key was put in the last 120 seconds
    #[arg(long, value_name = "KEY")]
    pub dedupe: Option<String>,
}

/// Get messages from a topic; this removes nothing
///
/// Prints the oldest message of the topic. With --wait or --follow it prints messages that are put
/// from now on, unless --since names another start.
///
/// Exit code 0: something was printed. 1: there was no message. 2: an error.
#[derive(clap::Args, Debug)]
pub struct Get {
    /// Topic to get from
    pub topic: String,

    /// Wait this long for each message; fractions are allowed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,

    /// Continue with the next message, until --wait seconds pass without one; without --wait until
    /// Ctrl-C
    #[arg(long)]
    pub follow: bool,

    /// Start after the message with this id; 0 starts at the oldest message
    #[arg(long, value_name = "ID")]
    pub since: Option<u64>,

    /// Get the newest message instead of the oldest
    #[arg(long, conflicts_with_all = ["wait", "follow", "count"])]
    pub latest: bool,

    /// Stop after this many messages [default: 1, with --follow no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    #[command(flatten)]
    pub shown: Shown,
}

/// How messages are printed.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Shown {
    /// Print strings as JSON too
    #[arg(long)]
    pub json: bool,

    /// Print each message as {"id": …, "timestamp": …, "message": …}
    #[arg(long)]
    pub meta: bool,
}

/// Take messages from a topic: nobody else can take them
///
/// Prints the oldest message of the highest priority. Without --lease it is removed once it is printed. With
/// --lease, 'dsmq ack' must follow within that time, or the message is handed out again; what ack
/// must be told is printed in front of the message, behind tabs: ID, DELIVERIES, MESSAGE.
///
/// A worker in a shell, for messages of one line (--json makes every message one line):
///   while job=$(dsmq take jobs --lease 60 --wait 3600); do
///     IFS=$'\t' read -r id deliveries message <<< "$job"
///     work "$message" && dsmq ack jobs "$id" "$deliveries"
///   done
///
/// Exit code 0: something was taken. 1: nothing was there. 2: an error.
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Take {
    /// Topic to take from
    pub topic: String,

    /// Keep the message from other takers for this long, until it is acknowledged
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub lease: Option<Duration>,

    /// Wait this long for each message; fractions are allowed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,

    /// Stop after this many messages
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,

    #[command(flatten)]
    pub shown: Shown,
}

/// Remove a message that was taken with a lease: its work is done
///
/// Exit code 0: it is removed. 2: an error; code 'gone' means that the lease had ended.
#[derive(clap::Args, Debug)]
pub struct Ack {
    /// Topic that it was taken from
    pub topic: String,

    /// Its id, as printed by take
    pub id: u64,

    /// Its number of deliveries, as printed by take
    pub deliveries: u64,
}

/// Return a message that was taken with a lease, for other takers
///
/// Exit code 0: it is returned. 2: an error; code 'gone' means that the lease had ended.
#[derive(clap::Args, Debug)]
pub struct Nack {
    #[command(flatten)]
    pub ack: Ack,

    /// Return it after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub delay: Option<Duration>,
}

/// Subscribe to topics: print messages as they are put
///
/// This removes nothing. With several topics, or a prefix, each line begins with the topic and a
/// tab.
///
/// Exit code 0: something was printed. 1: no message arrived. 2: an error.
#[derive(clap::Args, Debug)]
pub struct Sub {
    /// Topics; a name that ends in '*' matches all topics with this prefix
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,

    /// Where to start: now, oldest, after the message with an ID, or -N for the last N of each
    /// topic
    #[arg(long, value_name = "now|oldest|ID|-N", default_value = "now")]
    #[arg(value_parser = start, allow_negative_numbers = true)]
    pub from: Start,

    /// Stop after this many seconds without a message; fractions are allowed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,

    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Print each message as {"id": …, "timestamp": …, "topic": …, "message": …}
    #[arg(long)]
    pub json: bool,
}

/// Print the last messages of a topic, oldest first; this removes nothing
///
/// Exit code 0: something was printed. 1: there was no message. 2: an error.
#[derive(clap::Args, Debug)]
pub struct History {
    /// Topic to read
    pub topic: String,

    /// Maximum number of messages (1 to 1000)
    #[arg(long, value_name = "N", default_value = "10")]
    pub limit: usize,

    #[command(flatten)]
    pub shown: Shown,
}

/// How a list is printed.
#[derive(clap::Args, Debug)]
pub struct Listed {
    /// Print JSON, one object per line, instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Remove all messages of a topic, and print their number
///
/// Exit code 0: there were some. 1: there were none. 2: an error.
#[derive(clap::Args, Debug)]
pub struct Purge {
    /// Topic to empty
    pub topic: String,
}

/// Check the file of a store: every message, and the counts of each topic
///
/// Prints each fault on a line of its own, or one line if there is none. Changes nothing.
///
/// Exit code 0: no faults. 1: there are faults. 2: the file cannot be read.
#[derive(clap::Args, Debug)]
pub struct Check {
    /// File of the store, as given to --store
    pub path: PathBuf,
}

/// Copy the file of a store, as it is at one moment: dsmq --store PATH backup DEST
///
/// A server may use the file meanwhile. Exit code 0: it is copied. 2: an error.
#[derive(clap::Args, Debug)]
pub struct Backup {
    /// File to create; a server can use it as its store
    #[arg(value_name = "DEST")]
    pub to: PathBuf,
}

/// Copy topics from one store to another, with all their messages: dsmq copy queue.db
/// redis://HOST:PORT
///
/// Each message keeps its id, and with it its place and timestamp, its text byte for byte, its
/// priority, the rest of its ttl or delay, its deliveries and, if it is a dead letter, its origin.
/// A leased message can be taken again from the copy. FROM keeps its messages.
///
/// No server may use either store meanwhile. The same command continues an interrupted copy. A
/// topic that has other messages in TO is refused before anything is written. --max-store bounds
/// TO: dsmq --max-store 20GiB copy FROM TO
///
/// Exit code 0: everything is copied, and the counts of both stores agree. 1: there is no topic to
/// copy. 2: an error.
#[derive(clap::Args, Debug)]
pub struct Copy {
    /// Store to copy from: the path of a file, or the URL of a Redis
    pub from: StoreLocation,

    /// Store to copy to; a file is created if it does not exist
    pub to: StoreLocation,

    /// Topics to copy; a name that ends in '*' matches all topics with this prefix [default: all]
    #[arg(value_name = "TOPIC")]
    pub topics: Vec<String>,

    /// Prefix of the keys in the Redis to copy from [default: --redis-prefix]
    #[arg(long, value_name = "TEXT", value_parser = redis_prefix)]
    pub from_prefix: Option<String>,

    /// Prefix of the keys in the Redis to copy to [default: --redis-prefix]
    #[arg(long, value_name = "TEXT", value_parser = redis_prefix)]
    pub to_prefix: Option<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn start(text: &str) -> Result<Start, String> {
    let wrong = || "none of: now, oldest, an id, or -1 to -1000".to_owned();
    match (text, text.strip_prefix('-')) {
        ("now", _) => Ok(Start::Now),
        ("oldest", _) => Ok(Start::Oldest),
        (_, Some(last)) => {
            last.parse().ok().filter(|n| (1..=1_000).contains(n)).map(Start::Last).ok_or_else(wrong)
        }
        (id, None) => id.parse().map(Start::Id).map_err(|_| wrong()),
    }
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

    #[test]
    fn a_start_is_a_word_an_id_or_a_number_of_messages() {
        assert_eq!(start("now"), Ok(Start::Now));
        assert_eq!(start("oldest"), Ok(Start::Oldest));
        assert_eq!(start("7"), Ok(Start::Id(7)));
        assert_eq!(start("-3"), Ok(Start::Last(3)));
        for wrong in ["", "later", "-", "-0", "-1001", "1.5", "--1"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
