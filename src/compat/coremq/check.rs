//! What must hold for any bytes, for the property tests and the fuzz target alike.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;
use std::task::Waker;

use super::frame::{FrameDecoder, parts};
use super::{CoreMqHandler, CoreMqHub, CoreMqSession};
use crate::broker::Caller;
use crate::error::Error;
use crate::protocol::handler::{Next, ProtocolHandler as _};
use crate::protocol::json::check::{MAX_MESSAGE, shared_broker};

/// No panic, the same frames however the bytes are cut, and nothing but frames for an answer. The
/// first byte says where to cut.
pub fn coremq(bytes: &[u8]) {
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let cut = usize::from(cut).min(stream.len());
    assert_eq!(decode(stream, cut), decode(stream, stream.len()), "cuts change nothing");
    converse(stream, cut);
}

/// The frames of a stream that arrives in two pieces and byte by byte behind the cut, and how it
/// ends: with so many bytes left, or an error.
pub fn decode(stream: &[u8], cut: usize) -> (Vec<String>, Result<usize, Error>) {
    let (mut decoder, mut frames) = (FrameDecoder::new(MAX_MESSAGE), Vec::new());
    let (mut begin, mut end) = (0, cut);
    loop {
        match decoder.decode(&stream[begin..end]) {
            Ok(Some((text, len))) => {
                frames.push(text.to_owned());
                begin += len;
            }
            Ok(None) if end < stream.len() => end += 1,
            Ok(None) => return (frames, Ok(end - begin)),
            Err(error) => return (frames, Err(error)),
        }
    }
}

/// Talks to a server that gets the stream in two pieces. It answers in frames, whose JSON is ASCII.
fn converse(stream: &[u8], cut: usize) {
    let broker = fresh_enough();
    let hub = Arc::new(CoreMqHub::new(Vec::new()));
    let caller = Arc::new(Caller::server());
    let (session, waker) = (broker.session(&caller), Waker::noop().clone());
    let coremq = CoreMqSession::new(broker, caller, session, waker, hub, MAX_MESSAGE).unwrap();
    let mut connection = CoreMqHandler::new(coremq.may_replicate(true));
    let (mut said, mut unread) = (Vec::new(), Vec::new());
    'ended: for piece in [&stream[..cut], &stream[cut..]] {
        unread.extend_from_slice(piece);
        loop {
            let (done, next) = connection.advance(&unread);
            unread.drain(..done);
            said.extend_from_slice(connection.replies());
            connection.written(usize::MAX);
            match next {
                Next::Write => {}
                Next::Close => break 'ended,
                _ => break,
            }
        }
    }
    connection.end(&unread);
    said.extend_from_slice(connection.replies());
    let mut rest = said.as_slice();
    let mut decoder = FrameDecoder::new(usize::MAX);
    while !rest.is_empty() {
        let (text, len) = decoder.decode(rest).unwrap().unwrap();
        let (_, json) = parts(text).unwrap();
        assert!(json.is_ascii() && serde_json::from_str::<serde_json::Value>(json).is_ok());
        rest = &rest[len..];
    }
}
