//! What clients know of a store: what was sent and what was confirmed, and when. A server that comes
//! back is checked against it.
//!
//! A moment is any number that grows; the tests of power loss use the length of the journal. A reply
//! that had arrived by the cut was certainly sent before it, and a request that was sent after the
//! cut certainly had no effect before it; of the others either is right.
//!
//! A reply can promise something that its own request did not write. A duplicate reply promises the
//! message of the first put, even if the first put asked for no confirm. A second attempt of an ack, a
//! delete, a stop or a policy that failed before promises the result, even if it finds nothing left
//! to change. Replies that only read promise nothing: a get, a history, a peek or a list of topics may
//! show what a power cut loses, and so may an empty take. `looks` of a peek is not checked: a power
//! cut may lose looks.

mod check;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Messages that stay, that are taken, and that are put without confirm.
pub const KEPT: &str = "kept";
pub const JOBS: &str = "jobs";
pub const LOOSE: &str = "loose";
const TOPICS: [&str; 3] = [KEPT, JOBS, LOOSE];

/// A drained topic, whose state and policy change.
pub const IDLE: &str = "idle";

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

/// A value that a client set for IDLE.
#[derive(Clone, Debug)]
struct Setting {
    /// Its field in the list of topics.
    name: &'static str,
    value: &'static str,
    sent: u64,
    confirmed: Option<u64>,
}

/// What several clients know together.
#[derive(Debug, Default)]
pub struct Ledger {
    puts: Vec<Put>,
    leases: Vec<Lease>,
    /// In the order in which one client sent them.
    settings: Vec<Setting>,
    /// What a check found: it is there for sure.
    before: Found,
}

/// Topics with their messages, and the keys of the delayed ones.
#[derive(Clone, Debug, Default)]
pub struct Found {
    messages: BTreeMap<&'static str, Vec<(u64, String)>>,
    delayed: BTreeSet<String>,
    /// The state and the policy of IDLE.
    settings: BTreeMap<&'static str, Value>,
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

    /// A delete is like an ack of a lease that nobody held. Returns what `acked` takes.
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

    /// How many puts had been confirmed by then.
    pub fn confirmed_by(&self, cut: u64) -> usize {
        self.puts.iter().filter(|put| put.is_confirmed(cut)).count()
    }

    /// What was found is what there is from now on; moments begin anew.
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

/// A put, confirmed, of a message that is the key and some more.
pub fn put_request(topic: &str, key: &str, with: With, more: usize) -> String {
    let delay = if with.has_delay() { r#","delay":86400"# } else { "" };
    let dedupe = if with.has_key() { format!(r#","dedupe":"{key}""#) } else { String::new() };
    let more = "x".repeat(more);
    let put = format!(r#"{{"action":"put","topic":"{topic}","message":["{key}","{more}"]"#);
    format!(r#"{put}{delay}{dedupe},"confirm":true}}"#)
}

/// The key of a message that was put so.
pub fn key(message: &Value) -> Option<String> {
    message[0].as_str().map(str::to_owned)
}
