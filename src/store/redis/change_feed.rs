//! The change feed: updates that scripts of other servers publish. One thread subscribes for each
//! partition. After an interruption it reloads all topics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak, mpsc};
use std::task::Waker;
use std::time::{Duration, Instant};

use redis::{Connection, RedisError, RedisResult, cmd};

use super::node_health::{Backoff, RETRY};
use super::node_pool::{self, NodePool};
use super::partition::Partition;
use super::topic_cache::UpdateSource;
use crate::store::{Due, system_clock};
use crate::sync::lock;

/// Without a message for this long, the connection is checked with a ping.
const PING_AFTER: Duration = Duration::from_secs(1);

/// Stack size of the feed's threads; their calls are shallow.
const STACK_BYTES: usize = 256 * 1024;

/// Partitions without a working feed, or not resynchronised yet.
#[derive(Default)]
struct FeedOutage {
    partitions: usize,
    since: Option<Instant>,
}

/// Changes received for a partition, until its tick hands them to the broker.
#[derive(Default)]
pub struct PendingChanges {
    due: Mutex<Due>,
    any: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// State of the feeds of all partitions.
#[derive(Default)]
pub struct ChangeFeed {
    outage: Mutex<FeedOutage>,
    ended: Mutex<bool>,
    end: Condvar,
}

impl PendingChanges {
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub fn on_change(&self, waker: Waker) {
        *lock(&self.waker) = Some(waker);
    }

    pub fn take(&self) -> Due {
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *lock(&self.due))
    }

    /// Adds changes and wakes the timer thread.
    pub fn add(&self, due: Due) {
        let any = !due.put.is_empty() || !due.returned.is_empty();
        let mut pending = lock(&self.due);
        merge(&mut pending.put, due.put);
        merge(&mut pending.returned, due.returned);
        drop(pending);
        if any {
            self.any.store(true, Ordering::Release);
        }
        // An earlier due time concerns the timer as well.
        self.wake();
    }

    pub fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }
}

impl ChangeFeed {
    /// Time since the feed of any partition was interrupted.
    pub fn lag(&self) -> Option<Duration> {
        lock(&self.outage).since.map(|since| since.elapsed())
    }

    pub fn end(&self) {
        *lock(&self.ended) = true;
        self.end.notify_all();
    }

    fn pause(&self, pause: Duration) {
        let ended = lock(&self.ended);
        if !*ended {
            drop(self.end.wait_timeout(ended, pause).map_err(PoisonError::into_inner));
        }
    }
}

fn merge<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if all.last() != Some(&one) {
            all.push(one);
        }
    }
}

/// Starts the feed thread of a partition, which runs until the store is dropped. It sends one
/// result to `ready`: subscribed, or the error.
pub fn listen(
    weak: &Arc<Partition>,
    ready: mpsc::Sender<Result<(), String>>,
) -> std::io::Result<()> {
    let weak = Arc::downgrade(weak);
    let thread = std::thread::Builder::new().name("change-feed".into()).stack_size(STACK_BYTES);
    thread.spawn(move || run(&weak, ready)).map(drop)
}

fn run(weak: &Weak<Partition>, ready: mpsc::Sender<Result<(), String>>) {
    let mut ready = Some(ready);
    let mut backoff = Backoff::default();
    while let Some(partition) = weak.upgrade() {
        let node_pool = partition.route.node_pool();
        let connected = partition.listen(&node_pool);
        drop(partition);
        let ended = connected.and_then(|mut connection| {
            listen_until_error(weak, &node_pool, &mut connection, &mut ready, &mut backoff)
        });
        let error = match ended {
            Ok(ListenEnd::Ended) => return,
            Ok(ListenEnd::Elsewhere) => continue,
            Err(error) => error,
        };
        if let Some(ready) = ready.take() {
            // Opening the store failed: the receiver may be gone.
            let _ = ready.send(Err(node_pool::client_error(&error).text.into_owned()));
            return;
        }
        let Some(partition) = weak.upgrade() else { return };
        match node_pool::moved(&error) {
            Some(address) => partition.shared.nodes.move_to(&partition.route, &node_pool, &address),
            None => {
                node_pool.node_health().request_probe();
                partition.mark_feed_lost(&error);
                partition.shared.nodes.refresh_slots();
            }
        }
        partition.shared.change_feed.pause(backoff.failed());
    }
}

/// Why the feed thread stops listening to a node.
enum ListenEnd {
    /// The store was dropped.
    Ended,
    /// Another node serves the partition now.
    Elsewhere,
}

/// Applies published updates until the connection fails.
fn listen_until_error(
    weak: &Weak<Partition>,
    node_pool: &Arc<NodePool>,
    connection: &mut Connection,
    ready: &mut Option<mpsc::Sender<Result<(), String>>>,
    backoff: &mut Backoff,
) -> RedisResult<ListenEnd> {
    let mut listening = connection.as_pubsub();
    match (ready.take(), weak.upgrade()) {
        (Some(ready), _) => drop(ready.send(Ok(()))),
        (None, Some(partition)) => partition.needs_resync.store(true, Ordering::Release),
        (None, None) => return Ok(ListenEnd::Ended),
    }
    loop {
        if !resync_if_needed(weak, backoff) {
            continue;
        }
        match listening.get_message() {
            Ok(message) => match weak.upgrade() {
                Some(partition) => partition.apply_remote(message.get_payload_bytes()),
                None => return Ok(ListenEnd::Ended),
            },
            // After this process was suspended, the published messages are still in the socket.
            Err(error) if error.is_timeout() || node_pool::is_interrupted(&error) => {
                let Some(partition) = weak.upgrade() else { return Ok(ListenEnd::Ended) };
                if !Arc::ptr_eq(node_pool, &partition.route.node_pool()) {
                    return Ok(ListenEnd::Elsewhere);
                }
                drop(partition);
                listening.ping::<redis::Value>()?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reloads all topics if changes may have been missed; false if it must be repeated.
fn resync_if_needed(weak: &Weak<Partition>, backoff: &mut Backoff) -> bool {
    let Some(partition) = weak.upgrade() else { return true };
    if !partition.needs_resync.swap(false, Ordering::AcqRel) {
        return true;
    }
    match partition.load_topics(UpdateSource::Resync) {
        Ok(due) => {
            *backoff = Backoff::default();
            partition.mark_feed_restored();
            partition.pending_changes.add(due);
            true
        }
        Err(error) => {
            tracing::debug!("cannot reload the topics from Redis: {error}");
            partition.needs_resync.store(true, Ordering::Release);
            partition.shared.change_feed.pause(RETRY);
            false
        }
    }
}

impl Partition {
    /// Opens a connection and subscribes to the partition's channel.
    fn listen(&self, node_pool: &NodePool) -> RedisResult<Connection> {
        let word = if self.shared.nodes.is_cluster() { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        let mut connection = node_pool.connect_pubsub(PING_AFTER)?;
        connection.send_packed_command(&cmd(word).arg(&self.channel).get_packed_command())?;
        connection.recv_response()?.extract_error()?;
        Ok(connection)
    }

    /// Records the loss of the feed; logs it once for all partitions.
    fn mark_feed_lost(&self, error: &RedisError) {
        if self.feed_lost.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut outage = lock(&self.shared.change_feed.outage);
        outage.partitions += 1;
        if outage.since.is_none() {
            outage.since = Some(Instant::now());
            let why = node_pool::reason(error);
            let address = self.route.node_pool().address().to_string();
            tracing::warn!(
                "lost the change feed from Redis at {address} ({why}): \
                 changes by other servers are not visible until it reconnects"
            );
        }
    }

    /// Records the resynchronisation; logs it once for all partitions.
    fn mark_feed_restored(&self) {
        if !self.feed_lost.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut outage = lock(&self.shared.change_feed.outage);
        outage.partitions -= 1;
        if outage.partitions == 0
            && let Some(since) = outage.since.take()
        {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!("resynchronised with Redis after {seconds:.1} s");
        }
    }

    /// Applies a published update.
    fn apply_remote(&self, message: &[u8]) {
        let Ok(message) = std::str::from_utf8(message) else { return };
        // Replies to this server's own scripts contain the same.
        if message.split(' ').next() == Some(self.shared.server.as_str()) {
            return;
        }
        let before = self.topic_cache.due();
        let Some(done) =
            self.topic_cache.apply_update(message, UpdateSource::Remote, system_clock())
        else {
            return;
        };
        if !done.put.is_empty() || !done.returned.is_empty() || self.topic_cache.due() < before {
            self.pending_changes.add(done);
        }
    }
}
