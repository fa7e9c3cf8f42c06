//! The tables and every statement, as SQL.
//!
//! `log` has a row for each message, clustered by topic and id, so that reads and takes in order
//! need no second index. SQLite moves a row of over a quarter of a page to overflow pages and
//! leaves most of the last one empty. So the body of a large message is a row of `large`, whose
//! pages it fills, and its row in `log` has no body. The view `messages` shows topics and messages
//! to people.
//!
//! Plain messages have a null `rank` and are taken in the order of the log, up to
//! `topics.taken_to`. The other tables are empty for plain topics:
//!
//! | table | a row for each |
//! | --- | --- |
//! | `ready` | message that is taken by its rank: prioritised or returned |
//! | `leases` | leased message, or one that was returned with a delay (`held` is 0) |
//! | `delayed` | message that is not due yet |
//! | `expiries` | message with a ttl |
//! | `dedupe` | dedupe key of the last two minutes |
//! | `notes` | message that was peeked at, or is a dead letter |
//! | `trash` | number of a purged topic that still has rows |
//!
//! The other tables refer to a topic by its `number`. In a file, a row of `topics` has the topic's
//! counts as of the last transaction, so that opening a file counts nothing, and rows with messages
//! have a checksum ([`super::damage`]).
//!
//! A `rank` is 9 minus the priority, so that the first to be taken sorts first. Times are
//! microseconds since 1970.

/// The application id of a store's file: "dsmq".
pub const APPLICATION_ID: i64 = 0x6473_6d71;

/// The step at index n migrates a file of schema version n to version n + 1.
pub const MIGRATIONS: &[&str] = &[CREATE];

/// Pages of 8 KiB. With 4 KiB a put costs 10 % more and a message 5 % more memory; with 16 KiB a
/// message of 10 kB fills a page by itself. Incremental vacuum can return free pages.
pub const PAGES: &str = "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL;";
pub const PAGE_BYTES: u64 = 8_192;

const CREATE: &str = "
    CREATE TABLE topics (
        slot INTEGER PRIMARY KEY,
        number INTEGER NOT NULL,
        name TEXT NOT NULL UNIQUE,
        stopped INTEGER NOT NULL DEFAULT 0,
        policy TEXT,
        newest INTEGER NOT NULL DEFAULT 0,
        oldest INTEGER NOT NULL DEFAULT 0,
        taken_to INTEGER NOT NULL DEFAULT 0,
        length INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        in_line INTEGER NOT NULL DEFAULT 0,
        ready INTEGER NOT NULL DEFAULT 0,
        leased INTEGER NOT NULL DEFAULT 0,
        delayed INTEGER NOT NULL DEFAULT 0,
        noted INTEGER NOT NULL DEFAULT 0,
        crc INTEGER
    );
    CREATE TABLE trash (number INTEGER PRIMARY KEY);
    CREATE TABLE log (
        topic INTEGER NOT NULL,
        id INTEGER NOT NULL,
        rank INTEGER,
        expires INTEGER,
        crc INTEGER,
        body TEXT,
        PRIMARY KEY (topic, id)
    ) WITHOUT ROWID;
    CREATE TABLE large (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE ready (
        topic INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        id INTEGER NOT NULL,
        deliveries INTEGER NOT NULL,
        PRIMARY KEY (topic, rank, id)
    ) WITHOUT ROWID;
    CREATE TABLE leases (
        topic INTEGER NOT NULL,
        id INTEGER NOT NULL,
        until INTEGER NOT NULL,
        held INTEGER NOT NULL,
        deliveries INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        size INTEGER NOT NULL,
        expires INTEGER,
        PRIMARY KEY (topic, id)
    ) WITHOUT ROWID;
    CREATE INDEX leases_until ON leases (until);
    CREATE TABLE delayed (
        number INTEGER PRIMARY KEY,
        due INTEGER NOT NULL,
        topic INTEGER NOT NULL,
        rank INTEGER,
        ttl INTEGER,
        crc INTEGER,
        body TEXT NOT NULL
    );
    CREATE INDEX delayed_topic ON delayed (topic, due, number);
    CREATE INDEX delayed_due ON delayed (due, number);
    CREATE TABLE expiries (
        at INTEGER NOT NULL,
        topic INTEGER NOT NULL,
        id INTEGER NOT NULL,
        PRIMARY KEY (at, topic, id)
    ) WITHOUT ROWID;
    CREATE TABLE dedupe (
        topic INTEGER NOT NULL,
        key TEXT NOT NULL,
        until INTEGER NOT NULL,
        id INTEGER,
        due INTEGER,
        PRIMARY KEY (topic, key)
    ) WITHOUT ROWID;
    CREATE INDEX dedupe_until ON dedupe (until);
    CREATE TABLE notes (
        topic INTEGER NOT NULL,
        id INTEGER NOT NULL,
        looks INTEGER NOT NULL DEFAULT 0,
        from_topic TEXT,
        from_id INTEGER,
        PRIMARY KEY (topic, id)
    ) WITHOUT ROWID;
    CREATE VIEW messages AS
        SELECT topics.name AS topic, log.id AS id, log.id / 1e6 AS timestamp,
               coalesce(log.body, large.body) AS message
        FROM topics JOIN log ON log.topic = topics.number LEFT JOIN large ON large.id = log.id;
";

/// The body of a larger message is a row of `large`. A row of `log` fits its page up to 2,030
/// bytes, including key and header.
pub const LARGE_BYTES: usize = 1_980;

pub const BEGIN_TO_READ: &str = "BEGIN";
pub const BEGIN: &str = "BEGIN IMMEDIATE";
pub const COMMIT: &str = "COMMIT";
pub const ROLL_BACK: &str = "ROLLBACK";
/// Syncs at checkpoints, not at commits.
pub const SYNC_CHECKPOINTS: &str = "PRAGMA synchronous = NORMAL";

pub const INSERT_TOPIC: &str = "INSERT INTO topics (slot, number, name) VALUES (?1, ?1, ?2)";
/// [`super::counters`] binds the columns in this order.
pub const SAVE_TOPIC: &str = "UPDATE topics SET number = ?2, newest = ?3, oldest = ?4,
    taken_to = ?5, length = ?6, bytes = ?7, in_line = ?8, ready = ?9, leased = ?10, delayed = ?11,
    noted = ?12, stopped = ?13, policy = ?14, crc = ?15 WHERE slot = ?1";
pub const TOPICS: &str = "SELECT slot, number, stopped, policy, newest, taken_to, length, bytes,
    in_line, ready, leased, delayed, noted, crc, name, oldest FROM topics ORDER BY slot";

pub const INSERT_PLAIN: &str = "INSERT INTO log (topic, id, body, crc) VALUES (?1, ?2, ?3, ?4)";
pub const INSERT: &str =
    "INSERT INTO log (topic, id, body, crc, rank, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/// A copied message may have the id of a message of another topic. Then its body stays in `log`.
pub const INSERT_LARGE: &str = "INSERT OR IGNORE INTO large (id, body) VALUES (?1, ?2)";
pub const READ: &str = "SELECT id, body, expires, crc FROM log
    WHERE topic = ?1 AND id > ?2 AND id <= ?5 AND (expires IS NULL OR expires > ?4)
    ORDER BY id LIMIT ?3";
pub const READ_LAST: &str = "SELECT id, body, expires, crc FROM log
    WHERE topic = ?1 AND id <= ?4 AND (expires IS NULL OR expires > ?3)
    ORDER BY id DESC LIMIT ?2";
pub const READ_LINE: &str = "SELECT id, body, expires, crc FROM log
    WHERE topic = ?1 AND id > ?2 AND id < ?3 AND rank IS NULL ORDER BY id LIMIT ?4";
pub const READ_ONE: &str = "SELECT id, body, expires, crc FROM log WHERE topic = ?1 AND id = ?2";
pub const READ_LARGE: &str = "SELECT body FROM large WHERE id = ?1";
/// A subquery, because SQLite would recompile a join at each run.
pub const STORED: &str = "
    SELECT octet_length(coalesce(body, (SELECT body FROM large WHERE id = ?2))), rank IS NULL,
           expires
    FROM log WHERE topic = ?1 AND id = ?2";
pub const NEWEST_OF_ALL: &str = "SELECT id FROM log WHERE topic = ?1 ORDER BY id DESC LIMIT 1";
pub const NEWEST: &str = "SELECT id FROM log
    WHERE topic = ?1 AND (expires IS NULL OR expires > ?2) ORDER BY id DESC LIMIT 1";
pub const OLDEST: &str = "SELECT id FROM log WHERE topic = ?1 ORDER BY id LIMIT 1";
pub const DELETE: &str = "DELETE FROM log WHERE topic = ?1 AND id = ?2";
pub const DELETE_LINE: &str =
    "DELETE FROM log WHERE topic = ?1 AND id > ?2 AND id <= ?3 AND rank IS NULL";
/// Run it before the row leaves `log`, which tells whether the body is in `large`.
pub const DELETE_LARGE: &str = "DELETE FROM large WHERE id = ?2
    AND EXISTS (SELECT 1 FROM log WHERE topic = ?1 AND id = ?2 AND body IS NULL)";

pub const INSERT_READY: &str =
    "INSERT INTO ready (topic, rank, id, deliveries) VALUES (?1, ?2, ?3, ?4)";
pub const FIRST_READY: &str =
    "SELECT rank, id, deliveries FROM ready WHERE topic = ?1 ORDER BY rank, id LIMIT 1";
pub const DELETE_READY: &str = "DELETE FROM ready WHERE topic = ?1 AND rank = ?2 AND id = ?3";

pub const INSERT_LEASE: &str = "
    INSERT INTO leases (topic, id, until, held, deliveries, rank, size, expires)
    VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7)";
pub const LEASE: &str = "SELECT topic, id, deliveries, rank, size, expires, until, held
    FROM leases WHERE topic = ?1 AND id = ?2";
pub const DELAY_LEASE: &str = "UPDATE leases SET until = ?3, held = 0 WHERE topic = ?1 AND id = ?2";
pub const DELETE_LEASE: &str = "DELETE FROM leases WHERE topic = ?1 AND id = ?2";
pub const ENDED_LEASES: &str = "SELECT topic, id, deliveries, rank, size, expires FROM leases
    WHERE until <= ?1 ORDER BY until LIMIT ?2";
/// The holders are gone with the last server, and had not reported a delivery.
pub const END_LEASES_UNTIL_RESTART: &str =
    "UPDATE leases SET until = 0, deliveries = deliveries - 1 WHERE until > ?1";
pub const NEXT_LEASE: &str = "SELECT min(until) FROM leases";

pub const INSERT_DELAYED: &str =
    "INSERT INTO delayed (due, topic, rank, ttl, crc, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub const DUE_DELAYED: &str = "SELECT due, body, ttl, crc, number, topic, rank FROM delayed
    WHERE due <= ?1 ORDER BY due, number LIMIT ?2";
pub const LIST_DELAYED: &str =
    "SELECT due, body, ttl, crc FROM delayed WHERE topic = ?1 ORDER BY due, number LIMIT ?2";
/// A damaged message is never due.
pub const SET_ASIDE: &str = "UPDATE delayed SET due = 9223372036854775807 WHERE number = ?1";
pub const DELETE_DELAYED: &str = "DELETE FROM delayed WHERE number = ?1";
pub const NEXT_DELAYED: &str = "SELECT min(due) FROM delayed";

pub const INSERT_EXPIRY: &str = "INSERT INTO expiries (at, topic, id) VALUES (?1, ?2, ?3)";
pub const EXPIRED: &str = "SELECT at, topic, id FROM expiries WHERE at <= ?1 ORDER BY at LIMIT ?2";
pub const DELETE_EXPIRY: &str = "DELETE FROM expiries WHERE at = ?1 AND topic = ?2 AND id = ?3";
pub const NEXT_EXPIRY: &str = "SELECT min(at) FROM expiries";

pub const INSERT_DEDUPE: &str = "INSERT OR REPLACE INTO dedupe (topic, key, until, id, due)
    VALUES (?1, ?2, ?3, ?4, ?5)";
pub const DUPLICATE: &str =
    "SELECT id, due FROM dedupe WHERE topic = ?1 AND key = ?2 AND until > ?3";
pub const DELETE_OLD_DEDUPE: &str = "DELETE FROM dedupe WHERE (topic, key) IN
    (SELECT topic, key FROM dedupe WHERE until <= ?1 ORDER BY until LIMIT ?2)";
pub const NEXT_DEDUPE: &str = "SELECT min(until) FROM dedupe";

pub const ADD_LOOK: &str = "INSERT INTO notes (topic, id, looks) VALUES (?1, ?2, 1)
    ON CONFLICT DO UPDATE SET looks = looks + 1 RETURNING looks";
pub const ORIGIN: &str = "SELECT from_topic, from_id FROM notes
    WHERE topic = ?1 AND id = ?2 AND from_topic IS NOT NULL";
pub const INSERT_NOTE: &str =
    "INSERT INTO notes (topic, id, looks, from_topic, from_id) VALUES (?1, ?2, ?3, ?4, ?5)";
pub const DELETE_NOTE: &str = "DELETE FROM notes WHERE topic = ?1 AND id = ?2";

pub const INSERT_TRASH: &str = "INSERT INTO trash (number) VALUES (?1)";
pub const FIRST_TRASH: &str = "SELECT number FROM trash LIMIT 1";
pub const DELETE_TRASH: &str = "DELETE FROM trash WHERE number = ?1";

/// The sizes of large rows come without reading their bodies.
pub const OLDEST_ROWS: &str = "SELECT id,
        octet_length(coalesce(body, (SELECT body FROM large WHERE large.id = log.id))), rank IS NULL
    FROM log WHERE topic = ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
/// Removes a topic's messages up to an id. The rows of `large` and `expiries` go before the rows of
/// `log` that refer to them.
pub const SWEEP_LOG: [&str; 3] = [
    "DELETE FROM large WHERE id IN
        (SELECT id FROM log WHERE topic = ?1 AND id <= ?2 AND body IS NULL)",
    "DELETE FROM expiries WHERE (at, topic, id) IN
        (SELECT expires, topic, id FROM log
         WHERE topic = ?1 AND id <= ?2 AND expires IS NOT NULL)",
    "DELETE FROM log WHERE topic = ?1 AND id <= ?2",
];
/// Removes some other rows of a purged topic.
pub const SWEEP: [&str; 5] = [
    "DELETE FROM ready WHERE (topic, rank, id) IN
        (SELECT topic, rank, id FROM ready WHERE topic = ?1 LIMIT ?2)",
    "DELETE FROM leases WHERE (topic, id) IN
        (SELECT topic, id FROM leases WHERE topic = ?1 LIMIT ?2)",
    "DELETE FROM delayed WHERE number IN (SELECT number FROM delayed WHERE topic = ?1 LIMIT ?2)",
    "DELETE FROM dedupe WHERE (topic, key) IN
        (SELECT topic, key FROM dedupe WHERE topic = ?1 LIMIT ?2)",
    "DELETE FROM notes WHERE (topic, id) IN (SELECT topic, id FROM notes WHERE topic = ?1 LIMIT ?2)",
];
/// Remove the other rows of dropped messages.
pub const DROP_LEASES: &str = "DELETE FROM leases WHERE topic = ?1 AND id <= ?2";
pub const DROP_READY: &str = "DELETE FROM ready
    WHERE topic = ?1 AND rank IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9) AND id <= ?2";
pub const DROP_NOTES: &str = "DELETE FROM notes WHERE topic = ?1 AND id <= ?2";

/// The messages for a copy to another store, with all their state.
pub const SCAN_LOG: &str = "SELECT id, body, expires, crc, rank,
        coalesce(
            (SELECT deliveries FROM ready
             WHERE topic = ?1 AND rank = coalesce(log.rank, ?4) AND id = log.id),
            (SELECT deliveries FROM leases WHERE topic = ?1 AND id = log.id),
            0),
        coalesce((SELECT looks FROM notes WHERE topic = ?1 AND id = log.id), 0),
        EXISTS (SELECT 1 FROM notes WHERE topic = ?1 AND id = log.id)
    FROM log WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
pub const SCAN_DELAYED: &str = "SELECT due, body, ttl, crc, rank, number FROM delayed
    WHERE topic = ?1 AND (due, number) > (?2, ?3) ORDER BY due, number LIMIT ?4";

/// Statements of a check.
pub const INTEGRITY: &str = "PRAGMA integrity_check";
pub const ALL_OF_TOPIC: &str =
    "SELECT id, body, expires, crc FROM log WHERE topic = ?1 ORDER BY id";
pub const COUNTS: &str = "SELECT
    (SELECT count(*) FROM log WHERE topic = ?1 AND id > ?2 AND rank IS NULL),
    (SELECT count(*) FROM ready WHERE topic = ?1),
    (SELECT count(*) FROM leases WHERE topic = ?1),
    (SELECT count(*) FROM delayed WHERE topic = ?1),
    (SELECT count(*) FROM notes WHERE topic = ?1)";
/// Rows that belong to nothing, with a description.
pub const STRAYS: [(&str, &str); 2] = [
    (
        "messages belong to no topic",
        "SELECT count(*) FROM log WHERE topic NOT IN
            (SELECT number FROM topics UNION ALL SELECT number FROM trash)",
    ),
    (
        "bodies belong to no message",
        "SELECT (SELECT count(*) FROM large) - (SELECT count(*) FROM log WHERE body IS NULL)",
    ),
];

pub const PAGE_COUNT: &str = "PRAGMA page_count";
pub const FREE_COUNT: &str = "PRAGMA freelist_count";
pub const GIVE_BACK: &str = "PRAGMA incremental_vacuum(128)";
pub const GIVE_BACK_FEW: &str = "PRAGMA incremental_vacuum(16)";
