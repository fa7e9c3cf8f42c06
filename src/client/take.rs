//! Taking: a message for one taker, removed at once or under a lease.

use std::time::Duration;

use super::reply::Reply;
use super::requests::{Fields, Requests};
use super::session::{Again, WAIT_SLICE};
use super::{Client, Error, Result, Taken};

impl Client {
    /// Takes the oldest message of the highest priority in the topic and removes it, whenever it
    /// was put.
    ///
    /// It is delivered at most once: a message that was in flight when the connection broke may be
    /// lost. A lease prevents that: see [`Client::take_lease`].
    ///
    /// # Errors
    ///
    /// [`Error::Unconfirmed`] if the connection was lost before the reply: a message may have been
    /// taken, and is lost then. The take is not repeated. [`Error::Connect`],
    /// [`Error::Disconnected`] or [`Error::TimedOut`] if the connection broke before the server saw
    /// the request, and could not be opened again: nothing was taken.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put("jobs", "wash up")?;
    /// let job = client.take("jobs")?.ok_or("nothing there")?;
    /// assert_eq!(job.message.text(), Some("wash up".into()));
    /// assert_eq!(client.take("jobs")?, None);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take(&mut self, topic: &str) -> Result<Option<Taken>> {
        self.take_wait(topic, None, Duration::ZERO)
    }

    /// Takes the next message of the topic for the time of the lease. Within that time
    /// [`Client::ack`] removes it, or [`Client::nack`] returns it. Afterwards another take receives
    /// it, with [`deliveries`](Taken::deliveries) one higher.
    ///
    /// Every message is delivered at least once, so work may be done twice, for example by a taker
    /// that is slower than its lease.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Disconnected`] or [`Error::TimedOut`] if the connection broke
    /// and could not be opened again. A message that was taken meanwhile comes back when its lease
    /// ends.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # use std::time::Duration;
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put("jobs", "wash up")?;
    /// let job = client.take_lease("jobs", Duration::from_secs(60))?.ok_or("nothing there")?;
    /// // This fails, so it is given back at once.
    /// client.nack(&job, Duration::ZERO)?;
    ///
    /// let job = client.take_lease("jobs", Duration::from_secs(60))?.ok_or("nothing there")?;
    /// assert_eq!(job.deliveries, 2);
    /// client.ack(&job)?;
    /// assert_eq!(client.take("jobs")?, None);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_lease(&mut self, topic: &str, lease: Duration) -> Result<Option<Taken>> {
        self.take_wait(topic, Some(lease), Duration::ZERO)
    }

    /// Takes with or without a lease, and waits this long for a message; [`Duration::MAX`] waits
    /// without limit. Waiting takers are served in the order in which they began; a client that
    /// waits long begins again every 30 seconds.
    ///
    /// # Errors
    ///
    /// As [`Client::take_lease`] with a lease, and as [`Client::take`] without one.
    pub fn take_wait(
        &mut self,
        topic: &str,
        lease: Option<Duration>,
        wait: Duration,
    ) -> Result<Option<Taken>> {
        // A message in a lost reply comes back when its lease ends.
        let again = if lease.is_some() { Again::May } else { Again::MustNot };
        self.waiting(wait, WAIT_SLICE, |client, wait| {
            client.ready()?;
            let fields = |take: &mut Fields| take_fields(take, topic, lease, wait);
            client.exchange("take", again, wait, fields)?.taken(topic)
        })
    }

    /// Takes up to `max` messages without waiting. Many requests are in flight at a time, so this
    /// is many times as fast as one by one.
    ///
    /// # Errors
    ///
    /// With a lease as [`Client::take_lease`], if there is no message to return. Without one,
    /// [`Error::TakeBatch`] with the messages that were taken before the take that failed, or as
    /// [`Client::take`] if there are none.
    pub fn take_batch(
        &mut self,
        topic: &str,
        max: usize,
        lease: Option<Duration>,
    ) -> Result<Vec<Taken>> {
        self.report()?;
        let mut taken = Vec::new();
        while taken.len() < max {
            match self.retry(|client| client.take_some(topic, max, lease, &mut taken)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if taken.is_empty() => return Err(error),
                Err(_) if lease.is_some() => break, // the next call meets it again
                Err(error) => return Err(Error::TakeBatch { taken, source: Box::new(error) }),
            }
        }
        if taken.is_empty() {
            self.report()?;
        }
        Ok(taken)
    }

    /// Takes as many messages as may be requested at a time; false when there are no more.
    fn take_some(
        &mut self,
        topic: &str,
        max: usize,
        lease: Option<Duration>,
        taken: &mut Vec<Taken>,
    ) -> Result<bool> {
        self.ready()?;
        let first = self.last_tag + 1;
        let mut requests = Requests::default();
        while !requests.is_full() && taken.len() + requests.len() < max {
            let tag = self.next_tag();
            requests.add("take", tag, |take| take_fields(take, topic, lease, Duration::ZERO))?;
        }
        let (mut more, mut refused) = (true, None);
        let end = self.with(|connection| {
            connection.each(&mut requests, first, Duration::ZERO, |reply| {
                match reply.taken(topic) {
                    Ok(Some(message)) => taken.push(message),
                    Ok(None) => more = false,
                    Err(error) => refused = Some(error),
                }
            })
        });
        match end {
            // The messages in lost replies come back when their leases end.
            Err(Error::Unconfirmed) if lease.is_some() => {
                Err(Error::lost(std::io::ErrorKind::UnexpectedEof.into()))
            }
            Err(error) => Err(error),
            Ok(()) => refused.map_or(Ok(more), Err),
        }
    }

    /// Ends a lease: the work is done, and the message is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] with the [code](Error::code) `gone` if the lease had ended: another taker
    /// has received the message or will, unless it was removed. [`Error::Unconfirmed`] if the
    /// connection was lost before the reply. The ack may be repeated; `gone` may then mean that the
    /// first one worked.
    pub fn ack(&mut self, taken: &Taken) -> Result<()> {
        self.ack_by_id(&taken.topic, taken.message.id, taken.deliveries)
    }

    /// Ends a lease by the numbers of its take, for programs that passed them on.
    ///
    /// # Errors
    ///
    /// As [`Client::ack`].
    pub fn ack_by_id(&mut self, topic: &str, id: u64, deliveries: u64) -> Result<()> {
        let fields = |ack: &mut Fields| ack_fields(ack, topic, id, deliveries);
        self.ask("ack", Again::MustNot, fields)?.accepted().map(drop)
    }

    /// Ends many leases. Returns for each whether it still lasted; if not, another taker has
    /// received the message or will, unless it was removed.
    ///
    /// # Errors
    ///
    /// As [`Client::ack`], except for `gone`. Some of the leases may have ended.
    ///
    /// ```
    /// # #[cfg(feature = "server")] {
    /// # use std::time::Duration;
    /// # let server = dsmq::Server::start(dsmq::Config { port: 0, ..Default::default() })?;
    /// # let mut client = dsmq::Client::connect(server.addr())?;
    /// client.put_batch("jobs", &["wash up", "tidy up", "get up"])?;
    /// let jobs = client.take_batch("jobs", 100, Some(Duration::from_secs(60)))?;
    /// assert_eq!(jobs.len(), 3);
    /// assert_eq!(client.ack_batch(&jobs)?, [true, true, true]);
    /// assert_eq!(client.ack_batch(&jobs)?, [false, false, false]);
    /// # server.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ack_batch(&mut self, taken: &[Taken]) -> Result<Vec<bool>> {
        self.report()?;
        let mut lasted = Vec::with_capacity(taken.len());
        while let Some(rest) = taken.get(lasted.len()..)
            && !rest.is_empty()
        {
            self.retry(|client| client.ack_some(taken, &mut lasted))?;
        }
        Ok(lasted)
    }

    /// Ends as many of the remaining leases as may be in flight at a time.
    fn ack_some(&mut self, taken: &[Taken], lasted: &mut Vec<bool>) -> Result<()> {
        self.ready()?;
        let first = self.last_tag + 1;
        let mut requests = Requests::default();
        for Taken { topic, message, deliveries } in taken.iter().skip(lasted.len()) {
            if requests.is_full() {
                break;
            }
            let tag = self.next_tag();
            requests.add("ack", tag, |ack| ack_fields(ack, topic, message.id, *deliveries))?;
        }
        let mut refused = Ok(());
        self.with(|connection| {
            connection.each(&mut requests, first, Duration::ZERO, |reply| {
                match (reply.accepted().map(drop), &refused) {
                    (Ok(()), Ok(())) => lasted.push(true),
                    (Err(error), Ok(())) if error.code() == Some("gone") => lasted.push(false),
                    (Err(error), Ok(())) => refused = Err(error),
                    (_, Err(_)) => {}
                }
            })
        })?;
        refused
    }

    /// Returns a message that was taken with a lease: other takers receive it, under its id, at
    /// once or after a delay.
    ///
    /// # Errors
    ///
    /// As [`Client::ack`].
    pub fn nack(&mut self, taken: &Taken, delay: Duration) -> Result<()> {
        self.nack_by_id(&taken.topic, taken.message.id, taken.deliveries, delay)
    }

    /// Returns a message by the numbers of its take.
    ///
    /// # Errors
    ///
    /// As [`Client::ack`].
    pub fn nack_by_id(
        &mut self,
        topic: &str,
        id: u64,
        deliveries: u64,
        delay: Duration,
    ) -> Result<()> {
        let fields = |nack: &mut Fields| {
            if !delay.is_zero() {
                nack.seconds("delay", delay);
            }
            ack_fields(nack, topic, id, deliveries)
        };
        self.ask("nack", Again::MustNot, fields).and_then(Reply::accepted).map(drop)
    }
}

fn take_fields(
    take: &mut Fields,
    topic: &str,
    lease: Option<Duration>,
    wait: Duration,
) -> Result<()> {
    if let Some(lease) = lease {
        take.seconds("lease", lease);
    }
    if !wait.is_zero() {
        take.seconds("wait", wait);
    }
    take.json("topic", topic)
}

fn ack_fields(ack: &mut Fields, topic: &str, id: u64, deliveries: u64) -> Result<()> {
    ack.plain("id", id);
    ack.plain("deliveries", deliveries);
    ack.json("topic", topic)
}
