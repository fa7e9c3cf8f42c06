//! Replies that promise changes of earlier requests: each comes after a sync that covers the
//! change.

use std::fs;

use serde_json::Value;

use super::LOG;
use super::disk::{is_synced, records};
use super::doubtful::Case;
use crate::suite::durability::faults::shim::{EIO, Kind};
use crate::suite::durability::ledger::{IDLE, JOBS, KEPT, LOOSE, Ledger, With, put_request};
use crate::suite::support::line::Line;

/// A request, a field of its reply, and its value.
type Exchange = (&'static str, &'static str, &'static str);

/// Requests that leave the store as it is, or change only looks.
const BETWEEN: [&[Exchange]; 13] = [
    &[],
    &[(r#"{"action":"take","topic":"idle"}"#, "empty", "true")],
    &[(r#"{"action":"take","topic":"idle","lease":9}"#, "empty", "true")],
    &[START],
    &[STOP, START],
    &[(r#"{"action":"policy","topic":"idle","policy":"broadcast"}"#, "policy", r#""broadcast""#)],
    &[(r#"{"action":"peek","topic":"loose"}"#, "looks", "1")],
    &[(r#"{"action":"peek","topic":"idle"}"#, "empty", "true")],
    &[(r#"{"action":"delete","topic":"loose","id":1}"#, "deleted", "false")],
    &[(r#"{"action":"delete","topic":"idle","id":1}"#, "deleted", "false")],
    &[(r#"{"action":"ack","topic":"idle","id":1,"deliveries":1}"#, "code", r#""gone""#)],
    &[(r#"{"action":"nack","topic":"idle","id":1,"deliveries":1}"#, "code", r#""gone""#)],
    &[(r#"{"action":"purge","topic":"idle"}"#, "purged", "0")],
];
const STOP: Exchange = (r#"{"action":"stop","topic":"idle"}"#, "state", r#""stopped""#);
const START: Exchange = (r#"{"action":"start","topic":"idle"}"#, "state", r#""started""#);

const PEEKS: u64 = 500;

#[test]
fn put_is_synced_before_a_duplicate_confirms_it() {
    for with in [With::Dedupe, With::DelayAndDedupe] {
        let unsynced = BETWEEN.iter().filter(|between| !is_synced_after(between, with));
        let unsynced: Vec<_> = unsynced.collect();
        assert!(unsynced.is_empty(), "{with:?}: confirmed without a sync after {unsynced:#?}");
    }
}

/// Sends a put without confirm, the exchanges, and the same put with confirm. Returns whether
/// everything is synced then.
fn is_synced_after(between: &[Exchange], with: With) -> bool {
    let case = Case::new();
    let (_server, mut line, mut ledger) = case.start();
    let put = format!(r#"{{"action":"put","topic":"{IDLE}","message":0}}"#);
    ask(&mut line, &(put + r#"{"action":"take","topic":"idle"}"#));
    ask(&mut line, r#"{"action":"policy","topic":"idle","policy":"broadcast"}"#);
    ask(&mut line, &put_request(LOOSE, "client-0", With::Nothing, 0));
    case.put_without_confirm(&mut line, &mut ledger, "client-1".to_owned(), with);
    // Sent at once: a stop and a start may share a transaction.
    line.send(&between.iter().map(|(request, ..)| *request).collect::<String>()).unwrap();
    for (request, field, value) in between {
        let reply = line.reply().unwrap();
        assert_eq!(reply[field].to_string(), *value, "{reply} to {request}");
    }
    let reply = ask(&mut line, &put_request(LOOSE, "client-1", with, 0));
    assert_eq!(reply["duplicate"], true, "{reply}");
    is_synced(&records(&fs::read(case.shim.journal()).unwrap()), LOG)
}

#[test]
fn peeks_cause_no_sync() {
    let case = Case::new();
    let (_server, mut line, mut ledger) = case.start();
    case.put(&mut line, &mut ledger, "client-1");
    let before = records(&fs::read(case.shim.journal()).unwrap()).len();
    for look in 1..=PEEKS {
        let reply = ask(&mut line, &format!(r#"{{"action":"peek","topic":"{KEPT}"}}"#));
        assert_eq!(reply["looks"], look, "{reply}");
    }
    let after = records(&fs::read(case.shim.journal()).unwrap());
    let syncs = after[before..].iter().filter(|record| record.is_sync(LOG)).count();
    assert_eq!(syncs, 0, "of {PEEKS} peeks");
    // The next confirm also syncs the looks.
    case.put(&mut line, &mut ledger, "client-2");
    assert!(is_synced(&records(&fs::read(case.shim.journal()).unwrap()), LOG));
}

#[test]
fn put_that_failed_is_synced_before_a_second_attempt_confirms_it() {
    attempt_twice(put_again);
}

#[test]
fn ack_that_failed_is_synced_before_a_second_attempt_confirms_it() {
    attempt_twice(ack_again);
}

#[test]
fn delete_that_failed_is_synced_before_a_second_attempt_confirms_it() {
    attempt_twice(delete_again);
}

#[test]
fn purge_that_failed_is_synced_before_a_second_attempt_confirms_it() {
    attempt_twice(purge_again);
}

#[test]
fn stop_that_failed_is_synced_before_a_second_attempt_confirms_it() {
    attempt_twice(stop_again);
}

/// The first attempt fails at its sync, and may be carried out all the same.
fn attempt_twice(attempt: fn(&Case, &mut Line, &mut Ledger)) {
    let case = Case::new();
    let (server, mut line, mut ledger) = case.start();
    // The first commit of a new log syncs its header, and would fail before it is carried out.
    case.put_without_confirm(&mut line, &mut ledger, "client-0".to_owned(), With::Nothing);
    attempt(&case, &mut line, &mut ledger);
    drop(server);
    case.check(&ledger);
}

fn put_again(case: &Case, line: &mut Line, ledger: &mut Ledger) {
    let put = ledger.sent(KEPT, "client-1".to_owned(), With::Dedupe, case.moment());
    let reply = fail_once(case, line, &put_request(KEPT, "client-1", With::Dedupe, 10));
    assert_eq!(reply["ok"], true, "{reply}");
    ledger.confirmed(put, reply["id"].as_u64(), case.moment());
}

fn ack_again(case: &Case, line: &mut Line, ledger: &mut Ledger) {
    ledger.sent(JOBS, "client-1".to_owned(), With::Nothing, case.moment());
    ask(line, &put_request(JOBS, "client-1", With::Nothing, 10));
    let take = ask(line, &format!(r#"{{"action":"take","topic":"{JOBS}","lease":86400}}"#));
    let id = take["id"].as_u64().unwrap();
    let lease = ledger.leased(id, case.moment());
    ledger.ack_sent(lease, case.moment());
    let ack = format!(r#"{{"action":"ack","topic":"{JOBS}","id":{id},"deliveries":1}}"#);
    let reply = fail_once(case, line, &ack);
    assert!(reply["ok"] == true || reply["code"] == "gone", "{reply}");
    ledger.acked(lease, case.moment());
}

fn delete_again(case: &Case, line: &mut Line, ledger: &mut Ledger) {
    remove_again(case, line, ledger, |id| {
        format!(r#"{{"action":"delete","topic":"{KEPT}","id":{id}}}"#)
    });
}

fn purge_again(case: &Case, line: &mut Line, ledger: &mut Ledger) {
    remove_again(case, line, ledger, |_| format!(r#"{{"action":"purge","topic":"{KEPT}"}}"#));
}

fn remove_again(case: &Case, line: &mut Line, ledger: &mut Ledger, request: fn(u64) -> String) {
    ledger.sent(KEPT, "client-1".to_owned(), With::Nothing, case.moment());
    let put = ask(line, &put_request(KEPT, "client-1", With::Nothing, 10));
    let id = put["id"].as_u64().unwrap();
    let delete = ledger.delete_sent(id, case.moment());
    let reply = fail_once(case, line, &request(id));
    assert_eq!(reply["ok"], true, "{reply}");
    ledger.acked(delete, case.moment());
}

fn stop_again(case: &Case, line: &mut Line, ledger: &mut Ledger) {
    let stop = ledger.setting_sent("state", "stopped", case.moment());
    let reply = fail_once(case, line, STOP.0);
    assert_eq!(reply["state"], "stopped", "{reply}");
    ledger.set(stop, case.moment());
}

/// The reply to the second attempt. The server repairs a single failed sync before the reply.
fn fail_once(case: &Case, line: &mut Line, request: &str) -> Value {
    case.shim.fail(Kind::Sync, 1, 2, EIO);
    let failed = ask(line, request);
    assert_eq!(failed["code"], "store_failed", "{failed} to {request}");
    ask(line, request)
}

fn ask(line: &mut Line, request: &str) -> Value {
    line.send(request).unwrap();
    line.reply().unwrap()
}
