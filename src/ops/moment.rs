//! Moments: the last ids given out, which tell what was put before from what is put after. A store
//! of several parts gives out ids in each of them.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::{DEAD_SUFFIX, Id};

/// The last ids given out at some time, one for each part of the store.
#[derive(Clone, Debug)]
pub struct Moment {
    since: Id,
    /// One for each part, if there are several.
    parts: Option<Arc<[Id]>>,
    /// Others may have given out later ids by this time.
    asked: Option<(Instant, Arc<dyn Inquiry>)>,
}

/// A store that others share is being asked for the last ids.
pub trait Inquiry: fmt::Debug + Send + Sync {
    /// The last id that the part had given out by this time; `None` if it cannot be known. Waits for the answer.
    fn last_id(&self, part: usize, at: Instant) -> Option<Id>;
}

impl Moment {
    /// When this was the last id.
    pub fn at(id: Id) -> Moment {
        Moment { since: id, parts: None, asked: None }
    }

    /// When these were the last ids of the parts, and all that was put since has an id above
    /// `since`, whatever its part.
    #[cfg(feature = "redis")]
    pub fn of_parts(since: Id, last_ids: Arc<[Id]>) -> Moment {
        Moment { since, parts: Some(last_ids), asked: None }
    }

    /// The same at this time, which is not over for the store: there may be later ids, of which it tells.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "one process knows its ids"))]
    pub fn asked(self, at: Instant, inquiry: Arc<dyn Inquiry>) -> Moment {
        Moment { asked: Some((at, inquiry)), ..self }
    }

    /// An id for all topics: nothing that was put since has it or a smaller one. In a store of several
    /// parts something that was put shortly before may have a larger one.
    pub fn since(&self) -> Id {
        match self.parts {
            Some(_) => self.since,
            None => self.later(0, self.since),
        }
    }

    /// What is put to this topic from now on has a larger id than this, and nothing else.
    pub fn of(&self, topic: &str) -> Id {
        let Some(ids) = &self.parts else { return self.since() };
        let part = part(topic, ids.len());
        self.later(part, ids.get(part).copied().unwrap_or(self.since))
    }

    fn later(&self, part: usize, known: Id) -> Id {
        let told = self.asked.as_ref().and_then(|(at, inquiry)| inquiry.last_id(part, *at));
        told.map_or(known, |id| id.max(known))
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
        let many = Moment { since: 5, parts: Some(ids), asked: None };
        assert_eq!((many.since(), many.of("a"), many.of("b")), (5, 30, 90));
    }

    #[derive(Debug)]
    struct Told(Option<Id>);

    impl Inquiry for Told {
        fn last_id(&self, part: usize, _: Instant) -> Option<Id> {
            self.0.map(|id| id + part as Id)
        }
    }

    #[test]
    fn what_is_told_later_counts_unless_it_is_less_than_what_is_known() {
        let asked = |moment: Moment, told| moment.asked(Instant::now(), Arc::new(Told(told)));
        for (told, then) in [(Some(9), 9), (Some(5), 7), (None, 7)] {
            let one = asked(Moment::at(7), told);
            assert_eq!((one.since(), one.of("a")), (then, then));
        }
        let ids: Arc<[Id]> = (0..16).map(|part| part * 10).collect();
        let many = Moment { since: 5, parts: Some(ids), asked: None };
        let many = asked(many, Some(40));
        // "a" is in the third part, "b" in the ninth.
        assert_eq!((many.since(), many.of("a"), many.of("b")), (5, 43, 90));
    }
}
