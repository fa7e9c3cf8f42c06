//! The contract of [`Store`], as checks that the tests of every store run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Store, TopicState};
use crate::error::Code;
use crate::limits;
use crate::ops::{Batch, Chunk, Id, Outcome, Topic};

/// Makes an empty store whose clock is [`clock`].
pub type Open<'a> = &'a dyn Fn() -> Arc<dyn Store>;

/// The clock of all stores under test. Other checks may advance it at any time.
static NOW: AtomicU64 = AtomicU64::new(1_780_000_000_000_000);

pub fn clock() -> Id {
    NOW.load(Ordering::SeqCst)
}

/// Advances the clock of every store under test.
#[cfg(feature = "redis")]
pub fn advance(microseconds: u64) {
    NOW.fetch_add(microseconds, Ordering::SeqCst);
}

/// Runs every check, each against fresh stores.
pub fn hold(open: Open<'_>) {
    ids_rise_over_all_topics(open);
    hold_in_parts(open);
}

/// Runs every check except the order of ids between topics, which a partitioned store lacks.
pub fn hold_in_parts(open: Open<'_>) {
    ids_rise_and_follow_the_clock(open);
    clock_step_back_hides_nothing(open);
    bodies_are_returned_byte_for_byte(open);
    chunks_begin_after_the_given_id(open);
    chunks_are_bounded(open);
    topics_do_not_mix(open);
    newest_is_the_last_message_put(open);
    batch_is_visible_once_complete(open);
    concurrent_writers_lose_nothing(open);
    readers_never_see_past_a_commit(open);
    topic_above_the_limit_is_refused_alone(open);
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

fn batch(puts: &[(&str, &[u8])]) -> Batch {
    let mut batch = Batch::default();
    puts.iter().for_each(|(name, body)| batch.put(topic(name), body, None));
    batch
}

fn put(store: &dyn Store, puts: &[(&str, &[u8])]) -> Vec<Id> {
    let mut batch = batch(puts);
    store.apply(&mut batch);
    assert_eq!(batch.outcomes.len(), puts.len());
    let id = |outcome: &crate::error::Result<Outcome>| match outcome {
        Ok(Outcome::Stored { id, duplicate: false, .. }) => *id,
        other => panic!("{other:?}"),
    };
    batch.outcomes.iter().map(id).collect()
}

fn state(store: &dyn Store, name: &str) -> Arc<TopicState> {
    store.topic(name).unwrap()
}

fn messages(chunk: &Chunk) -> Vec<(Id, Vec<u8>)> {
    (0..).map_while(|i| chunk.get(i)).map(|m| (m.id, m.body.to_vec())).collect()
}

/// All messages of a topic, chunk by chunk.
fn all(store: &dyn Store, name: &str) -> Vec<(Id, Vec<u8>)> {
    let state = state(store, name);
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let chunk = messages(&store.read(&state, after, limits::CHUNK_MESSAGES).unwrap());
        let Some((last, _)) = chunk.last() else { return all };
        after = *last;
        all.extend(chunk);
    }
}

fn ids_rise_over_all_topics(open: Open<'_>) {
    let store = open();
    let first = put(&*store, &[("a", b"1"), ("b", b"2"), ("a", b"3")]);
    assert!(first.is_sorted_by(|x, y| x < y));
    assert_eq!((store.last_id(), store.watermark().floor()), (first[2], first[2]));
}

fn ids_rise_and_follow_the_clock(open: Open<'_>) {
    let store = open();
    let start = store.watermark();
    let first = put(&*store, &[("a", b"1"), ("b", b"2"), ("a", b"3")]);
    assert!(start.floor() < first[0] && start.of("a") < first[0] && start.of("b") < first[1]);
    assert!(first[0] < first[2]);
    let watermark = store.watermark();
    assert_eq!((watermark.of("a"), watermark.of("b").max(first[1])), (first[2], watermark.of("b")));
    assert_eq!(store.last_id(), first.into_iter().max().unwrap());

    let later = NOW.fetch_add(1_000_000, Ordering::SeqCst) + 1_000_000;
    let second = put(&*store, &[("a", b"4")]);
    assert!(second[0] >= later, "an id is at least the clock");
}

fn clock_step_back_hides_nothing(open: Open<'_>) {
    let store = open();
    let before = put(&*store, &[("a", b"1")]);
    NOW.fetch_sub(500_000_000, Ordering::SeqCst);
    let after = put(&*store, &[("a", b"2")]);
    NOW.fetch_add(500_000_000, Ordering::SeqCst);
    assert!(before[0] < after[0]);
    let bodies: Vec<_> = all(&*store, "a").into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [b"1", b"2"]);
}

fn bodies_are_returned_byte_for_byte(open: Open<'_>) {
    let store = open();
    let sizes = [2, 3, 100, 900, 1_999, 2_000, 2_001, 2_002, 2_030, 4_096, 65_536, 70_000, 1 << 20];
    let mut bodies: Vec<Vec<u8>> =
        sizes.iter().map(|size| format!("\"{}\"", "x".repeat(size - 2)).into_bytes()).collect();
    bodies.extend([
        "\"\u{0}\u{1F980}é\"".as_bytes().to_vec(),
        br#"{ "a" :1.50,"a":1e400, "\ud800":[ ] }"#.to_vec(),
        b"null".to_vec(),
        b"12345678901234567890123456789".to_vec(),
    ]);
    let puts: Vec<(&str, &[u8])> = bodies.iter().map(|body| ("t", body.as_slice())).collect();
    let ids = put(&*store, &puts);
    let expected: Vec<(Id, Vec<u8>)> = ids.into_iter().zip(bodies).collect();
    assert_eq!(all(&*store, "t"), expected);
}

fn chunks_begin_after_the_given_id(open: Open<'_>) {
    let store = open();
    let ids = put(&*store, &[("t", b"0"), ("other", b"x"), ("t", b"1"), ("t", b"2")]);
    let state = state(&*store, "t");
    let read = |after, limit| messages(&store.read(&state, after, limit).unwrap());
    assert_eq!(read(0, 2), [(ids[0], b"0".to_vec()), (ids[2], b"1".to_vec())]);
    assert_eq!(read(ids[0], 9), [(ids[2], b"1".to_vec()), (ids[3], b"2".to_vec())]);
    assert_eq!(
        read(ids[1], 1),
        [(ids[2], b"1".to_vec())],
        "an id of another topic is a valid position"
    );
    assert_eq!(read(ids[3], 9), []);

    let chunk = store.read(&state, ids[0], 9).unwrap();
    assert_eq!(chunk.position(ids[0]), Some(0));
    assert_eq!(chunk.position(ids[2]), Some(1));
    assert_eq!(chunk.position(ids[0] - 1), None, "before the chunk");
    assert_eq!(chunk.position(ids[3]), None, "after the chunk");
}

fn chunks_are_bounded(open: Open<'_>) {
    let store = open();
    let body = [b'7'; 500];
    for _ in 0..3 {
        put(&*store, &vec![("t", &body[..]); 200]);
    }
    let state = state(&*store, "t");
    let chunk = store.read(&state, 0, usize::MAX).unwrap();
    assert!(chunk.bytes() <= limits::CHUNK_BYTES && chunk.bytes() + 500 > limits::CHUNK_BYTES);
    assert_eq!(all(&*store, "t").len(), 600);

    put(&*store, &vec![("small", &b"1"[..]); 600]);
    let chunk = store.read(&super::contract::state(&*store, "small"), 0, usize::MAX).unwrap();
    assert_eq!(messages(&chunk).len(), limits::CHUNK_MESSAGES);

    let large = vec![b'7'; limits::CHUNK_BYTES + 1];
    put(&*store, &[("l", b"1"), ("l", &large), ("l", b"2")]);
    let lengths: Vec<usize> = all(&*store, "l").iter().map(|(_, body)| body.len()).collect();
    assert_eq!(lengths, [1, large.len(), 1]);
}

fn topics_do_not_mix(open: Open<'_>) {
    let store = open();
    assert!(store.topic("a").is_none(), "the first put creates a topic");
    for i in 0..50u8 {
        put(&*store, &[("a", &[b'0' + i % 10]), ("a*", b"9"), ("é", b"8")]);
    }
    assert_eq!(all(&*store, "a").len(), 50);
    assert!(all(&*store, "a*").iter().all(|(_, body)| body == b"9"));
    assert!(all(&*store, "é").iter().all(|(_, body)| body == b"8"));
}

fn newest_is_the_last_message_put(open: Open<'_>) {
    let store = open();
    for body in [b"1".to_vec(), vec![b'2'; 5_000], b"3".to_vec()] {
        let ids = put(&*store, &[("t", &body), ("other", b"0")]);
        let state = state(&*store, "t");
        assert_eq!(state.newest(), ids[0]);
        assert_eq!(messages(&store.read_last(&state, 1).unwrap()), [(ids[0], body)]);
    }
}

fn batch_is_visible_once_complete(open: Open<'_>) {
    let store = open();
    for round in 1..=100 {
        let ids = put(&*store, &[("t", b"1"), ("t", b"2")]);
        assert_eq!(state(&*store, "t").newest(), ids[1]);
        assert_eq!(all(&*store, "t").len(), round * 2);
    }
}

fn concurrent_writers_lose_nothing(open: Open<'_>) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 200;
    let store = open();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &*store;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let body = format!("{}", writer * ROUNDS + round).into_bytes();
                    let own = format!("own{writer}");
                    let ids = put(store, &[("all", &body), (&own, &body), ("all", &body)]);
                    let next = messages(&store.read(&state(store, "all"), ids[0], 1).unwrap());
                    assert_eq!(next[0].0, ids[2], "a batch is not interleaved with another");
                    let last = all(store, &own).pop();
                    assert_eq!(last, Some((ids[1], body)), "a writer reads its own put");
                }
            });
        }
    });
    let all = all(&*store, "all");
    assert!(all.is_sorted_by(|x, y| x.0 < y.0));
    let mut bodies: Vec<usize> =
        all.iter().map(|(_, body)| String::from_utf8_lossy(body).parse().unwrap()).collect();
    bodies.sort_unstable();
    assert!(
        bodies.into_iter().eq((0..WRITERS * ROUNDS).flat_map(|i| [i, i])),
        "lost or duplicated messages"
    );
}

fn readers_never_see_past_a_commit(open: Open<'_>) {
    let store = open();
    put(&*store, &[("t", b"0")]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..500 {
                put(&*store, &[("t", b"1"), ("t", b"2")]);
            }
        });
        let state = state(&*store, "t");
        while !writer.is_finished() {
            let newest = state.newest();
            let chunk = store.read_last(&state, 1).unwrap();
            assert!(chunk.last_id() >= newest, "the newest id can be read");
            let seen = messages(&store.read(&state, newest.saturating_sub(1), 256).unwrap());
            assert_eq!(seen.first().map(|(id, _)| *id), Some(newest));
        }
    });
}

fn topic_above_the_limit_is_refused_alone(open: Open<'_>) {
    let store = open();
    let mut names = (0..).map(|i| format!("t{i}"));
    for _ in 0..limits::TOPICS / 1_000 {
        let names: Vec<String> = names.by_ref().take(1_000).collect();
        let puts: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"1"[..])).collect();
        put(&*store, &puts);
    }
    let mut full = batch(&[("t0", b"2"), ("one too many", b"2"), ("t1", b"2")]);
    store.apply(&mut full);
    let codes: Vec<_> =
        full.outcomes.iter().map(|o| o.as_ref().err().map(|error| error.code)).collect();
    assert_eq!(codes, [None, Some(Code::TooManyTopics), None]);
    assert_eq!(all(&*store, "t1").len(), 2);
    assert!(store.topic("one too many").is_none());
}
