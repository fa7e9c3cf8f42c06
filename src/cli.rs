//! The `dsmq` command: the server, or, with a verb, a client of one.
//!
//! `args` says what may be typed, `verbs` does it, a file for those that go together, and `bench`
//! (with `load`) measures.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use crate::Config;

mod args;
#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "bench")]
pub mod load;
mod log;
mod verbs;

use args::Args;

/// Runs the command as its arguments and environment say.
pub fn main() -> ExitCode {
    let Args { config, verb } = Args::parse();
    match verb {
        None => serve(config),
        Some(verb) => verbs::run(&verb, &config),
    }
}

fn serve(config: Config) -> ExitCode {
    log_to_stderr(config.log);
    let served = crate::server::run_config(config);
    log::finish();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dsmq: {error}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_writer(|| log::Line)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(level)
        .init();
}
