//! `dsmq.toml`: the configuration as a file. Each flag's name is a key. The table of the flags
//! decides which keys exist and which values are valid.

use std::error::Error as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Command};
use toml::de::{DeInteger, DeTable, DeValue};

use crate::Config;

/// Read if it exists and no other file is named.
const DEFAULT: &str = "dsmq.toml";

/// Maximum size of a configuration file.
const BYTES_MAX: usize = 1024 * 1024;

/// Minimum similarity of an unknown key to a known one that is suggested instead.
const ALIKE_MIN: f64 = 0.7;

/// A file that was read.
#[derive(Debug)]
pub struct Settings {
    /// The path as it was given.
    pub path: PathBuf,
    pub settings: Vec<Setting>,
}

/// A value of the file, as the flag that sets it.
#[derive(Debug, PartialEq)]
pub struct Setting {
    /// The name of the flag's field.
    pub id: String,
    /// `--key=value`; `None` for a switch that is off.
    pub flag: Option<String>,
}

/// Reads the settings that are `needed` by their keys from the file of this name, or else from
/// `dsmq.toml` if it exists. An error is one line.
pub fn read(
    named: Option<&Path>,
    needed: impl Fn(&str) -> bool,
) -> Result<Option<Settings>, String> {
    let path = named.unwrap_or(Path::new(DEFAULT));
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        // A working directory that may not be searched has no file.
        Err(error)
            if named.is_none()
                && error.kind() == io::ErrorKind::PermissionDenied
                && path.metadata().is_err() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let table = Config::augment_args(Command::new("dsmq"));
    let settings =
        parse(&text, &table, needed).map_err(|fault| format!("{}{fault}", path.display()))?;
    Ok(Some(Settings { path: path.to_owned(), settings }))
}

pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    if read > BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The settings of a file, in its order. An error begins with the place, after a comma.
fn parse(
    text: &str,
    table: &Command,
    needed: impl Fn(&str) -> bool,
) -> Result<Vec<Setting>, String> {
    let parsed = DeTable::parse(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
        format!(", line {line}, column {column}: {}", error.message())
    })?;
    let mut entries: Vec<_> = parsed.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries.retain(|(key, _)| needed(key.get_ref()));
    let settings = entries.into_iter().map(|(key, value)| {
        setting(key.get_ref(), value.get_ref(), table).map_err(|wrong| {
            let (line, _) = position(text, key.span().start);
            format!(", line {line}: {wrong}")
        })
    });
    settings.collect()
}

/// Line and column of an offset, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn setting(key: &str, value: &DeValue<'_>, table: &Command) -> Result<Setting, String> {
    let shown = key.escape_debug();
    let is_boolean = matches!(value, DeValue::Boolean(_));
    let value = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => decimal(number),
        DeValue::Boolean(value) => value.to_string(),
        other => {
            let kind = other.type_str();
            return Err(format!(
                "'{shown}' has a value of type {kind}: say a string, an integer or a boolean"
            ));
        }
    };
    let flag = table.get_arguments().find(|flag| flag.get_long() == Some(key));
    let flag = flag.ok_or_else(|| format!("unknown key '{shown}': {}", instead_of(key, table)))?;
    let id = flag.get_id().to_string();
    let needs_value = flag.get_num_args().is_none_or(|values| values.min_values() > 0);
    if !flag.get_action().takes_values() || (is_boolean && !needs_value) {
        return match value.as_str() {
            "true" => Ok(Setting { id, flag: Some(format!("--{key}")) }),
            "false" => Ok(Setting { id, flag: None }),
            _ => Err(format!("wrong value for '{shown}': say true or false")),
        };
    }
    // A flag whose value is optional also accepts true and false.
    if is_boolean && flag.get_num_args().is_none_or(|values| values.min_values() > 0) {
        return Err(format!("wrong value for '{shown}': it is neither true nor false"));
    }
    let text = format!("--{key}={value}");
    match refusal(flag, &text) {
        Some(wrong) => Err(format!("wrong value for '{shown}': {wrong}")),
        None => Ok(Setting { id, flag: Some(text) }),
    }
}

/// In decimal, as the flags read it. An integer outside every type is refused with the flag's own
/// error.
fn decimal(number: &DeInteger<'_>) -> String {
    let value = i128::from_str_radix(number.as_str(), number.radix());
    value.map_or_else(|_| number.to_string(), |value| value.to_string())
}

/// The known key that is most similar to an unknown one, or all keys.
fn instead_of(key: &str, table: &Command) -> String {
    let keys = || table.get_arguments().filter_map(Arg::get_long);
    let alike = keys().map(|known| (strsim::jaro_winkler(key, known), known));
    match alike.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((alike, known)) if alike >= ALIKE_MIN => format!("did you mean '{known}'?"),
        _ => format!("there are {}", keys().collect::<Vec<_>>().join(", ")),
    }
}

/// Why the flag does not accept the text; `None` if it does.
fn refusal(flag: &Arg, text: &str) -> Option<String> {
    let alone = Command::new("dsmq").no_binary_name(true).disable_help_flag(true).arg(flag.clone());
    let error = alone.try_get_matches_from([text]).err()?;
    Some(match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => reason.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("say one of: {}", valid.join(", ")),
        (None, _) => error.kind().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Command {
        let switch = Arg::new("allow_it").long("allow-it").action(clap::ArgAction::SetTrue);
        Config::augment_args(Command::new("dsmq")).arg(switch)
    }

    fn flags(text: &str) -> Vec<String> {
        parse(text, &table(), |_| true)
            .unwrap()
            .into_iter()
            .filter_map(|setting| setting.flag)
            .collect()
    }

    fn wrong(text: &str) -> String {
        parse(text, &table(), |_| true).unwrap_err()
    }

    #[test]
    fn values_are_flags() {
        let text = "# a comment\nport = 1_234\nmax-store = \"64MiB\"\r\n\n'host'='::1' # and one\n";
        assert_eq!(flags(text), ["--port=1234", "--max-store=64MiB", "--host=::1"]);
        assert_eq!(
            flags("port = \"1234\"\nmax-store = 0x4000000"),
            ["--port=1234", "--max-store=67108864"]
        );
        assert_eq!(flags(""), [""; 0]);
        assert_eq!(flags("\u{feff}port = 1"), ["--port=1"]);
        let id = "max_store".to_owned();
        let setting = Setting { id, flag: Some("--max-store=1GiB".to_owned()) };
        assert_eq!(parse("max-store = '1GiB'", &table(), |_| true), Ok(vec![setting]));
    }

    #[test]
    fn a_switch_is_on_or_off() {
        assert_eq!(flags("allow-it = true\nport = 1"), ["--allow-it", "--port=1"]);
        assert_eq!(flags("allow-it = false"), [""; 0]);
        assert_eq!(flags("o3one = true\nport = 1"), ["--o3one", "--port=1"]);
        assert_eq!(flags("o3one = false"), [""; 0]);
        assert_eq!(flags("o3one = '1,2,3'"), ["--o3one=1,2,3"]);
        let text = ", line 1: wrong value for 'allow-it': say true or false";
        assert_eq!(wrong("allow-it = 1"), text);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let keys = "host, port, coremq, coremq-conf, o3one, o3one-ack, o3one-priority, mezzenger, mezzenger-resend, max-connections, max-message, dead-letter-after, store, redis-prefix, redis-pool, redis-replicas, sync, keep, \
                    max-store, when-full, allow-host, allow-origin, allow-shutdown, log, allow-it";
        let kinds = "say a string, an integer or a boolean";
        for (text, error) in [
            ("prot = 1", ", line 1: unknown key 'prot': did you mean 'port'?"),
            ("\n\nmax_store = 1", ", line 3: unknown key 'max_store': did you mean 'max-store'?"),
            ("xyz = 1", &format!(", line 1: unknown key 'xyz': there are {keys}")),
            ("\"a\\nb\" = 1", &format!(", line 1: unknown key 'a\\nb': there are {keys}")),
            ("port = [1]", &format!(", line 1: 'port' has a value of type array: {kinds}")),
            ("[port]\na = 1", &format!(", line 1: 'port' has a value of type table: {kinds}")),
            ("port.a = 1", &format!(", line 1: 'port' has a value of type table: {kinds}")),
            ("port = 1.5", &format!(", line 1: 'port' has a value of type float: {kinds}")),
            ("a = 2026-01-01", &format!(", line 1: 'a' has a value of type datetime: {kinds}")),
            ("port = 65536", ", line 1: wrong value for 'port': 65536 is not in 0..=65535"),
            ("port = true", ", line 1: wrong value for 'port': it is neither true nor false"),
            ("store = true", ", line 1: wrong value for 'store': it is neither true nor false"),
            ("sync = 'on'", ", line 1: wrong value for 'sync': say one of: full, normal, off"),
            ("sync = ''", ", line 1: wrong value for 'sync': say one of: full, normal, off"),
            (
                "when-full = 'x'",
                ", line 1: wrong value for 'when-full': say one of: drop-oldest, refuse",
            ),
            ("max-store = 0", ", line 1: wrong value for 'max-store': must be from 1MiB to 8TiB"),
            ("keep = '0d'", ", line 1: wrong value for 'keep': must be from 1s to 36500d"),
            ("host = 'a'\nprt = 1\nprot = 1", ", line 2: unknown key 'prt': did you mean 'port'?"),
            ("port = 1\nport = 2", ", line 2, column 1: duplicate key"),
            ("port = 1\n  port 2", ", line 2, column 8: key with no value, expected `=`"),
        ] {
            assert_eq!(wrong(text), *error, "{text:?}");
        }
        let unreadable = wrong("port = 99999999999999999999999999999999999999999");
        assert!(unreadable.starts_with(", line 1: wrong value for 'port': "), "{unreadable}");
    }

    proptest! {
        #[test]
        fn no_file_breaks_it(text in "((port|sync|[a-z\"'.\\[\\]{}=#\n\r]{0,9}) ?= ?[^é]{0,9}\n){0,3}\\PC{0,9}") {
            match parse(&text, &table(), |_| true) {
                Ok(settings) => prop_assert!(settings.len() <= text.lines().count()),
                Err(error) => prop_assert!(error.starts_with(", line ") && !error.contains('\n')),
            }
        }
    }
}
