//! What the load generator says to Redis, in its protocol, RESP.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;

use dsmq::cli::load::json::message;
use dsmq::cli::load::{Amount, Pattern, Reply, Work, rounds};

const LIST: &str = "compare";

/// Values that one command appends when a list is filled, which is not measured.
const FILL_VALUES: usize = 100;
const FILL_PIPELINE: u32 = 10;

/// The command for `redis-benchmark` that takes what [`fill`] has put.
pub const LPOP: [&str; 2] = ["LPOP", LIST];

/// Appends one value; the reply is the list's length.
pub fn rpush(size: usize) -> Work {
    push(size, 1)
}

/// Takes the first value. An empty list's reply is not the one that is due.
pub fn lpop(size: usize) -> Work {
    let reply = format!("${size}\r\n{}\r\n", message(size));
    Work { request: command(&LPOP), reply: Reply::Is(reply.into_bytes()), laps: None }
}

/// Fills the list with at least `count` values.
pub fn fill(stream: &TcpStream, size: usize, count: u64) -> io::Result<()> {
    let commands = Amount::Requests(count.div_ceil(FILL_VALUES as u64));
    let pattern = Pattern::new(FILL_PIPELINE, commands);
    let streams = [stream.try_clone()?];
    rounds(&streams, &push(size, FILL_VALUES), pattern, &AtomicU64::new(0)).map(drop)
}

fn push(size: usize, values: usize) -> Work {
    let value = message(size);
    let words: Vec<&str> =
        ["RPUSH", LIST].into_iter().chain(std::iter::repeat_n(value.as_str(), values)).collect();
    Work {
        request: command(&words),
        reply: Reply::Between { begin: b":".to_vec(), end: b'\n' },
        laps: None,
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    command.into_bytes()
}
