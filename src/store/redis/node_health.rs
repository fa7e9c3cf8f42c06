//! Whether a node can be used, since when not and why, and what it told of itself last. One line is
//! logged when it goes away, and one when it is back.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;
use crate::ops::{Away, Node, Replicas};
use crate::sync::lock;

/// A node, as it is known between two probes.
pub struct NodeHealth {
    /// Where it is, without a password.
    address: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    gone: Option<Gone>,
    /// How often it went away: a connection of an earlier round is of no more use.
    round: u64,
    told: Told,
    /// Somebody wants it to be probed at once.
    asked: bool,
    ended: bool,
    /// When a connection that broke was logged last.
    logged: Option<Instant>,
}

struct Gone {
    since: Instant,
    why: String,
    /// Whether a probe has found the same, and it is logged.
    sure: bool,
}

/// What a probe heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub round_trip: Duration,
    /// Not every user may ask.
    pub replicas: Option<Replicas>,
}

impl NodeHealth {
    pub fn new(address: String) -> NodeHealth {
        NodeHealth { address, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The round of connections that are of use; `None` while it is away.
    pub fn round(&self) -> Option<u64> {
        let state = lock(&self.state);
        state.gone.is_none().then_some(state.round)
    }

    /// How many replicas followed it when it was last probed, if it told.
    pub fn replicas(&self) -> Option<u32> {
        lock(&self.state).told.replicas.as_ref().map(|replicas| replicas.count)
    }

    /// A connection of this round broke: until it is probed the node is away.
    pub fn suspect(&self, round: u64, why: String) {
        let mut state = lock(&self.state);
        if state.round == round {
            state.leave(why);
        }
        state.asked = true;
        drop(state);
        self.changed.notify_all();
    }

    /// It shall be probed at once.
    pub fn ask(&self) {
        lock(&self.state).asked = true;
        self.changed.notify_all();
    }

    /// It is away: calls fail at once.
    pub fn leave(&self, why: &str) {
        lock(&self.state).leave(why.to_owned());
    }

    /// A probe had no answer.
    pub fn failed(&self, why: String) {
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        state.leave(why);
        let Some(gone) = state.gone.as_mut().filter(|gone| !gone.sure) else { return };
        gone.sure = true;
        tracing::error!(
            "Redis at {} is away ({}): what needs it is refused until it is back",
            self.address,
            gone.why
        );
    }

    /// A probe was answered; true if the node was away before it.
    pub fn answered(&self, told: Told) -> bool {
        let mut state = lock(&self.state);
        state.told = told;
        let Some(gone) = state.gone.take() else { return false };
        let now = Instant::now();
        if gone.sure {
            let seconds = gone.since.elapsed().as_secs_f64();
            tracing::warn!("Redis at {} is back after {seconds:.1} s", self.address);
        } else if state.logged.is_none_or(|at| now - at >= limits::DROPS_LOGGED) {
            // It may break again and again.
            state.logged = Some(now);
            let why = gone.why;
            tracing::warn!("a connection to Redis at {} broke ({why}): it answers", self.address);
        }
        true
    }

    /// Waits until it is to be probed, so long at most; false once there is nobody to probe it for.
    pub fn pause(&self, most: Duration) -> bool {
        let state = lock(&self.state);
        let waited =
            self.changed.wait_timeout_while(state, most, |state| !state.asked && !state.ended);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.asked = false;
        !state.ended
    }

    /// Nobody needs it any more.
    pub fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }

    /// The node, as people are told of it.
    pub fn node(&self) -> Node {
        let state = lock(&self.state);
        let away = state
            .gone
            .as_ref()
            .map(|gone| Away { time: gone.since.elapsed(), why: gone.why.clone() });
        let Told { round_trip, replicas } = state.told.clone();
        Node { address: self.address.clone(), away, round_trip, replicas, ..Node::default() }
    }
}

impl State {
    fn leave(&mut self, why: String) {
        if self.gone.is_none() {
            self.round += 1;
            self.gone = Some(Gone { since: Instant::now(), why, sure: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_is_a_suspicion_until_a_probe_is_answered() {
        let node = NodeHealth::new("here:1".into());
        let round = node.round().unwrap();
        node.suspect(round, "broken".into());
        assert_eq!(node.round(), None);
        assert_eq!(node.node().away.unwrap().why, "broken");
        // It is to be probed at once.
        assert!(node.pause(Duration::from_secs(60)));
        assert!(node.answered(Told::default()), "it was away");
        let next = node.round().unwrap();
        assert!(next > round && node.node().away.is_none());
        // What was begun before that breaks late, and says nothing of now.
        node.suspect(round, "broken too".into());
        assert_eq!(node.round(), Some(next));
        assert!(!node.answered(Told::default()));
    }

    #[test]
    fn the_first_reason_is_told_as_long_as_it_is_away() {
        let node = NodeHealth::new("here:1".into());
        node.failed("refused".into());
        node.failed("still refused".into());
        assert_eq!(node.node().away.unwrap().why, "refused");
        node.end();
        assert!(!node.pause(Duration::from_secs(60)));
    }
}
