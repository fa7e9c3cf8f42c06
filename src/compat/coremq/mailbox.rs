//! What is sent to one connection alone: it goes from hand to hand, and no topic is made of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::sync::lock;

/// The mailboxes of a server's connections, by their ids.
#[derive(Default)]
pub struct Mailboxes(Mutex<HashMap<String, Arc<Mailbox>>>);

/// Letters that a connection has not been sent yet.
pub struct Mailbox {
    waker: Waker,
    letters: Mutex<VecDeque<Letter>>,
}

/// A message, and the queue that it was sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub queue: String,
    pub json: String,
}

impl Mailboxes {
    pub fn open(&self, id: &str, waker: Waker) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox { waker, letters: Mutex::default() });
        lock(&self.0).insert(id.to_owned(), mailbox.clone());
        mailbox
    }

    pub fn close(&self, id: &str) {
        lock(&self.0).remove(id);
    }

    /// Whether this is the id of a connection.
    pub fn has(&self, id: &str) -> bool {
        lock(&self.0).contains_key(id)
    }

    /// Delivers a letter to the connection of this id, if there is one.
    pub fn deliver(&self, id: &str, letter: Letter) -> Result<()> {
        let mailbox = lock(&self.0).get(id).cloned();
        mailbox.map_or(Ok(()), |mailbox| mailbox.add(letter))
    }
}

impl Mailbox {
    fn add(&self, letter: Letter) -> Result<()> {
        let mut letters = lock(&self.letters);
        let waiting: usize = letters.iter().map(|letter| letter.json.len()).sum();
        if waiting > limits::OUTBOX_BYTES || letters.len() >= limits::MAILBOX_LETTERS {
            let text = "that connection does not read what it has been sent: try again later";
            return Err(Error::new(Code::Busy, text));
        }
        letters.push_back(letter);
        drop(letters);
        self.waker.wake_by_ref();
        Ok(())
    }

    /// The oldest letter.
    pub fn next(&self) -> Option<Letter> {
        lock(&self.letters).pop_front()
    }
}
