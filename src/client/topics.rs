//! Topics: looking at messages, removing them, policies and statistics.

use super::reply::Reply;
use super::requests::Fields;
use super::session::Again;
use super::{Client, Error, Message, Policy, Result, Stats, TopicInfo};

impl Client {
    /// The last messages of a topic, oldest first: up to `limit` (at most 1,000), and fewer if they
    /// exceed 16 MiB together.
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

    /// The oldest message of a topic, which stays in it, and how often it has been peeked at. A
    /// peek whose reply was lost counts too.
    ///
    /// # Errors
    ///
    /// As [`Client::history`].
    pub fn peek(&mut self, topic: &str) -> Result<Option<(Message, u64)>> {
        self.ask("peek", Again::May, |peek| peek.json("topic", topic))?.peeked()
    }

    /// Removes one message, leased or not; false if it did not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it was refused; [`Error::Unconfirmed`] if the connection was lost
    /// before the reply.
    pub fn delete(&mut self, topic: &str, id: u64) -> Result<bool> {
        let fields = |delete: &mut Fields| {
            delete.plain("id", id);
            delete.json("topic", topic)
        };
        self.ask("delete", Again::MustNot, fields)?.deleted()
    }

    /// Removes all messages of a topic, including leased and delayed ones, and its dedupe keys.
    /// Returns the number of messages.
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

    /// Stops delivery to the topic's consumers, which exist in other protocols only. Take, get and
    /// subscribe continue.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn stop(&mut self, topic: &str) -> Result<()> {
        self.ask("stop", Again::MustNot, |stop| stop.json("topic", topic))?.accepted().map(drop)
    }

    /// Resumes delivery to the topic's consumers.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn start(&mut self, topic: &str) -> Result<()> {
        self.ask("start", Again::MustNot, |start| start.json("topic", topic))?.accepted().map(drop)
    }

    /// How a topic's consumers share its messages, if a policy was set; without one they share as
    /// in [`Policy::Broadcast`].
    ///
    /// # Errors
    ///
    /// As [`Client::history`].
    pub fn policy(&mut self, topic: &str) -> Result<Option<Policy>> {
        policy(self.ask("policy", Again::May, |policy| policy.json("topic", topic))?)
    }

    /// Sets how a topic's consumers share its messages.
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

    /// All topics, ordered by name.
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

    /// Statistics of the server.
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
