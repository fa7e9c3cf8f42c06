//! [`Client`]: a blocking client of a dsmq server, built on std, serde and serde_json alone.
//!
//! It speaks the JSON protocol over one TCP connection, and remembers how far it has read every
//! topic. When the connection breaks it opens another and continues there.
//!
//! | call | when the connection breaks |
//! | --- | --- |
//! | [`get`](Client::get), [`get_wait`](Client::get_wait), [`get_latest`](Client::get_latest), [`get_batch`](Client::get_batch) | continues over a new one: nothing is lost, nothing comes twice |
//! | [`next_push`](Client::next_push), after [`subscribe`](Client::subscribe) | the same |
//! | [`put`](Client::put), [`put_batch`](Client::put_batch) | sends again what the server cannot have received completely; puts in flight may be lost, which [`ping`](Client::ping) reports |
//! | [`put_confirmed`](Client::put_confirmed), [`put_with`](Client::put_with) and their batches | the same, but a put in flight is an [`Error::Unconfirmed`] |
//! | [`take_lease`](Client::take_lease), and [`take_wait`](Client::take_wait), [`take_batch`](Client::take_batch) with a lease | takes again; a message in flight comes back when its lease ends |
//! | [`take`](Client::take), and the others without a lease | an [`Error::Unconfirmed`] if the server may have received it: a message may be lost |
//! | [`ack`](Client::ack), [`nack`](Client::nack), [`delete`](Client::delete), [`purge`](Client::purge) and other changes | an [`Error::Unconfirmed`] if the server may have received it |
//! | [`history`](Client::history), [`peek`](Client::peek), [`topics`](Client::topics) and other reads | asks again |
//!
//! An error of a [`put`](Client::put) arrives after the call has returned. The client finds it
//! while it reads another reply, and returns it as [`Error::EarlierPut`] from the first call that
//! has nothing else to return: a ping, a get without a message, or else the next call of any kind,
//! which then does nothing else.
//!
//! The calls are in `put`, `get`, `take`, `subscribe` (with `resume`) and `topics`. They use
//! `session` (what all calls share), `connection` (one connection), `inbox` (pushes), `requests`
//! and `reply` (both as bytes).

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::{fmt, mem};

mod connection;
mod error;
mod get;
mod inbox;
mod info;
mod message;
mod put;
mod reply;
mod requests;
mod resume;
mod session;
mod subscribe;
mod take;
mod topics;

pub use error::{Error, Result};
pub use info::{NodeInfo, Origin, Policy, Stats, TopicInfo};
pub use message::{Confirmed, Message, Push, Receipt, Taken};
pub use put::Put;
pub use subscribe::Start;

use connection::{Connection, TRIES};
use get::Place;
use inbox::Inbox;
use subscribe::Subscriptions;

/// A session with a dsmq server.
///
/// It gets the messages put after it connected. Every client reads every topic at its own pace, and
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
    /// Number of connections so far. Each is a session of the server and knows only what this
    /// client told it.
    session: u64,
    /// The id at which the first session began: the start in every topic that was not read yet.
    began: u64,
    places: HashMap<String, Place>,
    subscriptions: Subscriptions,
    /// Keeps the pushes between two connections.
    inbox: Inbox,
    last_tag: u64,
    /// The first refusal of an unconfirmed put over an earlier connection.
    refused: Option<Error>,
    /// Whether a connection broke with unconfirmed puts in flight.
    lost_puts: bool,
}

impl Client {
    /// Connects, and returns when the session has begun: this client can get every message put from
    /// now on.
    ///
    /// Waits for a server that is not there yet: ten attempts, with pauses of 0.01 s, 0.02 s and so
    /// on, 5 s in all.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the name has no address or no server listens there; [`Error::Server`]
    /// with the code `busy` if the server has no room.
    pub fn connect(addr: impl ToSocketAddrs) -> Result<Client> {
        Client::open(addr, TRIES)
    }

    /// Connects as [`Client::connect`] does, without waiting for a server that is not there.
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
            subscriptions: Subscriptions::default(),
            inbox: Inbox::default(),
            last_tag: 0,
            refused: None,
            lost_puts: false,
        })
    }

    /// Asks the server for a reply. When it returns, everything that this client put since its last
    /// ping is stored, and every other client can get it.
    ///
    /// # Errors
    ///
    /// [`Error::EarlierPut`] if a put was refused; [`Error::Unconfirmed`] if a connection was lost
    /// before the server answered anything after a put: that put may or may not be stored. This
    /// concerns the puts since the last ping; another ping does not settle them.
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
