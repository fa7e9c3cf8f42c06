//! The read cache: chunks that were recently read or put, shared by all clients that read the same topic.
//!
//! Fan-out depends on it. When a message reaches a topic with a thousand subscribers, the first one
//! loads the chunk and the others share it, with the forms into which protocols encoded it. With
//! [`WriteThrough`] not even the first reads the tables: the put itself fills the cache.
//!
//! A chunk is immutable, so the cache needs no invalidation. It records the topic's number of removals
//! at the time of reading; if the topic has had removals since, the chunk is stale and is read again. The
//! same applies once one of its messages has expired. New messages never make a chunk stale: they follow it.
//!
//! Part of the store. It knows no sessions: a cursor holds its own chunk and asks the cache for the next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::{Store, TopicState};
use crate::error::Result;
use crate::limits;
use crate::ops::{Batch, Chunk, Id, Op, Outcome, Topic};
use crate::sync::lock;

/// Recently used chunks: at most [`limits::READ_CACHE_BYTES`] and [`limits::READ_CACHE_CHUNKS`].
///
/// The least recently used chunk is evicted first. A linear search starts at the most recently used
/// chunk, which is the one that most clients read.
#[derive(Debug, Default)]
pub struct ReadCache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// The least recently used first.
    chunks: VecDeque<CachedChunk>,
    bytes: usize,
}

#[derive(Debug)]
struct CachedChunk {
    /// The topic's number, which changes with a purge.
    topic: i64,
    /// The ids after which the chunk has the next message.
    places: Range<Id>,
    chunk: Arc<Chunk>,
    bytes: usize,
}

/// Estimated bytes of an entry without its messages.
const ENTRY_BYTES: usize = 512;

/// Estimated bytes of a message without its body and the name of its topic.
const MESSAGE_BYTES: usize = 96;

impl ReadCache {
    /// A chunk with the topic's first message after `after`. It may be stale.
    pub fn find(&self, state: &TopicState, after: Id) -> Option<Arc<Chunk>> {
        let number = state.number();
        let Entries { chunks, .. } = &mut *lock(&self.0);
        let has = |entry: &CachedChunk| entry.topic == number && entry.places.contains(&after);
        let index = chunks.iter().rposition(has)?;
        let chunk = chunks.get(index)?.chunk.clone();
        if index + 1 < chunks.len()
            && let Some(used) = chunks.remove(index)
        {
            chunks.push_back(used);
        }
        Some(chunk)
    }

    /// Adds a chunk, except a single message above [`limits::CHUNK_BYTES`]: encoding it costs more than
    /// reading it, so sharing would save little.
    pub fn keep(&self, state: &TopicState, chunk: &Arc<Chunk>) {
        if chunk.is_empty() || chunk.bytes() > limits::CHUNK_BYTES {
            return;
        }
        let bytes = size_of_chunk(state, chunk);
        let places = chunk.after()..chunk.last_id();
        let entry = CachedChunk { topic: state.number(), places, chunk: chunk.clone(), bytes };
        let mut entries = lock(&self.0);
        entries.chunks.push_back(entry);
        entries.bytes += bytes;
        while (entries.bytes > limits::READ_CACHE_BYTES
            || entries.chunks.len() > limits::READ_CACHE_CHUNKS)
            && let Some(gone) = entries.chunks.pop_front()
        {
            entries.bytes -= gone.bytes;
        }
    }

    /// Estimated bytes of all entries.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        lock(&self.0).bytes
    }
}

/// Estimated bytes of a chunk with its messages in one encoded form.
fn size_of_chunk(state: &TopicState, chunk: &Chunk) -> usize {
    let per_message = MESSAGE_BYTES + state.topic().as_str().len();
    ENTRY_BYTES + 2 * chunk.bytes() + chunk.len() * per_message
}

impl dyn Store + '_ {
    /// [`Store::read`] through the cache. A cached chunk may begin before `after`.
    pub fn chunk(&self, state: &TopicState, after: Id, limit: usize) -> Result<Arc<Chunk>> {
        if let Some(chunk) = self.cache().find(state, after)
            && !self.is_stale(state, &chunk)
        {
            return Ok(chunk);
        }
        let chunk = self.read(state, after, limit)?;
        self.cache().keep(state, &chunk);
        Ok(chunk)
    }

    /// Whether messages of the chunk may have been removed or have expired.
    pub fn is_stale(&self, state: &TopicState, chunk: &Chunk) -> bool {
        chunk.removals() != state.removals() || chunk.expires().is_some_and(|at| at <= self.now())
    }
}

/// Adds the messages of a batch to the cache, so that subscribers need not read them from the tables.
///
/// It must be created before the batch is submitted: it records the topic's removals then, so any later
/// removal, even one by the batch itself, makes the chunk stale.
pub struct WriteThrough {
    state: Arc<TopicState>,
    removals: u64,
}

impl WriteThrough {
    /// For the topic of the batch's first put without options; `None` if the topic does not exist yet.
    pub fn new(store: &dyn Store, batch: &Batch) -> Option<WriteThrough> {
        let topic = batch.ops.iter().find_map(plain_put)?;
        let state = store.topic(topic.as_str())?;
        let removals = state.removals();
        Some(WriteThrough { state, removals })
    }

    /// Caches the messages once the batch is complete.
    pub fn finish(&self, store: &dyn Store, batch: &Batch) {
        if let Some(chunk) = self.chunk(batch) {
            store.cache().keep(&self.state, &Arc::new(chunk));
        }
    }

    /// The batch's consecutive messages of the topic, from the first one. A message of another batch or
    /// a put with options between them ends the chunk.
    fn chunk(&self, batch: &Batch) -> Option<Chunk> {
        let mut chunk: Option<Chunk> = None;
        for (op, outcome) in batch.ops.iter().zip(&batch.outcomes) {
            let (Op::Put(put), Ok(Outcome::Stored { id, after, duplicate: false })) = (op, outcome)
            else {
                continue;
            };
            if put.topic != *self.state.topic() {
                continue;
            }
            let chunk = chunk.get_or_insert_with(|| Chunk::new(*after, self.removals));
            let body = batch.body(put);
            let full = chunk.bytes() + body.len() > limits::CHUNK_BYTES;
            if full || put.options.is_some() || chunk.last_id() != *after {
                break;
            }
            chunk.push(*id, body, None);
        }
        chunk
    }
}

/// The topic of a put without options. Messages with options, such as a ttl, are not written through.
fn plain_put(op: &Op) -> Option<&Topic> {
    match op {
        Op::Put(put) if put.options.is_none() => Some(&put.topic),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::PutOptions;
    use crate::store::{Rules, in_memory};

    fn state(number: i64) -> TopicState {
        TopicState::new(Topic::new("t").unwrap(), number)
    }

    /// A chunk of these ids that begins after `after`.
    fn chunk(after: Id, ids: &[Id], body: &[u8]) -> Arc<Chunk> {
        let mut chunk = Chunk::new(after, 0);
        ids.iter().for_each(|id| chunk.push(*id, body, None));
        Arc::new(chunk)
    }

    #[test]
    fn chunks_are_found_by_topic_and_position() {
        let (cache, t, u) = (ReadCache::default(), state(1), state(2));
        cache.keep(&t, &chunk(10, &[12, 14], b"1"));
        cache.keep(&t, &chunk(14, &[15], b"1"));
        let found = |state, after| cache.find(state, after).map(|chunk| chunk.last_id());
        assert_eq!(
            [9, 10, 12, 13, 14, 15].map(|after| found(&t, after)),
            [None, Some(14), Some(14), Some(14), Some(15), None]
        );
        assert_eq!(found(&u, 10), None);
    }

    #[test]
    fn least_recently_used_chunk_is_evicted_at_the_byte_limit() {
        let (cache, t) = (ReadCache::default(), state(1));
        let body = vec![b'1'; limits::CHUNK_BYTES];
        let fit = (limits::READ_CACHE_BYTES / size_of_chunk(&t, &chunk(0, &[1], &body))) as Id;
        let keep = |after| cache.keep(&t, &chunk(after, &[after + 1], &body));
        (0..fit).for_each(keep);
        assert!((0..fit).all(|after| cache.find(&t, after).is_some()), "all fit");
        assert!(cache.find(&t, 0).is_some());
        keep(fit);
        assert!(cache.bytes() <= limits::READ_CACHE_BYTES);
        let gone: Vec<Id> = (0..=fit).filter(|after| cache.find(&t, *after).is_none()).collect();
        assert_eq!(gone, [1], "the chunk at 0 was used after this one");
        (0..10 * fit).for_each(keep);
        assert!(cache.bytes() <= limits::READ_CACHE_BYTES);
    }

    #[test]
    fn number_of_small_chunks_is_bounded() {
        let (cache, t) = (ReadCache::default(), state(1));
        let chunks = limits::READ_CACHE_CHUNKS as Id;
        (0..=chunks).for_each(|after| cache.keep(&t, &chunk(after, &[after + 1], b"1")));
        let gone: Vec<Id> = (0..=chunks).filter(|after| cache.find(&t, *after).is_none()).collect();
        assert_eq!(gone, [0]);
    }

    #[test]
    fn newest_chunk_of_a_position_is_found() {
        let (cache, t) = (ReadCache::default(), state(1));
        cache.keep(&t, &chunk(10, &[11], b"1"));
        cache.keep(&t, &chunk(10, &[12], b"1"));
        assert_eq!(cache.find(&t, 10).unwrap().last_id(), 12);
    }

    #[test]
    fn large_message_is_not_cached() {
        let (cache, t) = (ReadCache::default(), state(1));
        cache.keep(&t, &chunk(10, &[11], &vec![b'1'; limits::CHUNK_BYTES + 1]));
        assert!(cache.find(&t, 10).is_none());
    }

    #[test]
    fn readers_of_the_same_messages_share_a_chunk() {
        let store = in_memory(Rules::default()).unwrap();
        store.apply(&mut batch(&["t", "t", "t"]));
        let state = store.topic("t").unwrap();
        let first = store.chunk(&state, 0, 2).unwrap();
        assert!(Arc::ptr_eq(&first, &store.chunk(&state, first.last_id() - 1, 2).unwrap()));
        let newest = store.chunk(&state, first.last_id(), 2).unwrap();
        assert_eq!((first.len(), newest.len()), (2, 1));
        assert!(Arc::ptr_eq(&newest, &store.chunk(&state, first.last_id(), 2).unwrap()));
    }

    fn batch(topics: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for topic in topics {
            batch.put(Topic::new(topic).unwrap(), topic.as_bytes(), None);
        }
        batch
    }

    /// How many messages of "t" are in the cache after the batch.
    fn found(store: &dyn Store, mut batch: Batch, meanwhile: impl FnOnce()) -> Option<usize> {
        let state = store.topic("t")?;
        let after = state.newest();
        let through = WriteThrough::new(store, &batch)?;
        meanwhile();
        store.apply(&mut batch);
        through.finish(store, &batch);
        let chunk = store.cache().find(&state, after)?;
        (!store.is_stale(&state, &chunk)).then_some(chunk.len())
    }

    #[test]
    fn consecutive_messages_of_a_batch_are_written_through() {
        let store = in_memory(Rules::default()).unwrap();
        let put = |topics| store.apply(&mut batch(topics));
        assert!(WriteThrough::new(&*store, &batch(&["t"])).is_none(), "the topic is new");
        put(&["t", "u"]);
        assert_eq!(found(&*store, batch(&["t", "u", "t"]), || {}), Some(2));
        assert_eq!(
            found(&*store, batch(&["t"]), || put(&["t"])),
            None,
            "another message precedes it"
        );
        let mut expires = batch(&["t"]);
        let options = PutOptions { ttl: Some(1), ..PutOptions::default() };
        expires.put(Topic::new("t").unwrap(), b"1", Some(Box::new(options)));
        assert_eq!(found(&*store, expires, || {}), Some(1), "without the one with a ttl");
        let take = || {
            let mut take = Batch::default();
            take.ops.push(Op::Take { topic: Topic::new("t").unwrap(), lease: None });
            store.apply(&mut take);
        };
        assert_eq!(
            found(&*store, batch(&["t"]), take),
            None,
            "stale: a message was removed meanwhile"
        );
    }
}
