//! The `dsmq` command: the server, or, with a verb, a client of one.
//!
//! `args` says what may be typed, `verbs` does it, `bench` (with `load`) measures.

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
mod verbs;

use args::{Args, Verb};

/// Runs the command as its arguments and environment say.
pub fn main() -> ExitCode {
    let Args { config, verb } = Args::parse();
    match verb {
        None => serve(config),
        Some(Verb::Put(args)) => verbs::exit_code(verbs::put(&args, &config), &config),
        Some(Verb::Get(args)) => verbs::exit_code(verbs::get(&args, &config), &config),
        #[cfg(feature = "bench")]
        Some(Verb::Bench(args)) => bench::run(&args, &config.host, config.port),
    }
}

fn serve(config: Config) -> ExitCode {
    log_to_stderr(config.log);
    match crate::server::run_config(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dsmq: {error}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(level)
        .init();
}
