//! The shelf: the runs that subscribers read last, of whatever topics, for those who come along
//! behind: all who follow a topic share them, and how they were encoded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::Head;
use crate::limits;
use crate::ops::{Id, Run};
use crate::sync::lock;

#[derive(Debug, Default)]
pub struct Shelf(Mutex<VecDeque<(i64, Arc<Run>)>>);

impl Shelf {
    /// A run of the topic in which the message after `after` stands.
    pub fn find(&self, head: &Head, after: Id) -> Option<Arc<Run>> {
        let runs = lock(&self.0);
        let mut newest_first = runs.iter().rev();
        let found = newest_first
            .find(|(number, run)| *number == head.number() && run.position(after).is_some());
        found.map(|(_, run)| run.clone())
    }

    /// Keeps a run in the place of the one that has been there longest.
    pub fn keep(&self, head: &Head, run: &Arc<Run>) {
        // A large message is not kept: there is more to it than to reading it.
        if run.is_empty() || run.bytes() > limits::RUN_BYTES {
            return;
        }
        let mut runs = lock(&self.0);
        let gone = if runs.len() < limits::SHELF_RUNS { None } else { runs.pop_front() };
        runs.push_back((head.number(), run.clone()));
        drop(runs);
        // What may be freed here is freed without the lock.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Topic;

    fn run(after: Id, body: &[u8]) -> Arc<Run> {
        let mut run = Run::new(after, 0);
        run.push(after + 1, body, None);
        Arc::new(run)
    }

    #[test]
    fn a_run_is_found_by_topic_and_place_until_others_take_its_place() {
        let [head, other] = [1, 2].map(|number| Head::new(Topic::new("t").unwrap(), number));
        let shelf = Shelf::default();
        shelf.keep(&head, &run(10, b"1"));
        assert!(shelf.find(&head, 10).is_some());
        assert!(shelf.find(&head, 11).is_none() && shelf.find(&head, 9).is_none());
        assert!(shelf.find(&other, 10).is_none());
        (0..limits::SHELF_RUNS as Id).for_each(|i| shelf.keep(&other, &run(i, b"1")));
        assert!(shelf.find(&head, 10).is_none());
    }

    #[test]
    fn a_large_message_is_not_kept() {
        let (head, shelf) = (Head::new(Topic::new("t").unwrap(), 1), Shelf::default());
        shelf.keep(&head, &run(10, &vec![b'1'; limits::RUN_BYTES + 1]));
        assert!(shelf.find(&head, 10).is_none());
    }
}
