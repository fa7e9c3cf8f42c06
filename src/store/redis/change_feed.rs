//! News: what scripts of other servers did, as they publish it. One thread listens for each part of the
//! store. When it could not for a while it asks for everything anew.

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

/// So long nothing is heard before the connection is tried.
const PING_AFTER: Duration = Duration::from_secs(1);

/// Its thread does little.
const STACK_BYTES: usize = 256 * 1024;

/// Parts of which nothing is heard, or not all that was missed is known.
#[derive(Default)]
struct FeedOutage {
    partitions: usize,
    since: Option<Instant>,
}

/// What has been heard of a part, until its tick tells of it.
#[derive(Default)]
pub struct PendingChanges {
    due: Mutex<Due>,
    any: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// Whether news comes, of all parts.
#[derive(Default)]
pub struct ChangeFeed {
    lost: Mutex<FeedOutage>,
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

    /// Tells those who wait, in a while.
    pub fn add(&self, due: Due) {
        let any = !due.put.is_empty() || !due.returned.is_empty();
        let mut pending = lock(&self.due);
        merge(&mut pending.put, due.put);
        merge(&mut pending.returned, due.returned);
        drop(pending);
        if any {
            self.any.store(true, Ordering::Release);
        }
        // That something is due sooner is news too.
        self.wake();
    }

    pub fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }
}

impl ChangeFeed {
    /// How long it is that not all that others do is known here.
    pub fn lag(&self) -> Option<Duration> {
        lock(&self.lost).since.map(|since| since.elapsed())
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

/// Listens on a thread of its own until the store is dropped; `ready` hears when it does, or cannot.
pub fn listen(
    weak: &Arc<Partition>,
    ready: mpsc::Sender<Result<(), String>>,
) -> std::io::Result<()> {
    let weak = Arc::downgrade(weak);
    let thread = std::thread::Builder::new().name("news".into()).stack_size(STACK_BYTES);
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
            // Nobody waits for a store that could not be opened.
            let _ = ready.send(Err(node_pool::explain(&error).text.into_owned()));
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

/// Why nobody listens here any more.
enum ListenEnd {
    /// The store was dropped.
    Ended,
    /// This part of it is at another node.
    Elsewhere,
}

/// Listens until the connection fails.
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
            Ok(told) => match weak.upgrade() {
                Some(partition) => partition.apply_remote(told.get_payload_bytes()),
                None => return Ok(ListenEnd::Ended),
            },
            // Where this server was stopped and goes on, what came meanwhile is still there.
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

/// Asks for all that there is, if something may have been missed; false if that has to be tried again.
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
            tracing::debug!("what Redis holds is not known yet: {error}");
            partition.needs_resync.store(true, Ordering::Release);
            partition.shared.change_feed.pause(RETRY);
            false
        }
    }
}

impl Partition {
    /// A connection that hears what scripts publish.
    fn listen(&self, node_pool: &NodePool) -> RedisResult<Connection> {
        let word = if self.shared.nodes.is_cluster() { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        let mut connection = node_pool.connect_to_hear(PING_AFTER)?;
        connection.send_packed_command(&cmd(word).arg(&self.channel).get_packed_command())?;
        connection.recv_response()?.extract_error()?;
        Ok(connection)
    }

    /// The connection that heard of this part broke. It is logged once for all parts.
    fn mark_feed_lost(&self, error: &RedisError) {
        if self.feed_lost.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut lost = lock(&self.shared.change_feed.lost);
        lost.partitions += 1;
        if lost.since.is_none() {
            lost.since = Some(Instant::now());
            let why = node_pool::reason(error);
            let address = self.route.node_pool().address().to_string();
            tracing::warn!(
                "no news from Redis at {address} ({why}): what other servers do is not heard of"
            );
        }
    }

    /// All is known again.
    fn mark_feed_restored(&self) {
        if !self.feed_lost.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut lost = lock(&self.shared.change_feed.lost);
        lost.partitions -= 1;
        if lost.partitions == 0
            && let Some(since) = lost.since.take()
        {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!("what Redis holds is known again after {seconds:.1} s");
        }
    }

    /// What some server's script did.
    fn apply_remote(&self, told: &[u8]) {
        let Ok(told) = std::str::from_utf8(told) else { return };
        // The own answers tell the same.
        if told.split(' ').next() == Some(self.shared.server.as_str()) {
            return;
        }
        let before = self.topic_cache.due();
        let Some(done) = self.topic_cache.apply_update(told, UpdateSource::Remote, system_clock())
        else {
            return;
        };
        if !done.put.is_empty() || !done.returned.is_empty() || self.topic_cache.due() < before {
            self.pending_changes.add(done);
        }
    }
}
