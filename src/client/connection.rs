//! One connection to a server: what it began with, what is on its way, whether it still stands.
//! A connection that returned an error is of no more use; only the client knows what to do then.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::wire::{Reply, Requests, Tag};
use super::{Error, Receipt, Result};

/// How often a connection is tried, and the pause after the first try; each next one is doubled.
pub(super) const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// The longest silence of a server that owes a word.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });

/// The longest that it may take to reach one address.
const REACH: Duration = Duration::from_secs(10);

/// After this time without a reply the connection is looked at before it is written to: the
/// first write to a connection that the server has closed succeeds, and is lost. No server is
/// gone and back within this time.
const LOOK_AFTER: Duration = Duration::from_micros(100);

pub(super) struct Connection {
    reader: BufReader<TcpStream>,
    /// The id at which the server began this session.
    pub(super) began: u64,
    /// The first refusal of an unconfirmed put that has not been reported.
    pub(super) refused: Option<Error>,
    /// Whether an unconfirmed put was sent after the last request that was answered.
    pub(super) unanswered: bool,
    /// When a reply was last read, or looked for.
    looked: Instant,
    /// Whether a read failed: what comes behind it is no reply's beginning.
    broken: bool,
    read_timeout: Duration,
}

impl Connection {
    /// Connects, and again while the server is not there or has no room.
    pub(super) fn open(addrs: &[SocketAddr], tries: u32) -> Result<Connection> {
        let mut pause = PAUSE;
        let mut tried = 1;
        loop {
            match Connection::begin(addrs) {
                Err(error) if tried < tries && passes(&error) => {
                    thread::sleep(pause);
                    pause *= 2;
                    tried += 1;
                }
                result => return result,
            }
        }
    }

    /// Connects once, and returns when the session has begun.
    fn begin(addrs: &[SocketAddr]) -> Result<Connection> {
        let stream = reach(addrs).map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        stream.set_read_timeout(Some(SILENCE)).map_err(Error::Connect)?;
        stream.set_write_timeout(Some(SILENCE)).map_err(Error::Connect)?;
        let mut connection = Connection {
            reader: BufReader::new(stream),
            began: 0,
            refused: None,
            unanswered: false,
            looked: Instant::now(),
            broken: false,
            read_timeout: SILENCE,
        };
        connection.began = connection.ping(0).map_err(|error| match error {
            Error::Disconnected(error) => Error::Connect(error),
            error => error,
        })?;
        Ok(connection)
    }

    /// Asks for a sign of life; returns the id at which the session began.
    pub(super) fn ping(&mut self, tag: u64) -> Result<u64> {
        let mut request = Requests::default();
        request.ping(tag);
        // A server that has no room says so without reading: that word is worth more than the
        // failed write.
        let sent = self.send(&mut request);
        match self.reply(tag, Duration::ZERO) {
            Ok(reply) => reply.since(),
            Err(Error::Disconnected(error)) => Err(sent.err().unwrap_or(Error::lost(error))),
            Err(error) => Err(error),
        }
    }

    pub(super) fn send(&mut self, requests: &mut Requests) -> Result<()> {
        requests.send(self.reader.get_ref()).map_err(Error::lost)
    }

    /// Sends puts that are not confirmed.
    pub(super) fn put(&mut self, requests: &mut Requests) -> Result<()> {
        let sent = self.send(requests);
        self.unanswered |= requests.whole() > 0;
        sent.map_err(|error| self.last_words(error))
    }

    /// Why the server ended the connection, if it said so: a put that is too large, say.
    fn last_words(&mut self, lost: Error) -> Error {
        let word = self.reply(u64::MAX, Duration::ZERO).err();
        match (self.refused.take(), word) {
            (Some(refused), _) => refused,
            (None, Some(word @ Error::Server { .. })) => word,
            _ => lost,
        }
    }

    /// Sends confirmed puts, tagged from `first` on, and adds the receipts of those before the
    /// first that was refused. The outer error is the connection's, the inner one the refusal.
    pub(super) fn confirm(
        &mut self,
        requests: &mut Requests,
        first: u64,
        receipts: &mut Vec<Receipt>,
    ) -> Result<Result<()>> {
        // A failed write is no reason to stop: replies to what arrived are still to be read.
        let _ = self.send(requests);
        let mut outcome = Ok(());
        for (index, tag) in (first..).take(requests.len()).enumerate() {
            match (self.reply(tag, Duration::ZERO).map(Reply::receipt), &outcome) {
                (Ok(Ok(receipt)), Ok(())) => receipts.push(receipt),
                (Ok(Err(refused)), Ok(())) => outcome = Err(refused),
                (Ok(_), Err(_)) => {}
                (Err(_), Err(_)) => break,
                (Err(lost), Ok(())) if index >= requests.whole() => return Err(lost),
                (Err(word @ Error::Server { .. }), Ok(())) if !word.is_lost() => return Err(word),
                (Err(_), Ok(())) => return Err(Error::Unconfirmed),
            }
        }
        Ok(outcome)
    }

    /// Reads the reply to the request of that tag, which asked the server to wait this long.
    pub(super) fn reply(&mut self, tag: u64, wait: Duration) -> Result<Reply> {
        self.allow(wait + SILENCE)?;
        loop {
            let mut reply = self.read()?;
            if reply.tag == Tag::Request(tag) {
                self.unanswered = false;
                return Ok(reply);
            }
            self.unasked(&mut reply)?;
        }
    }

    /// A reply that nobody waits for: the refusal of an earlier put, or a last word.
    fn unasked(&mut self, reply: &mut Reply) -> Result<()> {
        match reply.refusal() {
            Some((code, text)) if reply.tag == Tag::Put => {
                self.refused.get_or_insert(Error::EarlierPut { code, text });
                Ok(())
            }
            Some((code, text)) if reply.tag == Tag::None => Err(Error::Server { code, text }),
            _ => Err(reply.unexpected("another request")),
        }
    }

    fn read(&mut self) -> Result<Reply> {
        let mut deserializer = serde_json::Deserializer::from_reader(&mut self.reader);
        let reply = Reply::deserialize(&mut deserializer).map_err(|error| {
            self.broken = true;
            if error.is_io() || error.is_eof() {
                Error::lost(error.into())
            } else {
                Error::Protocol(error.to_string())
            }
        })?;
        self.looked = Instant::now();
        Ok(reply)
    }

    fn allow(&mut self, timeout: Duration) -> Result<()> {
        if self.read_timeout != timeout {
            self.reader.get_ref().set_read_timeout(Some(timeout)).map_err(Error::lost)?;
            self.read_timeout = timeout;
        }
        Ok(())
    }

    /// Whether the connection still stands; hears what the server said unasked.
    pub(super) fn stands(&mut self) -> bool {
        !self.broken && (self.looked.elapsed() < LOOK_AFTER || self.look().is_ok())
    }

    fn look(&mut self) -> Result<()> {
        while self.has_input().map_err(Error::lost)? {
            self.allow(SILENCE)?;
            let mut reply = self.read()?;
            self.unasked(&mut reply)?;
        }
        self.looked = Instant::now();
        Ok(())
    }

    /// Whether there is something to read, without waiting for it.
    fn has_input(&self) -> io::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let stream = self.reader.get_ref();
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        match peeked {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether it may help to try again a little later.
fn passes(error: &Error) -> bool {
    match error {
        Error::Connect(error) => error.kind() != io::ErrorKind::TimedOut,
        Error::Server { .. } => error.is_lost(),
        _ => false,
    }
}

/// Connects to the first address that answers.
fn reach(addrs: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in addrs {
        match TcpStream::connect_timeout(addr, REACH) {
            Ok(stream) if is_own_echo(&stream) => failed = io::ErrorKind::ConnectionRefused.into(),
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A port that nobody listens on may be given to the very socket that looks for it, which TCP
/// then connects to itself.
fn is_own_echo(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}
