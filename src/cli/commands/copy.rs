//! `dsmq copy`: copies topics from one store to another.

use std::io;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;

use super::super::args::Copy;
use super::{Failure, say};
use crate::config::{Config, StoreLocation, WhenFull};
use crate::server;
use crate::store::copy::{Copied, Progress, Side};
use crate::store::{self, IN_USE};

const MEMORY: &str = "copy: what is in memory ends with its server: say the path of a file, or \
                      redis://HOST:PORT";
const ONE: &str = "copy: FROM and TO are one store";

/// Time between two lines of progress.
const SAID: Duration = Duration::from_secs(1);

/// Copies the topics and prints their counts; false if there are none.
pub fn copy(args: &Copy, config: &Config) -> Result<bool, Failure> {
    let _level = super::super::log_to_stderr(config.log.min(LevelFilter::WARN));
    let copied = copy_all(args, config);
    super::super::log::finish();
    let Copied { topics, messages, bytes, before } = copied.map_err(Failure::Store)?;
    let before = match before {
        0 => String::new(),
        before => format!("; {before} of the messages were there from before"),
    };
    say(&mut io::stdout().lock(), |output| {
        writeln!(output, "copied: topics {topics}, messages {messages}, bytes {bytes}{before}")
    })?;
    Ok(topics > 0)
}

fn copy_all(args: &Copy, config: &Config) -> Result<Copied, String> {
    let Copy { from, to, topics, from_prefix, to_prefix } = args;
    if [from, to].contains(&&StoreLocation::Memory) {
        return Err(MEMORY.to_owned());
    }
    let prefix = |own: &Option<String>| own.clone().unwrap_or(config.redis_prefix.clone());
    let (from_prefix, to_prefix) = (prefix(from_prefix), prefix(to_prefix));
    if from == to && from_prefix == to_prefix {
        return Err(ONE.to_owned());
    }
    if let StoreLocation::File(path) = from {
        store::find_file(path).map_err(|why| format!("{from}: {why}"))?;
    }
    let instead = format!(": stop it, or copy what 'dsmq --store {from} backup DEST' makes of it");
    let from = open(from, from_prefix, config).map_err(in_use(&instead))?;
    let to = open(to, to_prefix, config).map_err(in_use(": stop it"))?;
    let mut said = Instant::now();
    store::copy::copy(&from, &to, topics, |Progress { topic, messages, of }| {
        if said.elapsed() >= SAID {
            said = Instant::now();
            eprintln!("dsmq: {topic}: {messages} of {of} messages");
        }
    })
}

fn open(at: &StoreLocation, prefix: String, config: &Config) -> Result<Side, String> {
    let config = Config {
        store: at.clone(),
        redis_prefix: prefix,
        // Messages to copy must not be dropped.
        when_full: Some(WhenFull::Refuse),
        keep: None,
        ..config.clone()
    };
    let store = server::open(&config).map_err(|error| error.to_string())?;
    Ok(Side { name: at.to_string(), store })
}

/// Adds advice to the error of a file that a server has open.
fn in_use(instead: &str) -> impl Fn(String) -> String {
    move |error| if error.contains(IN_USE) { error + instead } else { error }
}
