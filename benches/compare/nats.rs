//! What the load generator says to NATS: publishing to a JetStream stream in a file, each message
//! acknowledged on a subject of the connection's own.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use dsmq::cli::bench::load::json::message;
use dsmq::cli::bench::load::{Part, Reply, Work, ask, connect};

use crate::contenders::HOST;
use crate::measure::Result;

const SUBJECT: &str = "compare";
const INBOX: &str = "inbox";

/// A connection that has introduced itself and follows its inbox. Within some seconds the server
/// asks once whether it is still there: that is waited for, so that it cannot come amid what is
/// measured. It asks again after its `ping_interval`.
pub fn session(port: u16) -> Result<TcpStream> {
    let stream = connect(HOST, port)?;
    // What the server tells of itself comes first, in one line.
    line(&stream)?;
    let hello = format!("CONNECT {{\"verbose\":false}}\r\nSUB {INBOX} 1\r\nPING\r\n");
    ask(&stream, hello.as_bytes(), b"PONG\r\n")?;
    ask(&stream, b"", b"PING\r\n")?;
    (&stream).write_all(b"PONG\r\n")?;
    Ok(stream)
}

/// Makes the stream, which is named like its subject.
pub fn make_stream(stream: &TcpStream) -> Result<()> {
    let config = format!(r#"{{"name":"{SUBJECT}","subjects":["{SUBJECT}"],"storage":"file"}}"#);
    let subject = format!("$JS.API.STREAM.CREATE.{SUBJECT}");
    let mut writer = stream;
    writer.write_all(&publish_to(&subject, &config))?;
    let (head, body) = (line(stream)?, line(stream)?);
    if !body.contains("stream_create_response") || body.contains("\"error\"") {
        return Err(format!("no stream is made: {head} {body}").into());
    }
    Ok(())
}

/// Publishes a message; the stream's acknowledgement is the reply.
pub fn publish(size: usize) -> Work {
    let acknowledged = format!(r#"{{"stream":"{SUBJECT}""#).into_bytes();
    let parts = vec![
        Part::Exactly(format!("MSG {INBOX} 1 ").into_bytes()),
        // The length of the acknowledgement.
        Part::Until(b'\n'),
        Part::Exactly(acknowledged),
        Part::Until(b'\n'),
    ];
    let request = publish_to(SUBJECT, &message(size));
    Work { request, reply: Reply::Parts(parts), laps: None }
}

fn publish_to(subject: &str, payload: &str) -> Vec<u8> {
    format!("PUB {subject} {INBOX} {}\r\n{payload}\r\n", payload.len()).into_bytes()
}

/// Reads to the end of a line, and not a byte more.
fn line(mut stream: &TcpStream) -> io::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
