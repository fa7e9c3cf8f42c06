//! The expected content of the store, derived from the clients' notes, and its comparison with the
//! restarted server.
//!
//! A message is **possible** (its put has no answer), **certain**, or **possibly gone** (its ack
//! has no answer). The content of the restarted server settles which. An unanswered take without
//! lease may have removed one message of its topic: the oldest message of its priority that nobody
//! held.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::message::{Answer, Put, TOPICS};
use super::work::{Delivery, End, Notes};

/// The greatest age of a dedupe key that is still tested. The server keeps keys for 120 seconds.
const KEY_AGE: Duration = Duration::from_secs(90);

/// The most faults to print.
const FAULTS_PRINTED: usize = 20;

#[derive(Default)]
pub struct Model {
    live: BTreeMap<u64, Message>,
    /// Every id seen, with the number of its message.
    ids: HashMap<u64, u64>,
    /// The highest id seen, and the highest at the last start of the server.
    pub newest: u64,
    floor: u64,
    /// Messages with a dedupe key, by number.
    pub keyed: BTreeMap<u64, Keyed>,
    /// Deliveries under a long lease, which are acked in the server's next life.
    pub held: Vec<Delivery>,
    /// The ends of leases from unanswered takes, by topic.
    unknown_leases: [Vec<Instant>; TOPICS.len()],
    pub faults: Vec<String>,
    pub figures: Figures,
}

/// A message that may be in the store.
struct Message {
    put: Put,
    state: State,
    id: Option<u64>,
    /// The number of deliveries.
    deliveries: u64,
    /// No other client may receive the message until then.
    held: Option<Instant>,
    /// Whether it was put a second time, after later messages of its producer.
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Perhaps,
    Surely,
    PerhapsNoMore,
}

/// The known state of a dedupe key.
pub struct Keyed {
    pub put: Put,
    pub id: Option<u64>,
    /// Whether the message may be stored although no client has seen it.
    pub unknown: bool,
}

/// The place where a restarted server shows a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    Log(u64),
    Delayed(u64),
}

/// The closing summary.
#[derive(Debug, Default)]
pub struct Figures {
    pub kills: u64,
    pub starts_killed: u64,
    pub stops: u64,
    pub confirmed_puts: u64,
    pub unanswered_puts: u64,
    pub unanswered_puts_found: u64,
    pub takes: u64,
    pub unanswered_takes: u64,
    pub acks: u64,
    pub unanswered_acks: u64,
    pub held_acks: u64,
    pub duplicates: u64,
    pub retries_stored: u64,
    pub read: u64,
    pub read_again: u64,
    pub drained: u64,
    pub most_kept: usize,
}

impl Model {
    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Panics with the faults, if there are any.
    pub fn must_hold(&self, seed: u64) {
        let told = self.faults.iter().take(FAULTS_PRINTED).map(|fault| format!("- {fault}\n"));
        let count = self.faults.len();
        assert!(
            count == 0,
            "DSMQ_SEED={seed}: {count} violations by kill {}:\n{}",
            self.figures.kills,
            told.collect::<String>()
        );
    }

    /// The number of messages that may be in the store.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Adds the clients' notes of a life. Returns the unanswered takes of each topic.
    pub fn absorb(&mut self, notes: Vec<Notes>) -> [u64; TOPICS.len()] {
        let mut takes = [0; TOPICS.len()];
        let mut deliveries: BTreeMap<u64, Vec<Delivery>> = BTreeMap::new();
        for mut notes in notes {
            self.faults.append(&mut notes.faults);
            self.figures.unanswered_acks += notes.unanswered_acks;
            for (all, some) in takes.iter_mut().zip(notes.unanswered_takes) {
                *all += some;
            }
            for (all, some) in self.unknown_leases.iter_mut().zip(&mut notes.unanswered_leases) {
                all.append(some);
            }
            let mut last = self.floor;
            for put in notes.puts {
                self.absorb_put(put, &mut last);
            }
            for delivery in notes.deliveries {
                deliveries.entry(delivery.number).or_default().push(delivery);
            }
        }
        self.figures.unanswered_takes += takes.iter().sum::<u64>();
        for of_message in deliveries.into_values() {
            self.absorb_deliveries(of_message);
        }
        self.figures.most_kept = self.figures.most_kept.max(self.live.len());
        takes
    }

    /// `last` is the last id confirmed to this producer.
    fn absorb_put(&mut self, put: Put, last: &mut u64) {
        let number = put.number;
        let mut state = State::Surely;
        match put.answer {
            Answer::Refused => return,
            Answer::None => {
                state = State::Perhaps;
                self.figures.unanswered_puts += 1;
            }
            Answer::Stored(None) => {}
            Answer::Stored(Some(id)) => {
                self.figures.confirmed_puts += 1;
                if id <= *last {
                    self.fault(format!("id {id} of {put:?} is not above {last}"));
                }
                *last = id;
            }
            Answer::Due(_) => self.figures.confirmed_puts += 1,
        }
        if put.dedupe.is_some() {
            let keyed = Keyed { put: put.clone(), id: None, unknown: false };
            self.keyed.insert(number, keyed);
        }
        self.insert(put, state, false);
    }

    fn insert(&mut self, put: Put, state: State, again: bool) {
        let (number, answer) = (put.number, put.answer);
        let message = Message { put, state, id: None, deliveries: 0, held: None, again };
        self.live.insert(number, message);
        if let Answer::Stored(Some(id)) = answer {
            self.note_id(number, id);
        }
    }

    /// Adds a message that was put again and is now stored.
    pub fn put_again(&mut self, put: Put) {
        self.figures.retries_stored += 1;
        self.insert(put, State::Surely, true);
    }

    /// Notes that a message has this id.
    fn note_id(&mut self, number: u64, id: u64) {
        let owner = *self.ids.entry(id).or_insert(number);
        if owner != number {
            self.fault(format!("id {id} is that of message {number} and of {owner}"));
        }
        self.newest = self.newest.max(id);
        if let Some(keyed) = self.keyed.get_mut(&number) {
            keyed.id = Some(id);
        }
        let Some(message) = self.live.get_mut(&number) else { return };
        let known = *message.id.get_or_insert(id);
        if known != id {
            self.faults.push(format!("message {number} was {known} and is {id}"));
        }
        if let Answer::Due(due) = message.put.answer
            && id < due
        {
            self.faults.push(format!("message {number}, due at {due}, was put as {id}"));
        }
    }

    /// Adds the deliveries of one message.
    fn absorb_deliveries(&mut self, mut deliveries: Vec<Delivery>) {
        // Replies are read later than they were written, so the server's order counts.
        deliveries.sort_by_key(|delivery| delivery.deliveries);
        let number = deliveries[0].number;
        if !self.live.contains_key(&number) {
            self.fault(format!("gone or never put, and handed out: {deliveries:?}"));
            return;
        }
        let mut gone = false;
        for delivery in &deliveries {
            self.figures.takes += u64::from(delivery.lease.is_none());
            self.note_id(number, delivery.id);
            if gone {
                self.fault(format!("handed out when it was gone: {deliveries:?}"));
                break;
            }
            gone = self.absorb_delivery(delivery);
        }
        if gone {
            self.live.remove(&number);
        } else if let Some(last) = deliveries.pop()
            && last.end == End::Held
        {
            self.held.push(last);
        }
    }

    /// Adds one delivery. Returns whether the message is certainly gone.
    fn absorb_delivery(&mut self, delivery: &Delivery) -> bool {
        let Some(message) = self.live.get_mut(&delivery.number) else { return true };
        let (put, sent) = (&message.put, delivery.sent);
        let faults = [
            (put.topic != delivery.topic, "of another topic"),
            (delivery.deliveries <= message.deliveries, "delivered twice"),
            (message.held.is_some_and(|held| delivery.arrived < held), "in two hands"),
            (put.stale_from().is_some_and(|stale| stale <= sent), "handed out when it had expired"),
        ];
        for (_, what) in faults.iter().filter(|(is, _)| *is) {
            self.faults.push(format!("{what}: {delivery:?}, {:?}, {put:?}", message.deliveries));
        }
        message.deliveries = delivery.deliveries;
        message.held = (delivery.end != End::Nacked).then(|| delivery.live_until());
        message.state = State::Surely;
        match delivery.end {
            End::Acked => {
                self.figures.acks += 1;
                true
            }
            End::Unsure => {
                message.state = State::PerhapsNoMore;
                false
            }
            _ => delivery.lease.is_none(),
        }
    }

    /// Notes the confirmed ack of a lease from before the restart.
    pub fn acked_later(&mut self, number: u64) {
        self.figures.held_acks += 1;
        self.live.remove(&number);
    }

    /// Compares a topic with the messages that the restarted server shows, in the server's order,
    /// read between `began` and now. Up to `takes` unanswered takes may each have removed one
    /// message.
    pub fn settle(&mut self, topic: usize, seen: &[(Seen, u64)], began: Instant, takes: u64) {
        self.figures.read += seen.len() as u64;
        let mut found: HashMap<u64, Seen> = HashMap::new();
        for (place, number) in seen {
            let moved = matches!(found.get(number), Some(Seen::Delayed(_)))
                && matches!(place, Seen::Log(_));
            if found.insert(*number, *place).is_some() && !moved {
                self.fault(format!("message {number} is in {} twice", TOPICS[topic]));
            }
            self.settle_seen(topic, *place, *number, began);
        }
        self.check_order(topic, seen);
        self.settle_missing(topic, &found, takes);
    }

    fn settle_seen(&mut self, topic: usize, place: Seen, number: u64, began: Instant) {
        let Some(message) = self.live.get_mut(&number) else {
            let fault =
                format!("unexpected message, taken or never put: {place:?} of {}", TOPICS[topic]);
            self.fault(format!("message {number} was {fault}"));
            return;
        };
        if message.state == State::Perhaps {
            self.figures.unanswered_puts_found += 1;
        }
        message.state = State::Surely;
        let put = &mut message.put;
        let stale = put.stale_from().is_some_and(|stale| stale <= began);
        let mut strange = put.topic != topic || stale;
        match place {
            Seen::Log(id) => self.note_id(number, id),
            Seen::Delayed(due) => {
                let told = if let Answer::Due(told) = put.answer { told } else { due };
                strange |= put.delay.is_none() || message.id.is_some() || told != due;
                put.answer = Answer::Due(due);
            }
        }
        if strange {
            let put = self.live.get(&number).map(|message| &message.put);
            self.faults.push(format!("{place:?} of {}: {put:?}", TOPICS[topic]));
        }
    }

    /// Checks that ids increase, and with them the numbers of each producer.
    fn check_order(&mut self, topic: usize, seen: &[(Seen, u64)]) {
        let mut last_id = 0;
        let mut last_numbers = HashMap::new();
        for (place, number) in seen {
            let Seen::Log(id) = *place else { continue };
            if id <= last_id {
                self.faults.push(format!("id {id} of {} follows {last_id}", TOPICS[topic]));
            }
            last_id = id;
            let Some(message) = self.live.get(number) else { continue };
            if message.put.delay.is_some() || message.again {
                continue;
            }
            let last = last_numbers.insert(message.put.producer, *number).unwrap_or(0);
            if *number <= last {
                let topic = TOPICS[topic];
                self.faults.push(format!("message {number} of {topic} is put behind {last}"));
            }
        }
    }

    fn settle_missing(&mut self, topic: usize, found: &HashMap<u64, Seen>, mut takes: u64) {
        let now = Instant::now();
        let of_topic = self.live.iter().filter(|(_, message)| message.put.topic == topic);
        let missing: Vec<u64> =
            of_topic.map(|(number, _)| *number).filter(|n| !found.contains_key(n)).collect();
        let mut taken = Vec::new();
        let unknown = takes > 0;
        for number in missing {
            let Some(message) = self.live.remove(&number) else { continue };
            if message.state == State::Surely && message.put.fresh_until().is_none_or(|f| now < f) {
                if takes == 0 {
                    self.faults.push(format!("lost: {:?}, as {:?}", message.put, message.id));
                }
                takes = takes.saturating_sub(1);
                taken.push(message);
            } else if unknown && let Some(keyed) = self.keyed.get_mut(&number) {
                keyed.unknown = true;
            }
        }
        self.check_taken(topic, &taken, found);
    }

    /// Checks that an unanswered take removed the first message of its priority: all earlier
    /// messages were leased.
    fn check_taken(&mut self, topic: usize, taken: &[Message], found: &HashMap<u64, Seen>) {
        let now = Instant::now();
        self.unknown_leases[topic].retain(|end| *end > now - KEY_AGE);
        let priority = |message: &Message| message.put.priority.unwrap_or(4);
        for gone in taken {
            let Some(id) = gone.id else { continue };
            let passed_over = found.keys().filter_map(|number| self.live.get(number)).filter(|m| {
                let older = m.id.is_some_and(|other| other < id);
                older && m.deliveries == 0 && m.put.ttl.is_none() && priority(m) == priority(gone)
            });
            let passed_over = passed_over.count();
            if passed_over > self.unknown_leases[topic].len() {
                self.faults.push(format!("lost, for it was no take's turn: {:?}", gone.put));
            }
        }
    }

    /// Starts a life: ids that the server assigns from now on are above all earlier ones.
    pub fn begin_life(&mut self) {
        self.floor = self.newest;
        let now = Instant::now();
        self.keyed.retain(|_, keyed| now < keyed.put.sent + KEY_AGE);
    }

    /// The numbers of the messages read from a topic that are certainly stored.
    pub fn numbers(seen: &[(Seen, u64)]) -> HashSet<u64> {
        seen.iter().map(|(_, number)| *number).collect()
    }
}
