//! Messages with all that is known of them, as they go from one store to another.

use super::{Id, Topic};

/// Where a message stands among all that is kept of its topic: those in the log by their ids, and
/// behind them those that are not due yet, by when they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanCursor {
    Log(Id),
    /// The number is the store's own: it tells messages that are due at one time apart.
    Delayed {
        due: Id,
        number: u64,
    },
}

/// A message, whoever has it in hands.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    pub place: ScanCursor,
    pub body: Box<[u8]>,
    pub priority: u8,
    /// How often it was delivered; the one who holds it now has had one of them.
    pub deliveries: u32,
    /// When it expires. Of a message that is not due: how long after it is.
    pub expires: Option<u64>,
    /// The topic and id that a dead letter had.
    pub origin: Option<Box<(Topic, Id)>>,
    /// How often it was peeked at.
    pub looks: u64,
}

impl ScanCursor {
    /// Before everything.
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

    /// What does not depend on the store.
    fn known(&self) -> impl PartialEq + '_ {
        let StoredMessage { place: _, body, priority, deliveries, expires, origin, looks } = self;
        (body, priority, deliveries, expires, origin, looks)
    }
}
