-- A store as schema version 1 wrote it, with something in every table but trash.
PRAGMA page_size = 8192;
PRAGMA application_id = 1685286257;
PRAGMA user_version = 1;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
INSERT INTO topics VALUES(1,1,'t',0,NULL,1795229686251384,1795229686250749,1795229686250749,3,18,1,1,1,1,0,4009647354);
INSERT INTO topics VALUES(2,2,'u',1,'broadcast',1795229686254106,1795229686253398,1795229686253398,4,3025,3,0,1,0,1,3964780315);
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
INSERT INTO log VALUES(1,1795229686250749,NULL,NULL,2708796563,'1');
INSERT INTO log VALUES(1,1795229686251119,0,NULL,1904855859,'"prior"');
INSERT INTO log VALUES(1,1795229686251384,NULL,NULL,100649653,'"returned"');
INSERT INTO log VALUES(2,1795229686253398,NULL,NULL,1194280960,'"plain"');
INSERT INTO log VALUES(2,1795229686253622,NULL,NULL,3146533261,'"leased"');
INSERT INTO log VALUES(2,1795229686253826,NULL,4795229686253826,2821945502,'"mortal"');
INSERT INTO log VALUES(2,1795229686254106,NULL,NULL,773520334,NULL);
CREATE TABLE large (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO large VALUES(1795229686254106,'"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"');
CREATE TABLE ready (
        topic INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        id INTEGER NOT NULL,
        deliveries INTEGER NOT NULL,
        PRIMARY KEY (topic, rank, id)
    ) WITHOUT ROWID;
INSERT INTO ready VALUES(1,0,1795229686251119,1);
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
INSERT INTO leases VALUES(1,1795229686250749,1795229786252531,1,2,5,1,NULL);
INSERT INTO leases VALUES(2,1795229686253398,4795229686254350,1,1,5,7,NULL);
CREATE TABLE delayed (
        number INTEGER PRIMARY KEY,
        due INTEGER NOT NULL,
        topic INTEGER NOT NULL,
        rank INTEGER,
        ttl INTEGER,
        crc INTEGER,
        body TEXT NOT NULL
    );
INSERT INTO delayed VALUES(1,2795229686253094,1,NULL,NULL,916079079,'"later"');
CREATE TABLE expiries (
        at INTEGER NOT NULL,
        topic INTEGER NOT NULL,
        id INTEGER NOT NULL,
        PRIMARY KEY (at, topic, id)
    ) WITHOUT ROWID;
INSERT INTO expiries VALUES(4795229686253826,2,1795229686253826);
CREATE TABLE dedupe (
        topic INTEGER NOT NULL,
        key TEXT NOT NULL,
        until INTEGER NOT NULL,
        id INTEGER,
        due INTEGER,
        PRIMARY KEY (topic, key)
    ) WITHOUT ROWID;
INSERT INTO dedupe VALUES(1,'key',1795229806253094,NULL,2795229686253094);
CREATE TABLE notes (
        topic INTEGER NOT NULL,
        id INTEGER NOT NULL,
        looks INTEGER NOT NULL DEFAULT 0,
        from_topic TEXT,
        from_id INTEGER,
        PRIMARY KEY (topic, id)
    ) WITHOUT ROWID;
INSERT INTO notes VALUES(2,1795229686253398,1,NULL,NULL);
CREATE INDEX leases_until ON leases (until);
CREATE INDEX delayed_topic ON delayed (topic, due, number);
CREATE INDEX delayed_due ON delayed (due, number);
CREATE INDEX dedupe_until ON dedupe (until);
CREATE VIEW messages AS
        SELECT topics.name AS topic, log.id AS id, log.id / 1e6 AS timestamp,
               coalesce(log.body, large.body) AS message
        FROM topics JOIN log ON log.topic = topics.number LEFT JOIN large ON large.id = log.id;
COMMIT;
