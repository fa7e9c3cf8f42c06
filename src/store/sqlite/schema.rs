//! The tables and every statement, as SQL.

/// `log` is clustered by topic and id, so that a topic is read and taken from front to back
/// without a second index. A row of such a table that is over a quarter of a page spills to pages
/// of its own, most of the last one empty; so a large message is a row of `large`, whose pages it
/// fills, and its row in `log` has no body. `messages` is what a person reads.
///
/// Pages of 8 KiB: with 4 KiB a put costs a tenth more and a message 5 % more memory; with 16 KiB
/// a message of 10 kB fills a page by itself.
pub const CREATE: &str = "
    PRAGMA page_size = 8192;
    CREATE TABLE topics (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE log (
        topic INTEGER NOT NULL,
        id INTEGER NOT NULL,
        body TEXT,
        PRIMARY KEY (topic, id)
    ) WITHOUT ROWID;
    CREATE TABLE large (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE VIEW messages AS
        SELECT topics.name AS topic, log.id AS id, log.id / 1e6 AS timestamp,
               coalesce(log.body, large.body) AS message
        FROM log JOIN topics ON topics.number = log.topic LEFT JOIN large ON large.id = log.id
        ORDER BY log.id;
";

/// A message over this many bytes is a row of `large`. A row of `log` stays within its page up to
/// 2,030 bytes; what is left is for the key and the header.
pub const LARGE_BYTES: usize = 2_000;

pub const BEGIN: &str = "BEGIN IMMEDIATE";
pub const COMMIT: &str = "COMMIT";
pub const ROLL_BACK: &str = "ROLLBACK";

pub const INSERT_TOPIC: &str = "INSERT INTO topics (name) VALUES (?1)";
pub const INSERT: &str = "INSERT INTO log (topic, id, body) VALUES (?1, ?2, ?3)";
pub const INSERT_LARGE: &str = "INSERT INTO large (id, body) VALUES (?1, ?2)";

pub const READ: &str = "SELECT id, body FROM log WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
pub const READ_NEWEST: &str = "SELECT id, body FROM log WHERE topic = ?1 ORDER BY id DESC LIMIT 1";
pub const READ_LARGE: &str = "SELECT body FROM large WHERE id = ?1";
