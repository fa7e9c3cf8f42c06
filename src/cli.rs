//! The `dsmq` command: the server, or with a command a client of one.
//!
//! `args` defines the arguments, `sources` merges them with the environment and `dsmq.toml`,
//! `commands` runs the commands, and `bench` (with `load`) measures a server.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use crate::{Config, store};

mod args;
#[cfg(feature = "bench")]
pub mod bench;
mod commands;
mod log;
mod sources;
mod terminal;

use args::Args;
use sources::{Failure, Gathered};

/// The exit code of clap's own errors.
const EXIT_USAGE: u8 = 2;

/// Runs the command that the arguments, the environment and the configuration file describe.
pub fn main() -> ExitCode {
    if asks_for_build(std::env::args_os().skip(1)) {
        println!("dsmq {}\n{}", env!("CARGO_PKG_VERSION"), store::sqlite_version());
        return ExitCode::SUCCESS;
    }
    let Gathered { args: Args { config, command, .. }, files, notes } =
        match sources::gather(std::env::args_os()) {
            Ok(gathered) => gathered,
            Err(Failure::Usage(error)) => error.exit(),
            Err(Failure::File(error)) => {
                eprintln!("dsmq: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        };
    match command {
        None => serve(config, &files, &notes),
        Some(command) => commands::run(&command, &config),
    }
}

/// Whether `--version --verbose` was typed. clap handles `--version` alone.
fn asks_for_build(typed: impl Iterator<Item = OsString>) -> bool {
    let typed: Vec<_> = typed.take(3).collect();
    let is_version = |flag: &OsStr| flag == "--version" || flag == "-V";
    match typed.as_slice() {
        [a, b] => is_version(a) && b == "--verbose" || a == "--verbose" && is_version(b),
        _ => false,
    }
}

fn serve(config: Config, files: &[PathBuf], notes: &[String]) -> ExitCode {
    let level = log_to_stderr(config.log);
    for file in files {
        info!("read the configuration file {}", file.display());
    }
    for note in notes {
        info!("{note}");
    }
    // Its passwords are not printed.
    debug!("{config:?}");
    let started = config.clone();
    let served = crate::server::run_config(config, || reload(&started, &level));
    log::finish();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dsmq: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The log level of the process, which can be changed.
type Level = reload::Handle<LevelFilter, Registry>;

fn log_to_stderr(level: LevelFilter) -> Level {
    let (filter, handle) = reload::Layer::new(level);
    let lines = fmt::layer().with_writer(|| log::Line).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(lines).init();
    handle
}

/// Reads the configuration again and adopts its log level. A faulty file changes nothing.
fn reload(started: &Config, level: &Level) {
    let mut config = match sources::gather(std::env::args_os()) {
        Ok(gathered) => gathered.args.config,
        Err(Failure::File(error)) => {
            return error!("SIGHUP: {error}; the settings stay as they are");
        }
        Err(Failure::Usage(error)) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return error!("SIGHUP: {line}; the settings stay as they are");
        }
    };
    let log = std::mem::replace(&mut config.log, started.log);
    match level.reload(log) {
        Ok(()) => info!("SIGHUP: the log level is {log}"),
        Err(error) => error!("SIGHUP: cannot change the log level: {error}"),
    }
    if format!("{config:?}") != format!("{started:?}") {
        warn!("SIGHUP: settings other than the log level have changed: restart to adopt them");
    }
}
