//! Compares the content of a restarted server with the ledger.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use serde_json::Value;

use super::{Fault, Found, IDLE, JOBS, KEPT, Ledger, TOPICS, key, put_request};
use crate::suite::support::line::Line;

/// The number of requests in flight.
const PIPELINE: usize = 64;

/// The number of dedupe keys that are tested after the restart.
const DEDUPED: usize = 5;

impl Ledger {
    /// Reads everything from the server. Returns the content and the violations.
    pub fn check(&self, addr: SocketAddr, cut: u64) -> (Found, Vec<Fault>) {
        let mut check = Check {
            ledger: self,
            cut,
            line: Line::connect(addr),
            found: Found::default(),
            faults: Vec::new(),
        };
        check.run();
        (check.found, check.faults)
    }
}

struct Check<'a> {
    ledger: &'a Ledger,
    cut: u64,
    line: Line,
    found: Found,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn run(&mut self) {
        for topic in TOPICS {
            let messages = self.read(topic);
            self.check_order(topic, &messages);
            self.check_presence(topic, &messages);
            self.found.messages.insert(topic, messages);
        }
        self.check_delayed();
        self.check_topics();
        self.check_dedupe();
        self.check_next_id();
    }

    fn ask(&mut self, request: &str) -> Value {
        if self.line.send(request).is_err() {
            return Value::Null;
        }
        self.line.reply().unwrap_or_default()
    }

    /// The messages of a topic, up to the first that cannot be read.
    fn read(&mut self, topic: &str) -> Vec<(u64, String)> {
        let mut messages = Vec::new();
        let from = format!(r#"{{"action":"get","topic":"{topic}","since":0,"meta":true}}"#);
        let next = format!(r#"{{"action":"get","topic":"{topic}","meta":true}}"#);
        let mut requests = from + &next.repeat(PIPELINE - 1);
        loop {
            let sent = self.line.send(&requests);
            let replies = (0..PIPELINE).map_while(|_| self.line.reply()).collect::<Vec<_>>();
            if sent.is_err() || replies.len() < PIPELINE {
                self.faults.push(Fault::Broken(format!("{topic}: the server is gone")));
                return messages;
            }
            for reply in replies {
                if reply["empty"] == true {
                    return messages;
                }
                let (Some(id), Some(key)) = (reply["id"].as_u64(), key(&reply["message"])) else {
                    let last = messages.last();
                    self.faults.push(Fault::Damaged(format!("{topic} after {last:?}: {reply}")));
                    return messages;
                };
                messages.push((id, key));
            }
            requests = next.repeat(PIPELINE);
        }
    }

    /// Checks that ids increase, and with them the numbers at the end of each client's keys.
    fn check_order(&mut self, topic: &str, messages: &[(u64, String)]) {
        let mut last_id = 0;
        let mut last_of = HashMap::new();
        for (id, key) in messages {
            let (client, number) = key.rsplit_once('-').unwrap();
            let number: u64 = number.parse().unwrap();
            let before = last_of.insert(client.to_owned(), number);
            if *id <= last_id || before.is_some_and(|before| before >= number) {
                self.faults.push(Fault::Disorder(format!("{topic}: {id}, {key}")));
            }
            last_id = *id;
        }
    }

    fn check_presence(&mut self, topic: &str, messages: &[(u64, String)]) {
        let (ledger, cut) = (self.ledger, self.cut);
        let ids: HashMap<&str, u64> = messages.iter().map(|(id, key)| (&**key, *id)).collect();
        let may_be_gone: BTreeSet<u64> =
            ledger.leases.iter().filter(|lease| lease.may_be_removed(cut)).map(|l| l.id).collect();
        let before = ledger.before.messages.get(topic).into_iter().flatten();
        let put = ledger.puts.iter().filter(|put| put.topic == topic && !put.with.has_delay());
        let confirmed = put.clone().filter(|put| put.is_confirmed(cut)).filter_map(|put| {
            let (_, id) = put.confirmed?;
            Some((id?, &*put.key))
        });
        for (id, key) in before.clone().map(|(id, key)| (*id, &**key)).chain(confirmed) {
            if ids.get(key) != Some(&id) && !may_be_gone.contains(&id) {
                let text = format!("{topic}: {key}, confirmed with id {id}; {:?}", ids.get(key));
                self.faults.push(Fault::Lost(text));
            }
        }
        let sent = put.filter(|put| put.sent <= cut).map(|put| &*put.key);
        let known: BTreeSet<&str> = before.map(|(_, key)| &**key).chain(sent).collect();
        let acked: BTreeSet<u64> =
            ledger.leases.iter().filter(|lease| lease.is_removed(cut)).map(|l| l.id).collect();
        for (id, key) in messages {
            if !known.contains(&**key) || ids.get(&**key) != Some(id) {
                self.faults.push(Fault::Invented(format!("{topic}: {key}, id {id}")));
            }
            if acked.contains(id) {
                self.faults.push(Fault::Back(format!("{key}, id {id}")));
            }
        }
    }

    fn check_delayed(&mut self) {
        let request =
            format!(r#"{{"action":"history","topic":"{KEPT}","delayed":true,"limit":1000}}"#);
        let reply = self.ask(&request);
        let Some(messages) = reply["messages"].as_array() else {
            self.faults.push(Fault::Damaged(format!("delayed: {reply}")));
            return;
        };
        let keys = messages.iter().filter_map(|one| key(&one["message"]));
        self.found.delayed = keys.collect();
        let delayed = self.ledger.puts.iter().filter(|put| put.with.has_delay());
        let confirmed = delayed.clone().filter(|put| put.is_confirmed(self.cut));
        let before = self.ledger.before.delayed.iter();
        for key in before.clone().chain(confirmed.map(|put| &put.key)) {
            if !self.found.delayed.contains(key) {
                self.faults.push(Fault::Lost(format!("delayed: {key}")));
            }
        }
        let sent = delayed.filter(|put| put.sent <= self.cut).map(|put| &put.key);
        let known: BTreeSet<&String> = before.chain(sent).collect();
        let invented = self.found.delayed.iter().filter(|key| !known.contains(key));
        let repeated = messages.len() - self.found.delayed.len();
        let all =
            invented.chain((repeated > 0).then_some(&self.found.delayed).into_iter().flatten());
        self.faults.extend(all.map(|key| Fault::Invented(format!("delayed: {key}"))));
    }

    fn check_topics(&mut self) {
        let reply = self.ask(r#"{"action":"topics"}"#);
        let topics = reply["topics"].as_array().cloned().unwrap_or_default();
        let topic = |name| topics.iter().find(|one| one["topic"] == name);
        self.check_leases(topic(JOBS).unwrap_or(&Value::Null));
        self.check_settings(topic(IDLE).unwrap_or(&Value::Null));
    }

    /// Checks the leases by their count, which is all that the protocol shows.
    fn check_leases(&mut self, jobs: &Value) {
        let held = self.ledger.leases.iter().filter(|lease| lease.is_held(self.cut)).count();
        if jobs["leased"].as_u64().unwrap_or_default() < held as u64 {
            self.faults
                .push(Fault::Lost(format!("leases: {held} were confirmed, the server has {jobs}")));
        }
    }

    /// The value must be the last confirmed one, or one that was sent after it.
    fn check_settings(&mut self, idle: &Value) {
        for name in ["state", "policy"] {
            let before = self.ledger.before.settings.get(name).cloned().unwrap_or_default();
            let mut allowed = vec![before];
            let sent = self.ledger.settings.iter().filter(|one| one.sent <= self.cut);
            for setting in sent.filter(|one| one.name == name) {
                if setting.confirmed.is_some_and(|moment| moment <= self.cut) {
                    allowed.clear();
                }
                allowed.push(setting.value.into());
            }
            // Any of these requests creates the topic, which then has the default state.
            let is_new = allowed[0].is_null() && idle[name] == "started";
            if !allowed.contains(&idle[name]) && !is_new {
                let text = format!("{name} of {IDLE}: one of {allowed:?}, now {idle}");
                self.faults.push(Fault::Lost(text));
            }
            self.found.settings.insert(name, idle[name].clone());
        }
    }

    fn check_dedupe(&mut self) {
        let (ledger, cut) = (self.ledger, self.cut);
        let confirmed = ledger.puts.iter().rev().filter(|put| put.is_confirmed(cut));
        for put in confirmed.filter(|put| put.with.has_key()).take(DEDUPED) {
            let reply = self.ask(&put_request(put.topic, &put.key, put.with, 0));
            let id = put.confirmed.and_then(|(_, id)| id);
            if reply["duplicate"] != true || reply["id"].as_u64() != id {
                self.faults.push(Fault::Lost(format!("dedupe key {}: {reply}", put.key)));
            }
        }
    }

    /// Checks that a new put has an id above all that any client has seen.
    fn check_next_id(&mut self) {
        let reply = self.ask(r#"{"action":"put","topic":"probe","message":"-0","confirm":true}"#);
        let found = self.found.messages.values().flatten().map(|(id, _)| *id);
        let confirmed = self.ledger.puts.iter().filter(|put| put.is_confirmed(self.cut));
        let confirmed = confirmed.filter_map(|put| put.confirmed?.1);
        let last = found.chain(confirmed).max().unwrap_or_default();
        match reply["id"].as_u64() {
            None => self.faults.push(Fault::Broken(format!("a put: {reply}"))),
            Some(id) if id <= last => {
                self.faults.push(Fault::Disorder(format!("id {id} after {last}")));
            }
            Some(_) => {}
        }
    }
}
