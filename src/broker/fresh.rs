//! What a batch has just put, as a run: those who are told of it find it on the shelf, and need
//! not ask the tables for what was in hand a moment ago.

use std::sync::Arc;

use crate::limits;
use crate::ops::{Batch, Op, Outcome, Run, Topic};
use crate::store::{Head, Store};

/// Made before the batch is carried out: whatever is removed from then on makes the run stale.
pub struct Fresh {
    head: Arc<Head>,
    removals: u64,
}

impl Fresh {
    /// For the topic of the batch's first put, if it has been made.
    pub fn new(store: &dyn Store, batch: &Batch) -> Option<Fresh> {
        let topic = batch.ops.iter().find_map(put_plainly)?;
        let head = store.head(topic.as_str())?;
        let removals = head.removals();
        Some(Fresh { head, removals })
    }

    /// Puts the run on the shelf.
    pub fn keep(&self, store: &dyn Store, batch: &Batch) {
        if let Some(run) = self.run(batch) {
            store.shelf().keep(&self.head, &Arc::new(run));
        }
    }

    /// The messages that follow one another in the topic, from the first on.
    fn run(&self, batch: &Batch) -> Option<Run> {
        let mut run: Option<Run> = None;
        for (op, outcome) in batch.ops.iter().zip(&batch.outcomes) {
            let (Op::Put(put), Ok(Outcome::Stored { id, after, duplicate: false })) = (op, outcome)
            else {
                continue;
            };
            if put.topic != *self.head.topic() {
                continue;
            }
            let run = run.get_or_insert_with(|| Run::new(*after, self.removals));
            let body = batch.body(put);
            let full = run.bytes() + body.len() > limits::RUN_BYTES;
            if full || put.options.is_some() || run.last_id() != *after {
                break;
            }
            run.push(*id, body, None);
        }
        run
    }
}

/// The topic of a put without options: one with a ttl, say, is not kept here.
fn put_plainly(op: &Op) -> Option<&Topic> {
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

    fn batch(topics: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for topic in topics {
            batch.put(Topic::new(topic).unwrap(), topic.as_bytes(), None);
        }
        batch
    }

    /// What those who follow "t" find behind what was there before the batch.
    fn found(store: &dyn Store, mut batch: Batch, meanwhile: impl FnOnce()) -> Option<usize> {
        let head = store.head("t")?;
        let after = head.newest();
        let fresh = Fresh::new(store, &batch)?;
        meanwhile();
        store.apply(&mut batch);
        fresh.keep(store, &batch);
        let run = store.shelf().find(&head, after)?;
        (!store.is_stale(&head, &run)).then_some(run.len())
    }

    #[test]
    fn the_messages_of_a_batch_are_a_run_as_far_as_they_follow_one_another() {
        let store = in_memory(Rules::default()).unwrap();
        let put = |topics| store.apply(&mut batch(topics));
        assert!(Fresh::new(&*store, &batch(&["t"])).is_none(), "nobody stands in it yet");
        put(&["t", "u"]);
        assert_eq!(found(&*store, batch(&["t", "u", "t"]), || {}), Some(2));
        assert_eq!(found(&*store, batch(&["t"]), || put(&["t"])), None, "one lies between");
        let mut expires = batch(&["t"]);
        let options = PutOptions { ttl: Some(1), ..PutOptions::default() };
        expires.put(Topic::new("t").unwrap(), b"1", Some(Box::new(options)));
        assert_eq!(found(&*store, expires, || {}), Some(1), "without the one with a ttl");
        let take = || {
            let mut take = Batch::default();
            take.ops.push(Op::Take { topic: Topic::new("t").unwrap(), lease: None });
            store.apply(&mut take);
        };
        assert_eq!(found(&*store, batch(&["t"]), take), None, "stale, to be on the safe side");
    }
}
