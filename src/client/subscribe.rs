//! Subscribing: what is put into some topics comes without being asked for.

use std::time::Duration;

use super::requests::Fields;
use super::session::Again;
use super::{Client, Push, Result};

/// After so long without a push the server is asked whether it is still there.
const SILENT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is put from now on.
    Now,
    /// With the oldest message that is kept.
    Oldest,
    /// Behind the message of this id.
    Id(u64),
    /// With the last so many messages of each topic that there is, 1,000 at most.
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

/// What a client subscribed to, and has not unsubscribed from.
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
    /// The last id that was given out when it began.
    pub(super) since: u64,
}

impl Subscription {
    /// What the topics begin with that it stands for, if it is a prefix.
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
    /// Subscribes to topics, all beginning at the same place: [`Client::next_push`] returns what
    /// is put into them. A name that ends in `*` stands for all topics that begin like it, also
    /// those that are yet to be made. Subscribing removes nothing, and moves no place of
    /// [`Client::get`]. A topic that is subscribed to already goes on from where it is.
    ///
    /// Pushes come over the same connection as replies. Those that stand before a reply which
    /// another call waits for are kept, in order, up to 16 MiB; what is pushed beyond that is
    /// left to the server, and comes later, over a new connection.
    ///
    /// When the connection breaks, [`Client::next_push`] subscribes again, to each topic from its
    /// last push: nothing that is still kept is lost, and nothing comes twice. The order remains
    /// within each topic, but need not between topics. A message that a take removed, and that the
    /// server put back, comes after later ones if it was away when those were pushed; not over a new
    /// connection. Of a topic of which nothing had come,
    /// [`Start::Last`] looks back from where it then ends, and in any case to where the
    /// subscription began.
    ///
    /// # Errors
    ///
    /// [`Error::Server`](super::Error::Server) if it was refused, with the code
    /// `too_many_subscriptions` beyond 1,000; as [`Client::get`] if the connection broke. Then
    /// this client is subscribed to what it was before.
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

    /// Ends subscriptions, by the names that they were made with. Pushes of their topics that
    /// were not returned yet are dropped.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; also then the subscriptions have ended.
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

    /// The next message of the topics that this client subscribed to: one that is there, or else
    /// the first that comes within this time; [`Duration::MAX`] waits for ever. Without a
    /// subscription there is none to wait for.
    ///
    /// Within a topic they come in the order of their ids.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; the next call goes on from the same place.
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
                    // A connection that died without a word is as silent as one without pushes.
                    client.exchange("ping", Again::May, Duration::ZERO, |_| Ok(()))?;
                }
                client.with(|connection| connection.hear(wait))?;
                silent = client.inbox().is_empty();
            }
            Ok(client.inbox().next())
        })
    }
}

/// `meta` asks for the id behind which "now" lies.
pub(super) fn subscribe_fields<T>(subscribe: &mut Fields, topic: &T, start: Start) -> Result<()>
where
    T: serde::Serialize + ?Sized,
{
    subscribe.plain("meta", true);
    start.field(subscribe)?;
    subscribe.json("topic", topic)
}
