//! The tools that need no server: check a store's file, copy it, and name the SQLite in this binary.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OptionalExtension, Result};

use super::counters::{RecordState, TopicCounters};
use super::location::{beside, with_mode_of};
use super::tables::Tables;
use super::{file, schema};
use crate::store::Checked;

/// Faults that are told; there may be one for each message.
const MAX_FAULTS: usize = 100;

/// Checks a file. An error is why it could not be looked at.
pub fn check(path: &Path) -> std::result::Result<Checked, String> {
    let tables = match file::open_to_read(path) {
        Ok(tables) => tables,
        // What cannot even be opened is not whole, and that is what was asked.
        Err(error) if error.ends_with(file::DAMAGED) => {
            let fault = "it cannot be read at all: restore a backup".to_owned();
            return Ok(Checked { faults: vec![fault], ..Checked::default() });
        }
        Err(error) => return Err(error),
    };
    let mut check = Check { tables: &tables, checked: Checked::default(), found: 0 };
    if let Err(error) = check.all() {
        check.fault(format!("it cannot be read on: {error}"));
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
        self.sqlite()?;
        match TopicCounters::load(self.tables)? {
            Ok(counters) => {
                counters.states().try_for_each(|(name, state)| self.topic(name, state))?
            }
            Err(name) => self.fault(format!("what it says of the topic {name:?} is damaged")),
        }
        self.strays()
    }

    /// What SQLite itself finds.
    fn sqlite(&mut self) -> Result<()> {
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

    /// A topic's messages, one by one, and their number.
    fn topic(&mut self, name: &str, state: &RecordState) -> Result<()> {
        let (length, bytes) = self.messages(name, state.number)?;
        let counts = &state.counts;
        let taken_to = counts.taken_to.cast_signed();
        let rows = |sql| self.count(sql, (state.number, taken_to));
        let counted = [
            ("messages", counts.length, length),
            ("bytes", counts.bytes, bytes),
            ("messages in line", counts.in_line, rows(schema::COUNT_IN_LINE)?),
            ("messages ready", counts.ready, rows(schema::COUNT_READY)?),
            ("messages leased", counts.leased, rows(schema::COUNT_LEASED)?),
            ("messages delayed", counts.delayed, rows(schema::COUNT_DELAYED)?),
            ("messages noted", counts.noted, rows(schema::COUNT_NOTED)?),
        ];
        for (what, describe, found) in
            counted.into_iter().filter(|(_, describe, found)| describe != found)
        {
            self.fault(format!(
                "topic {name:?}: it says that there are {describe} {what}: there are {found}"
            ));
        }
        self.delayed(name, state.number)?;
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

    /// Rows that belong to nothing.
    fn strays(&mut self) -> Result<()> {
        for (what, sql) in schema::STRAYS {
            match self.count(sql, ())? {
                0 => {}
                strays => self.fault(format!("{strays} {what}")),
            }
        }
        Ok(())
    }

    fn count(&self, sql: &str, params: impl rusqlite::Params) -> Result<u64> {
        let count = self.tables.statement(sql)?.query_one(params, |row| row.get::<_, i64>(0));
        Ok(count.optional()?.unwrap_or_default().cast_unsigned())
    }
}

fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..) => "it is not what was put".into(),
        rusqlite::Error::QueryReturnedNoRows => "its text is missing".into(),
        error => error.to_string(),
    }
}

/// Copies a store's file with all that is committed in it, and returns the copy's size in bytes.
/// Under its name the copy is there only once it is whole and on disk.
pub fn backup(from: &Path, to: &Path) -> std::result::Result<u64, String> {
    let folder = file::folder_of(to);
    if !folder.is_dir() {
        return Err(format!("{}: there is no folder {}", to.display(), folder.display()));
    }
    if to.exists() || to.is_symlink() {
        return Err(format!("{}: it is there already", to.display()));
    }
    let tables = file::open_to_read(from)?;
    // Each process has its own name for an unfinished copy: another may be copying to the same place.
    let partial = beside(to, &format!("-partial-{}", std::process::id()));
    let describe = |error: String| format!("{}: {error}", to.display());
    let made = make(from, &partial).map_err(|error| error.to_string());
    let copied = made.and_then(|()| copy(tables.sqlite(), &partial)).and_then(|()| {
        let renamed = sync(&partial).and_then(|()| fs::rename(&partial, to));
        renamed.and_then(|()| sync_folder(to)).map_err(|error| error.to_string())
    });
    if let Err(error) = copied {
        let _ = fs::remove_file(&partial);
        return Err(describe(error));
    }
    fs::metadata(to).map(|file| file.len()).map_err(|error| describe(error.to_string()))
}

/// Makes the copy, empty and with the permissions of its store: what only some may read stays so.
fn make(from: &Path, partial: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    with_mode_of(from, &mut options);
    let file = options.open(partial)?;
    // The umask may have taken some away.
    file.set_permissions(fs::metadata(from)?.permissions())
}

/// All pages in one step: a backup that pauses begins anew when somebody writes meanwhile.
fn copy(from: &Connection, partial: &Path) -> std::result::Result<(), String> {
    let mut to = Connection::open(partial).map_err(file::explain)?;
    let backup = Backup::new(from, &mut to).map_err(file::explain)?;
    match backup.step(-1).map_err(file::explain)? {
        StepResult::Done => Ok(()),
        _ => Err("another program is in the way: try again".to_owned()),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(file::folder_of(path))?.sync_all()
}

/// The flags of `.cargo/config.toml`, as the environment of a build says them.
const FLAGS: &str = "LIBSQLITE3_FLAGS=\"-DSQLITE_DEFAULT_MEMSTATUS=0 -DHAVE_FDATASYNC=1\"";

/// The one of these flags that SQLite can name; the other comes from the same variable.
const REPORTED_FLAG: &str = "DEFAULT_MEMSTATUS=0";

/// SQLite's version and, if its compile flags are missing, what to do.
pub fn sqlite_version() -> String {
    let version = rusqlite::version();
    match compile_flags_advice() {
        None => format!("SQLite {version}, {REPORTED_FLAG}"),
        Some(advice) => format!("SQLite {version}: {advice}"),
    }
}

/// A line of advice if SQLite was compiled without the flags that dsmq is measured with.
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
    fn a_missing_flag_is_reported_with_the_remedy() {
        let threads = "THREADSAFE=1".to_owned();
        for options in [vec![], vec![threads.clone()], vec!["DEFAULT_MEMSTATUS=1".to_owned()]] {
            let advice = advice(&options).unwrap();
            assert!(advice.starts_with("compiled without DEFAULT_MEMSTATUS=0"), "{advice}");
            assert!(advice.ends_with(FLAGS), "{advice}");
        }
        assert_eq!(advice(&[threads, REPORTED_FLAG.to_owned()]), None);
    }

    #[test]
    fn the_remedy_is_what_builds_in_this_repository_use() {
        let config = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/config.toml"));
        let (name, flags) = FLAGS.split_once('=').unwrap();
        assert!(config.contains(&format!("{name} = {flags}")), "{config}");
        let options = compile_options().unwrap();
        assert!(options.iter().any(|option| option == REPORTED_FLAG), "{options:?}");
    }
}
