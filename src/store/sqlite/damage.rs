//! Damage and failures: checksums that find a damaged row, and the answers to requests when SQLite fails.
//!
//! A row with a message carries the CRC-32 of the message, so that damage to a file is found before a
//! client receives something else. Rows in memory have none.

use std::fmt;

use rusqlite::ErrorCode;
use rusqlite::types::Type;

use crate::error::{Code, Error};
use crate::ops::Id;
use crate::store::errors;

/// What a row of `log` or `delayed` says of its message. For a delayed one the id is when it is
/// due, and `expires` is its ttl.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub topic: i64,
    pub id: i64,
    pub expires: Option<i64>,
    pub body: &'a [u8],
}

impl Row<'_> {
    pub fn crc(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.topic.to_le_bytes());
        crc.update(&self.id.to_le_bytes());
        crc.update(&self.expires.unwrap_or(-1).to_le_bytes());
        crc.update(self.body);
        crc.finalize()
    }

    /// An error if this is not what was written.
    pub fn check(&self, crc: Option<i64>) -> rusqlite::Result<()> {
        if crc == Some(i64::from(self.crc())) {
            return Ok(());
        }
        let damaged = Box::new(Damaged { id: self.id.cast_unsigned() });
        Err(rusqlite::Error::FromSqlConversionFailure(1, Type::Text, damaged))
    }
}

/// A message that is not what was put.
#[derive(Debug)]
pub struct Damaged {
    pub id: Id,
}

impl Damaged {
    /// If this is what the error says.
    pub fn of(error: &rusqlite::Error) -> Option<&Damaged> {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, why) => why.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message with the id {} is damaged", self.id)
    }
}

impl std::error::Error for Damaged {}

/// Of a row of `topics`: of its name and its numbers, in the order of the columns.
pub fn of_topic(name: &str, policy: Option<&str>, numbers: &[i64]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    numbers.iter().for_each(|number| crc.update(&number.to_le_bytes()));
    crc.update(policy.unwrap_or_default().as_bytes());
    crc.update(b"\0");
    crc.update(name.as_bytes());
    crc.finalize()
}

pub fn failed(error: rusqlite::Error) -> Error {
    if let Some(Damaged { id }) = Damaged::of(&error) {
        let text = format!(
            "the message with the id {id} is damaged in the store's file: delete it, or pass over \
             it with since"
        );
        return Error::new(Code::Damaged, text);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => errors::disk_full(),
        _ if is_damage(&error) => {
            Error::new(Code::Damaged, format!("the store's file is damaged ({error}): {RESTORE}"))
        }
        _ => {
            let text = format!("the store failed ({error}): try again");
            Error::new(Code::StoreFailed, text)
        }
    }
}

/// Whether the error says that the file is damaged. Then SQLite goes on with the transaction; after other
/// errors it may have rolled the transaction back.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        _ => true,
    }
}

const RESTORE: &str = "look with 'dsmq check', and restore a backup";
