//! Reads the whole store of a restarted server over the public protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::message::{Answer, IDLE, Put, TOPICS, number_of};
use super::model::{Model, Seen};
use super::work::{Notes, Worker};
use crate::suite::support::line::{Fields, Line, micros, number, text};
use crate::suite::support::random::Random;

/// The number of gets in flight.
const PIPELINE: usize = 64;

/// The number of delayed messages that `history` shows.
const DELAYED_MAX: usize = 1_000;

/// The most attempts to read a topic in which messages become due.
const TRIES: u32 = 20;

/// Known dedupe keys that are tested at each restart.
const KEYS: usize = 8;

/// The state and policy of topics, as the server writes them.
type Settings = BTreeMap<usize, (String, String)>;

/// The client that examines a restarted server.
pub struct Examiner<'a> {
    pub model: Model,
    pub next: &'a AtomicU64,
    pub random: Random,
    /// The confirmed settings.
    settings: Settings,
}

impl<'a> Examiner<'a> {
    pub fn new(next: &'a AtomicU64, random: Random) -> Examiner<'a> {
        Examiner { model: Model::default(), next, random, settings: Settings::new() }
    }

    /// Compares the store with the model. `takes` is the number of unanswered takes of each topic.
    pub fn examine(&mut self, addr: SocketAddr, takes: [u64; TOPICS.len()]) {
        let mut line = Line::connect(addr);
        self.check_place(&mut line);
        let mut whole = Vec::new();
        for (topic, takes) in takes.into_iter().enumerate() {
            let began = Instant::now();
            let (mut seen, counts) = self.read_at_rest(&mut line, topic);
            self.wait_for_due(&mut line, topic, &mut seen, now());
            self.model.settle(topic, &seen, began, takes);
            self.check_settings(topic, counts.get(&topic));
            whole.push(seen);
        }
        self.check_since(&mut line, &whole);
        self.test_dedupe_keys(&mut line);
        self.ack_held(&mut line);
        self.change_settings(&mut line);
        self.model.begin_life();
    }

    fn ask(&mut self, line: &mut Line<Fields>, request: &str) -> Fields {
        line.send(request).unwrap();
        line.reply().unwrap_or_else(|| panic!("the server ended at {request}"))
    }

    /// Checks that a new session starts after every message ever put.
    fn check_place(&mut self, line: &mut Line<Fields>) {
        let reply = self.ask(line, r#"{"action":"ping","meta":true}"#);
        let newest = self.model.newest;
        if number(&reply, "since").is_none_or(|since| since < newest) {
            self.model.fault(format!("a new session starts at {reply:?}, after {newest} was seen"));
        }
    }

    /// Reads a topic, and again if a delayed message became due meanwhile, because a read at that
    /// moment may find it neither delayed nor put. Compares the topic's counts, unless its messages
    /// can expire.
    fn read_at_rest(
        &mut self,
        line: &mut Line<Fields>,
        topic: usize,
    ) -> (Vec<(Seen, u64)>, BTreeMap<usize, Fields>) {
        let count = |topics: &BTreeMap<usize, Fields>, name| {
            topics.get(&topic).and_then(|fields| number(fields, name)).unwrap_or(0)
        };
        let mut tries = 0;
        loop {
            let before = self.topics(line);
            let seen = self.read(line, topic);
            let after = self.topics(line);
            let moved = count(&before, "delayed") != count(&after, "delayed");
            let total = count(&after, "length") + count(&after, "delayed");
            let distinct = Model::numbers(&seen).len() as u64;
            let counted = topic >= super::work::WITH_TTL || total == distinct;
            if counted && !moved {
                return (seen, after);
            }
            tries += 1;
            self.model.figures.read_again += 1;
            if tries == TRIES {
                let fault = format!("{distinct} messages are in {}", TOPICS[topic]);
                self.model.fault(format!("{fault}: counted as {before:?}, then {after:?}"));
                return (seen, after);
            }
        }
    }

    /// The delayed messages of a topic, then all others, in the server's order.
    fn read(&mut self, line: &mut Line<Fields>, topic: usize) -> Vec<(Seen, u64)> {
        let name = TOPICS[topic];
        let reply = self.ask(
            line,
            &format!(
                r#"{{"action":"history","topic":"{name}","delayed":true,"limit":{DELAYED_MAX}}}"#
            ),
        );
        let list = text(&reply, "messages").unwrap_or("[]");
        let delayed: Vec<Fields> = serde_json::from_str(list).unwrap();
        assert!(delayed.len() < DELAYED_MAX, "more delayed messages than can be listed");
        let mut seen: Vec<_> = delayed.iter().filter_map(|m| self.seen(topic, m)).collect();
        if !reply.contains_key("messages") {
            self.model.fault(format!("a strange history of {name}: {reply:?}"));
        }
        let first = format!(r#"{{"action":"get","topic":"{name}","since":0,"meta":true}}"#);
        let next = format!(r#"{{"action":"get","topic":"{name}","meta":true}}"#);
        let mut requests = first + &next.repeat(PIPELINE - 1);
        let mut more = true;
        while more {
            line.send(&requests).unwrap();
            for _ in 0..PIPELINE {
                let reply = line.reply().expect("the server ended while it was read");
                more = !reply.contains_key("empty") && reply.contains_key("id");
                if more {
                    seen.extend(self.seen(topic, &reply));
                } else if !reply.contains_key("empty") {
                    self.model.fault(format!("a strange answer to a get of {name}: {reply:?}"));
                }
            }
            requests = next.repeat(PIPELINE);
        }
        seen
    }

    fn seen(&mut self, topic: usize, fields: &Fields) -> Option<(Seen, u64)> {
        let place = match (number(fields, "id"), micros(fields, "due")) {
            (Some(id), _) => Seen::Log(id),
            (None, Some(due)) => Seen::Delayed(due),
            (None, None) => return None,
        };
        match number_of(text(fields, "message")?) {
            Ok(number) => Some((place, number)),
            Err(fault) => {
                self.model.fault(format!("{place:?} of {}: {fault}", TOPICS[topic]));
                None
            }
        }
    }

    /// Waits until the messages due by then are put, without another put. `seen` was read before.
    fn wait_for_due(
        &mut self,
        line: &mut Line<Fields>,
        topic: usize,
        seen: &mut Vec<(Seen, u64)>,
        until: u64,
    ) {
        let mut due: Vec<u64> = seen
            .iter()
            .filter(|(place, _)| matches!(place, Seen::Delayed(due) if *due <= until))
            .map(|(_, number)| *number)
            .collect();
        due.retain(|n| !seen.iter().any(|(place, m)| m == n && matches!(place, Seen::Log(_))));
        let get =
            format!(r#"{{"action":"get","topic":"{}","meta":true,"wait":30}}"#, TOPICS[topic]);
        while let Some(first) = due.first() {
            let reply = self.ask(line, &get);
            let Some((place, number)) = self.seen(topic, &reply) else {
                self.model.fault(format!("message {first} was due and did not come: {reply:?}"));
                return;
            };
            seen.push((place, number));
            due.retain(|due| *due != number);
        }
    }

    fn topics(&mut self, line: &mut Line<Fields>) -> BTreeMap<usize, Fields> {
        let reply = self.ask(line, r#"{"action":"topics"}"#);
        let Some(list) = text(&reply, "topics") else {
            self.model.fault(format!("a strange list of topics: {reply:?}"));
            return BTreeMap::new();
        };
        let name = |fields: &Fields| text(fields, "topic").unwrap().trim_matches('"').to_owned();
        let place = |fields: &Fields| TOPICS.iter().position(|topic| *topic == name(fields));
        let mut list: Vec<Fields> = serde_json::from_str(list).unwrap();
        list.retain(|fields| name(fields) != IDLE);
        let known: BTreeMap<_, _> =
            list.iter().filter_map(|fields| Some((place(fields)?, fields.clone()))).collect();
        if known.len() < list.len() {
            self.model.fault(format!("unexpected topics: {reply:?}"));
        }
        known
    }

    /// Checks that a get with the id of a message returns the next message.
    fn check_since(&mut self, line: &mut Line<Fields>, whole: &[Vec<(Seen, u64)>]) {
        for (topic, seen) in whole.iter().enumerate().take(super::work::WITH_TTL) {
            let log: Vec<(u64, u64)> = seen
                .iter()
                .filter_map(|(place, n)| match place {
                    Seen::Log(id) => Some((*id, *n)),
                    Seen::Delayed(_) => None,
                })
                .collect();
            if log.len() < 2 {
                continue;
            }
            let at = self.random.below(log.len() as u64 - 1) as usize;
            let (since, next) = (log[at].0, log[at + 1]);
            let name = TOPICS[topic];
            let get = format!(r#"{{"action":"get","topic":"{name}","since":{since},"meta":true}}"#);
            let reply = self.ask(line, &get);
            if self.seen(topic, &reply) != Some((Seen::Log(next.0), next.1)) {
                self.model.fault(format!("the message after {since} must be {next:?}: {reply:?}"));
            }
        }
    }

    /// Repeats unanswered puts under their keys, and puts other messages under known keys.
    fn test_dedupe_keys(&mut self, line: &mut Line<Fields>) {
        let (known, unanswered): (Vec<u64>, Vec<u64>) = self.model.keyed.keys().partition(|n| {
            let keyed = &self.model.keyed[n];
            keyed.id.is_some() || keyed.put.answer != Answer::None
        });
        for number in unanswered {
            self.put_again(line, number);
        }
        for _ in 0..KEYS.min(known.len()) {
            let number = known[self.random.below(known.len() as u64) as usize];
            self.put_other(line, number);
        }
    }

    fn put_again(&mut self, line: &mut Line<Fields>, of: u64) {
        let Some(keyed) = self.model.keyed.get(&of) else { return };
        let (mut put, unknown) = (keyed.put.clone(), keyed.unknown);
        put.confirm = true;
        put.sent = Instant::now();
        let reply = self.ask(line, &put.request());
        put.answered = Some(Instant::now());
        let id = number(&reply, "id");
        put.answer = Answer::Stored(id);
        let duplicate = reply.contains_key("duplicate");
        // The message was not seen. If no take can have removed it, it was not stored.
        if id.is_none() || (duplicate && !unknown) {
            self.model.fault(format!("a strange answer to {put:?}, put again: {reply:?}"));
        } else if duplicate {
            self.model.figures.duplicates += 1;
            self.model.keyed.remove(&of);
        } else {
            if let Some(keyed) = self.model.keyed.get_mut(&of) {
                keyed.put = put.clone();
            }
            self.model.put_again(put);
        }
    }

    fn put_other(&mut self, line: &mut Line<Fields>, of: u64) {
        let Some(keyed) = self.model.keyed.get(&of) else { return };
        let (first, id) = (&keyed.put, keyed.id);
        let other = self.next.fetch_add(1, Ordering::Relaxed);
        let mut put = Put::new(other, first.topic, first.producer);
        put.dedupe = first.dedupe;
        let reply = self.ask(line, &put.request());
        let told = number(&reply, "id");
        self.model.figures.duplicates += 1;
        if !reply.contains_key("duplicate")
            || told.is_none()
            || id.is_some_and(|id| told != Some(id))
        {
            self.model.fault(format!("the key of message {of} ({id:?}) was forgotten: {reply:?}"));
        }
    }

    /// Acks deliveries from before the restart whose leases are still live.
    fn ack_held(&mut self, line: &mut Line<Fields>) {
        let mut kept = Vec::new();
        for delivery in std::mem::take(&mut self.model.held) {
            if self.random.once_in(6) {
                kept.push(delivery);
                continue;
            }
            let reply = self.ask(line, &delivery.finish("ack"));
            if text(&reply, "ok") == Some("true") {
                self.model.acked_later(delivery.number);
            } else if Instant::now() < delivery.live_until() {
                self.model.fault(format!("{reply:?} to the ack of {delivery:?} after a restart"));
            }
        }
        self.model.held = kept;
    }

    fn check_settings(&mut self, topic: usize, fields: Option<&Fields>) {
        let Some((state, policy)) = self.settings.get(&topic) else { return };
        let told = |name| fields.and_then(|fields| text(fields, name)).unwrap_or("");
        if (told("state"), told("policy")) != (state.as_str(), policy.as_str()) {
            let set = format!("{} was {state}, {policy}", TOPICS[topic]);
            self.model.fault(format!("{set}, and is {fields:?}"));
        }
    }

    /// Stops or starts a topic, and sets its policy.
    fn change_settings(&mut self, line: &mut Line<Fields>) {
        let topic = self.random.below(TOPICS.len() as u64) as usize;
        let name = TOPICS[topic];
        let (action, state) = if self.random.once_in(2) {
            ("stop", r#""stopped""#)
        } else {
            ("start", r#""started""#)
        };
        let policy = if self.random.once_in(2) { r#""broadcast""# } else { r#""roundrobin""# };
        let set = format!(r#"{{"action":"{action}","topic":"{name}"}}"#);
        let reply = self.ask(line, &set);
        assert_eq!(text(&reply, "state"), Some(state));
        let set = format!(r#"{{"action":"policy","topic":"{name}","policy":{policy}}}"#);
        let reply = self.ask(line, &set);
        assert_eq!(text(&reply, "policy"), Some(policy));
        self.settings.insert(topic, (state.to_owned(), policy.to_owned()));
    }

    /// Takes everything that can be taken.
    pub fn drain(&mut self, addr: SocketAddr) {
        let mut line = Line::connect(addr);
        let (random, notes) = (Random(self.random.next()), Notes::default());
        let mut worker = Worker { addr, next: self.next, random, notes };
        for topic in 0..TOPICS.len() {
            loop {
                let (mut got, alive) = worker.take(&mut line, topic, PIPELINE as u64, None);
                assert!(alive, "the server ended while it was emptied");
                self.model.figures.drained += got.len() as u64;
                let empty = got.is_empty();
                worker.notes.deliveries.append(&mut got);
                if empty {
                    break;
                }
            }
        }
        self.model.absorb(vec![worker.notes]);
    }

    /// Waits until the delayed messages are due, and checks that each arrives.
    pub fn wait_for_delayed(&mut self, addr: SocketAddr, most: Duration) {
        let mut line = Line::connect(addr);
        let until = now() + u64::try_from(most.as_micros()).unwrap();
        for topic in 0..TOPICS.len() {
            let began = Instant::now();
            let mut seen = self.read(&mut line, topic);
            self.wait_for_due(&mut line, topic, &mut seen, until);
            self.model.settle(topic, &seen, began, 0);
        }
    }
}

fn now() -> u64 {
    u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}
