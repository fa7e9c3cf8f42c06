//! Writes the log to standard error on a thread of its own, so that logging never waits for a slow
//! reader. Lines that find no room in between are counted, and the count is logged.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum number of lines that wait to be written.
const LINES: usize = 1024;

/// Time for the last lines when the process ends.
const FINISH: Duration = Duration::from_millis(200);

static SENDER: OnceLock<Sender> = OnceLock::new();

struct Sender {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Lines that wait to be written.
    pending: AtomicU64,
    lost: AtomicU64,
}

/// Receives one line at a time from the logging library.
pub struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sender = SENDER.get_or_init(Sender::start);
        sender.counts.pending.fetch_add(1, Ordering::SeqCst);
        if sender.lines.try_send(line.to_vec()).is_err() {
            sender.counts.pending.fetch_sub(1, Ordering::SeqCst);
            sender.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits a moment for the last lines, before the process ends.
pub fn finish() {
    let Some(sender) = SENDER.get() else { return };
    let deadline = Instant::now() + FINISH;
    while sender.counts.pending.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(1));
    }
}

impl Sender {
    fn start() -> Sender {
        let (lines, received) = mpsc::sync_channel(LINES);
        let counts = Arc::new(Counts::default());
        let counted = counts.clone();
        // Without the thread every line is lost, and counted.
        let _ = thread::Builder::new().name("log".into()).spawn(move || write(&received, &counted));
        Sender { lines, counts }
    }
}

fn write(lines: &Receiver<Vec<u8>>, counts: &Counts) {
    for line in lines {
        let lost = counts.lost.swap(0, Ordering::Relaxed);
        let mut stderr = io::stderr();
        if lost > 0 {
            let _ = writeln!(
                stderr,
                "({lost} lines of the log were lost: standard error was not read)"
            );
        }
        let _ = stderr.write_all(&line);
        counts.pending.fetch_sub(1, Ordering::SeqCst);
    }
}
