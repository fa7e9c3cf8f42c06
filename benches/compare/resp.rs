//! What the load generator says to Redis, in its protocol, RESP.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;

use dsmq::cli::bench::load::json::message;
use dsmq::cli::bench::load::{
    Amount, Part, Pattern, Reply, Request, Step, Work, ask, connect, rounds,
};

use crate::contenders::HOST;

const LIST: &str = "compare";
const STREAM: &str = "compare";
const GROUP: &str = "group";
/// Length of an entry's id.
const ID_BYTES: usize = 15;
const CHANNEL: &str = "compare";

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

/// Adds at least `count` entries to the stream, for one group that has read none of them.
pub fn fill_stream(stream: &TcpStream, size: usize, count: u64) -> io::Result<()> {
    ask(stream, &command(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"]), b"+OK\r\n")?;
    let value = message(size);
    for first in (0..count).step_by(FILL_VALUES) {
        // As Redis makes them, the clock's milliseconds first; and all of the same length.
        let id = |number: u64| format!("{}-0", 1_000_000_000_000 + number);
        let ids: Vec<String> = (first..first + FILL_VALUES as u64).map(id).collect();
        let add = |id: &String| command(&["XADD", STREAM, id.as_str(), "m", &value]);
        let added = |id: &String| format!("${}\r\n{id}\r\n", id.len());
        let (adds, replies): (Vec<_>, String) =
            (ids.iter().flat_map(add).collect(), ids.iter().map(added).collect());
        ask(stream, &adds, replies.as_bytes())?;
    }
    Ok(())
}

/// Reads one entry for the group; its id is what [`xack`] names.
pub fn xreadgroup(size: usize) -> Step {
    let words = ["XREADGROUP", "GROUP", GROUP, "reader", "COUNT", "1", "STREAMS", STREAM, ">"];
    let name = STREAM.len();
    let begin = format!("*1\r\n*2\r\n${name}\r\n{STREAM}\r\n*1\r\n*2\r\n${ID_BYTES}\r\n");
    let end = format!("\n*2\r\n$1\r\nm\r\n${size}\r\n{}\r\n", message(size));
    let parts =
        vec![Part::Exactly(begin.into_bytes()), Part::Id(b'\r'), Part::Exactly(end.into_bytes())];
    Step { request: Request::Same(command(&words)), reply: Reply::Parts(parts) }
}

/// Makes the stream, and a group that reads it; and the answer.
pub fn make_group() -> (Vec<u8>, &'static [u8]) {
    (command(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"]), b"+OK\r\n")
}

/// Adds one entry, to which Redis gives its id.
pub fn xadd(size: usize) -> Step {
    let value = message(size);
    let parts = vec![Part::Exactly(b"$".to_vec()), Part::Until(b'\n'), Part::Until(b'\n')];
    let request = Request::Same(command(&["XADD", STREAM, "*", "m", &value]));
    Step { request, reply: Reply::Parts(parts) }
}

/// As [`xreadgroup`], of entries whose ids have any length.
pub fn xreadgroup_any(size: usize) -> Step {
    let Step { request, .. } = xreadgroup(size);
    let name = STREAM.len();
    let begin = format!("*1\r\n*2\r\n${name}\r\n{STREAM}\r\n*1\r\n*2\r\n$");
    let end = format!("*2\r\n$1\r\nm\r\n${size}\r\n{}\r\n", message(size));
    let parts = vec![
        Part::Exactly(begin.into_bytes()),
        Part::Until(b'\n'),
        Part::Id(b'\r'),
        Part::Exactly([b"\n", end.as_bytes()].concat()),
    ];
    Step { request, reply: Reply::Parts(parts) }
}

/// Acknowledges one entry whose id has any length: so it is said inline.
pub fn xack_any() -> Step {
    let begin = format!("XACK {STREAM} {GROUP} ").into_bytes();
    let request = Request::Naming { begin, end: b"\r\n".to_vec() };
    Step { request, reply: Reply::Is(b":1\r\n".to_vec()) }
}

/// Acknowledges one entry.
pub fn xack() -> Step {
    let mut begin = command(&["XACK", STREAM, GROUP]);
    // A fourth word comes behind these.
    begin.splice(..2, *b"*4");
    begin.extend_from_slice(format!("${ID_BYTES}\r\n").as_bytes());
    let request = Request::Naming { begin, end: b"\r\n".to_vec() };
    Step { request, reply: Reply::Is(b":1\r\n".to_vec()) }
}

/// A subscription, and what answers it.
pub fn subscribe() -> (Vec<u8>, Vec<u8>) {
    let answer = command(&["subscribe", CHANNEL]).split_off(4);
    (command(&["SUBSCRIBE", CHANNEL]), [b"*3\r\n", &answer[..], b":1\r\n"].concat())
}

pub fn publish(size: usize) -> Vec<u8> {
    command(&["PUBLISH", CHANNEL, &message(size)])
}

/// A connection whose commands are not answered.
pub fn unanswered(port: u16) -> io::Result<TcpStream> {
    let stream = connect(HOST, port)?;
    (&stream).write_all(&command(&["CLIENT", "REPLY", "OFF"]))?;
    Ok(stream)
}

fn push(size: usize, values: usize) -> Work {
    let value = message(size);
    let words: Vec<&str> =
        ["RPUSH", LIST].into_iter().chain(std::iter::repeat_n(value.as_str(), values)).collect();
    Work { request: command(&words), reply: Reply::between(b":", b'\n'), laps: None }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    command.into_bytes()
}
