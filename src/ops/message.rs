//! Topic names, message ids, and messages: as readers receive them ([`Message`]), and with all their fields
//! as `dsmq copy` moves them from store to store ([`StoredMessage`]).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Code, Error, Result};
use crate::limits;

/// A message's id: microseconds since 1970 by the store's clock when it was put, or one more than
/// the last id where that is larger. Positive, below 2^53, strictly increasing over a store.
pub type Id = u64;

/// Upper bound of ids, exclusive: a double represents every smaller integer exactly.
pub const ID_END: Id = 1 << 53;

/// A message's priority: 0 to 9; higher ones are taken first.
pub const PRIORITY_MAX: u8 = 9;

/// The priority of a message that was put without one.
pub const PRIORITY_DEFAULT: u8 = 4;

/// The suffix of a topic for the dead letters of another topic.
pub const DEAD_SUFFIX: &str = ".dead";

/// The name of a topic: 1 to 256 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks the name.
    pub fn new(name: &str) -> Result<Topic> {
        if name.is_empty() {
            return Err(Error::new(Code::BadTopic, "the topic is empty: give it a name"));
        }
        if name.len() > limits::TOPIC_BYTES {
            let text = format!(
                "the topic has {} bytes: a name has at most {}",
                name.len(),
                limits::TOPIC_BYTES
            );
            return Err(Error::new(Code::BadTopic, text));
        }
        if name.chars().any(char::is_control) {
            return Err(Error::new(
                Code::BadTopic,
                "the topic has a control character: a name has none",
            ));
        }
        Ok(Topic(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic for the dead letters of this one. `None` if messages never become dead letters here:
    /// the topic is itself for dead letters, or its name leaves no room for the suffix.
    pub fn dead(&self) -> Option<Topic> {
        if self.0.ends_with(DEAD_SUFFIX) {
            return None;
        }
        Topic::new(&format!("{self}{DEAD_SUFFIX}")).ok()
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message: its id and its JSON text, byte for byte as it was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub id: Id,
    pub body: &'a [u8],
}

/// Displays an id as Unix seconds with six decimals.
pub struct Timestamp(pub Id);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A position in a topic's stored messages: first the log in the order of ids, then the delayed messages
/// in the order of their due times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanCursor {
    Log(Id),
    /// `number` is internal to the store: it distinguishes messages with the same due time.
    Delayed {
        due: Id,
        number: u64,
    },
}

/// A message with all its fields, leased or not.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    pub place: ScanCursor,
    pub body: Box<[u8]>,
    pub priority: u8,
    /// Number of deliveries, including the current one.
    pub deliveries: u32,
    /// When it expires, in microseconds since 1970; for a delayed message, microseconds after its due time.
    pub expires: Option<u64>,
    /// The original topic and id of a dead letter.
    pub origin: Option<Box<(Topic, Id)>>,
    /// Number of peeks.
    pub looks: u64,
}

impl ScanCursor {
    /// The position before all messages.
    pub const START: ScanCursor = ScanCursor::Log(0);
}

impl StoredMessage {
    /// Whether this is the same message in another store.
    pub fn is_copy_of(&self, other: &StoredMessage) -> bool {
        let here = match (self.place, other.place) {
            (ScanCursor::Delayed { due, .. }, ScanCursor::Delayed { due: there, .. }) => {
                due == there
            }
            (here, there) => here == there,
        };
        here && self.known() == other.known()
    }

    /// The fields that do not depend on the store.
    fn known(&self) -> impl PartialEq + '_ {
        let StoredMessage { place: _, body, priority, deliveries, expires, origin, looks } = self;
        (body, priority, deliveries, expires, origin, looks)
    }
}
