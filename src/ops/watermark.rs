//! Watermarks: the highest ids assigned when a session or subscription starts.
//!
//! A message belongs to a session if its id is above the session's watermark. A partitioned store
//! (Redis Cluster) assigns ids in each partition separately, so a watermark has one id for each.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::{DEAD_SUFFIX, Id};

/// The highest assigned id of each partition at one point in time.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// Lower bound for all partitions: every later message, in any partition, has a higher id.
    floor: Id,
    /// The highest id of each partition; `None` for a store with one partition.
    partitions: Option<Arc<[Id]>>,
    /// A pending query to a shared store, which may raise the ids above.
    pending: Option<(Instant, Arc<dyn WatermarkQuery>)>,
}

/// A pending query to a shared store for its highest ids.
pub trait WatermarkQuery: fmt::Debug + Send + Sync {
    /// The highest id that the partition had assigned at `at`; `None` if the query fails. Waits for the
    /// answer.
    fn last_id(&self, partition: usize, at: Instant) -> Option<Id>;
}

impl Watermark {
    /// The watermark of a store with one partition.
    pub fn at(id: Id) -> Watermark {
        Watermark { floor: id, partitions: None, pending: None }
    }

    /// The watermark of a partitioned store. Every later message, in any partition, must have an id above
    /// `floor`.
    #[cfg(feature = "redis")]
    pub fn of_partitions(floor: Id, last_ids: Arc<[Id]>) -> Watermark {
        Watermark { floor, partitions: Some(last_ids), pending: None }
    }

    /// Marks the watermark as provisional: `query` supplies the ids as of `at` once the store has answered.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "one process knows its ids"))]
    pub fn pending(self, at: Instant, query: Arc<dyn WatermarkQuery>) -> Watermark {
        Watermark { pending: Some((at, query)), ..self }
    }

    /// An id below every message put after this watermark, in any topic.
    ///
    /// In a partitioned store a message put shortly *before* the watermark can also be above this id.
    /// Without partitions, waits for a pending query.
    pub fn floor(&self) -> Id {
        match self.partitions {
            Some(_) => self.floor,
            None => self.later(0, self.floor),
        }
    }

    /// The watermark of one topic: exactly the messages put later have a higher id. Waits for a pending
    /// query.
    pub fn of(&self, topic: &str) -> Id {
        let Some(ids) = &self.partitions else { return self.floor() };
        let partition = partition(topic, ids.len());
        self.later(partition, ids.get(partition).copied().unwrap_or(self.floor))
    }

    /// The id of a partition, raised by the answer to a pending query.
    fn later(&self, partition: usize, known: Id) -> Id {
        let answer = self.pending.as_ref().and_then(|(at, query)| query.last_id(partition, *at));
        answer.map_or(known, |id| id.max(known))
    }
}

/// The partition that holds a topic and the topic of its dead letters.
///
/// Part of the storage format: all servers of all versions must compute the same partition.
pub fn partition(topic: &str, partitions: usize) -> usize {
    if partitions <= 1 {
        return 0;
    }
    let mut name = topic;
    while let Some(buried) = name.strip_suffix(DEAD_SUFFIX) {
        name = buried;
    }
    crc32fast::hash(name.as_bytes()) as usize % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_shares_a_fixed_partition_with_its_dead_letters() {
        assert_eq!(["a", "b", "weather", ".dead"].map(|topic| partition(topic, 16)), [3, 9, 14, 0]);
        for topic in ["a", "weather", "jobs.eu", "", "ü"] {
            for partitions in [1, 2, 16, 1_000] {
                let dead = format!("{topic}.dead");
                assert!(partition(topic, partitions) < partitions);
                assert_eq!(partition(topic, partitions), partition(&dead, partitions));
                assert_eq!(
                    partition(topic, partitions),
                    partition(&format!("{dead}.dead"), partitions)
                );
            }
        }
    }

    #[test]
    fn watermark_has_an_id_for_each_partition() {
        let one = Watermark::at(7);
        assert_eq!((one.floor(), one.of("a"), one.of("b")), (7, 7, 7));
        let ids: Arc<[Id]> = (0..16).map(|partition| partition * 10).collect();
        let many = Watermark { floor: 5, partitions: Some(ids), pending: None };
        assert_eq!((many.floor(), many.of("a"), many.of("b")), (5, 30, 90));
    }

    #[derive(Debug)]
    struct LateAnswer(Option<Id>);

    impl WatermarkQuery for LateAnswer {
        fn last_id(&self, partition: usize, _: Instant) -> Option<Id> {
            self.0.map(|id| id + partition as Id)
        }
    }

    #[test]
    fn late_answer_never_lowers_the_watermark() {
        let pending = |watermark: Watermark, answer| {
            watermark.pending(Instant::now(), Arc::new(LateAnswer(answer)))
        };
        for (answer, then) in [(Some(9), 9), (Some(5), 7), (None, 7)] {
            let one = pending(Watermark::at(7), answer);
            assert_eq!((one.floor(), one.of("a")), (then, then));
        }
        let ids: Arc<[Id]> = (0..16).map(|partition| partition * 10).collect();
        let many = Watermark { floor: 5, partitions: Some(ids), pending: None };
        let many = pending(many, Some(40));
        // "a" is in partition 3, "b" in partition 9.
        assert_eq!((many.floor(), many.of("a"), many.of("b")), (5, 43, 90));
    }
}
