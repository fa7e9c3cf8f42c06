//! The configuration of a server: defaults, then `dsmq.toml`, then `DSMQ_*` in the environment,
//! then flags. This table is the source of `--help`, of the file's keys, of the variables' names
//! and of the defaults.

pub mod file;
pub mod names;
pub mod ports;
pub mod units;
pub mod values;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, Args};
use tracing::level_filters::LevelFilter;

pub use self::ports::{CoreMqPort, O3onePorts};
pub(crate) use self::values::redis_prefix;
pub use self::values::{RedisUrl, StoreLocation, SyncMode, WhenFull};
use crate::limits;

const HOST: &str = "127.0.0.1";
const PORT: u16 = 30008;
const O3ONE_ACK: &str = "OK";
const LOG: LevelFilter = LevelFilter::INFO;

/// Range of `max_message`: SQLite takes no text of more than 10^9 bytes.
const MAX_MESSAGE: (u64, u64) = (2, 1_000_000_000);

/// Range of `--max-store`: 1 MiB has room for SQLite's own pages, and SQLite can number the pages of
/// 8 TiB.
const MAX_STORE_RANGE: RangeInclusive<u64> = 1 << 20..=1 << 43;
const MAX_STORE: u64 = 1 << 30;
const MEZZENGER_RESEND_TEXT: &str = "10s";
const MAX_STORE_TEXT: &str = "1GiB";

const REDIS_PREFIX: &str = "dsmq:";
const REDIS_POOL: usize = 8;

/// Range of `--keep` and `--mezzenger-resend`. A program can also set fractions of a second.
const KEEP_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=limits::DURATION_MAX;

/// The settings of a server. Every field is a flag of the `dsmq` command. The flag's name is its
/// key in `dsmq.toml` and, in capitals after `DSMQ_`, its environment variable.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on, or for a client command to connect to: an IP address or a host name
    #[arg(long, env = "DSMQ_HOST", default_value = HOST, global = true)]
    pub host: String,

    /// TCP port to listen on or to connect to; with 0 the server takes a free port and prints it
    #[arg(long, env = "DSMQ_PORT", default_value_t = PORT, global = true)]
    pub port: u16,

    /// Serve programs written for CoreMQ on a port of their own [without a value: the port of
    /// coremq.conf, or 6747]
    #[arg(long, env = "DSMQ_COREMQ", value_name = "PORT", value_parser = ports::coremq)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub coremq: Option<CoreMqPort>,

    /// Configuration file of CoreMQ [default: coremq.conf, if it exists]
    #[arg(long, env = "DSMQ_COREMQ_CONF", value_name = "PATH")]
    pub coremq_conf: Option<PathBuf>,

    /// Serve programs written for O3one MQ on ports of their own, and its page on one more [without
    /// a value: 5555,5556,8765,9000]
    #[arg(long, env = "DSMQ_O3ONE", value_name = "PUB,SUB,WS[,PAGE]", value_parser = ports::o3one)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub o3one: Option<O3onePorts>,

    /// Reply to publications over ØMQ
    #[arg(long, env = "DSMQ_O3ONE_ACK", value_name = "TEXT", default_value = O3ONE_ACK)]
    pub o3one_ack: String,

    /// Read the second word of a publication over ØMQ as its priority; waiting messages of a higher
    /// priority are sent first
    #[arg(long, env = "DSMQ_O3ONE_PRIORITY", value_name = "BOOL", default_value_t = false)]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub o3one_priority: bool,

    /// Serve programs written for Mezzenger on ports of their own [without a value: 7201,7202]
    #[arg(long, env = "DSMQ_MEZZENGER", value_name = "PUB,RECV", value_parser = ports::mezzenger)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub mezzenger: Option<[u16; 2]>,

    /// Publish a Mezzenger message that nobody acknowledged again after this long
    #[arg(long, env = "DSMQ_MEZZENGER_RESEND", value_name = "DURATION", default_value = MEZZENGER_RESEND_TEXT, value_parser = resend)]
    pub mezzenger_resend: Duration,

    /// Maximum number of open connections; a further one receives `busy` and is closed
    #[arg(long, env = "DSMQ_MAX_CONNECTIONS", value_name = "N", default_value_t = limits::CONNECTIONS, value_parser = number())]
    pub max_connections: usize,

    /// Largest message, in bytes of JSON text
    #[arg(long, env = "DSMQ_MAX_MESSAGE", value_name = "BYTES", default_value_t = limits::MESSAGE_BYTES, value_parser = size())]
    pub max_message: usize,

    /// Move a message that comes back after this many deliveries to the topic TOPIC.dead; 0
    /// disables this
    #[arg(long, env = "DSMQ_DEAD_LETTER_AFTER", value_name = "N", default_value_t = 0)]
    pub dead_letter_after: u32,

    /// Where to keep messages: 'memory', until the server stops; the path of a file; or a Redis or
    /// Redis Cluster, which other servers can share, `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`,
    /// `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`
    #[arg(long, env = "DSMQ_STORE", value_name = "memory|PATH|URL", default_value_t = StoreLocation::Memory, hide_env_values = true)]
    pub store: StoreLocation,

    /// Beginning of every key in Redis: servers with the same prefix share their topics
    #[arg(long, env = "DSMQ_REDIS_PREFIX", value_name = "TEXT", default_value = REDIS_PREFIX, value_parser = values::redis_prefix)]
    pub redis_prefix: String,

    /// Connections to each Redis node, besides those that listen for changes by other servers
    #[arg(long, env = "DSMQ_REDIS_POOL", value_name = "N", default_value_t = REDIS_POOL, value_parser = number())]
    pub redis_pool: usize,

    /// Number of Redis replicas that must have a confirmed operation; if fewer report it within a
    /// second, the request fails with 'unconfirmed'
    #[arg(long, env = "DSMQ_REDIS_REPLICAS", value_name = "N", default_value_t = 0)]
    pub redis_replicas: u32,

    /// What a power failure can lose of a file; a killed server loses nothing confirmed in any mode
    #[arg(long, env = "DSMQ_SYNC", value_name = "HOW", default_value_t = SyncMode::Full, value_enum)]
    pub sync: SyncMode,

    /// Remove messages older than this, such as 90s, 15m, 12h or 7d [default: keep them]
    #[arg(long, env = "DSMQ_KEEP", value_name = "DURATION", value_parser = keep)]
    pub keep: Option<Duration>,

    /// Maximum size of the store, such as 500MB or 64MiB; at least 1MiB
    #[arg(long, env = "DSMQ_MAX_STORE", value_name = "SIZE", default_value = MAX_STORE_TEXT, value_parser = store_size)]
    pub max_store: u64,

    /// What a put into a full store does [default: refuse, for memory drop-oldest]
    #[arg(long, env = "DSMQ_WHEN_FULL", value_name = "WHAT", value_enum)]
    pub when_full: Option<WhenFull>,

    /// Further names by which HTTP clients may address this server, besides localhost, IP addresses
    /// and the machine's own name
    #[arg(long, env = "DSMQ_ALLOW_HOST", value_name = "NAME", value_delimiter = ',', value_parser = names::host)]
    pub allow_host: Vec<String>,

    /// Origins, such as `https://example.com`, whose web pages may use this server; '*' allows all
    #[arg(long, env = "DSMQ_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = names::origin)]
    pub allow_origin: Vec<String>,

    /// Let clients stop the server with the action `shutdown`
    #[arg(long, env = "DSMQ_ALLOW_SHUTDOWN", value_name = "BOOL", default_value_t = false)]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_shutdown: bool,

    /// Log level on standard error: off, error, warn, info, debug or trace
    #[arg(long, env = "DSMQ_LOG", value_name = "LEVEL", default_value_t = LOG, global = true)]
    pub log: LevelFilter,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: HOST.to_owned(),
            port: PORT,
            coremq: None,
            coremq_conf: None,
            o3one: None,
            o3one_ack: O3ONE_ACK.to_owned(),
            o3one_priority: false,
            mezzenger: None,
            mezzenger_resend: limits::MEZZENGER_RESEND,
            max_connections: limits::CONNECTIONS,
            max_message: limits::MESSAGE_BYTES,
            dead_letter_after: 0,
            store: StoreLocation::Memory,
            redis_prefix: REDIS_PREFIX.to_owned(),
            redis_pool: REDIS_POOL,
            redis_replicas: 0,
            sync: SyncMode::Full,
            keep: None,
            max_store: MAX_STORE,
            when_full: None,
            allow_host: Vec::new(),
            allow_origin: Vec::new(),
            allow_shutdown: false,
            log: LOG,
        }
    }
}

impl Config {
    /// What a put into a full store does: the setting, or the default of the store. A file and
    /// Redis refuse, because their messages are meant to be kept.
    pub fn when_full(&self) -> WhenFull {
        self.when_full.unwrap_or(match self.store {
            StoreLocation::Memory => WhenFull::DropOldest,
            StoreLocation::File(_) | StoreLocation::Redis(_) => WhenFull::Refuse,
        })
    }

    /// Applies the ranges of the flags to a configuration that a program made.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (least, most) = MAX_MESSAGE;
        if !(least..=most).contains(&(self.max_message as u64)) {
            return Err(format!("max_message must be from {least} to {most} bytes"));
        }
        if self.max_connections == 0 {
            return Err("max_connections must be 1 or more".to_owned());
        }
        if self.keep.is_some_and(|keep| keep.is_zero() || keep > limits::DURATION_MAX) {
            return Err(format!("keep {}", units::duration_outside(&KEEP_RANGE)));
        }
        if self.mezzenger_resend.is_zero() || self.mezzenger_resend > limits::DURATION_MAX {
            return Err(format!("mezzenger_resend {}", units::duration_outside(&KEEP_RANGE)));
        }
        if !MAX_STORE_RANGE.contains(&self.max_store) {
            return Err(format!("max_store {}", units::size_outside(&MAX_STORE_RANGE)));
        }
        if self.redis_pool == 0 {
            return Err("redis_pool must be 1 or more".to_owned());
        }
        values::redis_prefix(&self.redis_prefix).map_err(|text| format!("redis_prefix: {text}"))?;
        self.allow_host.iter().try_for_each(|host| names::host(host).map(drop))?;
        self.allow_origin.iter().try_for_each(|origin| names::origin(origin).map(drop))?;
        self.store.check().map_err(|text| format!("store: {text}"))
    }
}

fn number() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn size() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(MAX_MESSAGE.0..=MAX_MESSAGE.1)
}

fn keep(text: &str) -> Result<Duration, String> {
    units::duration(text, &KEEP_RANGE)
}

fn resend(text: &str) -> Result<Duration, String> {
    units::duration(text, &KEEP_RANGE)
}

fn store_size(text: &str) -> Result<u64, String> {
    units::size(text, &MAX_STORE_RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn table() -> Command {
        Config::augment_args(Command::new("dsmq"))
    }

    #[test]
    fn each_flag_has_the_variable_of_its_name() {
        for flag in table().get_arguments() {
            let name = flag.get_long().unwrap();
            let variable = format!("DSMQ_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(flag.get_env().unwrap().to_str(), Some(variable.as_str()));
            assert_eq!(flag.get_id().as_str(), name.replace('-', "_"));
        }
    }

    #[test]
    fn the_defaults_of_programs_are_those_of_the_flags() {
        // The environment of the test run must not count as a default.
        let table = table().mut_args(|flag| flag.env(None::<&str>));
        let flags = Config::from_arg_matches(&table.get_matches_from(["dsmq"])).unwrap();
        assert_eq!(format!("{flags:?}"), format!("{:?}", Config::default()));
        assert_eq!(MEZZENGER_RESEND_TEXT, units::show_duration(limits::MEZZENGER_RESEND));
        assert_eq!(MAX_STORE_TEXT, units::show_size(MAX_STORE));
        assert!(flags.check().is_ok());
    }

    #[test]
    fn what_is_outside_its_range_is_refused() {
        let refused = |config: Config| config.check().unwrap_err();
        let default = Config::default;
        let keep = "keep must be from 1s to 36500d";
        assert_eq!(refused(Config { keep: Some(Duration::ZERO), ..default() }), keep);
        assert_eq!(refused(Config { keep: Some(Duration::MAX), ..default() }), keep);
        let max_store = "max_store must be from 1MiB to 8TiB";
        assert_eq!(refused(Config { max_store: (1 << 20) - 1, ..default() }), max_store);
        assert_eq!(refused(Config { max_store: u64::MAX, ..default() }), max_store);
        let store = "store: no path of a file: say 'memory' or a path, such as ./queue.db";
        assert_eq!(refused(Config { store: StoreLocation::File("".into()), ..default() }), store);
        let accepted = Config { keep: Some(Duration::from_millis(1)), ..default() };
        assert_eq!(accepted.check(), Ok(()));
    }

    #[test]
    fn a_full_file_refuses_and_full_memory_drops_unless_told_otherwise() {
        let memory = Config::default();
        let file = Config { store: StoreLocation::File("queue.db".into()), ..Config::default() };
        assert_eq!(memory.when_full(), WhenFull::DropOldest);
        assert_eq!(file.when_full(), WhenFull::Refuse);
        for told in [WhenFull::DropOldest, WhenFull::Refuse] {
            assert_eq!(Config { when_full: Some(told), ..memory.clone() }.when_full(), told);
            assert_eq!(Config { when_full: Some(told), ..file.clone() }.when_full(), told);
        }
    }
}
