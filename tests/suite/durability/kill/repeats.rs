//! Requests of producers between their puts: puts that a duplicate confirms, and requests that
//! change nothing.

use std::time::Instant;

use super::message::{Answer, IDLE, Put, TOPICS};
use super::work::Worker;
use crate::suite::support::line::{Fields, Line, text};

impl Worker<'_> {
    /// Puts without confirm, then again under the same key with confirm. Returns false once the
    /// server is dead.
    pub fn put_twice(&mut self, line: &mut Line<Fields>, producer: usize) -> bool {
        let mut put = self.new_put(producer);
        (put.dedupe, put.delay, put.ttl) = (Some(put.number), None, None);
        put.confirm = false;
        let alive = self.put_and_confirm(line, &mut put);
        self.notes.puts.push(put);
        alive
    }

    fn put_and_confirm(&mut self, line: &mut Line<Fields>, put: &mut Put) -> bool {
        let first = put.request() + r#"{"action":"ping"}"#;
        if line.send(&first).is_err() || line.reply().is_none() {
            return false;
        }
        // The ping's reply comes after the put.
        (put.answer, put.answered) = (Answer::Stored(None), Some(Instant::now()));
        if !self.change_nothing(line) {
            return false;
        }
        put.confirm = true;
        if line.send(&put.request()).is_err() {
            return false;
        }
        let Some(reply) = line.reply() else { return false };
        self.note_answer(put, &reply, true);
        if put.answer == Answer::Refused {
            put.answer = Answer::Stored(None);
        }
        true
    }

    /// Sends a request that changes nothing but looks. Returns false once the server is dead.
    pub fn change_nothing(&mut self, line: &mut Line<Fields>) -> bool {
        let request = |action: &str, topic: &str, more: &str| {
            format!(r#"{{"action":"{action}","topic":"{topic}"{more}}}"#)
        };
        let own = TOPICS[self.random.below(TOPICS.len() as u64) as usize];
        let lease = r#","id":1,"deliveries":1"#;
        let (request, field, value) = match self.random.below(8) {
            0 => (request("take", IDLE, ""), "empty", Some("true")),
            1 => (request("start", IDLE, ""), "state", Some(r#""started""#)),
            2 => (request("stop", IDLE, ""), "state", Some(r#""stopped""#)),
            3 => (request("purge", IDLE, ""), "purged", Some("0")),
            4 => (request("peek", own, ""), "code", None),
            5 => (request("delete", own, r#","id":1"#), "deleted", Some("false")),
            6 => (request("ack", own, lease), "code", Some(r#""gone""#)),
            _ => (request("nack", own, lease), "code", Some(r#""gone""#)),
        };
        if line.send(&request).is_err() {
            return false;
        }
        let Some(reply) = line.reply() else { return false };
        let closing = text(&reply, "code") == Some(r#""closing""#);
        if !closing && text(&reply, field) != value {
            self.notes.faults.push(format!("{reply:?} to {request}"));
        }
        true
    }
}
