//! The layers of the configuration: defaults, then `dsmq.toml`, then `DSMQ_*`, then flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::args::Args;
use crate::config::file;

/// What was typed, over the environment, over the file, and which file that was. An error is one
/// line about the file; what is wrong with the rest ends the process here, as `--help` does.
pub fn gather(typed: impl Iterator<Item = OsString>) -> Result<(Args, Option<PathBuf>), String> {
    let mut typed: Vec<_> = typed.collect();
    let mut matches = Args::command().get_matches_from(&typed);
    let named = matches.get_one::<PathBuf>("config_file").map(PathBuf::as_path);
    let file = file::read(named)?;
    if let Some(file) = &file {
        // As if it had been typed, before all else, what nobody has said otherwise.
        let behind_name = typed.len().min(1);
        let open = file.settings.iter().filter(|setting| is_open(&matches, &setting.id));
        let flags: Vec<_> = open.filter_map(|setting| setting.flag.as_ref()).collect();
        typed.splice(behind_name..behind_name, flags.into_iter().map(OsString::from));
        matches = Args::command().get_matches_from(&typed);
    }
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok((args, file.map(|file| file.path)))
}

/// Whether neither the environment nor a flag says what this is.
fn is_open(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id).is_none_or(|source| source == ValueSource::DefaultValue)
}
