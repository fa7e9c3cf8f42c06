//! Properties of the JSON protocol that hold for arbitrary bytes, shared by the property tests and
//! the fuzz target.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::cell::RefCell;
use std::sync::Arc;
use std::task::Waker;

use serde_json::value::RawValue;

use super::JsonHandler;
use super::fault::Fault;
use super::scanner::{Scan, Scanner};
use crate::broker::{Broker, Caller};
use crate::protocol::handler::{Next, ProtocolHandler as _};
use crate::store;

/// The message limit in these checks: small, so that inputs often cross it.
pub const MAX_MESSAGE: usize = 1_000;

/// Checks that arbitrary bytes cause no panic, that splitting them changes no reply, and that the
/// scanner accepts the same requests as serde_json. The first byte selects the splits.
pub fn json(bytes: &[u8]) {
    let Some((&cut, text)) = bytes.split_first() else { return };
    let cuts = [usize::from(cut) % 16, usize::from(cut)];
    assert_eq!(handler(text, &cuts), handler(text, &[]), "splitting changes nothing");
    if text.first() == Some(&b'{') && text.len() <= MAX_MESSAGE {
        let _ = scan_and_compare(text, &cuts);
    }
}

/// Scans a text that arrives in pieces and compares the result with serde_json.
pub fn scan_and_compare(text: &[u8], cuts: &[usize]) -> Result<Scan, Fault> {
    let (found, _) = scan_pieces(text, cuts);
    match found {
        Ok(Scan::Done(len)) => assert!(is_request(&text[..len])),
        // serde_json's limit on nesting does not apply to raw values.
        Err(Fault::TooDeep) => {}
        _ => assert!(!is_request(text)),
    }
    found
}

/// Scans a text split at `cuts`.
pub fn scan_pieces(text: &[u8], cuts: &[usize]) -> (Result<Scan, Fault>, Scanner) {
    let mut scanner = Scanner::new(MAX_MESSAGE);
    let mut found = Ok(Scan::More);
    for end in ends(text, cuts) {
        found = scanner.scan(&text[..end]);
        if found != Ok(Scan::More) {
            break;
        }
    }
    (found, scanner)
}

fn ends(text: &[u8], cuts: &[usize]) -> impl Iterator<Item = usize> {
    let len = text.len();
    cuts.iter().copied().filter(move |&cut| 0 < cut && cut < len).chain([len])
}

/// Whether serde_json reads the whole text as one object.
pub fn is_request(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).ok();
    text.is_some_and(|text| {
        text.starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok()
    })
}

/// The replies to bytes that arrive split at `cuts`.
pub fn handler(text: &[u8], cuts: &[usize]) -> String {
    let broker = shared_broker();
    let session = broker.session(&Caller::server());
    let (caller, waker) = (Arc::new(Caller::server()), Waker::noop().clone());
    let mut handler = JsonHandler::new(broker.clone(), caller, session, MAX_MESSAGE, waker);
    let (mut replies, mut unread, mut start) = (Vec::new(), Vec::new(), 0);
    for end in ends(text, cuts) {
        unread.extend_from_slice(&text[start..end]);
        start = end;
        loop {
            let (done, next) = handler.advance(&unread);
            unread.drain(..done);
            replies.extend_from_slice(handler.replies());
            handler.written(usize::MAX);
            match next {
                Next::Read => break,
                Next::Close => return masked(&replies),
                Next::Write => {}
                // Nothing else puts a message, so only closing the broker ends the wait.
                Next::Wait => {
                    broker.close();
                    assert!(handler.retry().is_none(), "a wait ends when the server closes");
                }
            }
        }
    }
    handler.end(&unread);
    replies.extend_from_slice(handler.replies());
    masked(&replies)
}

thread_local! {
    static BROKER: RefCell<(u32, Arc<Broker>)> = RefCell::new((0, open()));
}

fn open() -> Arc<Broker> {
    Arc::new(Broker::new(store::in_memory(store::Rules::default()).unwrap()))
}

/// A broker shared by at most 4,096 connections. Sessions see only later messages, so sharing is
/// safe, and opening SQLite takes a hundred times as long as one connection.
pub fn shared_broker() -> Arc<Broker> {
    BROKER.with_borrow_mut(|(uses, broker)| {
        *uses += 1;
        if *uses % 4_096 == 0 || broker.check_open(&Caller::server()).is_err() {
            *broker = open();
        }
        broker.clone()
    })
}

/// Replaces ids and timestamps, which differ between runs, by `N`.
fn masked(replies: &[u8]) -> String {
    let text = std::str::from_utf8(replies).unwrap();
    let mut masked = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        let number = digits.len() == 16 || digits.len() == 10 || digits.len() == 6;
        masked.push_str(if number { "N" } else { digits });
        masked.push_str(&part[digits.len()..]);
    }
    masked
}
