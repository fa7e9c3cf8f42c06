//! Pushes that were not returned yet, and how far each topic has come.

use std::collections::{HashMap, VecDeque};

use super::Push;

/// Bytes of pushes that are kept while a reply is awaited. Pushes precede the reply, so they must
/// be read first; beyond this they are dropped and requested again later.
const KEPT_BYTES_MAX: usize = if cfg!(test) { 100_000 } else { 16 * 1024 * 1024 };

/// Bytes that a push takes besides its texts.
const PUSH_BYTES: usize = size_of::<Push>() + 32;

#[derive(Default)]
pub(super) struct Inbox {
    pushes: VecDeque<Push>,
    bytes: usize,
    places: HashMap<String, Place>,
    /// Whether pushes were dropped, so that the next one is not the next message.
    overflowed: bool,
}

/// How far one topic has come.
struct Place {
    /// The highest id that was pushed, or the id at which the topic began.
    last: u64,
    /// Pushes up to this id arrived over an earlier connection. Over one connection nothing arrives
    /// twice, but a returned message comes after later ones.
    known: u64,
}

impl Inbox {
    /// Keeps a push, unless it was kept before or there is no room.
    pub(super) fn add(&mut self, push: Push) {
        let bytes = size(&push);
        let full = !self.pushes.is_empty() && self.bytes + bytes > KEPT_BYTES_MAX;
        self.overflowed |= full;
        if self.overflowed {
            return;
        }
        match self.places.get_mut(&push.topic) {
            Some(place) if push.message.id <= place.known => return,
            Some(place) => place.last = place.last.max(push.message.id),
            None => {
                let place = Place { last: push.message.id, known: 0 };
                self.places.insert(push.topic.clone(), place);
            }
        }
        self.bytes += bytes;
        self.pushes.push_back(push);
    }

    pub(super) fn next(&mut self) -> Option<Push> {
        let push = self.pushes.pop_front()?;
        self.bytes -= size(&push);
        Some(push)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pushes.is_empty()
    }

    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The pushes start again from the known ids.
    pub(super) fn begin_again(&mut self) {
        self.overflowed = false;
        self.places.values_mut().for_each(|place| place.known = place.last);
    }

    pub(super) fn place(&self, topic: &str) -> Option<u64> {
        self.places.get(topic).map(|place| place.last)
    }

    pub(super) fn begin(&mut self, topic: &str, place: u64) {
        self.places.insert(topic.to_owned(), Place { last: place, known: place });
    }

    /// Removes the topics that no subscription covers.
    pub(super) fn retain(&mut self, mut covered: impl FnMut(&str) -> bool) {
        self.places.retain(|topic, _| covered(topic));
        self.pushes.retain(|push| covered(&push.topic));
        self.bytes = self.pushes.iter().map(size).sum();
    }
}

fn size(push: &Push) -> usize {
    PUSH_BYTES + push.topic.len() + push.message.json.len()
}
