//! Whether a file is whole: what SQLite finds, every checksum, and every count. It only reads, as
//! of one moment, also beside a server that writes.

use std::path::Path;

use rusqlite::{OptionalExtension, Result};

use super::counters::{State, TopicCounters};
use super::tables::Tables;
use super::{file, schema};
use crate::store::Checked;

/// Faults that are told; there may be one for each message.
const FAULTS: usize = 100;

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
    let more = check.found.saturating_sub(FAULTS);
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
        if self.found <= FAULTS {
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
    fn topic(&mut self, name: &str, state: &State) -> Result<()> {
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
        for (what, said, found) in counted.into_iter().filter(|(_, said, found)| said != found) {
            self.fault(format!(
                "topic {name:?}: it says that there are {said} {what}: there are {found}"
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
