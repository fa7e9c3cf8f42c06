//! `--stalls`: how long a confirmed put waits at worst while much is removed from another topic, in
//! memory and in a file. Prints a table of its own.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dsmq::Client;
use dsmq::cli::bench::load::{Amount, Histogram, Outcome, Pattern, blast, json, rounds};

use crate::contenders::{Contender, HOST};
use crate::files::Folder;
use crate::measure::{Effort, Result, SIZE, median};
use crate::report::{machine, thousands};

const PUT_INTO: &str = "put";
const REMOVED_FROM: &str = "removed";
/// Messages that are purged at a time.
const PURGED: u64 = 1_000_000;
const BOUND: &str = "64MiB";
const NO_BOUND: &str = "64GiB";
/// More than there is room for within [`BOUND`].
const OVER_BOUND: u64 = 1_000_000;
/// How long puts are looked at, with and without.
const WATCHED: Duration = Duration::from_secs(3);
/// Puts that are answered before the removal begins.
const PUTS_BEFORE: u64 = 100;
const TARGET_MS: f64 = 50.0;

const WHAT: &str = "\
A confirmed put of 100 bytes, one at a time. Figures are medians of rounds; of the longest put of a \
round the worst round stands behind it.";

const HEAD: &str = "\
| store | meanwhile | p99 without | p99 | longest without | longest | at most 50 ms | puts/s without | puts/s |
| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |";

/// One round: the puts' latency without the removal, and with it.
type Round = (Outcome, Outcome);

pub fn report(effort: &Effort) -> Result<()> {
    println!("{}\n\n{}\n\n{HEAD}", machine()?, WHAT);
    for in_file in [false, true] {
        let store = if in_file { "file, sync full" } else { "memory" };
        for (what, round) in [("purge of 1,000,000", purge as Measure), (OVER, over_bound)] {
            let rounds = (0..effort.pairs).map(|_| round(in_file));
            println!("| {store} | {what} | {} |", figures(&rounds.collect::<Result<Vec<_>>>()?));
        }
    }
    Ok(())
}

const OVER: &str = "puts without pause into a topic that is at `--max-store 64MiB` (drop-oldest); \
without: as many puts, and no bound";

/// Of a fresh server, in a file or in memory.
type Measure = fn(bool) -> Result<Round>;

/// The time to look at is from before the purge until well behind its reply: what it leaves to be
/// done later counts too.
fn purge(in_file: bool) -> Result<Round> {
    let folder = in_file.then(Folder::new).transpose()?;
    let server = Contender::dsmq_in(folder.as_ref(), &["--max-store", NO_BOUND])?;
    json::fill(&json::session(HOST, server.port)?, REMOVED_FROM, SIZE, PURGED)?;
    let without = watch(&server, || Ok(()))?;
    let with = watch(&server, || {
        let purged = Client::connect((Ipv4Addr::LOCALHOST, server.port))?.purge(REMOVED_FROM)?;
        if purged == PURGED { Ok(()) } else { Err(format!("{purged} purged").into()) }
    })?;
    Ok((without, with))
}

fn over_bound(in_file: bool) -> Result<Round> {
    let watched = |bound: &str| -> Result<Outcome> {
        let folder = in_file.then(Folder::new).transpose()?;
        let flags = ["--max-store", bound, "--when-full", "drop-oldest"];
        let server = Contender::dsmq_in(folder.as_ref(), &flags)?;
        let streams = [json::session(HOST, server.port)?];
        json::fill(&streams[0], REMOVED_FROM, SIZE, OVER_BOUND)?;
        watch(&server, || {
            let (put, amount) = (json::put(REMOVED_FROM, SIZE), Amount::Time(WATCHED));
            blast(&streams, &put, (json::PING, json::OK), amount, &AtomicU64::new(0))?;
            Ok(())
        })
    };
    Ok((watched(NO_BOUND)?, watched(BOUND)?))
}

/// The latency of puts while this is done, or for [`WATCHED`] if that is longer.
fn watch(server: &Contender, meanwhile: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    let streams: [TcpStream; 1] = [json::session(HOST, server.port)?];
    let (put, done) = (json::put_confirmed(PUT_INTO, SIZE), AtomicU64::new(0));
    let pattern = Pattern::new(1, Amount::Time(WATCHED));
    thread::scope(|scope| {
        let putter = scope.spawn(|| rounds(&streams, &put, pattern, &done));
        while done.load(Ordering::Relaxed) < PUTS_BEFORE && !putter.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        meanwhile()?;
        let panicked = |_| io::Error::other("the putter panicked");
        Ok(putter.join().map_err(panicked)??)
    })
}

fn figures(rounds: &[Round]) -> String {
    let longest = |latency: &Histogram<u64>| latency.max() as f64 / 1e6;
    let p99 = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64 / 1e6;
    let (without, with): (Vec<_>, Vec<_>) =
        rounds.iter().map(|(without, with)| (&without.latency, &with.latency)).unzip();
    let reached = median(with.iter().copied().map(longest)) <= TARGET_MS;
    format!(
        "{:.2} ms | {:.2} ms | {} | {} | {} | {} | {}",
        median(without.iter().copied().map(p99)),
        median(with.iter().copied().map(p99)),
        of_rounds(without.iter().copied().map(longest)),
        of_rounds(with.iter().copied().map(longest)),
        if reached { "yes" } else { "**no**" },
        thousands(median(rounds.iter().map(|(without, _)| without.rate()))),
        thousands(median(rounds.iter().map(|(_, with)| with.rate()))),
    )
}

/// The median, and the worst.
fn of_rounds(millis: impl Iterator<Item = f64> + Clone) -> String {
    let worst = millis.clone().fold(0.0, f64::max);
    format!("{:.1} ms (at most {worst:.1})", median(millis))
}
