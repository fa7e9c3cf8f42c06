//! What SQLite fails with, as requests are answered.

use rusqlite::ErrorCode;

use super::checksum::Damaged;
use crate::error::{Code, Error};
use crate::store::refusal;

pub fn failed(error: rusqlite::Error) -> Error {
    if let Some(Damaged { id }) = Damaged::of(&error) {
        let text = format!(
            "the message with the id {id} is damaged in the store's file: delete it, or pass over \
             it with since"
        );
        return Error::new(Code::Damaged, text);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => refusal::disk_full(),
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
