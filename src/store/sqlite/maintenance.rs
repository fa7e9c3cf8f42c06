//! Tools that need no server: check a store's file, copy it, and describe the SQLite in this
//! binary.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, Result};

use super::counters::{TopicCounters, TopicRecord};
use super::location::{beside, with_mode_of};
use super::tables::Tables;
use super::{file, schema};
use crate::store::Checked;

/// The most faults that a check reports.
const MAX_FAULTS: usize = 100;

/// Checks a file: SQLite's integrity check, every checksum and every count, in one read
/// transaction, also while a server writes. The error says why the file cannot be read.
pub fn check(path: &Path) -> std::result::Result<Checked, String> {
    let tables = match file::open_to_read(path) {
        Ok(tables) => tables,
        // A damaged header is a result of the check, not a failure to check.
        Err(error) if error.ends_with(file::DAMAGED) => {
            let fault = "the file cannot be read: restore a backup".to_owned();
            return Ok(Checked { faults: vec![fault], ..Checked::default() });
        }
        Err(error) => return Err(error),
    };
    let mut check = Check { tables: &tables, checked: Checked::default(), found: 0 };
    if let Err(error) = check.all() {
        check.fault(format!("cannot read the rest of the file: {error}"));
    }
    let more = check.found.saturating_sub(MAX_FAULTS);
    let mut checked = check.checked;
    if more > 0 {
        checked.faults.push(format!("and {more} more"));
    }
    Ok(checked)
}

struct Check<'a> {
    tables: &'a Tables,
    checked: Checked,
    found: usize,
}

impl Check<'_> {
    fn fault(&mut self, fault: String) {
        self.found += 1;
        if self.found <= MAX_FAULTS {
            self.checked.faults.push(fault);
        }
    }

    fn all(&mut self) -> Result<()> {
        self.tables.statement(schema::BEGIN_TO_READ)?.raw_execute()?;
        self.integrity()?;
        match TopicCounters::load(self.tables)? {
            Ok(counters) => counters.records().iter().try_for_each(|record| self.topic(record))?,
            Err(name) => self.fault(format!("the row of topic {name:?} is damaged")),
        }
        for (description, sql) in schema::STRAYS {
            let strays = self.tables.statement(sql)?.query_one((), |row| row.get::<_, i64>(0))?;
            if strays != 0 {
                self.fault(format!("{strays} {description}"));
            }
        }
        Ok(())
    }

    /// Runs SQLite's integrity check.
    fn integrity(&mut self) -> Result<()> {
        let mut check = self.tables.statement(schema::INTEGRITY)?;
        let mut rows = check.query([])?;
        while let Some(row) = rows.next()? {
            let found: String = row.get(0)?;
            if found != "ok" {
                self.fault(found);
            }
        }
        Ok(())
    }

    /// Checks a topic's messages and its counts.
    fn topic(&mut self, record: &TopicRecord) -> Result<()> {
        let (name, number) = (record.topic_state.topic().as_str(), record.state.number);
        let (length, bytes) = self.messages(name, number)?;
        let saved = &record.state.counts;
        let params = (number, saved.taken_to.cast_signed());
        let rows = self.tables.statement(schema::COUNTS)?.query_one(params, |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
        })?;
        let [in_line, ready, leased, delayed, noted] = rows.map(i64::cast_unsigned);
        let counts = [
            ("messages", saved.length, length),
            ("bytes", saved.bytes, bytes),
            ("messages in line", saved.in_line, in_line),
            ("messages ready", saved.ready, ready),
            ("messages leased", saved.leased, leased),
            ("messages delayed", saved.delayed, delayed),
            ("messages noted", saved.noted, noted),
        ];
        for (unit, saved, found) in counts.into_iter().filter(|(_, saved, found)| saved != found) {
            let text =
                format!("topic {name:?}: its row counts {saved} {unit}, the tables have {found}");
            self.fault(text);
        }
        self.delayed(name, number)?;
        self.checked.topics += 1;
        self.checked.messages += length;
        self.checked.bytes += bytes;
        Ok(())
    }

    fn messages(&mut self, name: &str, number: i64) -> Result<(u64, u64)> {
        let mut read = self.tables.statement(schema::ALL_OF_TOPIC)?;
        let mut rows = read.query([number])?;
        let (mut length, mut bytes, mut body) = (0, 0, Vec::new());
        while let Some(row) = rows.next()? {
            body.clear();
            length += 1;
            if let Err(error) = self.tables.read_one(number, row, &mut body) {
                let id: i64 = row.get(0).unwrap_or_default();
                self.fault(format!("topic {name:?}: message {id}: {}", reason(&error)));
            }
            bytes += body.len() as u64;
        }
        Ok((length, bytes))
    }

    fn delayed(&mut self, name: &str, number: i64) -> Result<()> {
        let mut read = self.tables.statement(schema::LIST_DELAYED)?;
        let mut rows = read.query((number, i64::MAX))?;
        while let Some(row) = rows.next()? {
            if let Err(error) = self.tables.checked(number, row, row.get_ref(1)?.as_bytes()?) {
                self.fault(format!("topic {name:?}: a delayed message: {}", reason(&error)));
            }
        }
        Ok(())
    }
}

fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..) => "the checksum does not match".into(),
        rusqlite::Error::QueryReturnedNoRows => "its body is missing".into(),
        error => error.to_string(),
    }
}

/// Copies the committed content of a store's file and returns the size of the copy in bytes. The
/// copy appears under its name only when it is complete and synced.
pub fn backup(from: &Path, to: &Path) -> std::result::Result<u64, String> {
    let folder = file::folder_of(to);
    if !folder.is_dir() {
        return Err(format!("{}: no such folder: {}", to.display(), folder.display()));
    }
    if to.exists() || to.is_symlink() {
        return Err(format!("{}: the file already exists", to.display()));
    }
    let tables = file::open_to_read(from)?;
    // The process id keeps concurrent backups to the same place apart.
    let partial = beside(to, &format!("-partial-{}", std::process::id()));
    let copied = create(from, &partial)
        .and_then(|()| copy(tables.sqlite(), &partial))
        .and_then(|()| publish(&partial, to));
    copied.map_err(|error| {
        let _ = fs::remove_file(&partial);
        format!("{}: {error}", to.display())
    })
}

/// Creates the empty copy with the permissions of the original.
fn create(from: &Path, partial: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    with_mode_of(from, &mut options);
    let file = options.open(partial)?;
    // The umask may have removed some.
    file.set_permissions(fs::metadata(from)?.permissions())
}

/// Copies all pages in one step: a backup in several steps restarts whenever the store is written.
fn copy(from: &Connection, partial: &Path) -> io::Result<()> {
    let step = Connection::open(partial)
        .and_then(|mut to| Backup::new(from, &mut to).and_then(|backup| backup.step(-1)));
    match step.map_err(|error| io::Error::other(file::explain(error)))? {
        StepResult::Done => Ok(()),
        _ => Err(io::Error::other("another program has locked the store: try again")),
    }
}

/// Syncs the copy and gives it its name. Returns its size in bytes.
fn publish(partial: &Path, to: &Path) -> io::Result<u64> {
    File::options().write(true).open(partial)?.sync_all()?;
    fs::rename(partial, to)?;
    File::open(file::folder_of(to))?.sync_all()?;
    fs::metadata(to).map(|file| file.len())
}

/// The compile flags of `.cargo/config.toml`, as an environment variable. `cargo install` does not
/// read that file.
const FLAGS: &str = "LIBSQLITE3_FLAGS=\"-DSQLITE_DEFAULT_MEMSTATUS=0 -DHAVE_FDATASYNC=1\"";

/// The one of these flags that SQLite reports. The other is set by the same variable.
const REPORTED_FLAG: &str = "DEFAULT_MEMSTATUS=0";

/// SQLite's version, and advice if its compile flags are missing.
pub fn sqlite_version() -> String {
    let version = rusqlite::version();
    match compile_flags_advice() {
        None => format!("SQLite {version}, {REPORTED_FLAG}"),
        Some(advice) => format!("SQLite {version}: {advice}"),
    }
}

/// Advice if SQLite was compiled without the flags of the benchmarks.
pub fn compile_flags_advice() -> Option<String> {
    advice(&compile_options().unwrap_or_default())
}

fn compile_options() -> rusqlite::Result<Vec<String>> {
    let sqlite = Connection::open_in_memory()?;
    let mut options = sqlite.prepare("PRAGMA compile_options")?;
    options.query_map([], |row| row.get(0))?.collect()
}

fn advice(options: &[String]) -> Option<String> {
    let is_missing = !options.iter().any(|option| option == REPORTED_FLAG);
    is_missing.then(|| {
        format!("compiled without {REPORTED_FLAG}, which makes it slower: build with {FLAGS}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_flag_is_reported_with_its_remedy() {
        let threads = "THREADSAFE=1".to_owned();
        for options in [vec![], vec![threads.clone()], vec!["DEFAULT_MEMSTATUS=1".to_owned()]] {
            let advice = advice(&options).unwrap();
            assert!(advice.starts_with("compiled without DEFAULT_MEMSTATUS=0"), "{advice}");
            assert!(advice.ends_with(FLAGS), "{advice}");
        }
        assert_eq!(advice(&[threads, REPORTED_FLAG.to_owned()]), None);
    }

    #[test]
    fn advised_flags_equal_those_of_this_repository() {
        let config = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/config.toml"));
        let (name, flags) = FLAGS.split_once('=').unwrap();
        assert!(config.contains(&format!("{name} = {flags}")), "{config}");
        let options = compile_options().unwrap();
        assert!(options.iter().any(|option| option == REPORTED_FLAG), "{options:?}");
    }
}
