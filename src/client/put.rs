//! Putting: unconfirmed, confirmed, and with options.

use std::time::Duration;

use serde::Serialize;

use super::requests::{Fields, Requests};
use super::{Client, Confirmed, Error, Receipt, Result};

/// The options of a put.
///
/// ```
/// # use std::time::Duration;
/// use dsmq::client::Put;
///
/// let urgent = Put::new().priority(9).ttl(Duration::from_secs(60));
/// let later_and_once = Put::new().delay(Duration::from_secs(3_600)).dedupe("order 7");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Put {
    priority: Option<u8>,
    ttl: Option<Duration>,
    delay: Option<Duration>,
    dedupe: Option<String>,
}

impl Put {
    /// No options.
    pub fn new() -> Put {
        Put::default()
    }

    /// Priority from 0 to 9, by default 4: a take returns higher ones first.
    pub fn priority(mut self, priority: u8) -> Put {
        self.priority = Some(priority);
        self
    }

    /// The message expires this long after it became visible: nobody receives it any more.
    pub fn ttl(mut self, ttl: Duration) -> Put {
        self.ttl = Some(ttl);
        self
    }

    /// The message becomes visible, and gets its id, after this time.
    pub fn delay(mut self, delay: Duration) -> Put {
        self.delay = Some(delay);
        self
    }

    /// Within 120 seconds, a second message with the same key is not stored in the same topic. A
    /// key has at most 256 bytes.
    pub fn dedupe(mut self, key: impl Into<String>) -> Put {
        self.dedupe = Some(key.into());
        self
    }

    fn fields(&self, put: &mut Fields) -> Result<()> {
        put.plain("confirm", true);
        if let Some(priority) = self.priority {
            put.plain("priority", priority);
        }
        if let Some(ttl) = self.ttl {
            put.seconds("ttl", ttl);
        }
        if let Some(delay) = self.delay {
            put.seconds("delay", delay);
        }
        match &self.dedupe {
            Some(key) => put.json("dedupe", key),
            None => Ok(()),
        }
    }
}

impl Client {
    /// Puts a message, any value that serde can convert to JSON, without waiting for a reply.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if it cannot be converted. A later call reports that the server refused it:
    /// see [the module](super).
    pub fn put<M: Serialize + ?Sized>(&mut self, topic: &str, message: &M) -> Result<()> {
        self.put_batch(topic, &[message])
    }

    /// Puts a message and returns when the server has stored it.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it was refused; [`Error::Unconfirmed`] if the connection was lost
    /// before the reply.
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
        receipt(self.put_with(topic, message, &Put::new())?)
    }

    /// Puts a message with these options and returns when the server has stored it.
    ///
    /// # Errors
    ///
    /// As [`Client::put_confirmed`]. A put with a dedupe key may be repeated after an
    /// [`Error::Unconfirmed`]: it is then [a duplicate](Confirmed::duplicate) if it was stored the
    /// first time.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// use dsmq::client::Put;
    ///
    /// client.put("jobs", "wash up")?;
    /// client.put_with("jobs", "put out the fire", &Put::new().priority(9))?;
    /// let job = client.take("jobs")?.ok_or("nothing there")?;
    /// assert_eq!(job.message.text(), Some("put out the fire".into()));
    ///
    /// let once = Put::new().dedupe("order 7");
    /// assert!(!client.put_with("orders", &7, &once)?.duplicate);
    /// assert!(client.put_with("orders", &7, &once)?.duplicate);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_with<M>(&mut self, topic: &str, message: &M, options: &Put) -> Result<Confirmed>
    where
        M: Serialize + ?Sized,
    {
        let mut stored = Vec::with_capacity(1);
        self.confirm_all(topic, &[message], options, &mut stored)?;
        stored.pop().ok_or_else(|| Error::Protocol("a batch of one without an answer".into()))
    }

    /// Puts messages in order, many in one write, without waiting for a reply.
    ///
    /// # Errors
    ///
    /// As [`Client::put`]. The messages before one that cannot be converted may be stored.
    pub fn put_batch<M: Serialize>(&mut self, topic: &str, messages: &[M]) -> Result<()> {
        self.report()?;
        let mut messages = messages.iter().peekable();
        while messages.peek().is_some() {
            let mut requests = Requests::default();
            while !requests.is_full()
                && let Some(message) = messages.next()
            {
                requests.put(topic, message)?;
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

    /// Puts messages in order. Returns a receipt for each when the server has stored them all. Many
    /// are in flight at a time, so this is many times as fast as one by one.
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
        let stored = self.put_batch_with(topic, messages, &Put::new())?;
        stored.into_iter().map(receipt).collect()
    }

    /// Puts messages in order with these options. Returns the result of each when the server has
    /// stored them all.
    ///
    /// # Errors
    ///
    /// As [`Client::put_confirmed_batch`].
    pub fn put_batch_with<M: Serialize>(
        &mut self,
        topic: &str,
        messages: &[M],
        options: &Put,
    ) -> Result<Vec<Confirmed>> {
        let mut stored = Vec::with_capacity(messages.len());
        match self.confirm_all(topic, messages, options, &mut stored) {
            Ok(()) => Ok(stored),
            Err(error) => Err(Error::Batch { stored, source: Box::new(error) }),
        }
    }

    fn confirm_all<M: Serialize>(
        &mut self,
        topic: &str,
        messages: &[M],
        options: &Put,
        stored: &mut Vec<Confirmed>,
    ) -> Result<()> {
        self.report()?;
        while let Some(rest) = messages.get(stored.len()..)
            && !rest.is_empty()
        {
            self.confirm_some(topic, rest, options, stored)?;
        }
        Ok(())
    }

    /// Puts as many messages as may be in flight at a time, and waits for their replies.
    fn confirm_some<M: Serialize>(
        &mut self,
        topic: &str,
        messages: &[M],
        options: &Put,
        stored: &mut Vec<Confirmed>,
    ) -> Result<()> {
        let first = self.last_tag + 1;
        let mut requests = Requests::default();
        for message in messages {
            if requests.is_full() {
                break;
            }
            let added = requests.add("put", self.next_tag(), |put| {
                options.fields(put)?;
                put.json("topic", topic)?;
                put.json("message", message)
            });
            match added {
                Ok(()) => {}
                Err(error) if requests.is_empty() => return Err(error),
                Err(_) => break, // it fails again when it comes first
            }
        }
        let before = stored.len();
        self.retry(|client| {
            client.ready()?;
            requests.restart();
            match client.with(|connection| connection.confirm(&mut requests, first, stored)) {
                // The rest was not carried out: it is sent with the next part.
                Err(error) if error.is_lost() && stored.len() > before => Ok(Ok(())),
                result => result,
            }
        })?
    }
}

/// The result of a put without a delay.
fn receipt(Confirmed { id, timestamp, .. }: Confirmed) -> Result<Receipt> {
    let id = id.ok_or_else(|| Error::Protocol("a stored message without an id".into()))?;
    Ok(Receipt { id, timestamp })
}
