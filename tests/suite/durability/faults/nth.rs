//! Fails the nth write, sync or allocation, once or several times in a row, for each n from 1 to
//! 500. `DSMQ_FAULTS_EVERY=25`, the default, tests every 25th n.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::shim::{EIO, ENOSPC, Kind, Shim};
use super::{CODES, Home};
use crate::suite::durability::ledger::{Found, JOBS, KEPT, Ledger, With, key, put_request};
use crate::suite::support::line::Line;
use crate::suite::support::random::number;

/// The largest n.
const LAST: usize = 500;

/// Rounds of requests after which the nth operation has certainly happened.
const ROUNDS: usize = 3_000;

fn every() -> usize {
    number("DSMQ_FAULTS_EVERY", 25) as usize
}

#[test]
fn nth_write_fails() {
    fail_each(Kind::Write);
}

#[test]
fn nth_sync_fails() {
    fail_each(Kind::Sync);
}

#[test]
fn nth_allocation_fails() {
    fail_each(Kind::Malloc);
}

/// The start of the count.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    /// The start of the process.
    Start,
    /// The moment when the server listens.
    Service,
}

/// An operation that fails, and how often in a row.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    nth: i64,
    times: i64,
    errno: i64,
    from: From,
}

/// The result of a plan.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The server reported why it does not start.
    Refused,
    /// The server continued. This many requests were answered with an error.
    Served(usize),
}

fn fail_each(kind: Kind) {
    let prepared = Prepared::new();
    let (mut refused, mut silent, mut told) = (0, 0, 0);
    let mut wrong = Vec::new();
    for nth in (1..=LAST).step_by(every()) {
        for from in [From::Start, From::Service] {
            let plan = Plan {
                kind,
                nth: nth as i64,
                times: if nth % 3 == 0 { 5 } else { 1 },
                errno: if nth % 2 == 0 { ENOSPC } else { EIO },
                from,
            };
            match prepared.carry_out(plan) {
                Ok(Outcome::Refused) => refused += 1,
                Ok(Outcome::Served(0)) => silent += 1,
                Ok(Outcome::Served(_)) => told += 1,
                Err(why) => wrong.push(format!("{plan:?}: {why}")),
            }
        }
    }
    println!(
        "{kind:?}: in {told} cases the client was told, in {silent} nothing was seen outside, in \
         {refused} the server did not start; {} times something was wrong",
        wrong.len()
    );
    for why in wrong.iter().take(20) {
        println!("  {why}");
    }
    assert!(wrong.is_empty());
    assert!(told > 0, "no fault has reached a client");
}

/// The files of a killed server, with messages of all kinds.
struct Prepared {
    shim: Shim,
    found: Found,
}

impl Prepared {
    fn new() -> Prepared {
        let home = Home::new();
        let (_server, addr) = home.start();
        let mut line: Line = Line::connect(addr);
        let mut ask = |request: &str| {
            line.send(request).unwrap();
            line.reply().unwrap()
        };
        for number in 0..50 {
            let key = format!("prepared-{number}");
            let topic = if number % 2 == 0 { JOBS } else { KEPT };
            let with = if number % 10 == 1 { With::Delay } else { With::Nothing };
            let reply = ask(&put_request(topic, &key, with, 40 * number));
            assert_eq!(reply["ok"], true, "{reply}");
        }
        for number in 0..5 {
            let take =
                format!(r#"{{"action":"take","topic":"{JOBS}","lease":{}}}"#, 1 + number * 1000);
            assert!(ask(&take)["id"].is_u64());
        }
        // An empty ledger, which accepts any content.
        let (found, _) = Ledger::default().check(addr, 0);
        Prepared { shim: home.shim, found }
    }

    /// Carries out a plan. The error describes a violation.
    fn carry_out(&self, plan: Plan) -> Result<Outcome, String> {
        let home = Home::new();
        copy(&self.shim.folder(), &home.shim.folder());
        let mut ledger = Ledger::default();
        ledger.settle(self.found.clone(), 0);
        let outcome = serve(&home, plan, &mut ledger);
        let said = home.stderr();
        if said.contains("panicked") {
            return Err(said);
        }
        let outcome = outcome.map_err(|why| format!("{why}; standard error: {said:?}"))?;
        home.shim.clear();
        let (_server, addr) = home.start();
        let (_, faults) = ledger.check(addr, 0);
        if faults.is_empty() { Ok(outcome) } else { Err(format!("{faults:?}")) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Runs a server with the failure, from its start to its kill.
fn serve(home: &Home, plan: Plan, ledger: &mut Ledger) -> Result<Outcome, String> {
    let order = || home.shim.fail(plan.kind, plan.nth, plan.times, plan.errno);
    if plan.from == From::Start {
        order();
    }
    let (_server, addr) = match home.start_on_shim() {
        Ok(started) => started,
        Err(ended) => {
            let one_line = home.stderr().lines().count() == 1;
            let injected = home.shim.counts().injected > 0;
            let well = one_line && injected && ended.code == Some(1);
            return if well { Ok(Outcome::Refused) } else { Err(format!("{ended:?}")) };
        }
    };
    let mut session = Session {
        asking: Line::connect(addr),
        listening: Line::connect(addr),
        ledger,
        number: 0,
        confirmed: Vec::new(),
        told: 0,
    };
    session.subscribe()?;
    if plan.from == From::Service {
        order();
    }
    let over = || home.shim.counts().injected >= plan.times;
    for _ in 0..ROUNDS {
        if over() {
            break;
        }
        session.round()?;
    }
    if !over() {
        return Err(format!("the fault did not come: {:?}", home.shim.counts()));
    }
    let told = session.told;
    session.round()?;
    if session.told > told {
        return Err("errors continue after the failure".to_owned());
    }
    session.check_pushes()?;
    Ok(Outcome::Served(session.told))
}

/// One client that sends every request in turn, and one subscriber.
struct Session<'a> {
    asking: Line,
    listening: Line,
    ledger: &'a mut Ledger,
    number: usize,
    /// Keys put into KEPT and confirmed since the subscription.
    confirmed: Vec<String>,
    /// Requests that were answered with an error.
    told: usize,
}

impl Session<'_> {
    fn subscribe(&mut self) -> Result<(), String> {
        let request = format!(r#"{{"action":"subscribe","topic":"{KEPT}"}}"#);
        for _ in 0..10 {
            self.listening.send(&request).map_err(|error| error.to_string())?;
            let reply = self.listening.reply().ok_or("the subscriber was left")?;
            if self.accept(&reply)? {
                return Ok(());
            }
        }
        Err("no subscription".to_owned())
    }

    /// Whether the request was carried out. Errors other than the disk's are violations.
    fn accept(&mut self, reply: &Value) -> Result<bool, String> {
        match reply["code"].as_str() {
            None => Ok(true),
            Some(code) if CODES.contains(&code) => {
                self.told += 1;
                Ok(false)
            }
            Some(_) => Err(reply.to_string()),
        }
    }

    fn ask(&mut self, request: &str) -> Result<Option<Value>, String> {
        self.asking.send(request).map_err(|error| error.to_string())?;
        let reply = self.asking.reply().ok_or_else(|| format!("no reply to {request}"))?;
        Ok(self.accept(&reply)?.then_some(reply))
    }

    fn round(&mut self) -> Result<(), String> {
        for topic in [KEPT, JOBS, KEPT] {
            self.put(topic)?;
        }
        self.take()?;
        self.ask(&format!(r#"{{"action":"get","topic":"{KEPT}","since":0,"meta":true}}"#))?;
        self.ask(&format!(r#"{{"action":"history","topic":"{JOBS}"}}"#))?;
        self.ask(r#"{"action":"topics"}"#)?;
        Ok(())
    }

    fn put(&mut self, topic: &'static str) -> Result<(), String> {
        self.number += 1;
        let key = format!("session-{}", self.number);
        let with = if self.number % 4 == 1 { With::Dedupe } else { With::Nothing };
        let put = self.ledger.sent(topic, key.clone(), with, 0);
        if let Some(reply) = self.ask(&put_request(topic, &key, with, 200))? {
            self.ledger.confirmed(put, reply["id"].as_u64(), 0);
            if topic == KEPT {
                self.confirmed.push(key);
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<(), String> {
        let take = format!(r#"{{"action":"take","topic":"{JOBS}","lease":86400}}"#);
        let Some(reply) = self.ask(&take)? else { return Ok(()) };
        let Some(id) = reply["id"].as_u64() else { return Ok(()) };
        let lease = self.ledger.leased(id, 0);
        let deliveries = &reply["deliveries"];
        let ack =
            format!(r#"{{"action":"ack","topic":"{JOBS}","id":{id},"deliveries":{deliveries}}}"#);
        self.ledger.ack_sent(lease, 0);
        if self.ask(&ack)?.is_some() {
            self.ledger.acked(lease, 0);
        }
        Ok(())
    }

    /// Checks that every confirmed put was pushed.
    fn check_pushes(&mut self) -> Result<(), String> {
        let mut heard = Vec::new();
        while heard.last() != self.confirmed.last() {
            let push = self.listening.reply().ok_or("the subscriber was left")?;
            if self.accept(&push)? {
                heard.push(key(&push["message"]).ok_or_else(|| push.to_string())?);
            }
        }
        // A put that was answered with an error may be stored all the same.
        let put: Vec<_> = heard.into_iter().filter(|key| self.confirmed.contains(key)).collect();
        if put == self.confirmed { Ok(()) } else { Err(format!("heard {put:?}")) }
    }
}
