//! Properties that hold for any bytes from a peer; used by the property tests and the fuzz target.

use super::frame::write_command;
use super::handshake::greeting;
use super::{Event, ZmtpConnection, ZmtpError};

/// Small, so that tests cross it.
const MAX_MESSAGE: usize = 1_000;

/// Any bytes, before and after a handshake, cause no panic and the same events however they are
/// split, and take no memory that is only claimed.
pub fn zmtp(bytes: &[u8]) {
    same_however_cut(bytes);
    let Some((first, rest)) = bytes.split_first() else { return };
    let socket = ["REQ", "DEALER", "SUB", "PUB", "PUSH"].get(usize::from(first % 5));
    let socket = socket.copied().unwrap_or_default();
    let mut begin = greeting().to_vec();
    let length = (socket.len() as u32).to_be_bytes();
    let data = [b"\x0bSocket-Type", &length[..], socket.as_bytes()].concat();
    write_command(&mut begin, "READY", &data);
    same_however_cut(&[&begin, rest].concat());
}

fn same_however_cut(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    for size in [1, 2, 7, 64] {
        assert_eq!(read(bytes, size), whole, "in pieces of {size}");
    }
}

/// The events, the output and the error for bytes that arrive in pieces of `size`.
fn read(bytes: &[u8], size: usize) -> (Vec<Event>, Vec<u8>, Option<ZmtpError>) {
    let mut connection = ZmtpConnection::new(MAX_MESSAGE);
    let (mut events, mut answered, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        unread.extend_from_slice(piece);
        loop {
            let (done, event) = connection.advance(&unread);
            unread.drain(..done);
            answered.extend_from_slice(connection.replies());
            let wrote = !connection.replies().is_empty();
            connection.written();
            match event {
                Ok(Some(event)) => events.push(event),
                Ok(None) if wrote => {}
                Ok(None) => break,
                Err(fault) => return (events, answered, Some(fault)),
            }
        }
        assert!(unread.len() <= 64, "{} bytes wait though nothing is to come", unread.len());
    }
    (events, answered, None)
}
