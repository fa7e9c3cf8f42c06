//! A [`Conversation`] as the server leads it.

use std::time::Instant;

use super::Conversation;
use crate::protocol::talk::{Step, Talk};

impl Talk for Conversation {
    fn advance(&mut self, unread: &[u8]) -> (usize, Step) {
        self.advance(unread)
    }

    fn replies(&self) -> &[u8] {
        self.replies()
    }

    fn written(&mut self, bytes: usize) {
        self.written(bytes);
    }

    fn is_subscribed(&self) -> bool {
        self.is_subscribed()
    }

    fn push(&mut self) -> bool {
        self.push()
    }

    fn end(&mut self, unread: &[u8]) {
        self.end(unread);
    }

    fn is_bulky(&self) -> bool {
        self.is_bulky()
    }

    fn shrink(&mut self) {
        self.shrink();
    }

    fn retry(&mut self) -> Option<Instant> {
        self.retry()
    }

    fn peer_ended(&mut self, gone: bool) {
        self.peer_ended(gone);
    }

    fn refuse_wait(&mut self) {
        self.refuse_wait();
    }
}
