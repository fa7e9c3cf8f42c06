//! Checksums that detect damaged rows, and the translation of SQLite's errors into replies.
//!
//! In a file, each row with a message carries a CRC-32, so that a damaged message is never
//! delivered. Rows in memory have none.

use std::fmt;

use rusqlite::ErrorCode;
use rusqlite::types::Type;

use crate::error::{Code, Error};
use crate::ops::Id;
use crate::store::errors;

/// The checksum of a message in `log` or `delayed`. In `delayed`, `id` is the due time and `expires` the
/// ttl.
pub fn of_message(topic: i64, id: i64, expires: Option<i64>, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&topic.to_le_bytes());
    crc.update(&id.to_le_bytes());
    crc.update(&expires.unwrap_or(-1).to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// The error of a message whose checksum does not match.
#[derive(Debug)]
pub struct Damaged {
    pub id: Id,
}

impl Damaged {
    pub fn error(id: Id) -> rusqlite::Error {
        let damaged = Box::new(Damaged { id });
        rusqlite::Error::FromSqlConversionFailure(1, Type::Text, damaged)
    }

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

/// The checksum of a row of `topics`: its name and its numbers in the order of the columns.
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
            "the message with the id {id} is damaged in the store's file: delete it, or skip it \
             with since"
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

/// Whether the error reports damage. SQLite can continue the transaction after damage. After other
/// errors it may have rolled the transaction back.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        _ => true,
    }
}

const RESTORE: &str = "run 'dsmq check', and restore a backup";
