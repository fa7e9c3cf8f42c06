//! The row on server-sent events.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use dsmq::cli::bench::load::{Fan, connect, json};

use crate::contenders::{Contender, HOST};
use crate::measure::{Effort, Result, SIZE, TOPIC};
use crate::report::{Row, Target::AtLeast, Unit};
use crate::vocabulary::subscribed;

const READERS: usize = 1_000;

/// The message is between quotes, and nothing that frames it has one.
const MARK: u8 = b'"';

/// Until every reader has all; the publisher speaks JSON on both sides, and is not answered.
pub fn events_1000(effort: &Effort) -> Result<Vec<Row>> {
    let count = 6_000 / effort.shorter;
    let events = || {
        let server = Contender::dsmq()?;
        let readers = (0..READERS).map(|_| follow(server.port)).collect::<io::Result<_>>()?;
        let fan = fan(&server, readers, b"\n\n")?;
        Ok(fan.blast(count)?.rate())
    };
    let pushes = || {
        let server = Contender::dsmq()?;
        let readers = subscribed(&server, READERS, (&json::subscribe(TOPIC), json::OK))?;
        let fan = fan(&server, readers, b"}")?;
        Ok(fan.blast(count)?.rate())
    };
    Ok(vec![Row {
        work: "server-sent events, 1 publisher to 1,000 readers, deliveries".to_owned(),
        against: "JSON pushes to 1,000 subscribers",
        unit: Unit::PerSecond,
        pairs: effort.alternate(events, pushes)?,
        target: Some(AtLeast(0.5)),
        cross_check: None,
    }])
}

fn fan(server: &Contender, readers: Vec<TcpStream>, end: &[u8]) -> Result<Fan> {
    let publisher = json::session(HOST, server.port)?;
    let (put, content) = (json::put(TOPIC, SIZE), json::message(SIZE));
    Ok(Fan::new(publisher, readers, put, (content.as_bytes(), end), Some(MARK))?)
}

/// A reader who has been told where it begins.
fn follow(port: u16) -> io::Result<TcpStream> {
    let mut stream = connect(HOST, port)?;
    write!(
        stream,
        "GET /t/{TOPIC} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    )?;
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\n\n\r\n") {
        stream.read_exact(&mut byte)?;
        said.extend(byte);
    }
    Ok(stream)
}
