//! The clients of a server that is about to lose its power: three put with confirm, one takes with
//! a lease and acks, one puts without confirm. Each notes its knowledge, with the moment.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::Sender;

use serde_json::Value;

use crate::suite::durability::ledger::{JOBS, KEPT, LOOSE, Ledger, With, put_request};
use crate::suite::support::line::Line;
use crate::suite::support::random::Random;

/// The error codes that a server may return while its disk fails.
pub const FAILED: [&str; 2] = ["store_failed", "full"];

/// The common state of a server's clients.
pub struct Clients<'a> {
    pub addr: SocketAddr,
    pub journal: &'a Path,
    pub ledger: &'a Mutex<Ledger>,
    /// The number of the server in its store's life, so that no key is used twice.
    pub generation: usize,
}

impl Clients<'_> {
    /// The length of the journal.
    pub fn moment(&self) -> u64 {
        std::fs::metadata(self.journal).unwrap().len()
    }

    /// Puts with confirm until the server is gone, and reports each reply.
    pub fn put(&self, name: &str, mut random: Random, progress: &Sender<()>) {
        let mut line: Line = Line::connect(self.addr);
        let mut number = 0;
        loop {
            let mut requests = String::new();
            let mut puts = Vec::new();
            for _ in 0..1 + random.below(6) {
                number += 1;
                let topic = if random.below(2) == 0 { KEPT } else { JOBS };
                let with = match random.below(16) {
                    0 if topic == KEPT => With::Delay,
                    1 | 2 => With::Dedupe,
                    _ => With::Nothing,
                };
                let more = if random.below(16) == 0 { 20_000 } else { 600 };
                let key = format!("{}.{name}-{number}", self.generation);
                requests += &put_request(topic, &key, with, random.below(more) as usize);
                let moment = self.moment();
                puts.push(self.ledger.lock().unwrap().sent(topic, key, with, moment));
            }
            if line.send(&requests).is_err() {
                return;
            }
            for put in puts {
                let Some(reply) = line.reply() else { return };
                if succeeded(&reply) {
                    let moment = self.moment();
                    self.ledger.lock().unwrap().confirmed(put, reply["id"].as_u64(), moment);
                }
                let _ = progress.send(());
            }
        }
    }

    /// Takes, and acks most messages.
    pub fn take(&self, mut random: Random) {
        let mut line: Line = Line::connect(self.addr);
        let take = format!(r#"{{"action":"take","topic":"{JOBS}","lease":86400,"wait":0.05}}"#);
        loop {
            let Some(reply) = line.send(&take).ok().and_then(|()| line.reply()) else { return };
            if !succeeded(&reply) || reply["empty"] == true {
                continue;
            }
            let (id, deliveries) = (reply["id"].as_u64().unwrap(), &reply["deliveries"]);
            let moment = self.moment();
            let lease = self.ledger.lock().unwrap().leased(id, moment);
            if random.below(4) == 0 {
                continue;
            }
            let ack = format!(
                r#"{{"action":"ack","topic":"{JOBS}","id":{id},"deliveries":{deliveries}}}"#
            );
            self.ledger.lock().unwrap().ack_sent(lease, moment);
            if !ack_until_done(&mut line, &ack) {
                return;
            }
            let moment = self.moment();
            self.ledger.lock().unwrap().acked(lease, moment);
        }
    }

    /// Puts without confirm, a few at a time.
    pub fn put_without_confirm_loop(&self, mut random: Random) {
        let mut line: Line = Line::connect(self.addr);
        let mut number = 0;
        loop {
            let mut requests = String::new();
            for _ in 0..1 + random.below(20) {
                number += 1;
                let key = format!("{}.loose-{number}", self.generation);
                let put = put_request(LOOSE, &key, With::Nothing, random.below(300) as usize);
                requests += &put.replace(r#","confirm":true"#, "");
                let moment = self.moment();
                self.ledger.lock().unwrap().sent(LOOSE, key, With::Nothing, moment);
            }
            if line.send(&(requests + r#"{"action":"ping"}"#)).is_err() {
                return;
            }
            // A failed put without confirm is answered as well.
            while !succeeded(&match line.reply() {
                Some(reply) => reply,
                None => return,
            }) {}
        }
    }
}

/// Acks a message. Returns false once the server is gone. A failed ack may be carried out all the
/// same: then the next one finds no lease, which confirms it.
fn ack_until_done(line: &mut Line, ack: &str) -> bool {
    let mut failed = false;
    loop {
        let Some(reply) = line.send(ack).ok().and_then(|()| line.reply()) else { return false };
        if (failed && reply["code"] == "gone") || succeeded(&reply) {
            return true;
        }
        failed = true;
    }
}

/// Whether the request was carried out. Any error must be one of a failing disk.
pub fn succeeded(reply: &Value) -> bool {
    match reply["code"].as_str() {
        None => true,
        Some(code) => {
            assert!(FAILED.contains(&code), "{reply}");
            false
        }
    }
}
