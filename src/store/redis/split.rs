//! Splits a batch whose topics lie in several partitions, and merges the outcomes.

use crate::error::Result;
use crate::ops::{Batch, Op, Outcome, Taken, not_done};

/// Has each partition carry out its share of the batch: `partition` gives the index for an
/// operation, `apply` carries out a share.
///
/// A partition may leave operations for later, and then no operation after them may be done.
/// Therefore an operation after a take of another partition waits until that partition has
/// finished.
pub fn apply(
    batch: &mut Batch,
    partition: impl Fn(&Op) -> usize,
    mut apply: impl FnMut(usize, &mut Batch),
) {
    let partitions: Vec<usize> = batch.ops.iter().map(partition).collect();
    batch.taken.clear();
    batch.outcomes.clear();
    let mut done = 0;
    while done < partitions.len() {
        let till = done + wave(&batch.ops, &partitions, done);
        let mut outcomes: Vec<Option<Result<Outcome>>> = vec![None; till - done];
        for (partition, indexes) in shares(&partitions, done, till) {
            let mut share = batch.some(&indexes);
            apply(partition, &mut share);
            let base = batch.taken.len();
            batch.taken.extend_from_slice(&share.taken);
            for (index, outcome) in indexes.iter().zip(share.outcomes) {
                if let Some(place) = outcomes.get_mut(index - done) {
                    *place = Some(outcome.map(|outcome| moved(outcome, base)));
                }
            }
        }
        batch.outcomes.extend(outcomes.into_iter().map(|one| one.unwrap_or_else(not_done)));
        done = till;
        if batch.done() < done {
            break;
        }
    }
    batch.outcomes.resize(partitions.len(), Ok(Outcome::Later));
}

/// How many operations from `from` on can be split at once.
fn wave(ops: &[Op], partitions: &[usize], from: usize) -> usize {
    let mut taker = None;
    let rest = ops.iter().zip(partitions).skip(from);
    let wave = rest.take_while(|(op, partition)| {
        if taker.is_some_and(|taker| taker != *partition) {
            return false;
        }
        if matches!(op, Op::Take { .. } | Op::Peek { .. }) {
            taker = Some(*partition);
        }
        true
    });
    wave.count()
}

/// The indexes of each partition's operations, in the order of first use.
fn shares(partitions: &[usize], from: usize, till: usize) -> Vec<(usize, Vec<usize>)> {
    let mut shares: Vec<(usize, Vec<usize>)> = Vec::new();
    for (index, partition) in partitions.iter().enumerate().take(till).skip(from) {
        match shares.iter_mut().find(|(other, _)| other == partition) {
            Some((_, indexes)) => indexes.push(index),
            None => shares.push((*partition, vec![index])),
        }
    }
    shares
}

/// Shifts the body of a taken message by `base` bytes.
fn moved(outcome: Outcome, base: usize) -> Outcome {
    let moved = |mut taken: Taken| {
        taken.body = taken.body.start + base..taken.body.end + base;
        taken
    };
    match outcome {
        Outcome::Taken(taken) => Outcome::Taken(taken.map(moved)),
        Outcome::Peeked(found) => {
            Outcome::Peeked(found.map(|(taken, looks)| (moved(taken), looks)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Topic;

    /// A topic lies in the partition of its name. "a:0" is a put, "t:1" a take.
    fn batch(ops: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for op in ops {
            let (word, name) = op.split_once(':').unwrap();
            let topic = Topic::new(name).unwrap();
            match word {
                "t" => batch.ops.push(Op::Take { topic, lease: None }),
                "k" => batch.ops.push(Op::Peek { topic }),
                body => batch.put(topic, body.as_bytes(), None),
            }
        }
        batch
    }

    /// The operations that each partition received, in order, the taken bodies and the number of
    /// operations done; a partition takes `most` messages at a time.
    fn split(ops: &[&str], most: usize) -> (Vec<String>, Vec<String>, usize) {
        let mut batch = batch(ops);
        let mut given = Vec::new();
        let partition = |op: &Op| op.topic().as_str().parse().unwrap();
        apply(&mut batch, partition, |partition, share| {
            let mut words = Vec::new();
            let (mut left, mut late) = (most, false);
            for op in std::mem::take(&mut share.ops) {
                late |= matches!(op, Op::Take { .. }) && left == 0;
                if late {
                    share.outcomes.push(Ok(Outcome::Later));
                    continue;
                }
                share.outcomes.push(Ok(match &op {
                    Op::Put(put) => {
                        words.push(String::from_utf8(share.body(put).to_vec()).unwrap());
                        Outcome::Stored { id: 1, after: 0, duplicate: false }
                    }
                    _ => {
                        words.push("t".into());
                        left -= 1;
                        let start = share.taken.len();
                        share.taken.extend(format!("from {partition}").bytes());
                        Outcome::Taken(Some(Taken {
                            id: 1,
                            body: start..share.taken.len(),
                            deliveries: 1,
                            priority: 4,
                            expires: None,
                            origin: None,
                        }))
                    }
                }));
            }
            given.push(format!("{partition}:{}", words.concat()));
        });
        let taken = batch.outcomes.iter().filter_map(|outcome| match outcome {
            Ok(Outcome::Taken(Some(taken))) => {
                Some(String::from_utf8(batch.taken_body(taken).to_vec()).unwrap())
            }
            _ => None,
        });
        let taken = taken.collect();
        assert_eq!(batch.outcomes.len(), ops.len());
        (given, taken, batch.done())
    }

    #[test]
    fn each_partition_gets_its_share_in_one_call() {
        let (given, _, done) = split(&["a:0", "b:1", "c:0", "d:2", "e:1"], 9);
        assert_eq!(given, ["0:ac", "1:be", "2:d"]);
        assert_eq!(done, 5);
    }

    #[test]
    fn take_of_another_partition_is_done_first() {
        let (given, taken, done) = split(&["a:0", "b:1", "t:1", "c:1", "d:0", "t:0", "e:1"], 9);
        assert_eq!(given, ["0:a", "1:btc", "0:dt", "1:e"]);
        assert_eq!(taken, ["from 1", "from 0"]);
        assert_eq!(done, 7);
    }

    #[test]
    fn nothing_after_a_postponed_operation_is_done() {
        let (given, taken, done) = split(&["a:0", "t:1", "t:1", "t:1", "b:0", "t:0"], 2);
        assert_eq!(given, ["0:a", "1:tt"]);
        assert_eq!(taken, ["from 1", "from 1"]);
        assert_eq!(done, 3);
    }
}
