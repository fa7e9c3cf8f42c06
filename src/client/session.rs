//! What all calls of a [`Client`] share: they continue over a new connection when the old one
//! breaks, tell it the ids that it does not know, and report the results of earlier puts.

use std::time::{Duration, Instant};

use super::connection::{Connection, TRIES};
use super::inbox::Inbox;
use super::reply::Reply;
use super::requests::{Fields, Requests};
use super::{Client, Error, Result};

/// Maximum number of connections that one call uses; each is tried [`TRIES`] times.
const CONNECTIONS: u32 = 3;

/// Longest wait in one request, so that a connection that died silently does not hold up a long
/// wait.
pub(super) const WAIT_SLICE: Duration = Duration::from_secs(30);

/// Whether a request may be carried out twice.
#[derive(Clone, Copy)]
pub(super) enum Again {
    /// It changes nothing, or nothing that the end of a lease does not repair.
    May,
    /// It is not sent again unless the server cannot have carried it out.
    MustNot,
}

impl Client {
    /// Sends a request and returns its reply, over new connections if necessary.
    pub(super) fn ask(
        &mut self,
        action: &str,
        again: Again,
        fields: impl Fn(&mut Fields) -> Result<()>,
    ) -> Result<Reply> {
        self.report()?;
        self.retry(|client| {
            client.ready()?;
            // A refusal is the caller's, but a closing server has refused nothing.
            client.exchange(action, again, Duration::ZERO, &fields)?.unless_closing()
        })
    }

    /// Sends a request and returns its reply over the present connection only, so that everything
    /// the server was told still holds. The request may ask the server to wait this long.
    pub(super) fn exchange(
        &mut self,
        action: &str,
        again: Again,
        wait: Duration,
        fields: impl FnOnce(&mut Fields) -> Result<()>,
    ) -> Result<Reply> {
        let tag = self.next_tag();
        let mut request = Requests::default();
        request.add(action, tag, fields)?;
        self.with(|connection| match again {
            Again::May => {
                connection.send(&mut request)?;
                connection.reply(tag, wait)
            }
            Again::MustNot => {
                let mut reply = None;
                connection.each(&mut request, tag, wait, |only| reply = Some(only))?;
                reply.ok_or(Error::Unconfirmed)
            }
        })
    }

    /// Repeats a request, for a slice of time each, until there is a result or all of the time has
    /// passed.
    pub(super) fn waiting<T>(
        &mut self,
        wait: Duration,
        slice: Duration,
        mut ask: impl FnMut(&mut Client, Duration) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.report()?;
        let start = Instant::now();
        loop {
            let mut left = Duration::ZERO;
            let found = self.retry(|client| {
                left = wait.saturating_sub(start.elapsed());
                ask(client, left.min(slice))
            })?;
            if found.is_some() {
                return Ok(found);
            }
            self.report()?;
            if left <= slice {
                return Ok(None);
            }
        }
    }

    /// Returns the refusal of an earlier put that was not returned yet.
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

    /// Makes sure that there is a usable connection.
    pub(super) fn ready(&mut self) -> Result<()> {
        if self.connection.as_mut().is_some_and(|connection| !connection.stands()) {
            self.disconnect();
        }
        if let Some(connection) = &mut self.connection
            && connection.inbox.overflowed()
        {
            // The dropped pushes come again over a new connection, which begins with them. The
            // results of the puts over this one must be known first.
            let tag = self.last_tag + 1;
            self.last_tag = tag;
            let _ = connection.ping(tag);
            self.disconnect();
        }
        if self.connection.is_none() {
            let mut connection = Connection::open(&self.addrs, TRIES)?;
            connection.inbox = std::mem::take(&mut self.inbox);
            connection.inbox.begin_again();
            self.connection = Some(connection);
            self.session += 1;
        }
        Ok(())
    }

    /// The pushes, whether there is a connection or not.
    pub(super) fn inbox(&mut self) -> &mut Inbox {
        match &mut self.connection {
            Some(connection) => &mut connection.inbox,
            None => &mut self.inbox,
        }
    }

    /// Uses the connection; after an error it is not used again.
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
            self.inbox = connection.inbox;
        }
    }
}
