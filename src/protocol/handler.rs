//! A connection's talk without its socket: what every protocol is that has a thread for each
//! connection. Unread bytes in, replies and pushes out, and a word to the caller on how to go on.

use std::time::Instant;

/// What the caller is to do next, after it has written what [`ProtocolHandler::replies`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read more, and come back with it behind what is still unread.
    Read,
    /// Come back at once: there was enough to write.
    Write,
    /// Sleep until woken, then [`ProtocolHandler::retry`].
    Wait,
    /// Close the connection.
    Close,
}

pub trait ProtocolHandler {
    /// Carries out what is in `unread`, and returns how many of its bytes are done with. It is
    /// called before anything is there, too: a server may speak first.
    fn advance(&mut self, unread: &[u8]) -> (usize, Next);

    /// What is to be written. The caller says what became of it.
    fn replies(&self) -> &[u8];

    /// Where in them a write that begins at `start` is to end: some peers need some bytes at once.
    fn write_end(&self, _start: usize) -> usize {
        self.replies().len()
    }

    /// So many bytes of the replies were written, and if that is not all, no more will be.
    fn written(&mut self, bytes: usize);

    /// Whether there may be pushes.
    fn is_subscribed(&self) -> bool;

    /// Adds pushes to what is to be written; true if there may be more.
    fn push(&mut self) -> bool;

    /// The peer has ended its side: nothing more will come behind `unread`.
    fn end(&mut self, unread: &[u8]);

    /// Whether memory is held that an idle connection does not need.
    fn is_bulky(&self) -> bool;

    /// Gives back the memory that an idle connection does not need.
    fn shrink(&mut self);

    /// While the step is [`Next::Wait`]: `None` once there is a reply, else when to give up.
    fn retry(&mut self) -> Option<Instant> {
        None
    }

    /// The peer has ended its side while a request waits, or is gone altogether.
    fn peer_ended(&mut self, _gone: bool) {}

    /// The request that waits cannot: the server has no means left.
    fn refuse_wait(&mut self) {}
}
