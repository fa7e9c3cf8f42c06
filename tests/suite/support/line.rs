//! A connection whose replies are read one by one, until it dies.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use serde::de::DeserializeOwned;
use serde_json::de::IoRead;
use serde_json::value::RawValue;
use serde_json::{StreamDeserializer, Value};

use super::PATIENCE;

/// A reply whose fields are as they were written.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// A connection to the server.
pub struct Line<R: DeserializeOwned = Value> {
    pub stream: TcpStream,
    replies: StreamDeserializer<'static, IoRead<BufReader<TcpStream>>, R>,
}

impl<R: DeserializeOwned> Line<R> {
    pub fn connect(addr: SocketAddr) -> Line<R> {
        Line::try_connect(addr).unwrap()
    }

    /// As [`Line::connect`], to a server that may be gone.
    pub fn try_connect(addr: SocketAddr) -> io::Result<Line<R>> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let read = BufReader::new(stream.try_clone()?);
        Ok(Line { stream, replies: serde_json::Deserializer::from_reader(read).into_iter() })
    }

    pub fn send(&mut self, requests: &str) -> io::Result<()> {
        self.stream.write_all(requests.as_bytes())
    }

    /// The next reply; `None` once the connection is dead.
    pub fn reply(&mut self) -> Option<R> {
        let reply = self.replies.next()?;
        if let Err(error) = &reply {
            let silent = error.io_error_kind() == Some(io::ErrorKind::WouldBlock);
            assert!(!silent && !error.is_syntax() && !error.is_data(), "{error}");
        }
        reply.ok()
    }
}

/// A field of a reply as a number.
pub fn number(fields: &Fields, name: &str) -> Option<u64> {
    fields.get(name)?.get().parse().ok()
}

/// A field of a reply, as it was written.
pub fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(|text| text.get())
}

/// A field of a reply that is a time in seconds, in microseconds.
pub fn micros(fields: &Fields, name: &str) -> Option<u64> {
    let seconds: f64 = fields.get(name)?.get().parse().ok()?;
    Some((seconds * 1e6).round() as u64)
}
