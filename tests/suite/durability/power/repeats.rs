//! A client whose replies often promise changes of earlier requests: duplicates that confirm puts
//! without confirm, and second attempts of failed requests. Requests that change nothing come in
//! between, because a store must tell the two apart. `docs/explanation/reliability.md` lists them.

use std::sync::mpsc::Sender;

use serde_json::{Value, json};

use super::clients::{Clients, FAILED, succeeded};
use crate::suite::durability::ledger::{IDLE, KEPT, LOOSE, With, put_request};
use crate::suite::support::line::Line;
use crate::suite::support::random::Random;

/// The most puts without confirm that still lack their duplicate.
const OPEN: usize = 4;

pub struct Repeater<'a> {
    clients: &'a Clients<'a>,
    line: Line,
    random: Random,
    /// The number of the last key.
    number: usize,
    open: Vec<Open>,
    /// Confirmed messages that can be deleted.
    stored: Vec<(&'static str, u64)>,
    failed_deletes: Vec<Delete>,
    /// The values sent last.
    state: &'static str,
    policy: &'static str,
}

/// A put without confirm that still lacks its duplicate.
struct Open {
    /// Its index in the ledger.
    put: usize,
    topic: &'static str,
    /// The same put with confirm.
    request: String,
}

struct Delete {
    /// Its index in the ledger.
    delete: usize,
    request: String,
}

/// Each step returns `None` once the server is gone.
impl<'a> Repeater<'a> {
    pub fn new(clients: &'a Clients<'a>, random: Random) -> Repeater<'a> {
        Repeater {
            clients,
            line: Line::connect(clients.addr),
            random,
            number: 0,
            open: Vec::new(),
            stored: Vec::new(),
            failed_deletes: Vec::new(),
            state: "started",
            policy: "broadcast",
        }
    }

    /// Works until the server is gone, and reports each step.
    pub fn run(mut self, progress: &Sender<()>) {
        if self.drain().is_none() {
            return;
        }
        while self.step().is_some() {
            let _ = progress.send(());
        }
    }

    /// Few steps write anything that is promised, because such a sync would hide a missing one.
    fn step(&mut self) -> Option<()> {
        match self.random.below(64) {
            0..14 if self.open.len() < OPEN => self.put_without_confirm(),
            0..28 if !self.open.is_empty() => self.confirm_by_duplicate(),
            0..60 => self.change_nothing(),
            60 => self.set_something(),
            61 => self.delete(),
            62 => self.put_until_confirmed(),
            _ => self.drain(),
        }
    }

    fn ask(&mut self, request: &str) -> Option<Value> {
        self.line.send(request).ok()?;
        self.line.reply()
    }

    fn put(&mut self) -> Open {
        self.number += 1;
        let key = format!("{}.repeats-{}", self.clients.generation, self.number);
        let (topic, with) = match self.random.below(4) {
            0 => (KEPT, With::DelayAndDedupe),
            1 => (KEPT, With::Dedupe),
            _ => (LOOSE, With::Dedupe),
        };
        let request = put_request(topic, &key, with, self.random.below(600) as usize);
        let moment = self.clients.moment();
        let put = self.clients.ledger.lock().unwrap().sent(topic, key, with, moment);
        Open { put, topic, request }
    }

    fn confirmed(&mut self, open: &Open, reply: &Value) {
        let (id, moment) = (reply["id"].as_u64(), self.clients.moment());
        self.clients.ledger.lock().unwrap().confirmed(open.put, id, moment);
        self.stored.extend(id.map(|id| (open.topic, id)));
    }

    /// The ping's reply comes after the put. An error of the put comes before it.
    fn put_without_confirm(&mut self) -> Option<()> {
        let open = self.put();
        let requests = open.request.replace(r#","confirm":true"#, "") + r#"{"action":"ping"}"#;
        if succeeded(&self.ask(&requests)?) {
            self.open.push(open);
        } else {
            self.line.reply()?;
        }
        Some(())
    }

    fn confirm_by_duplicate(&mut self) -> Option<()> {
        let at = self.random.below(self.open.len() as u64) as usize;
        let open = self.open.swap_remove(at);
        let reply = self.ask(&open.request)?;
        if succeeded(&reply) {
            assert_eq!(reply["duplicate"], true, "{reply}");
            self.confirmed(&open, &reply);
        } else {
            self.open.push(open);
        }
        Some(())
    }

    /// The put may be stored although its first reply is an error. Then the second is a duplicate.
    fn put_until_confirmed(&mut self) -> Option<()> {
        let open = self.put();
        let mut reply = self.ask(&open.request)?;
        while !succeeded(&reply) {
            reply = self.ask(&open.request)?;
        }
        self.confirmed(&open, &reply);
        Some(())
    }

    fn change_nothing(&mut self) -> Option<()> {
        let request = |action: &str, topic: &str, more: &str| {
            format!(r#"{{"action":"{action}","topic":"{topic}"{more}}}"#)
        };
        let lease = r#","id":1,"deliveries":1"#;
        let (request, field, value) = match self.random.below(12) {
            0..4 => (request("take", IDLE, ""), "empty", json!(true)),
            4..7 => return self.set_again(),
            7 => return self.set_and_set_back(),
            8 if self.random.below(2) == 0 => (request("peek", IDLE, ""), "empty", json!(true)),
            8 => (request("peek", LOOSE, ""), "code", Value::Null),
            9 => (request("delete", LOOSE, r#","id":1"#), "deleted", json!(false)),
            10 => (request("ack", LOOSE, lease), "code", json!("gone")),
            _ => (request("nack", LOOSE, lease), "code", json!("gone")),
        };
        let reply = self.ask(&request)?;
        let failed = reply["code"].as_str().is_some_and(|code| FAILED.contains(&code));
        assert!(failed || reply[field] == value, "{reply} to {request}");
        Some(())
    }

    fn set_something(&mut self) -> Option<()> {
        match self.random.below(4) {
            0 => self.state = "stopped",
            1 => self.state = "started",
            2 => self.policy = "roundrobin",
            _ => self.policy = "broadcast",
        }
        self.set_again()
    }

    /// Repeats the request. If the first attempt failed, this is the second.
    fn set_again(&mut self) -> Option<()> {
        if self.random.below(2) == 0 {
            self.set(&[("state", self.state)])
        } else {
            self.set(&[("policy", self.policy)])
        }
    }

    /// Both requests may be carried out in one transaction.
    fn set_and_set_back(&mut self) -> Option<()> {
        let other = if self.state == "stopped" { "started" } else { "stopped" };
        self.set(&[("state", other), ("state", self.state)])
    }

    fn set(&mut self, values: &[(&'static str, &'static str)]) -> Option<()> {
        let mut requests = String::new();
        let mut settings = Vec::new();
        let moment = self.clients.moment();
        for (name, value) in values {
            requests += &match *value {
                "stopped" => format!(r#"{{"action":"stop","topic":"{IDLE}"}}"#),
                "started" => format!(r#"{{"action":"start","topic":"{IDLE}"}}"#),
                _ => format!(r#"{{"action":"policy","topic":"{IDLE}","policy":"{value}"}}"#),
            };
            let mut ledger = self.clients.ledger.lock().unwrap();
            settings.push(ledger.setting_sent(name, value, moment));
        }
        self.line.send(&requests).ok()?;
        for setting in settings {
            if succeeded(&self.line.reply()?) {
                let moment = self.clients.moment();
                self.clients.ledger.lock().unwrap().set(setting, moment);
            }
        }
        Some(())
    }

    /// A second attempt may find the message deleted, which also confirms it.
    fn delete(&mut self) -> Option<()> {
        let failed = self.failed_deletes.pop();
        let again = failed.is_some();
        let delete = match failed {
            Some(delete) => delete,
            None if self.stored.is_empty() => return Some(()),
            None => {
                let at = self.random.below(self.stored.len() as u64) as usize;
                let (topic, id) = self.stored.swap_remove(at);
                let moment = self.clients.moment();
                let delete = self.clients.ledger.lock().unwrap().delete_sent(id, moment);
                let request = format!(r#"{{"action":"delete","topic":"{topic}","id":{id}}}"#);
                Delete { delete, request }
            }
        };
        let reply = self.ask(&delete.request)?;
        if succeeded(&reply) {
            assert!(again || reply["deleted"] == true, "{reply}");
            let moment = self.clients.moment();
            self.clients.ledger.lock().unwrap().acked(delete.delete, moment);
        } else {
            self.failed_deletes.push(delete);
        }
        Some(())
    }

    /// Purges a topic that had messages when it has none.
    fn drain(&mut self) -> Option<()> {
        let put = format!(r#"{{"action":"put","topic":"{IDLE}","message":0,"confirm":true}}"#);
        let take = format!(r#"{{"action":"take","topic":"{IDLE}"}}"#);
        succeeded(&self.ask(&put)?);
        loop {
            let reply = self.ask(&take)?;
            if succeeded(&reply) && reply["empty"] == true {
                break;
            }
        }
        let reply = self.ask(&format!(r#"{{"action":"purge","topic":"{IDLE}"}}"#))?;
        assert!(!succeeded(&reply) || reply["purged"] == 0, "{reply}");
        Some(())
    }
}
