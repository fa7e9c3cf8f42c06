//! Every limit of a server: a named constant with its unit last. Each has a test that crosses it.

use std::time::Duration;

/// Largest message: bytes of its JSON text. `--max-message` sets another.
pub const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What a request may hold beside its message: the other fields, their names, white space.
pub const REQUEST_OVERHEAD_BYTES: usize = 64 * 1024;

/// Deepest nesting of arrays and objects in a message.
pub const DEPTH_LEVELS: usize = 128;

/// Longest topic name, in bytes of UTF-8.
pub const TOPIC_BYTES: usize = 256;

/// Longest `tag`, in bytes of JSON text.
pub const TAG_BYTES: usize = 1024;

/// Topics that a store holds.
pub const TOPICS: usize = 100_000;

/// Connections served at a time. `--max-connections` sets another.
pub const CONNECTIONS: usize = 10_000;

/// Topics of which one session keeps its place.
pub const CURSORS: usize = 10_000;

/// Messages that one place remembers having handed out, in case one of them is put back.
pub const HANDED_OUT: usize = 1_024;

/// Messages that a topic remembers having been put back. A session that has not looked at more than these
/// reads again what it remembers to have passed, and finds up to this number at a time.
pub const PUT_BACKS: usize = 256;

/// Subscriptions of one session.
pub const SUBSCRIPTIONS: usize = 1_000;

/// Longest dedupe key, in bytes of UTF-8.
pub const DEDUPE_BYTES: usize = 256;

/// For so long a dedupe key keeps a second message from being stored.
pub const DEDUPE: Duration = Duration::from_secs(120);

/// Longest ttl, delay or lease: 100 years, so that times stay within an id's range.
pub const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Messages that one history returns.
pub const HISTORY_MESSAGES: usize = 1_000;

/// Bytes of messages that one history returns, or one message if that is larger.
pub const HISTORY_BYTES: usize = 16 * 1024 * 1024;

/// Longest `wait` that a request may ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A write to a connection that moves no byte for this long ends the connection.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// From the first byte of an HTTP request to the end of its header.
pub const HTTP_HEADER: Duration = Duration::from_secs(10);

/// From the header of an HTTP request to the end of its body.
pub const HTTP_BODY: Duration = Duration::from_secs(600);

/// From one byte of it to the next.
pub const HTTP_BODY_STALL: Duration = Duration::from_secs(30);

/// A stream of events that is silent says so this often, lest it be taken for dead.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// The header of an HTTP request, with its first line.
pub const HTTP_HEADER_BYTES: usize = 16 * 1024;

/// An HTTP connection on which no request begins for this long after the last is closed.
pub const HTTP_IDLE: Duration = Duration::from_secs(75);

/// Threads on which HTTP requests wait for a store that waits for its disk.
pub const HTTP_BLOCKING_THREADS: usize = 64;

/// Before a connection is closed on its peer, what the peer is still sending is read for this
/// long: else it might never see why.
pub const LINGER: Duration = Duration::from_secs(1);

/// The same, in bytes: whichever comes first.
pub const LINGER_BYTES: usize = 1024 * 1024;

/// What one read of a socket takes at most.
pub const READ_BYTES: usize = 64 * 1024;

/// What a connection's buffer starts with, and shrinks to when it is drained.
pub const BUFFER_BYTES: usize = 4 * 1024;

/// Replies that are gathered before they are written.
pub const REPLY_BYTES: usize = 64 * 1024;

/// Messages that wait to be written to one consumer, in bytes.
pub const OUTBOX_BYTES: usize = 1024 * 1024;

/// Messages that wait for one connection of CoreMQ to which they were sent alone.
pub const DIRECT_MESSAGES: usize = 1_000;

/// A consumer whose outbox is full and who takes nothing from it for so long, while others wait for
/// it, is disconnected.
pub const CONSUMER_STALL: Duration = Duration::from_secs(10);

/// Messages that are taken or peeked at by one transaction of one connection, in bytes, or one
/// message more: what is asked beyond that is done once these are written.
pub const TAKEN_BYTES: usize = 1024 * 1024;

/// Operations that one round of a group commit carries out, or one batch if that has more.
pub const ROUND_OPERATIONS: usize = 4_096;

/// The same in bytes of messages to put: whichever comes first.
pub const ROUND_BYTES: usize = 1024 * 1024;

/// A run, what the store reads at a time: messages.
pub const CHUNK_MESSAGES: usize = 256;

/// A run: bytes of messages, or one message if that is larger.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// What is copied from store to store at a time: messages.
pub const COPY_MESSAGES: usize = 1_000;

/// What is copied at a time: bytes of messages, or one message more.
pub const COPY_BYTES: usize = 1024 * 1024;

/// Bytes of runs that the read cache of a store keeps, each with its messages in one encoded form.
pub const READ_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Runs of messages in the read cache. More are of little use to clients that read side by side, and
/// cost each put more: its run then takes memory that was not used a moment ago.
pub const READ_CACHE_CHUNKS: usize = 64;

/// From the order to stop until the process has ended.
pub const STOP: Duration = Duration::from_secs(5);

/// That messages were dropped is logged once in this time.
pub const DROPS_LOGGED: Duration = Duration::from_secs(10);

/// After the store has failed to do what is due, it is asked again so much later.
pub const RETRY: Duration = Duration::from_secs(1);

/// Topics that the page lists at a time: the busiest.
pub const PAGE_TOPICS: usize = 100;

/// Messages that the page shows of a topic, and /dump of all.
pub const PAGE_MESSAGES: usize = 50;

/// What the page shows of a message's text.
pub const PAGE_MESSAGE_BYTES: usize = 4 * 1024;

/// Points of the page's chart, one a second.
pub const PAGE_POINTS: usize = 300;

/// Topics that /metrics tells of one by one: the busiest since the start.
pub const METRICS_TOPICS: usize = 1_000;

/// Health: a request that waits longer than this finds the server degraded.
pub const HEALTH_WAIT_DEGRADED: Duration = Duration::from_millis(100);

/// Health: a request that waits longer than this finds the server overloaded.
pub const HEALTH_WAIT_OVERLOADED: Duration = Duration::from_secs(1);

/// Health: from so many percent of its connections, or of its room, on a server is degraded.
pub const HEALTH_DEGRADED_PERCENT: u64 = 80;

/// Health: from so many percent of its connections, or of its room, on a server is overloaded.
pub const HEALTH_OVERLOADED_PERCENT: u64 = 95;

/// Health: for so long it is remembered that messages were dropped.
pub const HEALTH_DROPS: Duration = Duration::from_secs(10);

/// Parts of one ØMQ message.
pub const ZMTP_PARTS: usize = 64;

/// A command of ZMTP.
pub const ZMTP_COMMAND_BYTES: usize = 8 * 1024;

/// What an ØMQ subscription may ask messages to begin with.
pub const ZMTP_PREFIX_BYTES: usize = 1024;

/// ØMQ messages of one connection that are carried out together.
pub const ZMTP_BATCH_MESSAGES: usize = 256;

/// Values of one pickle, with its marks and memos: each takes memory until it is read.
pub const PICKLE_VALUES: usize = 1_000_000;

/// Digits of an integer in a pickle: as many as Python reads of a text.
pub const PICKLE_INTEGER_DIGITS: usize = 4_300;

/// The same, in bytes.
pub const PICKLE_INTEGER_BYTES: usize = 1_786;

/// A message of Mezzenger that nobody acknowledges is published again so often.
/// `--mezzenger-resend` sets another.
pub const MEZZENGER_RESEND: Duration = Duration::from_secs(10);

/// The frames of Mezzenger's last messages, in bytes, or one that is larger: a subscriber that is
/// further behind gets a frame made of what is stored.
pub const MEZZENGER_RECENT_BYTES: usize = 16 * 1024 * 1024;
