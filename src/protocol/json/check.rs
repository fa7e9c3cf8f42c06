//! What must hold for any bytes, for the property tests and the fuzz target alike.
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

/// The largest message here: small, so that limits are met often.
pub const MAX_MESSAGE: usize = 1_000;

/// No panic, the same answers wherever the bytes are cut, and serde_json's judgement of what is a
/// request. The first byte says where to cut.
pub fn json(bytes: &[u8]) {
    let Some((&cut, text)) = bytes.split_first() else { return };
    let cuts = [usize::from(cut) % 16, usize::from(cut)];
    assert_eq!(handler(text, &cuts), handler(text, &[]), "cuts change nothing");
    if text.first() == Some(&b'{') && text.len() <= MAX_MESSAGE {
        let _ = judge(text, &cuts);
    }
}

/// Scans a text that arrives in pieces, and compares with serde_json. Returns what was found.
pub fn judge(text: &[u8], cuts: &[usize]) -> Result<Scan, Fault> {
    let (found, _) = scan_pieces(text, cuts);
    match found {
        Ok(Scan::Done(len)) => assert!(is_request(&text[..len])),
        // What is nested too deep for us is so for serde_json too, but for its raw values.
        Err(Fault::TooDeep) => {}
        _ => assert!(!is_request(text)),
    }
    found
}

/// Scans a text that arrives in the given pieces.
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

/// Whether the whole text is one request, by serde_json's judgement.
pub fn is_request(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).ok();
    text.is_some_and(|text| {
        text.starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok()
    })
}

/// What a server answers to bytes that arrive in the given pieces.
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
                // Nobody else puts: who waits here waits in vain.
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

/// A broker that has served a few thousand others at most: a session sees only what is put after
/// it began, and opening SQLite takes a hundred times as long as a talk.
pub fn shared_broker() -> Arc<Broker> {
    BROKER.with_borrow_mut(|(uses, broker)| {
        *uses += 1;
        if *uses % 4_096 == 0 || broker.check_open(&Caller::server()).is_err() {
            *broker = open();
        }
        broker.clone()
    })
}

/// Replies with every number of 10 digits or more replaced: ids and timestamps differ by run.
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
