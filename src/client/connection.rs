//! One connection to a server: its session, the requests in flight, and whether it is usable. After
//! an error a connection is not used again; the client decides what to do.

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::inbox::Inbox;
use super::reply::{Reply, Tag, unexpected};
use super::requests::Requests;
use super::{Confirmed, Error, Result};

/// Maximum number of attempts to connect. The pause after the first one doubles each time.
pub(super) const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Longest silence of a server that owes a reply.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });

/// Longest time to connect to one address.
const REACH: Duration = Duration::from_secs(10);

/// After this time without a reply the connection is checked before a write: the first write to a
/// connection that the server has closed succeeds, and is lost. No server stops and restarts within
/// this time.
const LOOK_AFTER: Duration = Duration::from_micros(100);

/// Pause before a full socket is written to again, unless the server sends something first.
const FULL: Duration = Duration::from_millis(1);

const READ_BYTES: usize = 32 * 1024;

pub(super) struct Connection {
    reader: BufReader<TcpStream>,
    /// The id at which the server started this session.
    pub(super) began: u64,
    /// The first refusal of an unconfirmed put that was not reported yet.
    pub(super) refused: Option<Error>,
    /// Whether an unconfirmed put was sent after the last request that was answered.
    pub(super) unanswered: bool,
    /// Pushes that were not returned yet. They outlive the connection.
    pub(super) inbox: Inbox,
    /// Whether the server may push.
    pub(super) subscribed: bool,
    /// Replies that were read before all of their requests were written.
    early: VecDeque<Reply>,
    /// When a reply was last read or looked for.
    looked: Instant,
    /// Whether a read failed: the next bytes may not be the beginning of a reply.
    broken: bool,
    read_timeout: Duration,
}

impl Connection {
    /// Connects, and retries while the server is absent or has no room.
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

    /// Connects once, and returns when the session has started.
    fn begin(addrs: &[SocketAddr]) -> Result<Connection> {
        let stream = reach(addrs).map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        stream.set_read_timeout(Some(SILENCE)).map_err(Error::Connect)?;
        stream.set_write_timeout(Some(SILENCE)).map_err(Error::Connect)?;
        let mut connection = Connection {
            reader: BufReader::with_capacity(READ_BYTES, stream),
            began: 0,
            refused: None,
            unanswered: false,
            inbox: Inbox::default(),
            subscribed: false,
            early: VecDeque::new(),
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

    /// Sends a ping; returns the id at which the session started.
    pub(super) fn ping(&mut self, tag: u64) -> Result<u64> {
        let mut request = Requests::default();
        request.add("ping", tag, |ping| {
            ping.plain("meta", true);
            Ok(())
        })?;
        // A server without room says so without reading. Its message matters more than the failed
        // write.
        let sent = self.send(&mut request);
        match self.reply(tag, Duration::ZERO) {
            Ok(reply) => reply.since(),
            Err(Error::Disconnected(error)) => Err(sent.err().unwrap_or(Error::lost(error))),
            Err(error) => Err(error),
        }
    }

    pub(super) fn send(&mut self, requests: &mut Requests) -> Result<()> {
        if self.subscribed {
            return self.send_among_pushes(requests);
        }
        requests.send(self.reader.get_ref()).map_err(Error::lost)
    }

    /// A server whose pushes fill the sockets reads on when they have been read.
    fn send_among_pushes(&mut self, requests: &mut Requests) -> Result<()> {
        let mut moved = Instant::now();
        loop {
            let before = requests.sent();
            match unblocked(self.reader.get_ref(), |socket| requests.send(socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map_err(Error::lost),
            }
            if self.has_input(FULL).map_err(Error::lost)? {
                let reply = self.read()?;
                match reply.tag {
                    Tag::Request(_) => self.early.push_back(reply),
                    _ => self.unasked(reply)?,
                }
            } else if requests.sent() == before {
                if moved.elapsed() > SILENCE {
                    return Err(Error::TimedOut);
                }
                continue;
            }
            moved = Instant::now();
        }
    }

    /// Sends unconfirmed puts.
    pub(super) fn put(&mut self, requests: &mut Requests) -> Result<()> {
        let sent = self.send(requests);
        self.unanswered |= requests.whole() > 0;
        sent.map_err(|error| self.last_words(error))
    }

    /// The reason that the server gave for ending the connection, such as a message that is too
    /// large.
    fn last_words(&mut self, lost: Error) -> Error {
        let word = self.reply(u64::MAX, Duration::ZERO).err();
        match (self.refused.take(), word) {
            (Some(refused), _) => refused,
            (None, Some(word @ Error::Server { .. })) => word,
            _ => lost,
        }
    }

    /// Sends confirmed puts, tagged from `first` on, and adds the results of those before the first
    /// refused one. The outer error is that of the connection, the inner one the refusal.
    pub(super) fn confirm(
        &mut self,
        requests: &mut Requests,
        first: u64,
        stored: &mut Vec<Confirmed>,
    ) -> Result<Result<()>> {
        let mut outcome = Ok(());
        let end = self.each(requests, first, Duration::ZERO, |reply| {
            match (reply.confirmed(), &outcome) {
                (Ok(confirmed), Ok(())) => stored.push(confirmed),
                (Err(refused), Ok(())) => outcome = Err(refused),
                (_, Err(_)) => {}
            }
        });
        match (end, outcome) {
            (Err(lost), Ok(())) => Err(lost),
            (_, outcome) => Ok(outcome),
        }
    }

    /// Sends requests, tagged from `first` on, that must not be carried out twice, and passes on
    /// the reply to each. After an error that [is lost](Error::is_lost), the requests without a
    /// reply were not carried out.
    pub(super) fn each(
        &mut self,
        requests: &mut Requests,
        first: u64,
        wait: Duration,
        mut hear: impl FnMut(Reply),
    ) -> Result<()> {
        // After a failed write there may still be replies to the requests that arrived.
        let _ = self.send(requests);
        for (index, tag) in (first..).take(requests.len()).enumerate() {
            match self.reply(tag, wait) {
                Ok(reply) => hear(reply),
                Err(lost) if index >= requests.whole() => return Err(lost),
                Err(word @ Error::Server { .. }) if !word.is_lost() => return Err(word),
                Err(_) => return Err(Error::Unconfirmed),
            }
        }
        Ok(())
    }

    /// Reads the reply to the request with this tag, which asked the server to wait this long.
    pub(super) fn reply(&mut self, tag: u64, wait: Duration) -> Result<Reply> {
        loop {
            let reply = match self.early.pop_front() {
                Some(reply) => reply,
                None => self.read_within(wait + SILENCE)?,
            };
            if reply.tag == Tag::Request(tag) {
                self.unanswered = false;
                return Ok(reply);
            }
            self.unasked(reply)?;
        }
    }

    /// Waits this long for a push; returns at once if there is one.
    pub(super) fn hear(&mut self, wait: Duration) -> Result<()> {
        let start = Instant::now();
        while self.inbox.is_empty() {
            let left = wait.saturating_sub(start.elapsed());
            if !self.has_input(left).map_err(Error::lost)? {
                break;
            }
            let reply = self.read()?;
            self.unasked(reply)?;
        }
        Ok(())
    }

    /// Handles a message that no request waits for: a push, the refusal of an earlier put, or the
    /// reason for the end of the connection.
    fn unasked(&mut self, mut reply: Reply) -> Result<()> {
        if let Some(push) = reply.push() {
            self.inbox.add(push);
            return Ok(());
        }
        match reply.refusal() {
            Some((code, text)) if reply.tag == Tag::Put => {
                self.refused.get_or_insert(Error::EarlierPut { code, text });
                Ok(())
            }
            Some((code, text)) if reply.tag == Tag::None => Err(Error::Server { code, text }),
            _ => Err(unexpected("another request")),
        }
    }

    fn read(&mut self) -> Result<Reply> {
        self.read_within(SILENCE)
    }

    fn read_within(&mut self, timeout: Duration) -> Result<Reply> {
        self.allow(timeout)?;
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

    /// Whether the connection is usable. Reads what the server has sent unasked.
    pub(super) fn stands(&mut self) -> bool {
        !self.broken && (self.looked.elapsed() < LOOK_AFTER || self.look().is_ok())
    }

    /// Reads what has arrived, up to the next push.
    fn look(&mut self) -> Result<()> {
        while self.inbox.is_empty() && self.has_input(Duration::ZERO).map_err(Error::lost)? {
            let reply = self.read()?;
            self.unasked(reply)?;
        }
        self.looked = Instant::now();
        Ok(())
    }

    /// Whether there is something to read within this time.
    fn has_input(&mut self, wait: Duration) -> io::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let began = Instant::now();
        loop {
            let left = wait.saturating_sub(began.elapsed());
            let peeked = if left.is_zero() {
                unblocked(self.reader.get_ref(), |socket| socket.peek(&mut [0]))
            } else {
                self.reader.get_ref().set_read_timeout(Some(left))?;
                self.read_timeout = left;
                self.reader.get_ref().peek(&mut [0])
            };
            match peeked.map_err(|error| (error.kind(), error)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(true),
                Err((io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, _)) => return Ok(false),
                // This process was stopped, and continues.
                Err((io::ErrorKind::Interrupted, _)) => {}
                Err((_, error)) => return Err(error),
            }
        }
    }
}

/// Uses the socket without blocking.
fn unblocked<T>(
    socket: &TcpStream,
    work: impl FnOnce(&TcpStream) -> io::Result<T>,
) -> io::Result<T> {
    socket.set_nonblocking(true)?;
    let result = work(socket);
    socket.set_nonblocking(false)?;
    result
}

/// Whether another attempt may succeed a little later.
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

/// Whether the socket is connected to itself: if nobody listens on a port, the kernel may choose it
/// for the very socket that connects to it.
fn is_own_echo(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}
