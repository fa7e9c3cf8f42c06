//! What all calls of a [`Client`] share: they go on over a new connection when the old one
//! breaks, tell it the places that it does not know, and report what earlier puts came to.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::connection::{Connection, TRIES};
use super::wire::Requests;
use super::{Client, Error, Message, Receipt, Result};

/// How many connections one call uses before it gives up; each is tried [`TRIES`] times.
const CONNECTIONS: u32 = 3;

/// The longest wait that is asked of the server at a time, so that a connection which died
/// without a word does not hold up a long wait.
const WAIT_SLICE: Duration = Duration::from_secs(30);

/// How far this client has come in a topic.
pub(super) struct Place {
    /// The id of the last message.
    pub(super) id: u64,
    /// The session that knows it.
    pub(super) session: u64,
}

impl Client {
    pub(super) fn confirm_all<M: Serialize>(
        &mut self,
        topic: &str,
        messages: &[M],
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        self.report()?;
        while let Some(rest) = messages.get(receipts.len()..)
            && !rest.is_empty()
        {
            self.confirm_some(topic, rest, receipts)?;
        }
        Ok(())
    }

    /// Puts as many messages as may be on their way at a time, and waits for their receipts.
    fn confirm_some<M: Serialize>(
        &mut self,
        topic: &str,
        messages: &[M],
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        let first = self.last_tag + 1;
        let mut requests = Requests::default();
        for message in messages {
            if requests.is_full() {
                break;
            }
            match requests.put(topic, message, Some(self.next_tag())) {
                Ok(()) => {}
                Err(error) if requests.is_empty() => return Err(error),
                Err(_) => break, // it fails again when it comes first
            }
        }
        let before = receipts.len();
        self.retry(|client| {
            client.ready()?;
            requests.restart();
            match client.with(|connection| connection.confirm(&mut requests, first, receipts)) {
                // The rest was not carried out: it is sent with what comes next.
                Err(error) if error.is_lost() && receipts.len() > before => Ok(Ok(())),
                result => result,
            }
        })?
    }

    /// Gets as many messages as may be asked for at a time; false when there are no more.
    pub(super) fn get_some(
        &mut self,
        topic: &str,
        max: usize,
        messages: &mut Vec<Message>,
    ) -> Result<bool> {
        self.ready()?;
        let mut since = self.since_for(topic);
        let first = self.last_tag + 1;
        let mut requests = Requests::default();
        while !requests.is_full() && messages.len() + requests.len() < max {
            let tag = self.next_tag();
            requests.get("get", topic, Duration::ZERO, since.take(), tag)?;
        }
        self.with(|connection| connection.send(&mut requests))?;
        let mut more = Ok(true);
        for tag in (first..).take(requests.len()) {
            let reply = self.with(|connection| connection.reply(tag, Duration::ZERO))?;
            match reply.message() {
                Ok(Some(message)) => {
                    self.arrive(topic, Some(message.id));
                    messages.push(message);
                }
                Ok(None) => {
                    self.arrive(topic, None);
                    more = more.map(|_| false);
                }
                Err(error) => more = more.and(Err(error)),
            }
        }
        more
    }

    pub(super) fn next(
        &mut self,
        action: &str,
        topic: &str,
        wait: Duration,
    ) -> Result<Option<Message>> {
        self.report()?;
        let start = Instant::now();
        loop {
            let mut left = Duration::ZERO;
            let message = self.retry(|client| {
                left = wait.saturating_sub(start.elapsed());
                client.ask(action, topic, left.min(WAIT_SLICE))
            })?;
            if message.is_some() {
                return Ok(message);
            }
            self.report()?;
            if left <= WAIT_SLICE {
                return Ok(None);
            }
        }
    }

    /// One get over the connection there is.
    fn ask(&mut self, action: &str, topic: &str, wait: Duration) -> Result<Option<Message>> {
        self.ready()?;
        let tag = self.next_tag();
        let mut request = Requests::default();
        request.get(action, topic, wait, self.since_for(topic), tag)?;
        let reply = self.with(|connection| {
            connection.send(&mut request)?;
            connection.reply(tag, wait)
        })?;
        let message = reply.message()?;
        self.arrive(topic, message.as_ref().map(|message| message.id));
        Ok(message)
    }

    /// Returns the refusal of an earlier put, if there is one that has not been returned.
    pub(super) fn report(&mut self) -> Result<()> {
        let refused = self.connection.as_mut().and_then(|connection| connection.refused.take());
        match self.refused.take().or(refused) {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    pub(super) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// What a get of the topic must tell the server: the place, if this session does not know it.
    fn since_for(&self, topic: &str) -> Option<u64> {
        match self.places.get(topic) {
            Some(place) if place.session == self.session => None,
            Some(place) => Some(place.id),
            None if self.session == 1 => None,
            None => Some(self.began),
        }
    }

    /// A get of the topic was answered: the server now knows this place.
    fn arrive(&mut self, topic: &str, id: Option<u64>) {
        let session = self.session;
        match self.places.get_mut(topic) {
            Some(place) => *place = Place { id: id.unwrap_or(place.id), session },
            None => {
                let id = id.unwrap_or(self.began);
                self.places.insert(topic.to_owned(), Place { id, session });
            }
        }
    }

    /// Does the work, again over a new connection if the server had no part in it.
    pub(super) fn retry<T>(&mut self, mut work: impl FnMut(&mut Client) -> Result<T>) -> Result<T> {
        let mut used = 1;
        loop {
            match work(self) {
                Err(error) if error.is_lost() => {
                    self.disconnect();
                    if used == CONNECTIONS {
                        return Err(error);
                    }
                    used += 1;
                }
                result => return result,
            }
        }
    }

    /// Sees to it that there is a connection, and one that still stands.
    pub(super) fn ready(&mut self) -> Result<()> {
        if self.connection.as_mut().is_some_and(|connection| !connection.stands()) {
            self.disconnect();
        }
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.addrs, TRIES)?);
            self.session += 1;
        }
        Ok(())
    }

    /// Uses the connection; one that fails is not used again.
    pub(super) fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let Some(connection) = &mut self.connection else {
            return Err(Error::lost(std::io::ErrorKind::NotConnected.into()));
        };
        let result = work(connection);
        if result.is_err() {
            self.disconnect();
        }
        result
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.refused = self.refused.take().or(connection.refused);
            self.lost_puts |= connection.unanswered;
        }
    }
}
