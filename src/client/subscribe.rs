//! Subscribing: the server pushes the messages of topics.

use std::time::Duration;

use super::requests::Fields;
use super::session::Again;
use super::{Client, Push, Result};

/// After this long without a push the client pings the server.
const SILENT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the messages put from now on.
    Now,
    /// With the oldest message that is kept.
    Oldest,
    /// After the message with this id.
    Id(u64),
    /// With this many of the last messages of each existing topic, at most 1,000.
    Last(u32),
}

impl Start {
    pub(super) fn field(self, subscribe: &mut Fields) -> Result<()> {
        match self {
            Start::Now | Start::Last(0) => subscribe.json("from", "now")?,
            Start::Oldest => subscribe.json("from", "oldest")?,
            Start::Id(id) => subscribe.plain("from", id),
            Start::Last(count) => subscribe.plain("from", -i64::from(count)),
        }
        Ok(())
    }
}

/// The subscriptions of a client.
#[derive(Default)]
pub(super) struct Subscriptions {
    pub(super) list: Vec<Subscription>,
    /// The session that was told of them.
    pub(super) session: u64,
}

#[derive(Clone)]
pub(super) struct Subscription {
    pub(super) name: String,
    pub(super) start: Start,
    /// The highest id when it began.
    pub(super) since: u64,
}

impl Subscription {
    /// The prefix, if it is one.
    pub(super) fn prefix(&self) -> Option<&str> {
        self.name.strip_suffix('*')
    }

    pub(super) fn covers(&self, topic: &str) -> bool {
        match self.prefix() {
            Some(prefix) => topic.starts_with(prefix),
            None => self.name == topic,
        }
    }
}

impl Client {
    /// Subscribes to topics, all with the same start: [`Client::next_push`] returns their messages.
    /// A name that ends in `*` stands for all topics with this prefix, including future ones.
    /// Subscribing removes nothing and does not affect [`Client::get`]. A topic that is already
    /// subscribed to continues where it is.
    ///
    /// Pushes arrive over the same connection as replies. Pushes before a reply that another call
    /// waits for are kept in order, up to 16 MiB; beyond that they stay on the server and arrive
    /// later, over a new connection.
    ///
    /// When the connection breaks, [`Client::next_push`] subscribes again, to each topic after its
    /// last push: no message that is still kept is lost, and none arrives twice. The order is kept
    /// within each topic, but not always between topics. A message that a take removed and the
    /// server returned arrives after later ones if those were pushed in between; not over a new
    /// connection. For a topic without a push so far, [`Start::Last`] counts from its end at that
    /// moment, and at least from where the subscription began.
    ///
    /// # Errors
    ///
    /// [`Error::Server`](super::Error::Server) if it was refused, with the code
    /// `too_many_subscriptions` above 1,000; as [`Client::get`] if the connection broke. The
    /// earlier subscriptions stay.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # use std::time::Duration;
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// use dsmq::client::Start;
    ///
    /// client.subscribe(&["news", "weather.*"], Start::Now)?;
    /// client.put("weather.oslo", "rain")?;
    /// let push = client.next_push(Duration::from_secs(60))?.ok_or("nothing came")?;
    /// assert_eq!((push.topic.as_str(), push.message.json()), ("weather.oslo", "\"rain\""));
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe<T: AsRef<str>>(&mut self, topics: &[T], start: Start) -> Result<()> {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        self.report()?;
        let since = self.retry(|client| {
            client.ready()?;
            client.resume()?;
            let fields = |subscribe: &mut Fields| subscribe_fields(subscribe, &names, start);
            let reply = client.exchange("subscribe", Again::May, Duration::ZERO, fields)?;
            let since = reply.subscribed()?;
            Ok(since.or(client.connection.as_ref().map(|connection| connection.began)))
        })?;
        let since = since.unwrap_or_default();
        for name in names {
            if self.subscriptions.list.iter().all(|known| known.name != name) {
                let subscription = Subscription { name: name.to_owned(), start, since };
                self.subscriptions.list.push(subscription);
            }
        }
        self.subscriptions.session = self.session;
        Ok(())
    }

    /// Ends subscriptions, by the names with which they were made. Their pushes that were not
    /// returned yet are dropped.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; the subscriptions have ended even then.
    pub fn unsubscribe<T: AsRef<str>>(&mut self, topics: &[T]) -> Result<()> {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        self.report()?;
        self.subscriptions.list.retain(|known| !names.contains(&known.name.as_str()));
        let result = self.retry(|client| {
            client.ready()?;
            if client.subscriptions.session != client.session {
                return Ok(()); // which knows of none
            }
            let fields = |unsubscribe: &mut Fields| unsubscribe.json("topic", &names);
            let reply = client.exchange("unsubscribe", Again::May, Duration::ZERO, fields)?;
            reply.accepted().map(drop)
        });
        let list = std::mem::take(&mut self.subscriptions.list);
        self.inbox().retain(|topic| list.iter().any(|known| known.covers(topic)));
        self.subscriptions.list = list;
        result
    }

    /// The next message of the subscribed topics, or the first that arrives within this time;
    /// [`Duration::MAX`] waits without limit. Without a subscription it returns at once.
    ///
    /// The messages of a topic arrive in the order of their ids.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; the next call continues at the same message.
    pub fn next_push(&mut self, wait: Duration) -> Result<Option<Push>> {
        if self.subscriptions.list.is_empty() {
            self.report()?;
            return Ok(None);
        }
        let mut silent = false;
        self.waiting(wait, SILENT, |client, wait| {
            if client.inbox().is_empty() {
                client.ready()?;
                client.resume()?;
                if silent {
                    // A connection that died silently looks like one without pushes.
                    client.exchange("ping", Again::May, Duration::ZERO, |_| Ok(()))?;
                }
                client.with(|connection| connection.hear(wait))?;
                silent = client.inbox().is_empty();
            }
            Ok(client.inbox().next())
        })
    }
}

/// `meta` requests the id that "now" stands for.
pub(super) fn subscribe_fields<T>(subscribe: &mut Fields, topic: &T, start: Start) -> Result<()>
where
    T: serde::Serialize + ?Sized,
{
    subscribe.plain("meta", true);
    start.field(subscribe)?;
    subscribe.json("topic", topic)
}
