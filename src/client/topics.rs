//! Topics and what is in them: looking, clearing up, and what the server tells of itself.

use super::reply::Reply;
use super::requests::Fields;
use super::session::Again;
use super::{Client, Error, Message, Policy, Result, Stats, TopicInfo};

impl Client {
    /// The last messages of a topic, oldest first: up to `limit`, which is at most 1,000, and
    /// fewer if together they are over 16 MiB.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it was refused; as [`Client::get`] if the connection broke.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put_batch("numbers", &[1, 2, 3])?;
    /// let last = client.history("numbers", 2)?;
    /// assert_eq!(last.iter().map(|message| message.json()).collect::<Vec<_>>(), ["2", "3"]);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(&mut self, topic: &str, limit: usize) -> Result<Vec<Message>> {
        self.ask("history", Again::May, |history| history_fields(history, topic, limit))?.history()
    }

    /// The oldest message of a topic, which stays where it is, and how often it was looked at in
    /// this way. A look whose answer was lost counts too.
    ///
    /// # Errors
    ///
    /// As [`Client::history`].
    pub fn peek(&mut self, topic: &str) -> Result<Option<(Message, u64)>> {
        self.ask("peek", Again::May, |peek| peek.json("topic", topic))?.peeked()
    }

    /// Removes one message, leased or not; false if it was not there.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it was refused; [`Error::Unconfirmed`] if the connection was lost
    /// before the answer came.
    pub fn delete(&mut self, topic: &str, id: u64) -> Result<bool> {
        let fields = |delete: &mut Fields| {
            delete.plain("id", id);
            delete.json("topic", topic)
        };
        self.ask("delete", Again::MustNot, fields)?.deleted()
    }

    /// Removes all messages of a topic, the leased and the delayed ones and the dedupe keys too;
    /// returns how many messages that were.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put_batch("numbers", &[1, 2, 3])?;
    /// assert_eq!(client.purge("numbers")?, 3);
    /// assert_eq!(client.purge("numbers")?, 0);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn purge(&mut self, topic: &str) -> Result<u64> {
        self.ask("purge", Again::MustNot, |purge| purge.json("topic", topic))?.purged()
    }

    /// Holds a topic's messages from its consumers, which are those of other protocols: take, get
    /// and subscribe go on.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn stop(&mut self, topic: &str) -> Result<()> {
        self.ask("stop", Again::MustNot, |stop| stop.json("topic", topic))?.accepted().map(drop)
    }

    /// Lets a topic's consumers have its messages again.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn start(&mut self, topic: &str) -> Result<()> {
        self.ask("start", Again::MustNot, |start| start.json("topic", topic))?.accepted().map(drop)
    }

    /// How a topic's consumers share its messages, if that was ever said; they share them as in
    /// [`Policy::Broadcast`] if it was not.
    ///
    /// # Errors
    ///
    /// As [`Client::history`].
    pub fn policy(&mut self, topic: &str) -> Result<Option<Policy>> {
        policy(self.ask("policy", Again::May, |policy| policy.json("topic", topic))?)
    }

    /// Says how a topic's consumers share its messages.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn set_policy(&mut self, topic: &str, to: Policy) -> Result<()> {
        let fields = |policy: &mut Fields| {
            policy.json("policy", &to)?;
            policy.json("topic", topic)
        };
        policy(self.ask("policy", Again::MustNot, fields)?).map(drop)
    }

    /// All topics, by name.
    ///
    /// # Errors
    ///
    /// As [`Client::history`].
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put_batch("numbers", &[1, 2, 3])?;
    /// let topics = client.topics()?;
    /// assert_eq!((topics[0].topic.as_str(), topics[0].length), ("numbers", 3));
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn topics(&mut self) -> Result<Vec<TopicInfo>> {
        self.ask("topics", Again::May, |_| Ok(()))?.topics()
    }

    /// What the server tells of itself.
    ///
    /// # Errors
    ///
    /// As [`Client::history`].
    pub fn stats(&mut self) -> Result<Stats> {
        self.ask("stats", Again::May, |_| Ok(()))?.stats()
    }
}

pub(super) fn history_fields(history: &mut Fields, topic: &str, limit: usize) -> Result<()> {
    history.plain("limit", limit);
    history.json("topic", topic)
}

fn policy(reply: Reply) -> Result<Option<Policy>> {
    let Some(name) = reply.policy()? else { return Ok(None) };
    let unknown = || Error::Protocol(format!("there is no policy {name:?}"));
    Policy::from_name(&name).ok_or_else(unknown).map(Some)
}
