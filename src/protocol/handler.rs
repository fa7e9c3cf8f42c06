//! The interface between a connection's thread and its protocol: unread bytes go in, replies and
//! pushes come out, and [`Next`] says how to continue. A handler knows no socket.

use std::time::Instant;

/// The caller's next step, after it has written [`ProtocolHandler::replies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read more bytes, append them to the unread ones, and call `advance` again.
    Read,
    /// Call `advance` again at once: the reply buffer was full.
    Write,
    /// Sleep until woken, then call [`ProtocolHandler::retry`].
    Wait,
    Close,
}

pub trait ProtocolHandler {
    /// Carries out the requests in `unread` and returns how many bytes they used. Also called
    /// before the first byte arrives, so that a server can speak first.
    fn advance(&mut self, unread: &[u8]) -> (usize, Next);

    /// Bytes to write. The caller reports the result with [`ProtocolHandler::written`].
    fn replies(&self) -> &[u8];

    /// The end of a write of the replies that begins at `start`: some protocols require certain
    /// bytes to be sent separately.
    fn write_end(&self, _start: usize) -> usize {
        self.replies().len()
    }

    /// Reports that `bytes` bytes of the replies were written. The handler discards the rest: a
    /// partial write means that the connection has failed.
    fn written(&mut self, bytes: usize);

    fn is_subscribed(&self) -> bool;

    /// Appends pushes to the replies; returns true if more may follow.
    fn push(&mut self) -> bool;

    /// Reports that the peer has closed its sending side: nothing follows `unread`.
    fn end(&mut self, unread: &[u8]);

    /// Whether the handler holds memory that an idle connection does not need.
    fn is_bulky(&self) -> bool;

    /// Frees the memory that an idle connection does not need.
    fn shrink(&mut self);

    /// Retries the waiting request after [`Next::Wait`]. Returns `None` once a reply is ready,
    /// otherwise the time at which to call again.
    fn retry(&mut self) -> Option<Instant> {
        None
    }

    /// Reports that the peer has closed its sending side, or with `gone` the whole connection,
    /// while a request waits.
    fn peer_ended(&mut self, _gone: bool) {}

    /// Fails the waiting request: the server has no descriptor left to wait with.
    fn refuse_wait(&mut self) {}
}
