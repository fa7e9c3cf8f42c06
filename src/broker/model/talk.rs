//! Actions on sessions: reading, waiting to read, subscribing.

use std::sync::Arc;

use super::action::{Begin, Name, PATTERNS, TOPICS};
use super::readers::{self, Got, Reader};
use super::world::{Peer, World, name, topic, waker};
use crate::broker::{Caller, From, Pattern, Pushes};
use crate::ops::Message;

/// Connections at a time.
const PEERS: usize = 4;

fn owned(message: Message<'_>) -> (u64, Vec<u8>) {
    (message.id, message.body.to_vec())
}

impl World {
    pub fn connect(&mut self) {
        if self.peers.len() == PEERS {
            return;
        }
        self.peers.push(Peer {
            session: self.broker.session(&Caller::server()),
            reader: Reader::new(&self.log),
            watch: None,
            watch_woken: Arc::default(),
            idle: false,
            push_woken: Arc::default(),
        });
    }

    pub fn disconnect(&mut self, which: usize) {
        if !self.peers.is_empty() {
            self.peers.remove(which % self.peers.len());
        }
    }

    fn peer(&self, which: usize) -> Option<usize> {
        which.checked_rem(self.peers.len())
    }

    pub fn waits(&self, which: usize) -> bool {
        self.peer(which).is_some_and(|at| self.peers[at].watch.is_some())
    }

    /// A get; true if there was a message.
    pub fn get(&mut self, which: usize, name: Name, since: Option<usize>, latest: bool) -> bool {
        let Some(at) = self.peer(which) else { return false };
        let since = since.map(|which| self.some_id(which));
        let peer = &mut self.peers[at];
        let (session, topic) = (&mut peer.session, TOPICS[name]);
        if latest {
            let got = self
                .broker
                .get_latest(&Caller::server(), session, topic, since)
                .unwrap()
                .map(owned);
            peer.reader.get_latest(&self.log, name, since, got.clone());
            return got.is_some();
        }
        let got = self.broker.get(&Caller::server(), session, topic, since).unwrap().map(owned);
        peer.reader.get(&self.log, name, since, got.clone());
        got.is_some()
    }

    /// A get that waits, if there is nothing yet.
    pub fn watch(&mut self, which: usize, name: Name) {
        let Some(at) = self.peer(which) else { return };
        if self.peers[at].watch.is_some() {
            return;
        }
        self.peers[at].watch_woken.reset();
        let waker = waker(&self.peers[at].watch_woken);
        let watch = self.broker.watch(&Caller::server(), topic(name), waker);
        if !self.get(at, name, None, false) {
            self.peers[at].watch = Some((watch, name));
        }
    }

    /// Woken gets look again. A wake may be for nothing, for example if a taker was faster.
    pub fn answer_watches(&mut self) {
        for at in 0..self.peers.len() {
            let Some((_, name)) = self.peers[at].watch else { continue };
            if self.peers[at].watch_woken.count() > 0 {
                self.peers[at].watch_woken.reset();
                if self.get(at, name, None, false) {
                    self.peers[at].watch = None;
                }
            }
        }
    }

    pub fn subscribe(&mut self, which: usize, pattern: usize, from: &Begin) {
        let Some(at) = self.peer(which) else { return };
        let (from, model) = match from {
            Begin::Now => (From::Now, readers::From::Now),
            Begin::Oldest => (From::Oldest, readers::From::Oldest),
            Begin::Id(which) => {
                let id = self.some_id(*which);
                (From::Id(id), readers::From::Id(id))
            }
            Begin::Last(n) => (From::Last(*n), readers::From::Last(*n)),
        };
        let peer = &mut self.peers[at];
        let waker = waker(&peer.push_woken);
        let wanted = Pattern::new(PATTERNS[pattern]).unwrap();
        self.broker
            .subscribe(&Caller::server(), &mut peer.session, vec![wanted], from, &waker)
            .unwrap();
        peer.reader.subscribe(&self.log, pattern, model);
        // It reads before it waits.
        peer.idle = false;
    }

    pub fn unsubscribe(&mut self, which: usize, pattern: usize) {
        let Some(at) = self.peer(which) else { return };
        let peer = &mut self.peers[at];
        self.broker.unsubscribe(
            &Caller::server(),
            &mut peer.session,
            &Pattern::new(PATTERNS[pattern]).unwrap(),
        );
        peer.reader.unsubscribe(pattern);
        assert_eq!(peer.session.is_subscribed(), !peer.reader.patterns.is_empty());
    }

    /// Reads pushes; who has read all of them waits to be woken.
    pub fn read(&mut self, which: usize, most: usize) {
        let Some(at) = self.peer(which) else { return };
        let peer = &mut self.peers[at];
        for _ in 0..most {
            peer.push_woken.reset();
            let Some(pushes) = self.broker.pushes(&Caller::server(), &mut peer.session).unwrap()
            else {
                assert!(!peer.reader.has_pushes(&self.log), "a push is missing");
                peer.idle = true;
                return;
            };
            peer.idle = false;
            peer.reader.pushed(&self.log, name(&pushes.topic), &messages(&pushes));
        }
    }

    /// history: the last n of a topic, oldest first, and where dead letters came from.
    pub fn history(&mut self, name: Name, limit: usize) {
        let chunk = self.broker.history(&Caller::server(), TOPICS[name], limit).unwrap();
        let seen = (0..chunk.len()).map(|index| {
            let origin = chunk.origin(index).map(|(topic, id)| (super::world::name(topic), id));
            (chunk.get(index).map(owned).unwrap(), origin)
        });
        let mut expected: Vec<_> = self.log.visible(name).rev().take(limit).collect();
        expected.reverse();
        let expected = expected.into_iter().map(|m| ((m.id, m.body.clone()), m.origin));
        assert!(seen.eq(expected), "the history of {:?}", TOPICS[name]);
    }
}

fn messages(pushes: &Pushes) -> Got {
    pushes.range.clone().filter_map(|index| pushes.chunk.get(index)).map(owned).collect()
}
