//! Actions on the store: batches of operations, and takers who wait.

use std::sync::Arc;

use super::action::{Do, Name, Options, UNIT};
use super::log::{Hand, Seen};
use super::world::{Taker, World, hand, microseconds, topic, waker};
use crate::broker::Caller;
use crate::error::{Code, Result};
use crate::ops::{Batch, Id, Op, Outcome, Policy, PutOptions, Requeue};

/// What an operation may come to. A message that has expired and was not removed yet may count as
/// removed or not.
struct Expected {
    seen: Seen,
    give: u64,
}

impl World {
    /// Carries out operations together: in both worlds in their order, and nobody comes between.
    pub fn batch(&mut self, operations: &[Do]) {
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        for operation in operations {
            self.prepare(operation, &mut batch, &mut expected);
        }
        self.apply(&mut batch);
        assert_eq!(batch.outcomes.len(), expected.len(), "one outcome for each operation");
        for (at, expected) in expected.iter().enumerate() {
            let seen = self.seen(&batch, at);
            let op = &batch.ops[at];
            match (&seen, &expected.seen) {
                (Seen::Purged(seen), Seen::Purged(most)) => {
                    assert!(*seen <= *most && *seen + expected.give >= *most, "{op:?}: {seen}");
                }
                (Seen::Deleted(_), Seen::Deleted(_)) if expected.give > 0 => {}
                (seen, expected) => assert_eq!(seen, expected, "{op:?}"),
            }
        }
        self.keep_taken(&batch);
        self.serve();
    }

    /// Adds an operation to the batch, and does it to the model.
    fn prepare(&mut self, operation: &Do, batch: &mut Batch, expected: &mut Vec<Expected>) {
        let mut give = 0;
        let (op, seen) = match *operation {
            Do::Put { topic, large, ref options } => {
                let seen = self.put(topic, large, options.as_ref(), batch);
                expected.push(Expected { seen, give });
                return;
            }
            Do::Take { topic: name, lease, count } => {
                let lease = lease.map(|units| microseconds(units, name));
                for _ in 0..count {
                    batch.ops.push(Op::Take { topic: topic(name), lease });
                    let seen = Seen::Taken(self.log.take(name, lease));
                    expected.push(Expected { seen, give });
                }
                return;
            }
            Do::Ack { lease } => {
                let Some((name, id, deliveries)) = self.lease(lease) else { return };
                let op = Op::Ack { topic: topic(name), id, deliveries };
                (op, self.log.ack(name, id, deliveries))
            }
            Do::Nack { lease, delay } => {
                let Some((name, id, deliveries)) = self.lease(lease) else { return };
                let delay = if delay == 0 { 0 } else { microseconds(delay, name) };
                let op = Op::Nack { topic: topic(name), id, deliveries, delay };
                (op, self.log.nack(name, id, deliveries, delay))
            }
            Do::PutBack { hand: which } => {
                if self.hands.is_empty() {
                    return;
                }
                let (name, returned) = self.hands.remove(which % self.hands.len());
                let hand = hand(&returned.taken, &returned.body);
                let seen = self.log.put_back(name, &hand, false);
                (Op::PutBack { topic: topic(name), message: Box::new(returned) }, seen)
            }
            Do::Peek { topic: name } => (Op::Peek { topic: topic(name) }, self.log.peek(name)),
            Do::Delete { topic: name, message } => {
                let id = self.some_id(message);
                give = self.log.lingering(name);
                (Op::Delete { topic: topic(name), id }, self.log.delete(name, id))
            }
            Do::Purge { topic: name } => {
                give = self.log.lingering(name);
                (Op::Purge { topic: topic(name) }, self.log.purge(name))
            }
            Do::Stop { topic: name, stopped } => {
                self.log.topics[name].made = true;
                self.log.topics[name].stopped = stopped;
                (Op::SetStopped { topic: topic(name), stopped }, Seen::Done)
            }
            Do::Policy { topic: name, broadcast } => {
                let policy = if broadcast { Policy::Broadcast } else { Policy::RoundRobin };
                self.log.topics[name].made = true;
                self.log.topics[name].policy = Some(policy);
                (Op::SetPolicy { topic: topic(name), policy }, Seen::Done)
            }
        };
        batch.ops.push(op);
        expected.push(Expected { seen, give });
    }

    fn put(&mut self, name: Name, large: bool, put: Option<&Options>, batch: &mut Batch) -> Seen {
        self.bodies += 1;
        // A body that is large for a row stands elsewhere.
        let body = if large {
            format!("{:02200}", self.bodies).into_bytes()
        } else {
            self.bodies.to_string().into_bytes()
        };
        let options = put.map(|options| {
            Box::new(PutOptions {
                priority: options.priority,
                ttl: options.ttl.map(|units| units * UNIT),
                delay: options.delay.map(|units| units * UNIT),
                dedupe: options.key.map(|key| key.to_string().into()),
            })
        });
        batch.put(topic(name), &body, options);
        self.log.put(name, body, put)
    }

    fn lease(&self, which: usize) -> Option<(Name, Id, u32)> {
        // The last ones are the likeliest to be live.
        let which = which % self.leases.len().max(1);
        self.leases.iter().rev().nth(which).copied()
    }

    /// What an operation came to, in the model's words.
    fn seen(&self, batch: &Batch, at: usize) -> Seen {
        match &batch.outcomes[at] {
            Ok(Outcome::Stored { id, duplicate, .. }) => {
                Seen::Stored { id: *id, duplicate: *duplicate }
            }
            Ok(Outcome::Due { at, duplicate }) => Seen::Due { at: *at, duplicate: *duplicate },
            Ok(Outcome::Taken(taken)) => {
                Seen::Taken(taken.as_ref().map(|taken| hand(taken, batch.taken_body(taken))))
            }
            Ok(Outcome::Peeked(peeked)) => Seen::Peeked(
                peeked
                    .as_ref()
                    .map(|(peeked, looks)| (hand(peeked, batch.taken_body(peeked)), *looks)),
            ),
            Ok(Outcome::Done) => Seen::Done,
            Ok(Outcome::Deleted(deleted)) => Seen::Deleted(*deleted),
            Ok(Outcome::Purged(purged)) => Seen::Purged(*purged),
            Err(error) if error.code == Code::Gone => Seen::Gone,
            other => panic!("{:?}: {other:?}", batch.ops[at]),
        }
    }

    /// Remembers the taken messages, which can be acked or put back later.
    fn keep_taken(&mut self, batch: &Batch) {
        for (op, outcome) in batch.ops.iter().zip(&batch.outcomes) {
            if let (Op::Take { topic, lease }, Ok(Outcome::Taken(Some(taken)))) = (op, outcome) {
                let body = batch.taken_body(taken).into();
                let returned = Requeue { taken: taken.clone(), body, lease: *lease };
                self.keep(super::world::name(topic), returned);
            }
        }
    }

    fn keep(&mut self, name: Name, message: Requeue) {
        match message.lease {
            Some(_) => self.leases.push((name, message.taken.id, message.taken.deliveries)),
            None => self.hands.push((name, message)),
        }
    }

    /// A take that waits joins the end of the line.
    pub fn join(&mut self, name: Name, lease: Option<u64>) {
        let lease = lease.map(|units| microseconds(units, name));
        let woken = Arc::default();
        let waiting =
            self.broker.wait_to_take(&Caller::server(), &topic(name), lease, waker(&woken));
        self.takers.push(Taker { waiting, woken, topic: name, lease, hand: None });
        self.serve();
    }

    /// A waiting taker looks at what it was handed, and ends its wait if that is something.
    pub fn collect(&mut self, which: usize) {
        if self.takers.is_empty() {
            return;
        }
        let at = which % self.takers.len();
        let taker = &mut self.takers[at];
        let handed = taker.waiting.handed();
        let seen = handed.as_ref().map(as_hand);
        assert_eq!(seen, taker.hand);
        if let Some(handed) = handed {
            let taker = self.takers.remove(at);
            self.keep(taker.topic, handed.unwrap());
        }
    }

    /// A waiting taker goes: what it was handed goes to the next.
    pub fn give_up(&mut self, which: usize) {
        if self.takers.is_empty() {
            return;
        }
        let taker = self.takers.remove(which % self.takers.len());
        self.broker.give_up(&Caller::server(), taker.waiting);
        if let Some(hand) = taker.hand {
            self.log.put_back(taker.topic, &hand, taker.lease.is_some());
        }
        self.serve();
    }
}

fn as_hand(handed: &Result<Requeue>) -> Hand {
    let message = handed.as_ref().unwrap();
    hand(&message.taken, &message.body)
}
