//! Every limit of a server: a named constant, with its unit last. A test crosses each one.

use std::time::Duration;

/// Largest message, in bytes of JSON text. `--max-message` sets another.
pub const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of a request besides its message: other fields, names, white space.
pub const REQUEST_OVERHEAD_BYTES: usize = 64 * 1024;

/// Deepest nesting of arrays and objects in a message.
pub const DEPTH_LEVELS: usize = 128;

/// Longest topic name, in bytes of UTF-8.
pub const TOPIC_BYTES: usize = 256;

/// Longest `tag`, in bytes of JSON text.
pub const TAG_BYTES: usize = 1024;

/// Maximum number of topics in a store.
pub const TOPICS: usize = 100_000;

/// Maximum number of open connections. `--max-connections` sets another.
pub const CONNECTIONS: usize = 10_000;

/// Maximum number of cursors of one session.
pub const CURSORS: usize = 10_000;

/// Handed-out messages that a cursor remembers, in case one of them returns to the topic.
pub const HANDED_OUT: usize = 1_024;

/// Returned messages that a topic remembers. A session that has missed more of them reads the
/// messages that it remembers to have passed again, and finds this many at a time.
pub const PUT_BACKS: usize = 256;

/// Maximum number of subscriptions of one session.
pub const SUBSCRIPTIONS: usize = 1_000;

/// Longest dedupe key, in bytes of UTF-8.
pub const DEDUPE_BYTES: usize = 256;

/// Time for which a dedupe key suppresses a second put.
pub const DEDUPE: Duration = Duration::from_secs(120);

/// Longest ttl, delay or lease: 100 years, so that times stay within the range of ids.
pub const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Maximum number of messages in one history.
pub const HISTORY_MESSAGES: usize = 1_000;

/// Maximum bytes of messages in one history, unless the first message alone is larger.
pub const HISTORY_BYTES: usize = 16 * 1024 * 1024;

/// Longest `wait` of a request.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A connection whose socket accepts no byte for this long is closed.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// Time from the first byte of an HTTP request to the end of its header.
pub const HTTP_HEADER: Duration = Duration::from_secs(10);

/// Time from the header of an HTTP request to the end of its body.
pub const HTTP_BODY: Duration = Duration::from_secs(600);

/// Time between two bytes of the body.
pub const HTTP_BODY_STALL: Duration = Duration::from_secs(30);

/// Interval of heartbeats in an event stream, so that proxies do not close it.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Size of the header of an HTTP request, with its first line.
pub const HTTP_HEADER_BYTES: usize = 16 * 1024;

/// Time without a request after which an HTTP connection is closed.
pub const HTTP_IDLE: Duration = Duration::from_secs(75);

/// Threads for HTTP requests that wait for the store's disk.
pub const HTTP_BLOCKING_THREADS: usize = 64;

/// Time for which the server keeps reading from a client after it has ended the conversation, so
/// that the client receives the last reply.
pub const LINGER: Duration = Duration::from_secs(1);

/// The same, in bytes; the first limit that is reached counts.
pub const LINGER_BYTES: usize = 1024 * 1024;

/// Maximum bytes of one read from a socket.
pub const READ_BYTES: usize = 64 * 1024;

/// Initial size of a connection's buffer, to which it shrinks when it is empty.
pub const BUFFER_BYTES: usize = 4 * 1024;

/// Bytes of replies that are collected before they are written.
pub const REPLY_BYTES: usize = 64 * 1024;

/// Bytes of messages that wait to be written to one consumer.
pub const OUTBOX_BYTES: usize = 1024 * 1024;

/// Direct messages of CoreMQ that wait for one connection.
pub const DIRECT_MESSAGES: usize = 1_000;

/// A consumer with a full outbox that reads nothing for this long, while others wait for it, is
/// disconnected.
pub const CONSUMER_STALL: Duration = Duration::from_secs(10);

/// Bytes of messages that one transaction of one connection takes or peeks at, plus one message.
/// The remaining requests follow when these messages are written.
pub const TAKEN_BYTES: usize = 1024 * 1024;

/// Operations in one round of a group commit, unless one batch alone has more.
pub const ROUND_OPERATIONS: usize = 4_096;

/// Bytes of messages to put in one round of a group commit; the first limit that is reached counts.
pub const ROUND_BYTES: usize = 1024 * 1024;

/// Messages in a chunk, which the store reads at once.
pub const CHUNK_MESSAGES: usize = 256;

/// Bytes of messages in a chunk, unless the first message alone is larger.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Messages that `dsmq copy` moves at a time.
pub const COPY_MESSAGES: usize = 1_000;

/// Bytes of messages that `dsmq copy` moves at a time, plus one message.
pub const COPY_BYTES: usize = 1024 * 1024;

/// Bytes of chunks in the read cache of a store, each counted with one encoded form.
pub const READ_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Chunks in the read cache. More help clients little that read at the same time, and cost each put
/// more: its chunk then uses memory that is not in the processor's cache.
pub const READ_CACHE_CHUNKS: usize = 64;

/// Time from the request to stop until the process has ended.
pub const STOP: Duration = Duration::from_secs(5);

/// Minimum time between two log lines about dropped messages.
pub const DROPS_LOGGED: Duration = Duration::from_secs(10);

/// Pause before scheduled work is retried after the store has failed.
pub const RETRY: Duration = Duration::from_secs(1);

/// Topics that the page lists: the busiest.
pub const PAGE_TOPICS: usize = 100;

/// Messages that the page shows of a topic, and /dump of all topics.
pub const PAGE_MESSAGES: usize = 50;

/// Bytes that the page shows of a message.
pub const PAGE_MESSAGE_BYTES: usize = 4 * 1024;

/// Points of the page's chart, one per second.
pub const PAGE_POINTS: usize = 300;

/// Topics that /metrics lists: the busiest since the start.
pub const METRICS_TOPICS: usize = 1_000;

/// Health is degraded if a request waits longer than this.
pub const HEALTH_WAIT_DEGRADED: Duration = Duration::from_millis(100);

/// Health is overloaded if a request waits longer than this.
pub const HEALTH_WAIT_OVERLOADED: Duration = Duration::from_secs(1);

/// Health is degraded from this percentage of connections or store in use.
pub const HEALTH_DEGRADED_PERCENT: u64 = 80;

/// Health is overloaded from this percentage of connections or store in use.
pub const HEALTH_OVERLOADED_PERCENT: u64 = 95;

/// Time for which health remembers dropped messages.
pub const HEALTH_DROPS: Duration = Duration::from_secs(10);

/// Parts of one ØMQ message.
pub const ZMTP_PARTS: usize = 64;

/// Bytes of a ZMTP command.
pub const ZMTP_COMMAND_BYTES: usize = 8 * 1024;

/// Bytes of the prefix in an ØMQ subscription.
pub const ZMTP_PREFIX_BYTES: usize = 1024;

/// ØMQ messages of one connection that are carried out together.
pub const ZMTP_BATCH_MESSAGES: usize = 256;

/// Values of one pickle, including marks and memos, each of which takes memory until it is read.
pub const PICKLE_VALUES: usize = 1_000_000;

/// Digits of an integer in a pickle, the limit of Python for text.
pub const PICKLE_INTEGER_DIGITS: usize = 4_300;

/// The same, in bytes.
pub const PICKLE_INTEGER_BYTES: usize = 1_786;

/// Time after which a Mezzenger message that nobody acknowledged is published again.
/// `--mezzenger-resend` sets another.
pub const MEZZENGER_RESEND: Duration = Duration::from_secs(10);

/// Bytes of frames of Mezzenger's last messages, or one larger frame. A slower subscriber receives
/// frames built from the stored JSON.
pub const MEZZENGER_RECENT_BYTES: usize = 16 * 1024 * 1024;
