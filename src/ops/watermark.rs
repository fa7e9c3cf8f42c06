//! Moments: the last ids given out, which tell what was put before from what is put after. A store
//! of several parts gives out ids in each of them.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::{DEAD_SUFFIX, Id};

/// The last ids given out at some time, one for each part of the store.
#[derive(Clone, Debug)]
pub struct Watermark {
    floor: Id,
    /// One for each part, if there are several.
    partitions: Option<Arc<[Id]>>,
    /// Others may have given out later ids by this time.
    pending: Option<(Instant, Arc<dyn WatermarkQuery>)>,
}

/// A store that others share is being asked for the last ids.
pub trait WatermarkQuery: fmt::Debug + Send + Sync {
    /// The last id that the part had given out by this time; `None` if it cannot be known. Waits for the answer.
    fn last_id(&self, partition: usize, at: Instant) -> Option<Id>;
}

impl Watermark {
    /// When this was the last id.
    pub fn at(id: Id) -> Watermark {
        Watermark { floor: id, partitions: None, pending: None }
    }

    /// When these were the last ids of the parts, and all that was put since has an id above
    /// `floor`, whatever its part.
    #[cfg(feature = "redis")]
    pub fn of_partitions(floor: Id, last_ids: Arc<[Id]>) -> Watermark {
        Watermark { floor, partitions: Some(last_ids), pending: None }
    }

    /// The same at this time, which is not over for the store: there may be later ids, of which it tells.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "one process knows its ids"))]
    pub fn pending(self, at: Instant, inquiry: Arc<dyn WatermarkQuery>) -> Watermark {
        Watermark { pending: Some((at, inquiry)), ..self }
    }

    /// An id for all topics: nothing that was put since has it or a smaller one. In a store of several
    /// parts something that was put shortly before may have a larger one.
    pub fn floor(&self) -> Id {
        match self.partitions {
            Some(_) => self.floor,
            None => self.later(0, self.floor),
        }
    }

    /// What is put to this topic from now on has a larger id than this, and nothing else.
    pub fn of(&self, topic: &str) -> Id {
        let Some(ids) = &self.partitions else { return self.floor() };
        let partition = partition(topic, ids.len());
        self.later(partition, ids.get(partition).copied().unwrap_or(self.floor))
    }

    fn later(&self, partition: usize, known: Id) -> Id {
        let answer =
            self.pending.as_ref().and_then(|(at, inquiry)| inquiry.last_id(partition, *at));
        answer.map_or(known, |id| id.max(known))
    }
}

/// The part of a store of so many in which a topic stands, with the topic of its dead letters. It is
/// the same for every server that ever was.
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
    fn a_topic_stands_with_its_dead_letters_and_where_it_always_stood() {
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
    fn a_moment_has_an_id_for_each_part() {
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
    fn what_is_told_later_counts_unless_it_is_less_than_what_is_known() {
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
        // "a" is in the third part, "b" in the ninth.
        assert_eq!((many.floor(), many.of("a"), many.of("b")), (5, 43, 90));
    }
}
