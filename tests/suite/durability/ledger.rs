//! The knowledge of the clients of a store: what they sent, what was confirmed, and when. A
//! restarted server is checked against it.
//!
//! A moment is any increasing number; the power tests use the length of the journal. A reply that
//! arrived before the cut was sent before it. A request that was sent after the cut had no effect
//! before it. Anything else may or may not have happened.
//!
//! A reply can promise a change that an earlier request made. A duplicate reply promises the
//! message of the first put, even if the first put asked for no confirm. A second attempt of a
//! failed ack, delete, stop or policy promises the result, even if nothing is left to change.
//! Replies to reads promise nothing: a get, history, peek or list of topics, and an empty take, may
//! show a state that a power cut loses. `looks` of a peek is not checked, because a power cut may
//! lose looks.

mod check;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Messages that stay, messages that are taken, and messages put without confirm.
pub const KEPT: &str = "kept";
pub const JOBS: &str = "jobs";
pub const LOOSE: &str = "loose";
const TOPICS: [&str; 3] = [KEPT, JOBS, LOOSE];

/// A drained topic for changes of state and policy.
pub const IDLE: &str = "idle";

#[derive(Clone, Debug)]
pub struct Put {
    pub topic: &'static str,
    pub key: String,
    pub with: With,
    pub sent: u64,
    /// The moment at which the confirm had arrived, and the id in it.
    pub confirmed: Option<(u64, Option<u64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum With {
    Nothing,
    /// A delay beyond the end of the test.
    Delay,
    /// The message's key as the dedupe key.
    Dedupe,
    DelayAndDedupe,
}

impl With {
    fn has_delay(self) -> bool {
        matches!(self, With::Delay | With::DelayAndDedupe)
    }

    fn has_key(self) -> bool {
        matches!(self, With::Dedupe | With::DelayAndDedupe)
    }
}

/// A message of JOBS that was leased and perhaps acked, or a message that was deleted.
#[derive(Clone, Debug)]
pub struct Lease {
    pub id: u64,
    pub taken: u64,
    pub ack_sent: Option<u64>,
    pub acked: Option<u64>,
}

/// A change of IDLE's state or policy.
#[derive(Clone, Debug)]
struct Setting {
    /// The field in the list of topics.
    name: &'static str,
    value: &'static str,
    sent: u64,
    confirmed: Option<u64>,
}

/// The common knowledge of several clients.
#[derive(Debug, Default)]
pub struct Ledger {
    puts: Vec<Put>,
    leases: Vec<Lease>,
    /// In the order of one client's requests.
    settings: Vec<Setting>,
    /// The result of the last check, which was certainly stored.
    before: Found,
}

/// The messages by topic, and the keys of the delayed ones.
#[derive(Clone, Debug, Default)]
pub struct Found {
    messages: BTreeMap<&'static str, Vec<(u64, String)>>,
    delayed: BTreeSet<String>,
    /// The state and policy of IDLE.
    settings: BTreeMap<&'static str, Value>,
}

/// A violation by the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A confirmed message, lease, delay or dedupe key is missing.
    Lost(String),
    /// A message with a confirmed ack is back.
    Back(String),
    /// An error instead of a message.
    Damaged(String),
    /// Ids, or one client's puts, are out of order.
    Disorder(String),
    /// A message that no client put, or a second copy of one.
    Invented(String),
    /// The server does not start, or the file is corrupt.
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

    /// Notes a delete, which counts as the ack of a lease that nobody held. Returns the index for
    /// `acked`.
    pub fn delete_sent(&mut self, id: u64, moment: u64) -> usize {
        let lease = self.leased(id, moment);
        self.ack_sent(lease, moment);
        lease
    }

    pub fn setting_sent(&mut self, name: &'static str, value: &'static str, sent: u64) -> usize {
        self.settings.push(Setting { name, value, sent, confirmed: None });
        self.settings.len() - 1
    }

    pub fn set(&mut self, setting: usize, moment: u64) {
        self.settings[setting].confirmed = Some(moment);
    }

    /// The number of puts confirmed by this moment.
    pub fn confirmed_by(&self, cut: u64) -> usize {
        self.puts.iter().filter(|put| put.is_confirmed(cut)).count()
    }

    /// Makes the findings of a check the new starting point. Moments start again.
    pub fn settle(&mut self, found: Found, cut: u64) {
        self.leases.retain(|lease| lease.is_held(cut));
        for lease in &mut self.leases {
            lease.taken = 0;
            lease.ack_sent = None;
        }
        self.puts.clear();
        self.settings.clear();
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

/// A put with confirm. Its message has the key and `more` bytes.
pub fn put_request(topic: &str, key: &str, with: With, more: usize) -> String {
    let delay = if with.has_delay() { r#","delay":86400"# } else { "" };
    let dedupe = if with.has_key() { format!(r#","dedupe":"{key}""#) } else { String::new() };
    let more = "x".repeat(more);
    let put = format!(r#"{{"action":"put","topic":"{topic}","message":["{key}","{more}"]"#);
    format!(r#"{put}{delay}{dedupe},"confirm":true}}"#)
}

/// The key of a message from `put_request`.
pub fn key(message: &Value) -> Option<String> {
    message[0].as_str().map(str::to_owned)
}
