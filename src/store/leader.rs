//! Group commit: one transaction for all batches that are queued at the same moment.
//!
//! Each thread appends its batch to a queue. If no thread leads, it becomes the leader: it takes the
//! queued batches in rounds, commits each round in one transaction, and calls the completions. Batches
//! that arrive during a commit form the next round, so rounds grow with the load and every client
//! shares the cost of a commit. The other threads sleep, or go on if they left a completion.
//!
//! A leader works for others, so it stops as early as it can: once its own batch is complete, it hands
//! over to the first waiting thread. If no thread waits, it works until the queue is empty.
//!
//! Two invariants prevent a lost wake-up. `led` and the queue change under one lock, so a thread that
//! adds a job either leads or is seen by the leader. A leader that panics clears `led` and wakes a
//! successor ([`Led`]).
//!
//! Part of the store. It knows neither tables nor Redis: [`Works`] carries out the rounds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::Due;
use crate::error::Result;
use crate::limits;
use crate::ops::{Batch, Completion, ThreadWaiter, completion};
use crate::sync::lock;

/// Carries out the rounds of a leader.
pub trait Works {
    /// Carries out the batches in one transaction and writes their outcomes into them.
    fn commit(&self, batches: &mut [&mut Batch]);

    /// Carries out due work, such as expired leases, in a separate transaction.
    fn tick_now(&self) -> Result<Due>;
}

/// The queue of a store, or of one of its partitions.
#[derive(Default)]
pub struct Leader {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Whether a thread leads. If none does, the next thread that adds a job takes the lead.
    led: bool,
    jobs: VecDeque<Job>,
}

enum Job {
    Batch(Submitted),
    Tick(Arc<ThreadWaiter<Result<Due>>>),
}

struct Submitted {
    batch: Batch,
    completion: Box<dyn Completion>,
}

/// The content of one transaction.
enum Round {
    Batches(Vec<Submitted>),
    Tick(Arc<ThreadWaiter<Result<Due>>>),
}

impl Leader {
    /// Queues a batch.
    ///
    /// If the completion has a waiting thread, this returns when the batch is complete, and the thread
    /// may lead until then. Otherwise this returns at once, unless no thread leads: then it leads
    /// until the queue is empty or a waiting thread takes over.
    pub fn submit(&self, batch: Batch, completion: Box<dyn Completion>, works: &impl Works) {
        if batch.is_empty() {
            return completion.complete(batch);
        }
        let waiter = completion.waiter().cloned();
        let leads = {
            let mut queue = lock(&self.queue);
            queue.jobs.push_back(Job::Batch(Submitted { batch, completion }));
            queue.begin_to_lead()
        };
        match waiter {
            Some(waiter) => self.wait(&waiter, leads, works),
            None if leads => self.lead(|| true, works),
            None => {}
        }
    }

    /// Carries out a batch and waits for it.
    ///
    /// If the queue is empty and no thread leads, the batch bypasses the queue, which makes a lone
    /// request about 10 % cheaper.
    pub fn apply(&self, batch: &mut Batch, works: &impl Works) {
        if batch.is_empty() {
            return;
        }
        let leads = {
            let mut queue = lock(&self.queue);
            queue.jobs.is_empty() && queue.begin_to_lead()
        };
        if !leads {
            return completion::apply(batch, |batch, done| self.submit(batch, done, works));
        }
        let led = Led(self);
        works.commit(&mut [batch]);
        // `lead` creates its own guard. Batches may have been queued during the commit.
        std::mem::forget(led);
        self.lead(|| true, works);
    }

    /// Carries out a tick ahead of all queued batches, and waits for it.
    pub fn tick(&self, works: &impl Works) -> Result<Due> {
        let waiter = ThreadWaiter::new();
        let leads = {
            let mut queue = lock(&self.queue);
            queue.jobs.push_front(Job::Tick(waiter.clone()));
            queue.begin_to_lead()
        };
        self.wait(&waiter, leads, works);
        waiter.take().unwrap_or_else(|| Ok(Due::default()))
    }

    fn wait<T>(&self, waiter: &ThreadWaiter<T>, leads: bool, works: &impl Works) {
        let lead = || self.lead(|| waiter.is_done(), works);
        if leads {
            lead();
        }
        waiter.wait(|| {
            if lock(&self.queue).begin_to_lead() {
                lead();
            }
        });
    }

    /// Carries out rounds until the queue is empty, or until `is_done` and another waiting thread takes
    /// over. Without the hand-over, this thread's connection would wait for the batches of others.
    fn lead(&self, is_done: impl Fn() -> bool, works: &impl Works) {
        let led = Led(self);
        loop {
            let round = {
                let mut queue = lock(&self.queue);
                if queue.jobs.is_empty() || is_done() && queue.hand_over() {
                    queue.led = false;
                    std::mem::forget(led);
                    return;
                }
                queue.next_round()
            };
            match round {
                Round::Batches(round) => commit(round, works),
                Round::Tick(waiter) => waiter.give(works.tick_now()),
            }
        }
    }
}

/// Ends the leadership of a thread that panics: otherwise all other threads would wait for ever.
struct Led<'a>(&'a Leader);

impl Drop for Led<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.led = false;
        queue.hand_over();
    }
}

impl Queue {
    /// Makes the calling thread the leader, unless another thread leads.
    fn begin_to_lead(&mut self) -> bool {
        !std::mem::replace(&mut self.led, true)
    }

    /// Asks the first waiting thread to lead; false if no thread waits.
    fn hand_over(&self) -> bool {
        self.jobs.iter().any(|job| match job {
            Job::Tick(waiter) => {
                waiter.ask_to_lead();
                true
            }
            Job::Batch(Submitted { completion, .. }) => {
                completion.waiter().inspect(|waiter| waiter.ask_to_lead()).is_some()
            }
        })
    }

    /// Takes the next round: a tick, or batches from the front up to [`limits::ROUND_OPERATIONS`] and
    /// [`limits::ROUND_BYTES`]. A first batch above these limits forms a round alone.
    fn next_round(&mut self) -> Round {
        let (mut round, mut operations, mut bytes) = (Vec::new(), 0, 0);
        while let Some(job) = self.jobs.pop_front() {
            match job {
                Job::Tick(waiter) if round.is_empty() => return Round::Tick(waiter),
                Job::Batch(submitted) => {
                    operations += submitted.batch.ops.len();
                    bytes += submitted.batch.bytes();
                    let fits =
                        operations <= limits::ROUND_OPERATIONS && bytes <= limits::ROUND_BYTES;
                    if round.is_empty() || fits {
                        round.push(submitted);
                        continue;
                    }
                    self.jobs.push_front(Job::Batch(submitted));
                }
                tick => self.jobs.push_front(tick),
            }
            break;
        }
        Round::Batches(round)
    }
}

fn commit(mut round: Vec<Submitted>, works: &impl Works) {
    let mut batches: Vec<&mut Batch> = round.iter_mut().map(|one| &mut one.batch).collect();
    works.commit(&mut batches);
    round.into_iter().for_each(|Submitted { batch, completion }| completion.complete(batch));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{self, ThreadId};

    use super::*;
    use crate::ops::Topic;

    /// Records each round, and calls `meanwhile` during the first.
    struct Rounds<F> {
        meanwhile: F,
        begun: AtomicUsize,
        rounds: Mutex<Vec<Noted>>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Noted {
        thread: ThreadId,
        batches: usize,
        operations: usize,
    }

    impl<F: Fn()> Rounds<F> {
        fn new(meanwhile: F) -> Rounds<F> {
            Rounds { meanwhile, begun: AtomicUsize::new(0), rounds: Mutex::default() }
        }

        fn note(&self, batches: usize, operations: usize) {
            if self.begun.fetch_add(1, Ordering::SeqCst) == 0 {
                (self.meanwhile)();
            }
            lock(&self.rounds).push(Noted { thread: thread::current().id(), batches, operations });
        }

        /// Waits until the first round has begun.
        fn wait(&self) {
            while self.begun.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
        }

        /// Batches and operations of each round.
        fn sizes(&self) -> Vec<(usize, usize)> {
            lock(&self.rounds).iter().map(|round| (round.batches, round.operations)).collect()
        }
    }

    impl<F: Fn()> Works for Rounds<F> {
        fn commit(&self, batches: &mut [&mut Batch]) {
            self.note(batches.len(), batches.iter().map(|batch| batch.ops.len()).sum());
        }

        fn tick_now(&self) -> Result<Due> {
            self.note(0, 0);
            Ok(Due::default())
        }
    }

    /// Fails if the calling thread leads.
    struct Never;

    impl Works for Never {
        fn commit(&self, _: &mut [&mut Batch]) {
            panic!("a second thread leads");
        }

        fn tick_now(&self) -> Result<Due> {
            panic!("a second thread leads");
        }
    }

    /// The completion of a task, which has no waiting thread; counts its calls.
    #[derive(Clone, Default)]
    struct Task(Arc<AtomicUsize>);

    impl Completion for Task {
        fn complete(self: Box<Self>, _: Batch) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn batch(puts: usize, bytes: usize) -> Batch {
        let mut batch = Batch::default();
        (0..puts).for_each(|_| batch.put(Topic::new("t").unwrap(), &vec![b'1'; bytes], None));
        batch
    }

    /// The sizes of the rounds for batches that are submitted during an earlier round.
    fn rounds(batches: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let (leader, task) = (Leader::default(), Task::default());
        let works = Rounds::new(|| {
            for (puts, bytes) in batches {
                leader.submit(batch(*puts, *bytes), Box::new(task.clone()), &Never);
            }
        });
        leader.submit(batch(1, 1), Box::new(task.clone()), &works);
        assert_eq!(task.0.load(Ordering::SeqCst), batches.len() + 1);
        works.sizes().split_off(1)
    }

    #[test]
    fn round_is_bounded_in_operations() {
        let half = limits::ROUND_OPERATIONS / 2;
        assert_eq!(rounds(&[(half, 1), (half, 1)]), [(2, 2 * half)]);
        assert_eq!(rounds(&[(half, 1), (half, 1), (1, 1)]), [(2, 2 * half), (1, 1)]);
        let much = 2 * limits::ROUND_OPERATIONS;
        assert_eq!(rounds(&[(much, 1), (1, 1)]), [(1, much), (1, 1)], "at least one batch");
    }

    #[test]
    fn round_is_bounded_in_bytes() {
        let half = limits::ROUND_BYTES / 2;
        assert_eq!(rounds(&[(1, half), (1, half)]), [(2, 2)]);
        assert_eq!(rounds(&[(1, half), (1, half), (1, 1)]), [(2, 2), (1, 1)]);
        assert_eq!(rounds(&[(1, 2 * half + 1), (1, 1)]), [(1, 1), (1, 1)], "at least one batch");
    }

    #[test]
    fn leader_hands_over_once_its_batch_is_complete() {
        let leader = Leader::default();
        let works = Rounds::new(|| {
            while lock(&leader.queue).jobs.is_empty() {
                thread::yield_now();
            }
        });
        let apply = || {
            completion::apply(&mut batch(1, 1), |batch, done| leader.submit(batch, done, &works));
            thread::current().id()
        };
        let (first, second) = thread::scope(|scope| {
            let second = scope.spawn(|| {
                works.wait();
                apply()
            });
            (apply(), second.join().unwrap())
        });
        let round = |thread| Noted { thread, batches: 1, operations: 1 };
        assert_eq!(*lock(&works.rounds), [round(first), round(second)]);
    }

    #[test]
    fn tick_precedes_queued_batches() {
        let leader = Leader::default();
        let works = Rounds::new(|| {
            (0..2).for_each(|_| leader.submit(batch(1, 1), Box::<Task>::default(), &Never));
            while lock(&leader.queue).jobs.len() < 3 {
                thread::yield_now();
            }
        });
        thread::scope(|scope| {
            scope.spawn(|| {
                works.wait();
                leader.tick(&works).unwrap();
            });
            leader.submit(batch(1, 1), Box::<Task>::default(), &works);
        });
        assert_eq!(works.sizes(), [(1, 1), (0, 0), (2, 2)]);
    }
}
