//! Moments: the last ids given out, which tell what was put before from what is put after. A store
//! of several parts gives out ids in each of them.

use std::sync::Arc;

use crate::message::{DEAD_SUFFIX, Id};

/// The last ids given out at some time, one for each part of the store.
#[derive(Clone, Debug)]
pub struct Moment {
    since: Id,
    /// One for each part, if there are several.
    parts: Option<Arc<[Id]>>,
}

impl Moment {
    /// When this was the last id.
    pub fn at(id: Id) -> Moment {
        Moment { since: id, parts: None }
    }

    /// When these were the last ids of the parts, and all that was put since has an id above
    /// `since`, whatever its part.
    #[cfg(feature = "redis")]
    pub fn of_parts(since: Id, last_ids: Arc<[Id]>) -> Moment {
        Moment { since, parts: Some(last_ids) }
    }

    /// An id for all topics: nothing that was put since has it or a smaller one. In a store of several
    /// parts something that was put shortly before may have a larger one.
    pub fn since(&self) -> Id {
        self.since
    }

    /// What is put to this topic from now on has a larger id than this, and nothing else.
    pub fn of(&self, topic: &str) -> Id {
        let Some(ids) = &self.parts else { return self.since };
        ids.get(part(topic, ids.len())).copied().unwrap_or(self.since)
    }
}

/// The part of a store of so many in which a topic stands, with the topic of its dead letters. It is
/// the same for every server that ever was.
pub fn part(topic: &str, parts: usize) -> usize {
    if parts <= 1 {
        return 0;
    }
    let mut name = topic;
    while let Some(buried) = name.strip_suffix(DEAD_SUFFIX) {
        name = buried;
    }
    crc32fast::hash(name.as_bytes()) as usize % parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_stands_with_its_dead_letters_and_where_it_always_stood() {
        assert_eq!(["a", "b", "weather", ".dead"].map(|topic| part(topic, 16)), [3, 9, 14, 0]);
        for topic in ["a", "weather", "jobs.eu", "", "ü"] {
            for parts in [1, 2, 16, 1_000] {
                let dead = format!("{topic}.dead");
                assert!(part(topic, parts) < parts);
                assert_eq!(part(topic, parts), part(&dead, parts));
                assert_eq!(part(topic, parts), part(&format!("{dead}.dead"), parts));
            }
        }
    }

    #[test]
    fn a_moment_has_an_id_for_each_part() {
        let one = Moment::at(7);
        assert_eq!((one.since(), one.of("a"), one.of("b")), (7, 7, 7));
        let ids: Arc<[Id]> = (0..16).map(|part| part * 10).collect();
        let many = Moment { since: 5, parts: Some(ids) };
        assert_eq!((many.since(), many.of("a"), many.of("b")), (5, 30, 90));
    }
}
