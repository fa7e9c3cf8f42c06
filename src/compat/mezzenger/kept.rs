//! Which message a checksum names, of those that are kept in the store until they are acknowledged.
//! The store knows them by their ids, and an ack says the checksum alone.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use crate::ops::Id;
use crate::sync::lock;

/// A checksum is any text: this is one of its own, and of one size.
type Key = [u8; 16];

/// Below so many it is not asked whether they are all still there.
const FEW: usize = 1024;

#[derive(Default)]
pub struct Kept(Mutex<Index>);

#[derive(Default)]
struct Index {
    /// `None` while a message is on its way into the store.
    ids: HashMap<Key, Option<Id>>,
    /// The next time that it is this large it is compared with what is in the store, which may
    /// have dropped messages.
    compare_at: usize,
}

impl Kept {
    /// A message is about to be kept; false if it is already.
    pub fn announce(&self, checksum: &str) -> bool {
        let mut index = lock(&self.0);
        let key = key(checksum);
        let fresh = !index.ids.contains_key(&key);
        if fresh {
            index.ids.insert(key, None);
        }
        fresh
    }

    /// A message is kept under this id, or, without one, is not.
    pub fn note(&self, checksum: &str, id: Option<Id>) {
        let mut index = lock(&self.0);
        match id {
            Some(_) => index.ids.insert(key(checksum), id),
            None => index.ids.remove(&key(checksum)),
        };
    }

    /// The id of a message that is kept.
    pub fn id(&self, checksum: &str) -> Option<Id> {
        lock(&self.0).ids.get(&key(checksum)).copied().flatten()
    }

    /// Takes away the id of a message that is kept.
    pub fn forget(&self, checksum: &str) -> Option<Id> {
        let mut index = lock(&self.0);
        let key = key(checksum);
        let id = index.ids.get(&key).copied().flatten()?;
        index.ids.remove(&key);
        Some(id)
    }

    /// Whether it is time to compare it with the store.
    pub fn is_crowded(&self) -> bool {
        let mut index = lock(&self.0);
        let crowded = index.ids.len() >= index.compare_at.max(FEW);
        if crowded {
            // Whoever asks now does it.
            index.compare_at = 2 * index.ids.len();
        }
        crowded
    }

    /// Forgets those up to the id `last` that the store has no more.
    pub fn compare(&self, in_store: &HashSet<Id>, last: Id) {
        let mut index = lock(&self.0);
        index.ids.retain(|_, id| id.is_none_or(|id| id > last || in_store.contains(&id)));
        index.compare_at = 2 * index.ids.len();
    }
}

fn key(checksum: &str) -> Key {
    md5::compute(checksum).0
}
