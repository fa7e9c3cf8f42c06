//! [`Client`]: a blocking client of a dsmq server, on std, serde and serde_json alone.
//!
//! It speaks the JSON protocol over one TCP connection, and knows what a socket does not: how
//! far it has come in every topic. When the connection breaks it opens another and goes on from
//! there.
//!
//! | call | when the connection breaks |
//! | --- | --- |
//! | [`get`](Client::get), [`get_wait`](Client::get_wait), [`get_latest`](Client::get_latest), [`get_batch`](Client::get_batch) | goes on over a new one: nothing is lost, nothing comes twice |
//! | [`put`](Client::put), [`put_batch`](Client::put_batch) | sends again what the server cannot have seen whole; what was on its way may be lost, which [`ping`](Client::ping) tells |
//! | [`put_confirmed`](Client::put_confirmed), [`put_confirmed_batch`](Client::put_confirmed_batch) | the same, except that what was on its way is an [`Error::Unconfirmed`] |
//!
//! An error of a [`put`](Client::put) comes later than the put, since nobody waits for it. The
//! client finds it while it reads another reply, and returns it, as [`Error::EarlierPut`], from
//! the first call that has nothing else to return: a ping, a get that finds nothing, or else the
//! next call of any kind, which then does nothing else.
//!
//! Behind it: `session` (what all calls share), `connection` (one connection), `wire` (requests
//! and replies as bytes).

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde::Serialize;

mod connection;
mod error;
mod message;
mod session;
mod wire;

pub use error::{Error, Result};
pub use message::{Message, Receipt};

use connection::{Connection, TRIES};
use session::Place;
use wire::Requests;

/// A session with a dsmq server.
///
/// It gets what was put after it connected; every client has its own place in every topic, and
/// getting removes nothing.
///
/// ```
/// # #[cfg(feature = "server")] {
/// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
/// # let addr = server.addr();
/// let mut client = dsmq::Client::connect(addr)?;
/// client.put("greetings", "Hello!")?;
/// client.put("greetings", &serde_json::json!({"to": "the world", "times": 3}))?;
///
/// let message = client.get("greetings")?.ok_or("nothing there")?;
/// assert_eq!(message.text(), Some("Hello!".into()));
/// let message = client.get("greetings")?.ok_or("nothing there")?;
/// assert_eq!(message.value()?["times"], 3);
/// assert_eq!(client.get("greetings")?, None);
/// # server.stop();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    addrs: Vec<SocketAddr>,
    connection: Option<Connection>,
    /// Connections so far: each is a session of the server's, and knows only what it was told.
    session: u64,
    /// Where the first session began: the place in every topic that was not read yet.
    began: u64,
    places: HashMap<String, Place>,
    last_tag: u64,
    /// The first refusal of an unconfirmed put over an earlier connection.
    refused: Option<Error>,
    /// Whether a connection broke with unconfirmed puts on their way.
    lost_puts: bool,
}

impl Client {
    /// Connects, and returns when the session has begun: every message put from now on is one
    /// that this client can get.
    ///
    /// A server that is not there yet is waited for: ten tries, with pauses of 0.01 s, 0.02 s and
    /// so on, 5 s in all.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the name has no address or nobody listens there;
    /// [`Error::Server`] with the code `busy` if the server has no room.
    pub fn connect(addr: impl ToSocketAddrs) -> Result<Client> {
        Client::open(addr, TRIES)
    }

    /// Connects as [`Client::connect`] does, but does not wait for a server that is not there.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`], at once.
    pub fn connect_once(addr: impl ToSocketAddrs) -> Result<Client> {
        Client::open(addr, 1)
    }

    fn open(addr: impl ToSocketAddrs, tries: u32) -> Result<Client> {
        let addrs: Vec<_> = addr.to_socket_addrs().map_err(Error::Connect)?.collect();
        let connection = Connection::open(&addrs, tries)?;
        Ok(Client {
            addrs,
            began: connection.began,
            connection: Some(connection),
            session: 1,
            places: HashMap::new(),
            last_tag: 0,
            refused: None,
            lost_puts: false,
        })
    }

    /// Puts a message, anything that serde can write as JSON, and does not wait for an answer.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if it cannot be written as JSON. That the server refused it is told by a
    /// later call: see [the module](self).
    pub fn put<M: Serialize + ?Sized>(&mut self, topic: &str, message: &M) -> Result<()> {
        self.put_batch(topic, &[message])
    }

    /// Puts a message and returns when the server has stored it.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it was refused; [`Error::Unconfirmed`] if the connection was lost
    /// before the answer came.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// let first = client.put_confirmed("greetings", "Hello!")?;
    /// let second = client.put_confirmed("greetings", "Goodbye!")?;
    /// assert!(first.id < second.id);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_confirmed<M>(&mut self, topic: &str, message: &M) -> Result<Receipt>
    where
        M: Serialize + ?Sized,
    {
        let mut receipts = Vec::with_capacity(1);
        self.confirm_all(topic, &[message], &mut receipts)?;
        receipts.pop().ok_or_else(|| Error::Protocol("a confirmation without a receipt".into()))
    }

    /// Puts messages in order, many in one write, and does not wait for an answer.
    ///
    /// # Errors
    ///
    /// As [`Client::put`]; the messages before one that cannot be written as JSON may be stored.
    pub fn put_batch<M: Serialize>(&mut self, topic: &str, messages: &[M]) -> Result<()> {
        self.report()?;
        let mut messages = messages.iter().peekable();
        while messages.peek().is_some() {
            let mut requests = Requests::default();
            while !requests.is_full()
                && let Some(message) = messages.next()
            {
                requests.put(topic, message, None)?;
            }
            self.retry(|client| {
                client.ready()?;
                client.report()?;
                requests.rewind();
                client.with(|connection| connection.put(&mut requests))
            })?;
        }
        Ok(())
    }

    /// Puts messages in order and returns, when the server has stored them all, a receipt for
    /// each. Many are on their way at a time, so this is many times as fast as one by one.
    ///
    /// # Errors
    ///
    /// [`Error::Batch`] with the receipts of the messages before the one that failed.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// let receipts = client.put_confirmed_batch("greetings", &["Hello!", "Goodbye!"])?;
    /// assert_eq!(receipts.len(), 2);
    /// let messages = client.get_batch("greetings", 10)?;
    /// assert_eq!(messages[1].id, receipts[1].id);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_confirmed_batch<M: Serialize>(
        &mut self,
        topic: &str,
        messages: &[M],
    ) -> Result<Vec<Receipt>> {
        let mut stored = Vec::with_capacity(messages.len());
        match self.confirm_all(topic, messages, &mut stored) {
            Ok(()) => Ok(stored),
            Err(error) => Err(Error::Batch { stored, source: Box::new(error) }),
        }
    }

    /// Gets the oldest message of the topic that this client has not had, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Disconnected`] or [`Error::TimedOut`] if the connection broke
    /// and could not be opened again; the next get goes on from the same place.
    pub fn get(&mut self, topic: &str) -> Result<Option<Message>> {
        self.next("get", topic, Duration::ZERO)
    }

    /// Gets the oldest message of the topic that this client has not had, or else whatever
    /// arrives first within this time; [`Duration::MAX`] waits for ever.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]. Opening a new connection may take longer than the wait.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # use std::time::Duration;
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let addr = server.addr();
    /// let mut client = dsmq::Client::connect(addr)?;
    /// let other = std::thread::spawn(move || {
    ///     dsmq::Client::connect(addr)?.put_confirmed("greetings", "Hello!")
    /// });
    /// let message = client.get_wait("greetings", Duration::from_secs(60))?;
    /// assert_eq!(message.ok_or("nothing came")?.text(), Some("Hello!".into()));
    /// # other.join().map_err(|_| "the other thread failed")??;
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_wait(&mut self, topic: &str, wait: Duration) -> Result<Option<Message>> {
        self.next("get", topic, wait)
    }

    /// Gets the newest message of the topic if this client has not had it; those before it are
    /// passed over.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub fn get_latest(&mut self, topic: &str) -> Result<Option<Message>> {
        self.next("get_latest", topic, Duration::ZERO)
    }

    /// Gets up to `max` messages, those that are there, in order and without waiting.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], if there is not one message to return.
    pub fn get_batch(&mut self, topic: &str, max: usize) -> Result<Vec<Message>> {
        self.report()?;
        let mut messages = Vec::new();
        while messages.len() < max {
            match self.retry(|client| client.get_some(topic, max, &mut messages)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if messages.is_empty() => return Err(error),
                Err(_) => break, // the next call meets it again, and has nothing to lose
            }
        }
        if messages.is_empty() {
            self.report()?;
        }
        Ok(messages)
    }

    /// Moves this client's place in the topic: the next get returns the first message with a
    /// larger id, also one that this client has had. 0 is before the oldest message.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put_batch("greetings", &["Hello!", "Goodbye!"])?;
    /// let hello = client.get("greetings")?.ok_or("nothing there")?;
    /// let goodbye = client.get("greetings")?.ok_or("nothing there")?;
    /// client.since("greetings", hello.id);
    /// assert_eq!(client.get("greetings")?, Some(goodbye));
    /// client.since("greetings", 0);
    /// assert_eq!(client.get("greetings")?, Some(hello));
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn since(&mut self, topic: &str, id: u64) {
        self.places.insert(topic.to_owned(), Place { id, session: 0 });
    }

    /// Asks the server for a sign of life. Once it is there, everything that this client put
    /// since its last ping is stored, and every other client can get it.
    ///
    /// # Errors
    ///
    /// [`Error::EarlierPut`] if a put was refused; [`Error::Unconfirmed`] if a connection was
    /// lost before the server answered anything after a put: that put may or may not be stored.
    /// The puts in question are those since the last ping; asking again says nothing of them.
    pub fn ping(&mut self) -> Result<()> {
        self.report()?;
        self.retry(|client| {
            client.ready()?;
            let tag = client.next_tag();
            client.with(|connection| connection.ping(tag))
        })?;
        self.report()?;
        match mem::take(&mut self.lost_puts) {
            true => Err(Error::Unconfirmed),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
