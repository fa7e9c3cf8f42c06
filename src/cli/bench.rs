//! `dsmq bench`: measures how fast a running server answers. `load` generates the load; here are
//! the flags, the kinds of work and the table.

pub mod load;

use std::net::TcpStream;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::load::{Amount, Outcome, Pattern, json as wire};
use crate::store;

/// A get reads its topic again from the start if the topic is shorter than the measurement.
const TOPIC_MESSAGES_MAX: u64 = 100_000;
const TOPIC_BYTES_MAX: u64 = 256 * 1024 * 1024;

const PROGRESS_EVERY: Duration = Duration::from_millis(100);

const EXIT_FAILED: u8 = 2;

/// The flags of `dsmq bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure, one after another
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',',
          default_values_t = [Kind::Put, Kind::PutConfirmed, Kind::Get])]
    pub work: Vec<Kind>,

    /// Number of connections that work at the same time
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,

    /// Requests in flight on each connection; the latency is that of all of them together. A put
    /// without confirmation has no reply and is sent as fast as the socket accepts it
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(load::PIPELINE_MAX)))]
    pub pipeline: u32,

    /// Length of each message in bytes
    #[arg(long, value_name = "BYTES", default_value = "100",
          value_parser = clap::value_parser!(u32).range(1..=16 * 1024 * 1024 - 2))]
    pub size: u32,

    /// Number of requests of each kind, over all connections together
    #[arg(long, value_name = "N", default_value = "100000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,

    /// Measure each kind of work for this many seconds, instead of a number of requests
    #[arg(long, conflicts_with = "count", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: Option<u32>,

    /// Topic to use; its messages stay [default: a new one]
    #[arg(long)]
    pub topic: Option<String>,

    /// Print one JSON object for each kind of work instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A kind of work.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Kind {
    /// Puts without replies, and at the end a ping, which is answered when all are visible
    Put,
    /// Puts, each answered when it is stored
    PutConfirmed,
    /// Gets, each answered with a message
    Get,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::PutConfirmed => "put-confirmed",
            Kind::Get => "get",
        }
    }
}

/// Runs the benchmark against the server at `host` and `port`.
pub fn run(args: &BenchArgs, host: &str, port: u16) -> ExitCode {
    match measure_all(args, host, port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dsmq bench: {host}:{port}: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn measure_all(args: &BenchArgs, host: &str, port: u16) -> io::Result<()> {
    // The server is probably the same binary, and its rates would suffer.
    if let Some(advice) = store::compile_flags_advice() {
        eprintln!("dsmq bench: this dsmq's SQLite was {advice}");
    }
    let topic = args.topic.clone().unwrap_or_else(fresh_topic);
    let streams: Vec<TcpStream> =
        (0..args.connections).map(|_| wire::session(host, port)).collect::<io::Result<_>>()?;
    if !args.json {
        print_head(args);
    }
    for kind in &args.work {
        let outcome = measure(*kind, args, &topic, &streams, host, port)?;
        if args.json {
            println!("{}", as_json(*kind, args, &outcome));
        } else {
            print_row(*kind, args, &outcome);
        }
    }
    Ok(())
}

/// A new topic, so that two runs against one server do not read each other's messages.
fn fresh_topic() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("bench-{}-{}", since_1970.as_micros(), process::id())
}

fn measure(
    kind: Kind,
    args: &BenchArgs,
    topic: &str,
    streams: &[TcpStream],
    host: &str,
    port: u16,
) -> io::Result<Outcome> {
    let size = args.size as usize;
    let each = args.count.div_ceil(u64::from(args.connections));
    let amount = match args.seconds {
        Some(seconds) => Amount::Time(Duration::from_secs(seconds.into())),
        None => Amount::Requests(each),
    };
    let work = match kind {
        Kind::Put => None,
        Kind::PutConfirmed => Some(wire::put_confirmed(topic, size)),
        Kind::Get => {
            let wanted = if args.seconds.is_some() { u64::MAX } else { each };
            let messages = wanted
                .min(TOPIC_MESSAGES_MAX)
                .min(TOPIC_BYTES_MAX / u64::from(args.size))
                .max(args.pipeline.into());
            Some(wire::filled_gets(&wire::session(host, port)?, topic, size, messages)?)
        }
    };
    let pattern = Pattern::new(args.pipeline, amount);
    let done = AtomicU64::new(0);
    let total = args.seconds.is_none().then_some(each * u64::from(args.connections));
    with_progress(kind, total, &done, || match &work {
        Some(work) => load::rounds(streams, work, pattern, &done),
        None => {
            let put = wire::put(topic, size);
            load::blast(streams, &put, (wire::PING, wire::OK), amount, &done)
        }
    })
}

/// Shows the progress of `job` on a terminal.
fn with_progress<T>(
    kind: Kind,
    total: Option<u64>,
    done: &AtomicU64,
    job: impl FnOnce() -> T,
) -> T {
    // On standard error, and only if that is a terminal.
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = match total {
        Some(_) => "{msg:13} {wide_bar} {human_pos}/{human_len} {per_sec}",
        None => "{msg:13} {spinner} {human_pos} {per_sec}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(kind.name());
    let (finished, job_finished) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // Without that thread the progress is not shown.
        let _ = thread::Builder::new().spawn_scoped(scope, move || {
            while job_finished.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(done.load(Ordering::Relaxed));
            }
            bar.finish_and_clear();
        });
        let outcome = job();
        drop(finished);
        outcome
    })
}

fn print_head(args: &BenchArgs) {
    if args.pipeline > 1 {
        println!("latency: from sending {} requests together to the last reply", args.pipeline);
    }
    println!(
        "{:<13} {:>11} {:>8} {:>8} {:>10} {:>8} {:>12} {:>9} {:>9} {:>9}",
        "work",
        "connections",
        "pipeline",
        "size",
        "requests",
        "seconds",
        "requests/s",
        "p50 us",
        "p99 us",
        "p99.9 us"
    );
}

fn print_row(kind: Kind, args: &BenchArgs, outcome: &Outcome) {
    let shown = |micros: Option<f64>| micros.map_or("-".to_owned(), |us| format!("{us:.1}"));
    let [p50, p99, p999] = latency_micros(outcome).map(shown);
    println!(
        "{:<13} {:>11} {:>8} {:>8} {:>10} {:>8.3} {:>12.0} {p50:>9} {p99:>9} {p999:>9}",
        kind.name(),
        args.connections,
        if kind == Kind::Put { "-".to_owned() } else { args.pipeline.to_string() },
        args.size,
        outcome.requests,
        outcome.elapsed.as_secs_f64(),
        outcome.rate(),
    );
}

fn as_json(kind: Kind, args: &BenchArgs, outcome: &Outcome) -> Value {
    let [p50, p99, p999] = latency_micros(outcome);
    json!({
        "work": kind.name(),
        "connections": args.connections,
        "pipeline": (kind != Kind::Put).then_some(args.pipeline),
        "size": args.size,
        "requests": outcome.requests,
        "seconds": outcome.elapsed.as_secs_f64(),
        "rate": outcome.rate(),
        "latency_us": { "p50": p50, "p99": p99, "p99.9": p999 },
    })
}

/// The 50th, 99th and 99.9th percentile; `None` for work without replies.
fn latency_micros(outcome: &Outcome) -> [Option<f64>; 3] {
    let micros = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1000.0;
    [0.5, 0.99, 0.999].map(|quantile| (!outcome.latency.is_empty()).then(|| micros(quantile)))
}
