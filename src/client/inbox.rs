//! What was pushed and not yet returned, and how far each topic came by it.

use std::collections::{HashMap, VecDeque};

use super::Push;

/// Bytes of pushes that are kept while a reply is waited for. Pushes stand before the reply, so
/// they must be read first; beyond this they are dropped, and asked for again later.
const KEPT_BYTES_MAX: usize = if cfg!(test) { 100_000 } else { 16 * 1024 * 1024 };

/// What a push takes beside its texts.
const PUSH_BYTES: usize = size_of::<Push>() + 32;

#[derive(Default)]
pub(super) struct Inbox {
    pushes: VecDeque<Push>,
    bytes: usize,
    places: HashMap<String, Place>,
    /// Whether pushes were dropped: what comes now is not what comes next.
    overflowed: bool,
}

/// How far one topic came.
struct Place {
    /// The largest id that was pushed, or where the topic was begun.
    last: u64,
    /// Pushes up to this id came over an earlier connection. Over one connection nothing comes twice, but a
    /// message that was put back comes after later ones.
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

    /// The pushes come anew, from the places that are known.
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

    /// Forgets the topics that nothing subscribes to.
    pub(super) fn retain(&mut self, mut covered: impl FnMut(&str) -> bool) {
        self.places.retain(|topic, _| covered(topic));
        self.pushes.retain(|push| covered(&push.topic));
        self.bytes = self.pushes.iter().map(size).sum();
    }
}

fn size(push: &Push) -> usize {
    PUSH_BYTES + push.topic.len() + push.message.json.len()
}
