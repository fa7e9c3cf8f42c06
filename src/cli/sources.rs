//! The layers of the configuration: defaults, then `O3one.yaml` if one is named, then `dsmq.toml`,
//! then `DSMQ_*`, then flags.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::args::Args;
use crate::compat::o3one;
use crate::config::StoreLocation;
use crate::config::file::{self, Setting};

/// What the layers come to.
pub struct Gathered {
    pub args: Args,
    /// The files that were read, and what is to be said of them.
    pub files: Vec<PathBuf>,
    pub notes: Vec<String>,
}

/// What was typed, over the environment, over the files. An error is one line about a file; what is
/// wrong with the rest ends the process here, as `--help` does.
pub fn gather(typed: impl Iterator<Item = OsString>) -> Result<Gathered, String> {
    let mut typed: Vec<_> = typed.collect();
    let mut matches = Args::command().get_matches_from(&typed);
    let named = |id| matches.get_one::<PathBuf>(id).map(PathBuf::as_path);
    let (file, o3one) = (file::read(named("config_file"))?, named("o3one_conf"));
    let o3one = o3one.map(o3one::settings::read).transpose()?;
    let (mut settings, mut files, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(file) = file {
        settings.extend(file.settings);
        files.push(file.path);
    }
    let mut store = None;
    if let Some(o3one) = o3one {
        let unsaid = |setting: &Setting| settings.iter().all(|said| said.id != setting.id);
        let beneath: Vec<_> = o3one.settings.into_iter().filter(unsaid).collect();
        settings.extend(beneath);
        files.push(o3one.path);
        notes = o3one.notes;
        store = o3one.store;
    }
    if !settings.is_empty() {
        // As if it had been typed, before all else, what nobody has said otherwise.
        let behind_name = typed.len().min(1);
        let open = settings.into_iter().filter(|setting| is_open(&matches, &setting.id));
        let flags: Vec<_> = open.filter_map(|setting| setting.flag).map(OsString::from).collect();
        typed.splice(behind_name..behind_name, flags);
        matches = Args::command().get_matches_from(&typed);
    }
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // O3one makes the folder of its files.
    if let StoreLocation::File(path) = &args.config.store
        && let Some(folder) = store.filter(|store| store == path).as_deref().and_then(Path::parent)
    {
        let made = fs::create_dir_all(folder);
        made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    Ok(Gathered { args, files, notes })
}

/// Whether neither the environment nor a flag says what this is.
fn is_open(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id).is_none_or(|source| source == ValueSource::DefaultValue)
}
