//! Properties that hold for any bytes; used by the property tests and the fuzz target.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;
use std::task::Waker;

use super::frame::{FrameDecoder, parts};
use super::{CoreMqHandler, CoreMqHub, CoreMqSession};
use crate::broker::Caller;
use crate::error::Error;
use crate::protocol::handler::{Next, ProtocolHandler as _};
use crate::protocol::json::check::{MAX_MESSAGE, shared_broker};

/// Any bytes cause no panic, decode to the same frames however they are split, and are answered in
/// frames. The first byte selects where to split.
pub fn coremq(bytes: &[u8]) {
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let cut = usize::from(cut).min(stream.len());
    assert_eq!(decode(stream, cut), decode(stream, stream.len()), "cuts change nothing");
    converse(stream, cut);
}

/// Decodes a stream of which `cut` bytes arrive at once and the rest byte by byte. Returns the
/// frames, and the number of bytes left or the error.
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

/// Sends the stream to a handler in two pieces; all answers must be frames with ASCII JSON.
fn converse(stream: &[u8], cut: usize) {
    let broker = shared_broker();
    let hub = Arc::new(CoreMqHub::new(Vec::new()));
    let caller = Arc::new(Caller::server());
    let (session, waker) = (broker.session(&caller), Waker::noop().clone());
    let coremq = CoreMqSession::new(broker, caller, session, waker, hub, MAX_MESSAGE).unwrap();
    let mut connection = CoreMqHandler::new(coremq.may_replicate(true));
    let (mut output, mut unread) = (Vec::new(), Vec::new());
    'ended: for piece in [&stream[..cut], &stream[cut..]] {
        unread.extend_from_slice(piece);
        loop {
            let (done, next) = connection.advance(&unread);
            unread.drain(..done);
            output.extend_from_slice(connection.replies());
            connection.written(usize::MAX);
            match next {
                Next::Write => {}
                Next::Close => break 'ended,
                _ => break,
            }
        }
    }
    connection.end(&unread);
    output.extend_from_slice(connection.replies());
    let mut rest = output.as_slice();
    let mut decoder = FrameDecoder::new(usize::MAX);
    while !rest.is_empty() {
        let (text, len) = decoder.decode(rest).unwrap().unwrap();
        let (_, json) = parts(text).unwrap();
        assert!(json.is_ascii() && serde_json::from_str::<serde_json::Value>(json).is_ok());
        rest = &rest[len..];
    }
}
