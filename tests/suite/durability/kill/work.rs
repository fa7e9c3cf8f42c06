//! The clients during one life of the server: producers and takers that work until it is dead, and
//! their notes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::message::{Answer, Put, SHARED, TOPICS, number_of};
use crate::suite::support::line::{Fields, Line, micros, number, text};
use crate::suite::support::random::Random;

/// The number of requests in flight.
const PIPELINE: u64 = 64;

/// The range of most leases, in milliseconds.
const LEASE_MS: (u64, u64) = (100, 800);

/// The length of the other leases: longer than the server lives. They are acked in its next life.
const LONG_LEASE: Duration = Duration::from_secs(60);

/// The first topic in which messages expire. The counts of the earlier topics are known exactly.
pub const WITH_TTL: usize = 3;

/// The greatest difference between the server's clock and ours during a lease.
pub const MARGIN: Duration = Duration::from_millis(20);

/// The notes of a client about one life.
#[derive(Default)]
pub struct Notes {
    pub puts: Vec<Put>,
    pub deliveries: Vec<Delivery>,
    /// Unanswered takes without lease, by topic.
    pub unanswered_takes: [u64; TOPICS.len()],
    /// The latest ends of the leases of unanswered takes, by topic.
    pub unanswered_leases: [Vec<Instant>; TOPICS.len()],
    pub unanswered_acks: u64,
    pub faults: Vec<String>,
}

/// A message that reached a taker.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub number: u64,
    pub topic: usize,
    pub id: u64,
    pub deliveries: u64,
    /// `None` for a take without lease.
    pub lease: Option<Duration>,
    pub sent: Instant,
    pub arrived: Instant,
    pub end: End,
}

/// The taker's action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// None: the lease runs out.
    Kept,
    /// None yet: the ack follows in the server's next life.
    Held,
    /// An ack without a reply.
    Unsure,
    Acked,
    /// An ack after the end of the lease.
    Refused,
    /// A nack. Whether it was carried out makes no difference.
    Nacked,
}

impl Delivery {
    /// The lease was certainly live until then, if nothing ended it.
    pub fn live_until(&self) -> Instant {
        (self.sent + self.lease.unwrap_or_default()).checked_sub(MARGIN).unwrap_or(self.sent)
    }

    pub fn finish(&self, action: &str) -> String {
        let (topic, id, deliveries) = (TOPICS[self.topic], self.id, self.deliveries);
        format!(r#"{{"action":"{action}","topic":"{topic}","id":{id},"deliveries":{deliveries}}}"#)
    }
}

/// A client of a server that will be killed.
pub struct Worker<'a> {
    pub addr: SocketAddr,
    /// The number of the next message.
    pub next: &'a AtomicU64,
    pub random: Random,
    pub notes: Notes,
}

impl Worker<'_> {
    /// Puts until the server is dead.
    pub fn produce(mut self, producer: usize) -> Notes {
        if let Ok(mut line) = Line::try_connect(self.addr) {
            while self.produce_some(&mut line, producer) {}
        }
        self.notes
    }

    fn produce_some(&mut self, line: &mut Line<Fields>, producer: usize) -> bool {
        match self.random.below(8) {
            0 => self.put_twice(line, producer),
            1 | 2 => self.change_nothing(line),
            _ => self.put_some(line, producer),
        }
    }

    fn put_some(&mut self, line: &mut Line<Fields>, producer: usize) -> bool {
        let count = if self.random.once_in(2) { 1 } else { 1 + self.random.below(PIPELINE) };
        let mut puts: Vec<Put> = (0..count).map(|_| self.new_put(producer)).collect();
        if let Some(last) = puts.last_mut() {
            last.confirm = true;
        }
        let requests: String = puts.iter().map(Put::request).collect();
        let mut alive = line.send(&requests).is_ok();
        // Replies may have arrived even if not all requests could be sent.
        let mut known = 0;
        for at in 0..puts.len() {
            if !puts[at].confirm {
                continue;
            }
            let Some(reply) = line.reply() else {
                alive = false;
                break;
            };
            self.note_answer(&mut puts[at], &reply, false);
            // Replies come in order, so the earlier puts are stored as well.
            puts[known..at].iter_mut().for_each(|put| put.answer = Answer::Stored(None));
            known = at + 1;
        }
        self.notes.puts.append(&mut puts);
        alive
    }

    pub fn new_put(&mut self, producer: usize) -> Put {
        let random = &mut self.random;
        let topic = if random.once_in(3) { SHARED } else { producer };
        let mut put = Put::new(self.next.fetch_add(1, Ordering::Relaxed), topic, producer);
        put.confirm = !random.once_in(8);
        match random.below(40) {
            0..=3 => put.priority = Some(random.below(10)),
            4 => put.delay = Some(Duration::from_millis(1 + random.below(300))),
            5 if random.once_in(4) => {
                put.delay = Some(Duration::from_millis(1_000 + random.below(1_500)));
            }
            6 if topic >= WITH_TTL => {
                put.ttl = Some(Duration::from_millis(50 + random.below(2_000)));
            }
            7 | 8 => put.dedupe = Some(put.number),
            _ => {}
        }
        put
    }

    /// `duplicate` tells whether the reply must be that of a duplicate.
    pub fn note_answer(&mut self, put: &mut Put, reply: &Fields, duplicate: bool) {
        let (id, due) = (number(reply, "id"), micros(reply, "due"));
        put.answer = match (id, due) {
            (Some(id), None) if put.delay.is_none() => Answer::Stored(Some(id)),
            (None, Some(due)) if put.delay.is_some() => Answer::Due(due),
            _ if text(reply, "code") == Some(r#""closing""#) => Answer::Refused,
            _ => Answer::None,
        };
        put.answered = Some(Instant::now());
        let tagged = number(reply, "tag") == Some(put.number);
        let duplicate = duplicate && put.answer != Answer::Refused;
        let strange = put.answer == Answer::None || reply.contains_key("duplicate") != duplicate;
        if strange || !tagged {
            self.notes.faults.push(format!("a strange answer to {put:?}: {reply:?}"));
        }
    }

    /// Takes and acks until the server is dead.
    pub fn take_and_ack(mut self) -> Notes {
        if let Ok(mut line) = Line::try_connect(self.addr) {
            while self.work_some(&mut line) {}
        }
        self.notes
    }

    fn work_some(&mut self, line: &mut Line<Fields>) -> bool {
        let hold = self.random.once_in(24);
        let (lease, count) = if hold {
            (LONG_LEASE, 1)
        } else {
            let lease = LEASE_MS.0 + self.random.below(LEASE_MS.1 - LEASE_MS.0);
            (Duration::from_millis(lease), 1 + self.random.below(PIPELINE))
        };
        let topic = self.random.below(TOPICS.len() as u64) as usize;
        let (mut got, alive) = self.take(line, topic, count, Some(lease));
        let keep = self.random.once_in(12);
        let nack = self.random.once_in(12);
        let alive = match (hold, keep, nack) {
            _ if !alive => false,
            (true, ..) => {
                got.iter_mut().for_each(|delivery| delivery.end = End::Held);
                true
            }
            (_, true, _) => true,
            (_, _, true) => self.nack(line, &mut got),
            _ => self.ack(line, &mut got),
        };
        self.notes.deliveries.append(&mut got);
        alive
    }

    /// Takes without lease until the server is dead.
    pub fn take_for_good(mut self) -> Notes {
        if let Ok(mut line) = Line::try_connect(self.addr) {
            let mut alive = true;
            while alive {
                let count = if self.random.once_in(2) { 1 } else { 1 + self.random.below(16) };
                let topic = self.random.below(TOPICS.len() as u64) as usize;
                let (mut got, still) = self.take(&mut line, topic, count, None);
                self.notes.deliveries.append(&mut got);
                alive = still;
            }
        }
        self.notes
    }

    /// Sends `count` takes; the first waits a little. Returns whether the server is alive.
    pub fn take(
        &mut self,
        line: &mut Line<Fields>,
        topic: usize,
        count: u64,
        lease: Option<Duration>,
    ) -> (Vec<Delivery>, bool) {
        let name = TOPICS[topic];
        let leased = lease.map_or(String::new(), |l| format!(r#","lease":{}"#, l.as_secs_f64()));
        let take = |wait| format!(r#"{{"action":"take","topic":"{name}"{leased},"wait":{wait}}}"#);
        let sent = Instant::now();
        let all = line.send(&(take("0.02") + &take("0").repeat(count as usize - 1))).is_ok();
        let mut got = Vec::new();
        for at in 0..count {
            let Some(reply) = line.reply() else {
                let unanswered = count - at;
                match lease {
                    Some(lease) => self.notes.unanswered_leases[topic]
                        .extend((0..unanswered).map(|_| Instant::now() + lease + MARGIN)),
                    None => self.notes.unanswered_takes[topic] += unanswered,
                }
                return (got, false);
            };
            match self.delivery(&reply, topic, lease, sent) {
                Some(delivery) => got.push(delivery),
                None if reply.contains_key("empty") => {}
                None if text(&reply, "code") == Some(r#""closing""#) => {}
                None => self.notes.faults.push(format!("a strange answer to a take: {reply:?}")),
            }
        }
        (got, all)
    }

    fn delivery(
        &mut self,
        reply: &Fields,
        topic: usize,
        lease: Option<Duration>,
        sent: Instant,
    ) -> Option<Delivery> {
        let id = number(reply, "id")?;
        let deliveries = number(reply, "deliveries")?;
        let (arrived, end) = (Instant::now(), End::Kept);
        match number_of(text(reply, "message")?) {
            Ok(number) => {
                Some(Delivery { number, topic, id, deliveries, lease, sent, arrived, end })
            }
            Err(fault) => {
                self.notes.faults.push(format!("taken from {} as {id}: {fault}", TOPICS[topic]));
                None
            }
        }
    }

    pub fn ack(&mut self, line: &mut Line<Fields>, got: &mut [Delivery]) -> bool {
        got.iter_mut().for_each(|delivery| delivery.end = End::Unsure);
        let _ = line.send(&got.iter().map(|delivery| delivery.finish("ack")).collect::<String>());
        for at in 0..got.len() {
            let Some(reply) = line.reply() else {
                self.notes.unanswered_acks += (got.len() - at) as u64;
                return false;
            };
            let delivery = &mut got[at];
            if text(&reply, "ok") == Some("true") {
                delivery.end = End::Acked;
            } else {
                delivery.end = End::Refused;
                let gone = text(&reply, "code") == Some(r#""gone""#);
                if !gone || Instant::now() < delivery.live_until() {
                    self.notes.faults.push(format!("{reply:?} to the ack of {delivery:?}"));
                }
            }
        }
        true
    }

    fn nack(&mut self, line: &mut Line<Fields>, got: &mut [Delivery]) -> bool {
        got.iter_mut().for_each(|delivery| delivery.end = End::Nacked);
        let sent =
            line.send(&got.iter().map(|delivery| delivery.finish("nack")).collect::<String>());
        sent.is_ok() && got.iter().all(|_| line.reply().is_some())
    }
}
