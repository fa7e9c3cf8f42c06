//! What clients know of a store: what was sent and what was confirmed, and when. A server that comes
//! back is checked against it.
//!
//! A moment is any number that grows; the tests of power loss use the length of the journal. A reply
//! that had arrived by the cut was certainly sent before it, and a request that was sent after the
//! cut certainly had no effect before it; of the others either is right.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use serde_json::Value;

use super::line::Line;

/// Messages that stay, that are taken, and that are put without confirm.
pub const KEPT: &str = "kept";
pub const JOBS: &str = "jobs";
pub const LOOSE: &str = "loose";
const TOPICS: [&str; 3] = [KEPT, JOBS, LOOSE];

/// Requests that are sent at once.
const PIPELINE: usize = 64;

/// Keys that are put a second time when the server is back.
const DEDUPED: usize = 5;

/// A message that was put.
#[derive(Clone, Debug)]
pub struct Put {
    pub topic: &'static str,
    pub key: String,
    pub with: With,
    pub sent: u64,
    /// When the confirm had arrived, and the id in it.
    pub confirmed: Option<(u64, Option<u64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum With {
    Nothing,
    /// A delay that does not end while the test runs.
    Delay,
    /// Its key as the dedupe key.
    Dedupe,
}

/// A message of JOBS that was leased, and perhaps acked.
#[derive(Clone, Debug)]
pub struct Lease {
    pub id: u64,
    pub taken: u64,
    pub ack_sent: Option<u64>,
    pub acked: Option<u64>,
}

/// What several clients know together.
#[derive(Debug, Default)]
pub struct Ledger {
    puts: Vec<Put>,
    leases: Vec<Lease>,
    /// What a check found: it is there for sure.
    before: Found,
}

/// Topics with their messages, and the keys of the delayed ones.
#[derive(Clone, Debug, Default)]
pub struct Found {
    messages: BTreeMap<&'static str, Vec<(u64, String)>>,
    delayed: BTreeSet<String>,
}

/// What a server should not have done.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Something confirmed is not there: a message, a lease, a delay, a dedupe key.
    Lost(String),
    /// A message is there whose ack was confirmed.
    Back(String),
    /// An error where a message should be.
    Damaged(String),
    /// Ids or the order of one client's puts.
    Disorder(String),
    /// A message that nobody put, or twice what was put once.
    Invented(String),
    /// It does not start, or the file is not a database that holds together.
    Broken(String),
}

impl Ledger {
    pub fn sent(&mut self, topic: &'static str, key: String, with: With, moment: u64) -> usize {
        self.puts.push(Put { topic, key, with, sent: moment, confirmed: None });
        self.puts.len() - 1
    }

    pub fn confirmed(&mut self, put: usize, id: Option<u64>, moment: u64) {
        self.puts[put].confirmed = Some((moment, id));
    }

    pub fn leased(&mut self, id: u64, moment: u64) -> usize {
        self.leases.push(Lease { id, taken: moment, ack_sent: None, acked: None });
        self.leases.len() - 1
    }

    pub fn ack_sent(&mut self, lease: usize, moment: u64) {
        self.leases[lease].ack_sent = Some(moment);
    }

    pub fn acked(&mut self, lease: usize, moment: u64) {
        self.leases[lease].acked = Some(moment);
    }

    /// How many puts had been confirmed by then.
    pub fn confirmed_by(&self, cut: u64) -> usize {
        self.puts.iter().filter(|put| put.is_confirmed(cut)).count()
    }

    /// Asks the server for all that there is.
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

    /// What was found is what there is from now on; moments begin anew.
    pub fn settle(&mut self, found: Found, cut: u64) {
        self.leases.retain(|lease| lease.is_held(cut));
        for lease in &mut self.leases {
            lease.taken = 0;
            lease.ack_sent = None;
        }
        self.puts.clear();
        self.before = found;
    }
}

impl Put {
    fn is_confirmed(&self, cut: u64) -> bool {
        self.confirmed.is_some_and(|(moment, _)| moment <= cut)
    }
}

impl Lease {
    fn may_be_removed(&self, cut: u64) -> bool {
        self.ack_sent.is_some_and(|moment| moment <= cut)
    }

    fn is_removed(&self, cut: u64) -> bool {
        self.acked.is_some_and(|moment| moment <= cut)
    }

    fn is_held(&self, cut: u64) -> bool {
        self.taken <= cut && !self.may_be_removed(cut)
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
        self.check_leases();
        self.check_dedupe();
        self.check_next_id();
    }

    fn ask(&mut self, request: &str) -> Value {
        if self.line.send(request).is_err() {
            return Value::Null;
        }
        self.line.reply().unwrap_or_default()
    }

    /// All messages of the topic, up to the first that cannot be read.
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

    /// Ids grow, and so do the numbers of each client's keys, which end in them.
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
        let put = ledger.puts.iter().filter(|put| put.topic == topic && put.with != With::Delay);
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
            if topic == JOBS && acked.contains(id) {
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
        let delayed = self.ledger.puts.iter().filter(|put| put.with == With::Delay);
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

    /// A lease is not seen from outside but in the count of them.
    fn check_leases(&mut self) {
        let held = self.ledger.leases.iter().filter(|lease| lease.is_held(self.cut)).count();
        let reply = self.ask(r#"{"action":"topics"}"#);
        let topics = reply["topics"].as_array().cloned().unwrap_or_default();
        let jobs = topics.into_iter().find(|one| one["topic"] == JOBS).unwrap_or_default();
        if jobs["leased"].as_u64().unwrap_or_default() < held as u64 {
            self.faults.push(Fault::Lost(format!("leases: {held} were told of, now {jobs}")));
        }
    }

    fn check_dedupe(&mut self) {
        let (ledger, cut) = (self.ledger, self.cut);
        let confirmed = ledger.puts.iter().rev().filter(|put| put.is_confirmed(cut));
        for put in confirmed.filter(|put| put.with == With::Dedupe).take(DEDUPED) {
            let reply = self.ask(&put_request(put.topic, &put.key, put.with, 0));
            let id = put.confirmed.and_then(|(_, id)| id);
            if reply["duplicate"] != true || reply["id"].as_u64() != id {
                self.faults.push(Fault::Lost(format!("dedupe key {}: {reply}", put.key)));
            }
        }
    }

    /// What is put now comes after all that anyone has seen.
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

/// A put, confirmed, of a message that is the key and some more.
pub fn put_request(topic: &str, key: &str, with: With, more: usize) -> String {
    let option = match with {
        With::Nothing => String::new(),
        With::Delay => r#","delay":86400"#.to_owned(),
        With::Dedupe => format!(r#","dedupe":"{key}""#),
    };
    let more = "x".repeat(more);
    let put = format!(r#"{{"action":"put","topic":"{topic}","message":["{key}","{more}"]"#);
    format!(r#"{put}{option},"confirm":true}}"#)
}

/// The key of a message that was put so.
pub fn key(message: &Value) -> Option<String> {
    message[0].as_str().map(str::to_owned)
}
