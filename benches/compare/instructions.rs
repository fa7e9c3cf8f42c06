//! `--instructions`: how many instructions the server executes for one request.
//!
//! Valgrind's callgrind counts them, so the figures do not depend on the speed or the load of the
//! machine. The table is committed; a count that rises by more than 2 % is an error.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use dsmq::cli::bench::load::{Reply, Request, Step, ask, connect, cycles, json};

use crate::contenders::{Contender, HOST};
use crate::measure::{Result, SIZE, TOPIC, says};
use crate::report::thousands;

/// The committed table.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
const HEAD: &str = "\
| request, with a message of 100 bytes | one at a time | 64 at once |
| --- | ---: | ---: |";

/// A count may be this many times the committed one.
const RATIO_MAX: f64 = 1.02;

/// Requests that are sent in one write, and how many of these writes the shorter run has. The
/// longer run has twice as many.
const SHAPES: [(u64, u64); 2] = [(1, 1_000), (64, 64)];

/// Each run is repeated, and the fewest instructions count: on a busy machine the allocator finds
/// its memory in another state, which costs a take about 1 % more.
const REPEATED: u64 = 2;

/// Puts of one write that fill a topic.
const FILL_AT_ONCE: u64 = 64;

const LEASE_SECONDS: u32 = 3_600;

struct Case {
    name: &'static str,
    in_file: bool,
    /// Messages in the topic are needed before the first request.
    filled: bool,
    send: fn(&TcpStream, u64, u64) -> Result<()>,
}

const CASES: [Case; 7] = [
    Case { name: "put, and one ping for each write", in_file: false, filled: false, send: put },
    Case { name: "put confirmed, memory", in_file: false, filled: false, send: put_confirmed },
    Case { name: "put confirmed, file", in_file: true, filled: false, send: put_confirmed },
    Case { name: "get", in_file: false, filled: true, send: get },
    Case { name: "take", in_file: false, filled: true, send: take },
    Case { name: "take (lease) and ack", in_file: false, filled: true, send: take_and_ack },
    Case { name: "put and its push to one subscriber", in_file: false, filled: false, send: push },
];

/// Prints the table, and compares it with the committed one or replaces that.
pub fn report(write: bool) -> Result<()> {
    let tools = tools();
    let mut table = format!("{tools}\n\n{HEAD}\n");
    print!("{table}");
    for case in &CASES {
        let [(one, writes), (many, many_writes)] = SHAPES;
        let counts = [case.per_request(one, writes)?, case.per_request(many, many_writes)?];
        let row = format!("| {} | {} |\n", case.name, counts.map(thousands).join(" | "));
        print!("{row}");
        table += &row;
    }
    if write {
        return Ok(fs::write(TABLE, table)?);
    }
    let committed = fs::read_to_string(TABLE)
        .map_err(|error| format!("{TABLE}: {error}: run `make instructions WRITE=1`"))?;
    let made_with = committed.lines().next().unwrap_or_default();
    if made_with != tools {
        // Their counts differ too.
        println!("\nnotice: not compared, the committed counts are those of {made_with}");
        return Ok(());
    }
    let above: Vec<String> =
        CASES.iter().flat_map(|case| above(case.name, &table, &committed)).collect();
    if above.is_empty() {
        return Ok(());
    }
    Err(format!("more instructions than {RATIO_MAX} of the committed:\n{}", above.join("\n"))
        .into())
}

/// The counts of this row that are too high.
fn above(name: &str, table: &str, committed: &str) -> Vec<String> {
    let (now, before) = (counts_in(table, name), counts_in(committed, name));
    if now.len() != before.len() {
        return vec![format!("{name}: not in the committed table")];
    }
    let counts = now.into_iter().zip(before).zip(SHAPES);
    counts
        .filter(|((now, before), _)| *now > before * RATIO_MAX)
        .map(|((now, before), (at_once, _))| {
            format!("{name}, {at_once} at once: {}, was {}", thousands(now), thousands(before))
        })
        .collect()
}

/// The tools that the counts depend on.
fn tools() -> String {
    let libc = says("ldd", &["--version"]);
    let libc = libc.lines().next().unwrap_or_default().to_owned();
    format!("{}; {libc}; {}", says("rustc", &["--version"]), says("valgrind", &["--version"]))
}

/// The row of this name in a table.
fn counts_in(table: &str, name: &str) -> Vec<f64> {
    let row = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let row = row.into_iter().find(|cells| cells.get(1) == Some(&name)).unwrap_or_default();
    row.iter().skip(2).filter_map(|cell| cell.replace(',', "").parse().ok()).collect()
}

impl Case {
    /// The difference of two runs, of which one has twice the requests of the other: the start and
    /// the stop of the server cost both the same.
    fn per_request(&self, at_once: u64, writes: u64) -> Result<f64> {
        let fill = 2 * writes * at_once;
        let fewest = |writes| -> Result<u64> {
            let runs = (0..REPEATED).map(|_| self.run(at_once, writes, fill));
            runs.collect::<Result<Vec<_>>>()?.into_iter().min().ok_or("no run".into())
        };
        let (few, many) = (fewest(writes)?, fewest(2 * writes)?);
        Ok(many.saturating_sub(few) as f64 / (writes * at_once) as f64)
    }

    /// All instructions of a server, from its start to its stop. It gets `fill` messages first if
    /// the requests need any.
    fn run(&self, at_once: u64, writes: u64, fill: u64) -> Result<u64> {
        let folder = tempfile::tempdir()?;
        let counts = folder.path().join("callgrind");
        let file = folder.path().join("dsmq.db").display().to_string();
        let store = if self.in_file { file.as_str() } else { "memory" };
        let server = Contender::dsmq_counted(&["--store", store], &counts)?;
        let stream = json::session(HOST, server.port)?;
        if self.filled {
            // The session gets these messages because it began before them. Each write waits for its
            // answer, so that the server reads the same bytes at a time in every run.
            let writes = fill.div_ceil(FILL_AT_ONCE);
            put(&json::session(HOST, server.port)?, FILL_AT_ONCE, writes)?;
        }
        (self.send)(&stream, at_once, writes)
            .map_err(|error| format!("{}, {at_once} at once: {error}", self.name))?;
        drop(stream);
        server.stop()?;
        total(&counts)
    }
}

/// The sum at the end of callgrind's file.
fn total(counts: &Path) -> Result<u64> {
    let text = fs::read_to_string(counts)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
    Ok(total.ok_or("callgrind wrote no totals")?.trim().parse()?)
}

/// Repeats the steps, of which each is one write.
fn repeat(stream: &TcpStream, steps: &[Step], at_once: u64, writes: u64) -> Result<()> {
    let streams = [stream.try_clone()?];
    cycles(&streams, steps, at_once as u32, writes * at_once, &AtomicU64::new(0))?;
    Ok(())
}

/// Puts are not answered: a ping at the end of the write is, once all of them are done.
fn put(stream: &TcpStream, at_once: u64, writes: u64) -> Result<()> {
    let request = [json::put(TOPIC, SIZE).repeat(at_once as usize), json::PING.to_vec()].concat();
    let step = Step { request: Request::Same(request), reply: Reply::Is(json::OK.to_vec()) };
    repeat(stream, &[step], 1, writes)
}

fn put_confirmed(stream: &TcpStream, at_once: u64, writes: u64) -> Result<()> {
    let put = json::put_confirmed(TOPIC, SIZE);
    let step = Step { request: Request::Same(put.request), reply: put.reply };
    repeat(stream, &[step], at_once, writes)
}

fn get(stream: &TcpStream, at_once: u64, writes: u64) -> Result<()> {
    let reply = format!(r#"{{"message":"{}"}}"#, json::message(SIZE)).into_bytes();
    let step = Step { request: Request::Same(json::get(TOPIC)), reply: Reply::Is(reply) };
    repeat(stream, &[step], at_once, writes)
}

fn take(stream: &TcpStream, at_once: u64, writes: u64) -> Result<()> {
    repeat(stream, &[json::take(TOPIC, SIZE, None)], at_once, writes)
}

fn take_and_ack(stream: &TcpStream, at_once: u64, writes: u64) -> Result<()> {
    let steps = [json::take(TOPIC, SIZE, Some(LEASE_SECONDS)), json::ack(TOPIC)];
    repeat(stream, &steps, at_once, writes)
}

/// Another connection subscribes. Nothing is put before it has all pushes of the last write.
fn push(mut stream: &TcpStream, at_once: u64, writes: u64) -> Result<()> {
    let mut subscriber = connect(HOST, stream.peer_addr()?.port())?;
    ask(&subscriber, &json::subscribe(TOPIC), json::OK)?;
    let (puts, mut buffer) = (json::put(TOPIC, SIZE).repeat(at_once as usize), [0; 64 * 1024]);
    for _ in 0..writes {
        stream.write_all(&puts)?;
        let mut missing = at_once;
        while missing > 0 {
            let read = subscriber.read(&mut buffer)?;
            // The end of a push, which has no other brace of this kind.
            let pushed = buffer.get(..read).unwrap_or_default();
            let pushes = pushed.iter().filter(|byte| **byte == b'}').count() as u64;
            missing = missing.checked_sub(pushes).ok_or("pushed twice")?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
    Ok(())
}
