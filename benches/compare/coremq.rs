//! The row on CoreMQ: the pattern of its own stress test, many that send and wait for each answer,
//! and more that listen.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Instant;

use dsmq::cli::bench::load::connect;

use crate::contenders::{Contender, HOST, told_where};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Unit};

const SENDERS: u64 = 10;
const LISTENERS: u64 = 90;
const MESSAGES: u64 = 1_000;

/// How a protocol says it. An object ends with a brace, and what is said has no others.
struct Words {
    subscribe: String,
    send: String,
    /// Braces that end what comes first, the answer to a request, and a message.
    first: u64,
    answer: u64,
    message: u64,
}

/// Until every listener has every message. Nothing may be missing: it would be waited for in vain.
pub fn stress(effort: &Effort) -> Result<Vec<Row>> {
    let each = MESSAGES / effort.shorter;
    let frame =
        |queue: &str, json: &str| format!("+{} {queue} {json}", queue.len() + 1 + json.len());
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(SIZE));
    let coremq = Words {
        subscribe: frame("own", &format!("{{\"coremq_subscribe\":\"{TOPIC}\"}}")),
        send: frame(TOPIC, &text),
        first: 1,
        answer: 1,
        message: 1,
    };
    let json = Words {
        subscribe: format!("{{\"action\":\"subscribe\",\"topic\":\"{TOPIC}\"}}"),
        send: format!(
            "{{\"action\":\"put\",\"topic\":\"{TOPIC}\",\"confirm\":true,\"message\":{text}}}"
        ),
        first: 0,
        answer: 1,
        message: 2,
    };
    Ok(vec![Row {
        work: format!(
            "CoreMQ over TCP, {SENDERS} senders, each answered, to {LISTENERS} listeners, deliveries"
        ),
        against: "the same in the JSON protocol",
        unit: Unit::PerSecond,
        pairs: effort
            .alternate(|| run(&dsmq()?, &coremq, each), || run(&Contender::dsmq()?, &json, each))?,
        target: None,
        cross_check: None,
    }])
}

/// Known by CoreMQ's port.
fn dsmq() -> Result<Contender> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dsmq"));
    command.args(["--host", HOST, "--port", "0", "--log", "error"]);
    told_where(&mut command, |command, port| command.arg(format!("--coremq={port}")))
}

fn run(server: &Contender, words: &Words, each: u64) -> Result<f64> {
    let client = || -> Result<TcpStream> {
        let stream = connect(HOST, server.port)?;
        read(&stream, words.first)?;
        Ok(stream)
    };
    let listeners = (0..LISTENERS).map(|_| client()).collect::<Result<Vec<_>>>()?;
    for mut listener in &listeners {
        listener.write_all(words.subscribe.as_bytes())?;
        read(listener, words.answer)?;
    }
    let senders = (0..SENDERS).map(|_| client()).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let listening = listeners.iter().map(|listener| {
            scope
                .spawn(|| read(listener, SENDERS * each * words.message).map_err(|e| e.to_string()))
        });
        let sending = senders
            .iter()
            .map(|sender| scope.spawn(|| send(sender, words, each).map_err(|e| e.to_string())));
        let all: Vec<_> = listening.chain(sending).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked")?)
    })
    .map_err(|error: String| error)?;
    Ok((LISTENERS * SENDERS * each) as f64 / start.elapsed().as_secs_f64())
}

fn send(mut sender: &TcpStream, words: &Words, each: u64) -> Result<()> {
    for _ in 0..each {
        sender.write_all(words.send.as_bytes())?;
        read(sender, words.answer)?;
    }
    Ok(())
}

/// Reads until so many objects have ended, and not a byte more is there.
fn read(mut stream: &TcpStream, mut braces: u64) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while braces > 0 {
        let read = stream.read(&mut buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        let ended = bytes.iter().filter(|byte| **byte == b'}').count() as u64;
        if read == 0 || ended > braces || (ended == braces && !bytes.ends_with(b"}")) {
            return Err("this is not what was to come".into());
        }
        braces -= ended;
    }
    Ok(())
}
