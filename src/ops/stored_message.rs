//! Messages with all their fields, as `dsmq copy` moves them from store to store.

use super::{Id, Topic};

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
