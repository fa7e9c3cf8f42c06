//! What SQLite fails with, as requests are answered.

use rusqlite::ErrorCode;

use super::checksum::Damaged;
use crate::error::{Code, Error};

pub fn failed(error: rusqlite::Error) -> Error {
    if let Some(Damaged { id }) = Damaged::of(&error) {
        let text = format!(
            "the message with the id {id} is damaged in the store's file: delete it, or pass over \
             it with since"
        );
        return Error::new(Code::Damaged, text);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Error::new(Code::Full, "the disk is full: make room on it, then try again")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::new(Code::Damaged, format!("the store's file is damaged ({error}): {RESTORE}"))
        }
        None if !matches!(error, rusqlite::Error::SqliteFailure(..)) => {
            Error::new(Code::Damaged, format!("the store's file is damaged ({error}): {RESTORE}"))
        }
        _ => {
            let text = format!("the store failed ({error}): try again");
            Error::new(Code::StoreFailed, text)
        }
    }
}

const RESTORE: &str = "look with 'dsmq check', and restore a backup";
