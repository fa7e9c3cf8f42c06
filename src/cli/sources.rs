//! The sources of the configuration: defaults, then `O3one.yaml` if it is named, then `dsmq.toml`,
//! then `DSMQ_*`, then flags.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::args::Args;
use crate::compat::o3one;
use crate::config::StoreLocation;
use crate::config::file::{self, Setting};

/// The merged configuration.
pub struct Gathered {
    pub args: Args,
    /// The files that were read, and notes for the log.
    pub files: Vec<PathBuf>,
    pub notes: Vec<String>,
}

/// Why the settings cannot be used.
pub enum Failure {
    /// A flag or an environment variable; also `--help` and `--version`, which end the process.
    Usage(Box<clap::Error>),
    /// A file; one line.
    File(String),
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Failure {
        Failure::Usage(Box::new(error))
    }
}

impl From<String> for Failure {
    fn from(line: String) -> Failure {
        Failure::File(line)
    }
}

/// Merges the flags in `typed` with the environment and the files. Flags override the environment, which
/// overrides the files.
pub fn gather(typed: impl Iterator<Item = OsString>) -> Result<Gathered, Failure> {
    let mut typed: Vec<_> = typed.collect();
    let needs = Needs::of(&typed);
    let (table, mut notes) = table(needs);
    let mut matches = parse(&table, &typed)?;
    let named = |id| matches.get_one::<PathBuf>(id).map(PathBuf::as_path);
    let reads_files = match needs {
        Needs::Nothing => false,
        Needs::Store => is_open(&matches, "store"),
        Needs::Everything => true,
    };
    let file = match reads_files {
        true => file::read(named("config_file"), |key| needs.has(key))?,
        false => None,
    };
    let o3one = named("o3one_conf").filter(|_| reads_files);
    let o3one = o3one.map(o3one::settings::read).transpose()?;
    let (mut settings, mut files) = (Vec::new(), Vec::new());
    if let Some(file) = file {
        settings.extend(file.settings);
        files.push(file.path);
    }
    let mut store = None;
    if let Some(o3one) = o3one {
        let is_new = |setting: &Setting| {
            needs.has(&setting.id) && settings.iter().all(|earlier| earlier.id != setting.id)
        };
        let added: Vec<_> = o3one.settings.into_iter().filter(is_new).collect();
        settings.extend(added);
        files.push(o3one.path);
        notes.extend(o3one.notes);
        store = o3one.store;
    }
    if !settings.is_empty() {
        // Inserted before the typed flags, for settings that neither the environment nor a flag
        // sets.
        let after_name = typed.len().min(1);
        let open = settings.into_iter().filter(|setting| is_open(&matches, &setting.id));
        let flags: Vec<_> = open.filter_map(|setting| setting.flag).map(OsString::from).collect();
        typed.splice(after_name..after_name, flags);
        matches = parse(&table, &typed)?;
    }
    let args = Args::from_arg_matches(&matches)?;
    // O3one creates the folder of its files.
    if let StoreLocation::File(path) = &args.config.store
        && let Some(folder) = store.filter(|store| store == path).as_deref().and_then(Path::parent)
    {
        let made = fs::create_dir_all(folder);
        made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    Ok(Gathered { args, files, notes })
}

/// Which settings a command uses. An error in another one does not stop it.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    /// `--store`, from wherever it comes.
    Store,
    Everything,
}

impl Needs {
    fn of(typed: &[OsString]) -> Needs {
        let without_environment = Args::command().mut_args(without_variable);
        let matches = without_environment.try_get_matches_from(typed);
        match matches.as_ref().ok().and_then(ArgMatches::subcommand_name) {
            Some("check") => Needs::Nothing,
            Some("backup") => Needs::Store,
            _ => Needs::Everything,
        }
    }

    fn has(self, id: &str) -> bool {
        match self {
            Needs::Nothing => false,
            Needs::Store => ["store", "config_file", "o3one_conf"].contains(&id),
            Needs::Everything => true,
        }
    }
}

/// The flags, each with its environment variable if the command needs it, and notes for the log.
fn table(needs: Needs) -> (Command, Vec<String>) {
    let mut notes = Vec::new();
    let table = Args::command().mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os).unwrap_or_default();
        if arg.get_id() == "port" && is_service_address(&value) {
            notes.push(format!(
                "ignored DSMQ_PORT={}: Kubernetes sets it for a Service named dsmq",
                value.display()
            ));
            return without_variable(arg);
        }
        if needs.has(arg.get_id().as_str()) { arg } else { without_variable(arg) }
    });
    (table, notes)
}

/// Whether Kubernetes set this value, for a Service: `tcp://10.0.0.1:30008`.
fn is_service_address(value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

fn without_variable(arg: Arg) -> Arg {
    arg.env(Resettable::Reset)
}

/// Parses what was typed. The error of a value from the environment names the variable.
fn parse(table: &Command, typed: &[OsString]) -> Result<ArgMatches, clap::Error> {
    table.clone().try_get_matches_from(typed).map_err(|mut error| {
        if let Some(variable) = variable_of(&error, table, typed) {
            let source = format!("the value comes from the environment variable {variable}");
            let tip = ContextValue::StyledStrs(vec![source.into()]);
            error.insert(ContextKind::Suggested, tip);
        }
        error
    })
}

/// The environment variable whose value the error is about, unless the flag was typed.
fn variable_of(error: &clap::Error, table: &Command, typed: &[OsString]) -> Option<String> {
    let ContextValue::String(shown) = error.get(ContextKind::InvalidArg)? else { return None };
    // Only built arguments can be shown.
    let mut table = table.clone();
    table.build();
    let arg = table.get_arguments().find(|arg| arg.to_string() == *shown)?;
    let flag = format!("--{}", arg.get_long()?);
    let is_flag = |word: &str| word == flag || word.starts_with(&format!("{flag}="));
    let is_typed = typed.iter().any(|word| is_flag(&word.to_string_lossy()));
    let variable = arg.get_env()?;
    (!is_typed && std::env::var_os(variable).is_some())
        .then(|| variable.to_string_lossy().into_owned())
}

/// Whether neither the environment nor a flag sets it.
fn is_open(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id).is_none_or(|source| source == ValueSource::DefaultValue)
}
