//! Producers and takers on real sockets, the takers killed at random while they hold leases: every
//! message is acknowledged once, none is lost, none is in two hands at a time.
//!
//! What a client can prove: the server begins a lease between the sending of the take and the
//! arrival of its reply. So a taker surely holds a message from that arrival until the lease has
//! passed since that sending, or until it sends an ack or a nack. An ack whose reply never came may
//! have worked or not; one that worked is the last that is heard of its message.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::suite::support::PATIENCE;
use crate::suite::support::line::Line;
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::random::Random;

const PRODUCERS: usize = 8;
const TAKERS: usize = 8;

/// Requests that are sent at once.
const PIPELINE: usize = 64;

/// Leases are from the first to the second, in milliseconds.
const LEASE: (u64, u64) = (200, 1_000);

/// A take waits for longer than any lease, in seconds.
const WAIT: u64 = 2;

/// By so much the server's clock may go wrong against ours during a lease.
const MARGIN: Duration = Duration::from_millis(20);

/// One request in so many kills some taker's connection.
const KILL: u64 = 24;

#[test]
fn workers_that_are_killed_lose_and_double_nothing() {
    run(10_000);
}

#[test]
#[ignore = "takes half a minute: make test runs it"]
fn workers_that_are_killed_lose_and_double_none_of_200_000() {
    run(200_000);
}

fn run(messages: usize) {
    let (_server, addr) = Process::server(&mut dsmq(&["--port", "0", "--log", "error"]));
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let field = Field {
        addr,
        start: Instant::now(),
        producing: AtomicUsize::new(PRODUCERS),
        lines: (0..TAKERS).map(|_| Mutex::default()).collect(),
    };
    let deliveries = thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let field = &field;
            scope.spawn(move || field.produce((producer..messages).step_by(PRODUCERS)));
        }
        let takers: Vec<_> = (0..TAKERS)
            .map(|number| {
                let taker = Taker {
                    field: &field,
                    number,
                    random: Random(u64::from(seed) * 64 + number as u64),
                    deliveries: Vec::new(),
                    late: Vec::new(),
                };
                scope.spawn(move || taker.work())
            })
            .collect();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect::<Vec<_>>()
    });
    let mut deliveries = deliveries;
    deliveries.extend(field.drain());
    println!("seed {seed}: {}", check(messages, deliveries));
}

/// What producers and takers share.
struct Field {
    addr: SocketAddr,
    start: Instant,
    /// Producers that have not ended.
    producing: AtomicUsize,
    /// The takers' connections, so that anyone can kill any of them.
    lines: Vec<Mutex<Option<TcpStream>>>,
}

/// A message that reached a taker.
#[derive(Clone, Debug)]
struct Delivery {
    message: usize,
    id: u64,
    deliveries: u64,
    /// When it was surely this taker's alone.
    from: Duration,
    to: Duration,
    /// For so long its lease was surely live.
    live: Duration,
    end: End,
}

/// What the taker did with it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Nothing,
    Nacked,
    /// An ack was sent, and its reply never came.
    Unsure,
    Acked,
    Refused,
}

impl Field {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Puts these messages, and sees that each was stored.
    fn produce(&self, messages: impl Iterator<Item = usize>) {
        let mut line: Line = Line::connect(self.addr);
        let messages: Vec<usize> = messages.collect();
        for some in messages.chunks(PIPELINE) {
            let put = |message: &usize| {
                format!(r#"{{"action":"put","topic":"jobs","message":{message},"confirm":true}}"#)
            };
            line.send(&some.iter().map(put).collect::<String>()).unwrap();
            for _ in some {
                assert_eq!(line.reply().unwrap()["ok"], true);
            }
        }
        self.producing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes and acks what the takers left, until the topic is empty.
    fn drain(&self) -> Vec<Delivery> {
        let (random, deliveries, late) = (Random(0), Vec::new(), Vec::new());
        let mut taker = Taker { field: self, number: 0, random, deliveries, late };
        let mut line: Line = Line::connect(self.addr);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lease = Duration::from_secs(60);
            let got = taker.take(&mut line, 1, lease).expect("nobody kills this one");
            assert!(taker.ack(&mut line, got), "nobody kills this one");
            line.send(r#"{"action":"topics"}"#).unwrap();
            let topic = &line.reply().unwrap()["topics"][0];
            if topic["length"] == 0 {
                assert_eq!(topic["leased"], 0);
                return taker.deliveries;
            }
            assert!(Instant::now() < deadline, "messages are neither handed out nor gone");
        }
    }
}

/// Takes, works, acks, dies and comes back.
struct Taker<'a> {
    field: &'a Field,
    number: usize,
    random: Random,
    deliveries: Vec<Delivery>,
    /// Deliveries that wait to be acked, perhaps too late, perhaps on another connection.
    late: Vec<usize>,
}

impl Taker<'_> {
    fn work(mut self) -> Vec<Delivery> {
        while !self.live() {}
        self.deliveries
    }

    /// One connection's life; true when there was nothing left to take.
    fn live(&mut self) -> bool {
        let mut line: Line = Line::connect(self.field.addr);
        *self.field.lines[self.number].lock().unwrap() = Some(line.stream.try_clone().unwrap());
        loop {
            // Read first: what is put later is seen by the next take.
            let last = self.field.producing.load(Ordering::SeqCst) == 0;
            let lease = Duration::from_millis(LEASE.0 + self.random.below(LEASE.1 - LEASE.0));
            let count = 1 + self.random.below(PIPELINE as u64) as usize;
            let Some(got) = self.take(&mut line, count, lease) else { return false };
            if got.is_empty() && last {
                return true;
            }
            if self.random.below(KILL) == 0 {
                self.kill();
            }
            let alive = match self.random.below(32) {
                0 => self.nack(&mut line, got),
                1 => self.fall_silent(&mut line, got),
                2 => self.leave_with_leases(&line),
                3 | 4 => {
                    self.late.extend(got);
                    true
                }
                5 | 6 => {
                    let late = std::mem::take(&mut self.late);
                    self.ack(&mut line, got) && self.ack(&mut line, late)
                }
                _ => self.ack(&mut line, got),
            };
            if !alive {
                return false;
            }
        }
    }

    /// Kills some taker's connection, perhaps this one's, wherever its thread may be.
    fn kill(&mut self) {
        let victim = self.random.below(TAKERS as u64) as usize;
        if let Some(stream) = self.field.lines[victim].lock().unwrap().take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes at most so many messages; what reached us is noted. `None` if the connection died.
    fn take(&mut self, line: &mut Line, count: usize, lease: Duration) -> Option<Vec<usize>> {
        let take = |wait| {
            let lease = lease.as_secs_f64();
            format!(r#"{{"action":"take","topic":"jobs","lease":{lease},"wait":{wait}}}"#)
        };
        let sent = self.field.now();
        line.send(&(take(WAIT) + &take(0).repeat(count - 1))).ok()?;
        let mut got = Vec::new();
        for _ in 0..count {
            let reply = line.reply()?;
            let Some(id) = reply["id"].as_u64() else { continue };
            let deliveries = reply["deliveries"].as_u64().unwrap();
            let message = reply["message"].as_u64().unwrap() as usize;
            let live = (sent + lease).saturating_sub(MARGIN);
            let (from, end) = (self.field.now(), End::Nothing);
            got.push(self.deliveries.len());
            let delivery = Delivery { message, id, deliveries, from, to: live, live, end };
            self.deliveries.push(delivery);
        }
        Some(got)
    }

    /// Sends an ack or a nack for each; they are not surely ours from here on.
    fn finish(&mut self, line: &mut Line, got: &[usize], action: &str, end: End) -> bool {
        let now = self.field.now();
        let mut requests = String::new();
        for at in got {
            let delivery = &mut self.deliveries[*at];
            let (id, deliveries) = (delivery.id, delivery.deliveries);
            requests += &format!(
                r#"{{"action":"{action}","topic":"jobs","id":{id},"deliveries":{deliveries}}}"#
            );
            delivery.to = delivery.to.min(now);
            delivery.end = end;
        }
        line.send(&requests).is_ok()
    }

    fn ack(&mut self, line: &mut Line, got: Vec<usize>) -> bool {
        self.finish(line, &got, "ack", End::Unsure);
        // Also after a failure: replies to what had been sent may be here.
        for at in got {
            let Some(reply) = line.reply() else { return false };
            let delivery = &mut self.deliveries[at];
            if reply["ok"] == true {
                delivery.end = End::Acked;
            } else {
                assert_eq!(reply["code"], "gone");
                assert!(delivery.live < self.field.now(), "refused while live: {delivery:?}");
                delivery.end = End::Refused;
            }
        }
        true
    }

    fn nack(&mut self, line: &mut Line, got: Vec<usize>) -> bool {
        let sent = self.finish(line, &got, "nack", End::Nacked);
        sent && got.iter().all(|_| line.reply().is_some())
    }

    /// Acks, and dies before the replies can be read.
    fn fall_silent(&mut self, line: &mut Line, got: Vec<usize>) -> bool {
        self.finish(line, &got, "ack", End::Unsure);
        let _ = line.stream.shutdown(Shutdown::Both);
        false
    }

    /// Dies with its leases, by a reset of the connection.
    fn leave_with_leases(&mut self, line: &Line) -> bool {
        let _ = socket2::SockRef::from(&line.stream).set_linger(Some(Duration::ZERO));
        false
    }
}

/// Checks all that reached a taker, and tells the figures.
fn check(messages: usize, deliveries: Vec<Delivery>) -> String {
    let count = |end| deliveries.iter().filter(|delivery| delivery.end == end).count();
    let [acked, unsure, refused, held] =
        [End::Acked, End::Unsure, End::Refused, End::Nothing].map(count);
    let told = format!(
        "{messages} messages, {} deliveries: {acked} acked, {unsure} acks unanswered, \
         {refused} acks too late, {held} leases abandoned",
        deliveries.len()
    );
    let mut by_message: HashMap<usize, Vec<Delivery>> = HashMap::new();
    for delivery in deliveries {
        by_message.entry(delivery.message).or_default().push(delivery);
    }
    for message in 0..messages {
        let of_message = by_message.get_mut(&message);
        let of_message = of_message.unwrap_or_else(|| panic!("message {message} reached nobody"));
        check_message(of_message);
    }
    assert_eq!(by_message.len(), messages, "no message was made up");
    told
}

fn check_message(deliveries: &mut [Delivery]) {
    deliveries.sort_by_key(|delivery| delivery.deliveries);
    let whole = format!("{deliveries:#?}");
    assert!(deliveries.iter().all(|delivery| delivery.id == deliveries[0].id), "one id: {whole}");
    for two in deliveries.windows(2) {
        assert!(two[0].deliveries < two[1].deliveries, "a delivery was made twice: {whole}");
    }
    for (at, one) in deliveries.iter().enumerate() {
        for other in &deliveries[at + 1..] {
            let apart = one.to <= other.from || other.to <= one.from;
            assert!(one.to <= one.from || other.to <= other.from || apart, "two hold it: {whole}");
        }
    }
    // The one ack that worked, confirmed or not, ended the last delivery that anyone saw: had it
    // ended an earlier one, there would be no later one; had there been none, it would be lost.
    let acked = deliveries.iter().filter(|delivery| delivery.end == End::Acked).count();
    assert!(acked <= 1, "acknowledged twice: {whole}");
    let last = deliveries.last().unwrap();
    let worked = last.end == End::Acked || (acked == 0 && last.end == End::Unsure);
    assert!(worked, "acked and handed out again, or lost: {whole}");
}
