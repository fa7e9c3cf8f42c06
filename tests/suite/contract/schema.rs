//! schema.txt: the SQLite file that a server makes, as another program reads it.

use rusqlite::Connection;

use crate::suite::support::folder::Folder;
use crate::suite::support::server_with;
use dsmq::{Config, StoreLocation};

use super::golden;

/// What an SQLite file says of itself.
const PRAGMAS: [&str; 5] =
    ["application_id", "user_version", "page_size", "auto_vacuum", "encoding"];

#[test]
fn schema_of_a_new_store() {
    let folder = Folder::new("contract-schema");
    let path = folder.path("queue.db");
    server_with(Config { store: StoreLocation::File(path.clone()), ..Config::default() }).stop();
    let file = Connection::open(&path).unwrap();
    let mut lines = Vec::new();
    for pragma in PRAGMAS {
        let value = texts(&file, &format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"));
        lines.push(format!("{pragma} = {}", value.join(" ")));
    }
    let columns = texts(&file, "SELECT name || ' ' || type FROM pragma_table_info('messages')");
    lines.push(format!("messages has the columns: {}", columns.join(", ")));
    lines.extend(texts(
        &file,
        "SELECT type || ' ' || name || ' of ' || tbl_name || ': ' || coalesce(sql, '-')
         FROM sqlite_schema ORDER BY type, name",
    ));
    golden::check("schema.txt", &lines);
}

/// The rows of a query; each run of white space is one space.
fn texts(file: &Connection, sql: &str) -> Vec<String> {
    let mut query = file.prepare(sql).unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| row.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}
