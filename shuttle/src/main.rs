//! Explores the schedules of the code that waits and wakes: the leader of group commit, the lines of
//! takers, the watches of getters, the mailboxes of subscribers, the timer. It is dsmq's own code,
//! compiled as it is, on a standard library whose threads and locks are shuttle's.
//!
//! `SCHEDULES` says how many are run of each kind, at random and by PCT, which prefers schedules
//! with few switches at unlucky places; 10,000 if it is not set. A failure prints its schedule.
#![allow(dead_code, unused_imports)]

extern crate dsmq_schedules as std;

mod explore;
/// dsmq's files, which find one another by these names.
#[path = "../../src"]
mod dsmq {
    pub mod broker;
    pub mod error;
    pub mod limits;
    pub mod ops;
    pub mod store;
    pub mod sync;
}

use dsmq::{broker, error, limits, ops, store, sync};
use std::io::Write;
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// SQLite runs on the stacks of the schedules' threads.
const STACK_BYTES: usize = 512 * 1024;

/// Unlucky switches in a schedule of PCT.
const DEPTH: usize = 3;

fn main() {
    let schedules = std::env::var("SCHEDULES").map(|count| count.parse().expect("a number"));
    let schedules = schedules.unwrap_or(10_000);
    for (name, exploration) in explore::ALL {
        print!("{name}: ");
        std::io::stdout().flush().expect("standard output");
        let before = Instant::now();
        run(RandomScheduler::new(schedules), exploration);
        run(PctScheduler::new(DEPTH, schedules), exploration);
        let seconds = before.elapsed().as_secs_f64();
        println!("{schedules} schedules at random and {schedules} by PCT, {seconds:.1} s");
    }
}

fn run(scheduler: impl Scheduler + 'static, exploration: fn()) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = FailurePersistence::Print;
    Runner::new(scheduler, config).run(exploration);
}
