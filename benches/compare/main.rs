//! dsmq against Redis, beanstalkd, NATS, a raw echo and the Python server that it replaces, on this
//! machine, now: `cargo bench --bench compare [-- [--quick] [ROW | GROUP]...]`. `-- --stalls`,
//! `-- --bound` and `-- --cost` ask instead how long a put waits while much is removed, how well a bound
//! is held, and what a message costs a Redis. `-- --instructions [--write]` counts the instructions of a
//! request and compares the counts with the committed ones, or replaces these.
//!
//! It starts every server itself, on loopback and free ports, drives all of them with the same
//! load generator (`dsmq::cli::bench::load`), one after the other in turn since machines are noisy, and
//! prints a table in Markdown. It ends what it started.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `rows` | the rows of the table: what is measured, against what, and what must be reached |
//! | `resident` | the rows on memory |
//! | `vocabulary` | the rows on take, lease and push |
//! | `events` | the row on server-sent events |
//! | `coremq` | the row on CoreMQ |
//! | `redis` | the row on a store in Redis |
//! | `redis_cluster` | the rows on a store over a Redis Cluster |
//! | `redis_cost` | `--cost`: what a message costs a Redis |
//! | `durable` | the rows on puts into a file |
//! | `deep` | the rows on a file of millions of messages |
//! | `stalls` | `--stalls`: the longest puts while messages are removed |
//! | `bound` | `--bound`: what `--max-store` bounds |
//! | `instructions` | `--instructions`: instructions that a request costs |
//! | `contenders` | the servers: how they start, and end |
//! | `cluster` | a Redis Cluster, which tests have too |
//! | `files` | the servers that keep files, and the folder and the disk of these files |
//! | `http` | the rows on HTTP |
//! | `echo` | the raw echo and the web server that answers a constant, each in a process of its own |
//! | `resp`, `beanstalk`, `nats` | what the load generator says to Redis, beanstalkd and NATS |
//! | `measure` | what every row needs: effort, message, median |
//! | `report` | ratios, the table, the machine |

mod beanstalk;
mod bound;
#[expect(dead_code, reason = "the tests, whose it is, do more to it")]
#[path = "../../tests/suite/support/redis_cluster.rs"]
mod cluster;
mod contenders;
mod coremq;
mod deep;
mod durable;
mod echo;
mod events;
mod files;
mod http;
mod instructions;
mod measure;
mod nats;
mod redis;
mod redis_cluster;
mod redis_cost;
mod report;
mod resident;
mod resp;
mod rows;
mod stalls;
mod vocabulary;

use std::process::ExitCode;

use measure::Result;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [echo::FLAG, request, reply] => echo::serve(request, reply),
        [echo::CONSTANT_FLAG] => echo::serve_constant(),
        ["--stalls"] => stalls::report(&measure::FULL),
        ["--stalls", "--quick"] => stalls::report(&measure::QUICK),
        ["--cost"] => redis_cost::report(&measure::FULL),
        ["--cost", "--quick"] => redis_cost::report(&measure::QUICK),
        ["--bound"] => bound::report(&measure::FULL),
        ["--bound", "--quick"] => bound::report(&measure::QUICK),
        ["--instructions"] => instructions::report(false),
        ["--instructions", "--write"] => instructions::report(true),
        ref words => compare(words),
    };
    if let Err(error) = outcome {
        eprintln!("compare: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn compare(words: &[&str]) -> Result<()> {
    let effort = if words.contains(&"--quick") { measure::QUICK } else { measure::FULL };
    let wanted: Vec<&str> =
        words.iter().filter(|word| **word != "--quick").flat_map(rows).collect();
    let names = rows::ROWS.map(|(name, _)| name);
    if let Some(unknown) = wanted.iter().find(|word| !names.contains(word)) {
        return Err(format!("no row {unknown:?}; there are: {}", names.join(", ")).into());
    }
    contenders::raise_descriptor_limit()?;
    println!("{}\n\n{}", report::machine()?, report::HEAD);
    let mut failed = Vec::new();
    for (name, measure) in rows::ROWS {
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        match measure(&effort) {
            Ok(rows) => rows.iter().for_each(|row| println!("{row}")),
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

/// The rows of a group; any other word stands for itself.
fn rows<'a>(word: &'a &'a str) -> Vec<&'a str> {
    let group = rows::GROUPS.iter().find(|(name, _)| name == word);
    group.map_or(vec![*word], |(_, rows)| rows.to_vec())
}
