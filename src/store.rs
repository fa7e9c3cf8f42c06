//! The store: what must be atomic. Ids and their order, priority, leases, delay, dedupe, and what
//! is visible to whom; batches in, runs out. It knows nothing of sessions, sockets or who waits.

mod batch;
#[cfg(test)]
mod contract;
mod head;
mod offline;
mod run;
mod shelf;
mod sqlite;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::batch::{Batch, Op, Outcome, PutOptions, Returned, Taken};
pub use self::head::{Counts, Head, Policy};
pub use self::offline::{Checked, backup, check};
pub use self::run::{Encoded, Run};
pub use self::shelf::Shelf;
use crate::error::Result;
use crate::message::{Id, Topic};

/// A place that keeps messages. Every method may be called from any thread at any time.
pub trait Store: Send + Sync {
    /// The last id given out: a message put from now on has a larger one.
    fn last_id(&self) -> Id;

    /// Microseconds since 1970 by the store's clock.
    fn now(&self) -> Id;

    /// What is known of a topic without asking the tables; `None` before its first put.
    fn head(&self, topic: &str) -> Option<Arc<Head>>;

    /// All topics, in no order.
    fn heads(&self) -> Vec<Arc<Head>>;

    /// Carries out the batch, all of it in one transaction, and writes each outcome into it. When
    /// it returns, what was stored is visible to everyone, and what was removed to nobody.
    fn apply(&self, batch: &mut Batch);

    /// The oldest messages of the topic with an id above `after`: at most `limit`, and at most
    /// [`limits::RUN_BYTES`](crate::limits::RUN_BYTES) unless the first alone is larger.
    fn read(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>>;

    /// A run of the topic's last `limit` messages, oldest first; fewer if together they are over
    /// [`limits::HISTORY_BYTES`](crate::limits::HISTORY_BYTES).
    fn read_last(&self, head: &Head, limit: usize) -> Result<Arc<Run>>;

    /// The topic's messages that are not due yet, those that are due first first, with the times
    /// when they are in place of ids; bounded as [`Store::read_last`] is.
    fn delayed(&self, head: &Head, limit: usize) -> Result<Run>;

    /// The runs that subscribers read last.
    fn shelf(&self) -> &Shelf;

    /// The id of the oldest message of the topic.
    fn oldest(&self, head: &Head) -> Result<Option<Id>>;

    /// When [`Store::tick`] will have something to do, by the store's clock.
    fn due(&self) -> Id;

    /// Does some of what is due by now: ends leases, puts delayed messages, removes expired ones.
    /// Returns what became of it for those who wait.
    fn tick(&self) -> Result<Due>;
}

/// What a tick did.
#[derive(Debug, Default)]
pub struct Due {
    /// Topics in which messages were put.
    pub put: Vec<Topic>,
    /// Topics in which messages can be taken again.
    pub returned: Vec<Topic>,
}

/// The store that lives as long as this process: SQLite in memory.
pub fn in_memory(rules: Rules) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(sqlite::SqliteStore::in_memory(system_clock, rules)?))
}

/// The same with another clock, and a look at how many rows its tables have.
#[cfg(test)]
pub fn in_memory_with(clock: fn() -> Id, rules: Rules) -> (Arc<dyn Store>, Box<dyn Fn() -> i64>) {
    let store = sqlite::SqliteStore::in_memory(clock, rules);
    let store = Arc::new(store.unwrap_or_else(|error| panic!("{error}")));
    (store.clone(), Box::new(move || store.rows()))
}

/// What a store is told once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// After so many deliveries a message that comes back is a dead letter; 0 is never.
    pub dead_letter_after: u32,
}

/// Microseconds since 1970 by this machine's clock.
fn system_clock() -> Id {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// The lock's content, also after a thread panicked with it: what it guards is consistent between
/// any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl dyn Store + '_ {
    /// [`Store::read`], or the run at hand that answers the same.
    pub fn run(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>> {
        if let Some(run) = head.run_at(after)
            && !self.is_stale(head, &run)
        {
            return Ok(run);
        }
        let run = self.read(head, after, limit)?;
        head.keep(&run);
        Ok(run)
    }

    /// As [`Self::run`], for those who read the same as others at about the same time: from the
    /// shelf, or onto it.
    pub fn shared_run(&self, head: &Head, after: Id, limit: usize) -> Result<Arc<Run>> {
        if let Some(run) = self.shelf().find(head, after)
            && !self.is_stale(head, &run)
        {
            return Ok(run);
        }
        let run = self.run(head, after, limit)?;
        self.shelf().keep(head, &run);
        Ok(run)
    }

    /// Whether messages of the run have been removed, or may not be handed out any more.
    pub fn is_stale(&self, head: &Head, run: &Run) -> bool {
        run.removals() != head.removals() || run.expires().is_some_and(|at| at <= self.now())
    }
}
