//! Getting: every client reads each topic at its own pace.

use std::time::Duration;

use super::requests::{Fields, Requests};
use super::session::{Again, WAIT_SLICE};
use super::{Client, Message, Result};

/// How far this client has read a topic.
pub(super) struct Place {
    /// The id of the last message.
    pub(super) id: u64,
    /// The session that knows it.
    pub(super) session: u64,
}

impl Client {
    /// Gets the oldest message of the topic that this client has not received, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Disconnected`] or [`Error::TimedOut`] if the connection broke
    /// and could not be opened again. The next get continues at the same message.
    ///
    /// [`Error::Connect`]: super::Error::Connect
    /// [`Error::Disconnected`]: super::Error::Disconnected
    /// [`Error::TimedOut`]: super::Error::TimedOut
    pub fn get(&mut self, topic: &str) -> Result<Option<Message>> {
        self.next("get", topic, Duration::ZERO)
    }

    /// Gets the oldest message of the topic that this client has not received, or waits this long
    /// for one. [`Duration::MAX`] waits without limit.
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

    /// Gets the newest message of the topic if this client has not received it, and skips those
    /// before it.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub fn get_latest(&mut self, topic: &str) -> Result<Option<Message>> {
        self.next("get_latest", topic, Duration::ZERO)
    }

    /// Gets up to `max` messages in order, without waiting.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], if there is no message to return.
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

    /// Sets how far this client has read the topic: the next get returns the first message with a
    /// higher id, even if the client has received it before. 0 is before the oldest message.
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

    /// Gets as many messages as may be requested at a time; false when there are no more.
    fn get_some(&mut self, topic: &str, max: usize, messages: &mut Vec<Message>) -> Result<bool> {
        self.ready()?;
        let mut since = self.since_for(topic);
        let first = self.last_tag + 1;
        let mut requests = Requests::default();
        while !requests.is_full() && messages.len() + requests.len() < max {
            let tag = self.next_tag();
            let since = since.take();
            requests.add("get", tag, |get| get_fields(get, topic, Duration::ZERO, since))?;
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

    fn next(&mut self, action: &str, topic: &str, wait: Duration) -> Result<Option<Message>> {
        self.waiting(wait, WAIT_SLICE, |client, wait| {
            client.ready()?;
            let since = client.since_for(topic);
            let fields = |get: &mut Fields| get_fields(get, topic, wait, since);
            let message = client.exchange(action, Again::May, wait, fields)?.message()?;
            client.arrive(topic, message.as_ref().map(|message| message.id));
            Ok(message)
        })
    }

    /// The id that a get of the topic must name, if this session does not know it.
    fn since_for(&self, topic: &str) -> Option<u64> {
        match self.places.get(topic) {
            Some(place) if place.session == self.session => None,
            Some(place) => Some(place.id),
            None if self.session == 1 => None,
            None => Some(self.began),
        }
    }

    /// Makes the next get name its id again.
    pub(super) fn forget_place(&mut self, topic: &str) {
        let id = self.began;
        let place = self.places.entry(topic.to_owned()).or_insert(Place { id, session: 0 });
        place.session = 0;
    }

    /// Records the reply to a get: the server now knows this id.
    fn arrive(&mut self, topic: &str, id: Option<u64>) {
        let session = self.session;
        match self.places.get_mut(topic) {
            // A returned message comes after later ones.
            Some(place) if place.session == session => place.id = place.id.max(id.unwrap_or(0)),
            Some(place) => *place = Place { id: id.unwrap_or(place.id), session },
            None => {
                let id = id.unwrap_or(self.began);
                self.places.insert(topic.to_owned(), Place { id, session });
            }
        }
    }
}

fn get_fields(get: &mut Fields, topic: &str, wait: Duration, since: Option<u64>) -> Result<()> {
    get.plain("meta", true);
    if !wait.is_zero() {
        get.seconds("wait", wait);
    }
    if let Some(since) = since {
        get.plain("since", since);
    }
    get.json("topic", topic)
}
