//! Group commit. Writers that meet queue up; one of them, the leader, commits for all who wait.

use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, Thread};

use crate::ops::Batch;
use crate::sync::lock;

/// Transactions that one leader runs before another writer takes over, so that its own
/// connection is not kept waiting for ever by others' work.
const ROUNDS: usize = 16;

/// Times that a waiting writer yields its core before it parks, 0 on a machine with one core. The
/// leader never yields.
///
/// A commit in memory can take less time than the wake-up of a parked thread. After a yield the answer
/// is often there, and neither the writer nor the leader pays for a futex call. Confirmed puts into
/// memory, one at a time, medians of runs in turn on 2 cores with other work: 44,500 to 54,600 a
/// second for 8 connections, 42,100 to 51,100 for 50, 30,900 to 50,400 for 200. Beside a busy loop
/// per core and 200 connections, p50 fell from 3.6 to 0.6 ms and p99.9 from 263 to 77 ms, but p99 rose
/// from 30 to 40 ms. `cargo bench --bench compare -- put-confirmed` shows the rates against Redis.
static YIELDS: LazyLock<u32> =
    LazyLock::new(
        || if thread::available_parallelism().is_ok_and(|n| n.get() > 1) { 3 } else { 0 },
    );

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
        let mut yields = *YIELDS;
        loop {
            if let Some(word) = lock(&self.word).take() {
                return word;
            }
            if yields > 0 {
                yields -= 1;
                thread::yield_now();
            } else {
                thread::park();
            }
        }
    }

    fn tell(&self, word: Word) {
        *lock(&self.word) = Some(word);
        self.thread.unpark();
    }
}
