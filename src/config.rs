//! The one configuration of a server: defaults, then `DSMQ_*` in the environment, then flags.
//! This table is the source of `--help`, of the environment's names and of the defaults.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use tracing::level_filters::LevelFilter;

use crate::limits;

const HOST: &str = "127.0.0.1";
const PORT: u16 = 30008;
const LOG: LevelFilter = LevelFilter::INFO;

/// The smallest and the largest `max_message`: SQLite takes no text of more than 10^9 bytes.
const MAX_MESSAGE: (u64, u64) = (2, 1_000_000_000);

/// What a server is told when it starts. Every field is a flag of the `dsmq` command, and that
/// flag's name in capitals behind `DSMQ_` is its environment variable.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on, or, for a client verb, to connect to: an IP address or a host name
    #[arg(long, env = "DSMQ_HOST", default_value = HOST, global = true)]
    pub host: String,

    /// TCP port to listen on or to connect to; a server given 0 takes a free one and prints it
    #[arg(long, env = "DSMQ_PORT", default_value_t = PORT, global = true)]
    pub port: u16,

    /// Connections served at a time; one more is answered `busy` and closed
    #[arg(long, env = "DSMQ_MAX_CONNECTIONS", value_name = "N", default_value_t = limits::CONNECTIONS, value_parser = number())]
    pub max_connections: usize,

    /// Largest message, in bytes of JSON text
    #[arg(long, env = "DSMQ_MAX_MESSAGE", value_name = "BYTES", default_value_t = limits::MESSAGE_BYTES, value_parser = size())]
    pub max_message: usize,

    /// Deliveries after which a message that comes back goes to the topic TOPIC.dead; 0 is never
    #[arg(long, env = "DSMQ_DEAD_LETTER_AFTER", value_name = "N", default_value_t = 0)]
    pub dead_letter_after: u32,

    /// Where messages are kept: memory, or the PATH of a file
    #[arg(long, env = "DSMQ_STORE", default_value = "memory")]
    pub store: String,

    /// What a confirm waits for, if the store is a file: full, normal or off
    #[arg(long, env = "DSMQ_SYNC", default_value = "full")]
    pub sync: String,

    /// What to log to standard error: off, error, warn, info, debug or trace
    #[arg(long, env = "DSMQ_LOG", value_name = "LEVEL", default_value_t = LOG, global = true)]
    pub log: LevelFilter,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: HOST.to_owned(),
            port: PORT,
            max_connections: limits::CONNECTIONS,
            max_message: limits::MESSAGE_BYTES,
            dead_letter_after: 0,
            store: "memory".to_owned(),
            sync: "full".to_owned(),
            log: LOG,
        }
    }
}

impl Config {
    /// Refuses what the flags would refuse.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (least, most) = MAX_MESSAGE;
        if !(least..=most).contains(&(self.max_message as u64)) {
            return Err(format!("max_message must be from {least} to {most} bytes"));
        }
        if self.max_connections == 0 {
            return Err("max_connections must be 1 or more".to_owned());
        }
        Ok(())
    }
}

fn number() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn size() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(MAX_MESSAGE.0..=MAX_MESSAGE.1)
}
