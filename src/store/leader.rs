//! Group commit. Writers that meet queue up; one of them, the leader, commits for all who wait.

use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};

use crate::store::{Batch, lock};

/// Transactions that one leader runs before another writer takes over, so that its own
/// connection is not kept waiting for ever by others' work.
const ROUNDS: usize = 16;

#[derive(Default)]
pub struct Leader {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    led: bool,
    waiting: Vec<Arc<Waiting>>,
}

/// A writer that sleeps until its batch comes back.
struct Waiting {
    thread: Thread,
    batch: Mutex<Option<Batch>>,
    word: Mutex<Option<Word>>,
}

/// What the leader tells a writer.
enum Word {
    /// The batch is committed.
    Done,
    /// The batch is as it was: be the leader.
    Lead,
}

impl Leader {
    /// Returns once `commit` has had the batch, called here or by another writer.
    pub fn submit(&self, batch: &mut Batch, commit: impl Fn(&mut [&mut Batch])) {
        let waiting = {
            let mut queue = lock(&self.queue);
            if queue.led {
                let waiting = Arc::new(Waiting::new(std::mem::take(batch)));
                queue.waiting.push(waiting.clone());
                Some(waiting)
            } else {
                queue.led = true;
                None
            }
        };
        if let Some(waiting) = waiting {
            let word = waiting.wait();
            *batch = lock(&waiting.batch).take().unwrap_or_default();
            match word {
                Word::Done => return,
                Word::Lead => {}
            }
        }
        self.lead(batch, commit);
    }

    /// Commits the leader's own batch with all that wait, then what has come meanwhile.
    fn lead(&self, batch: &mut Batch, commit: impl Fn(&mut [&mut Batch])) {
        let led = Led(self);
        let mut own = Some(batch);
        for _ in 0..ROUNDS {
            let followers = {
                let mut queue = lock(&self.queue);
                if own.is_none() && queue.waiting.is_empty() {
                    queue.led = false;
                    std::mem::forget(led);
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            commit_round(own.take(), &followers, &commit);
        }
        drop(led);
    }

    fn hand_over(&self) {
        let next = {
            let mut queue = lock(&self.queue);
            if queue.waiting.is_empty() {
                queue.led = false;
                return;
            }
            queue.waiting.remove(0)
        };
        next.tell(Word::Lead);
    }
}

/// Whoever leads hands over when it ends, also by a panic: else all others would wait for ever.
struct Led<'a>(&'a Leader);

impl Drop for Led<'_> {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}

fn commit_round(
    own: Option<&mut Batch>,
    followers: &[Arc<Waiting>],
    commit: impl Fn(&mut [&mut Batch]),
) {
    let mut taken: Vec<Batch> =
        followers.iter().map(|f| lock(&f.batch).take().unwrap_or_default()).collect();
    let mut batches: Vec<&mut Batch> = own.into_iter().chain(&mut taken).collect();
    commit(&mut batches);
    for (follower, batch) in followers.iter().zip(taken) {
        *lock(&follower.batch) = Some(batch);
        follower.tell(Word::Done);
    }
}

impl Waiting {
    fn new(batch: Batch) -> Waiting {
        Waiting {
            thread: thread::current(),
            batch: Mutex::new(Some(batch)),
            word: Mutex::new(None),
        }
    }

    fn wait(&self) -> Word {
        loop {
            if let Some(word) = lock(&self.word).take() {
                return word;
            }
            thread::park();
        }
    }

    fn tell(&self, word: Word) {
        *lock(&self.word) = Some(word);
        self.thread.unpark();
    }
}
