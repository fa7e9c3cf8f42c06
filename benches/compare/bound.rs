//! `--bound`: whether `--max-store` is held while far more than that is put, what a message costs
//! beside its payload, and what is left once all is purged. Prints a table of its own.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dsmq::Client;
use dsmq::cli::bench::load::json;

use crate::contenders::{Contender, HOST};
use crate::files::Folder;
use crate::measure::{Effort, Result, TOPIC};
use crate::report::machine;

const MIB: f64 = 1024.0 * 1024.0;
const BOUND_MIB: u64 = 256;
/// Bytes of messages that are put in all, of each size.
const PUT_BYTES: u64 = 1024 * 1024 * 1024;
const LARGE: usize = 10_000;
const SMALL: usize = 100;
/// The messages put into one server, one size after the other.
const CASES: [(&str, &[usize]); 3] = [
    ("1 GiB of 10 kB", &[LARGE]),
    ("1 GiB of 100 B", &[SMALL]),
    ("1 GiB of 10 kB, then of 100 B", &[LARGE, SMALL]),
];
/// How often files are looked at while they grow.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const AFTER_PURGE: Duration = Duration::from_secs(10);

const OVER_BOUND: f64 = 1.05;
const RESIDENT_OVER_MIB: f64 = 60.0;
const LARGE_OVERHEAD: f64 = 1.2;

const HEAD: &str = "\
| store, bound 256 MiB | put | kept x payload | file + log at most | file + log at the end | resident at most | resident at the end | cost of a message | held | 10 s after the purge: file + log, resident |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |";

pub fn report(effort: &Effort) -> Result<()> {
    println!("{}\n\n{HEAD}", machine()?);
    for in_file in [false, true] {
        for (what, sizes) in CASES {
            let folder = in_file.then(Folder::new).transpose()?;
            println!(
                "{}",
                measure(folder.as_ref(), what, sizes, PUT_BYTES / effort.shorter.min(2))?
            );
        }
    }
    Ok(())
}

fn measure(folder: Option<&Folder>, what: &str, sizes: &[usize], bytes: u64) -> Result<String> {
    let bound = format!("{BOUND_MIB}MiB");
    let flags = ["--max-store", &bound, "--when-full", "drop-oldest"];
    let server = Contender::dsmq_in(folder, &flags)?;
    let (file_max, log_max) = watch_files(folder, || {
        let stream = json::session(HOST, server.port)?;
        for size in sizes {
            json::fill(&stream, TOPIC, *size, bytes / *size as u64)?;
        }
        Ok(())
    })?;
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, server.port))?;
    let stats = client.stats()?;
    // The quotes of a text count.
    let kept = stats.bytes as f64 / MIB;
    let (file, log) = file_mib(folder);
    let resident = server.resident_bytes()? as f64 / MIB;
    let resident_max = server.resident_bytes_max()? as f64 / MIB;
    let used = if folder.is_some() { file } else { resident };
    let overhead = used / kept;
    client.purge(TOPIC)?;
    // Time is what is asked about here.
    thread::sleep(AFTER_PURGE);
    let (file_after, log_after) = file_mib(folder);
    let resident_after = server.resident_bytes()? as f64 / MIB;
    let faults = faults(folder.is_some().then_some(file_max), resident_max, overhead, sizes);
    Ok(format!(
        "| {} | {what} | {} x {:.0} B = {kept:.0} MiB | {file_max:.0} + {log_max:.0} MiB | \
         {file:.0} + {log:.0} MiB | {resident_max:.0} MiB | {resident:.0} MiB | {overhead:.2} of \
         its payload | {} | {file_after:.1} + {log_after:.1} MiB, {resident_after:.0} MiB |",
        if folder.is_some() { "file" } else { "memory" },
        stats.messages,
        stats.bytes as f64 / stats.messages.max(1) as f64,
        if faults.is_empty() { "yes".to_owned() } else { format!("**no**: {}", faults.join("; ")) },
    ))
}

/// The targets that were not reached.
fn faults(file: Option<f64>, resident: f64, overhead: f64, sizes: &[usize]) -> Vec<&'static str> {
    let bound = BOUND_MIB as f64;
    let mut faults = Vec::new();
    if file.is_some_and(|file| file > bound * OVER_BOUND) {
        faults.push("the file is over the bound by more than 5 %");
    }
    if resident > bound + RESIDENT_OVER_MIB {
        faults.push("more is resident than the bound and 60 MiB");
    }
    if sizes == [LARGE] && overhead > LARGE_OVERHEAD {
        faults.push("a message of 10 kB costs more than 1.2 of its payload");
    }
    faults
}

/// The largest that the file and its log are seen while something is done.
fn watch_files(folder: Option<&Folder>, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = file_mib(folder);
            while !done.load(Ordering::Relaxed) {
                thread::sleep(LOOK_EVERY);
                let (file, log) = file_mib(folder);
                most = (most.0.max(file), most.1.max(log));
            }
            most
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let most = watcher.join().map_err(|_| "the watcher panicked")?;
        worked.map(|()| most)
    })
}

fn file_mib(folder: Option<&Folder>) -> (f64, f64) {
    let (file, log) = folder.map_or((0, 0), Folder::store_bytes);
    (file as f64 / MIB, log as f64 / MIB)
}
