//! The nodes of a store that is elsewhere, as one server sees them.

use std::time::Duration;

/// A node that holds a store, or some parts of it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Where it is, without a password.
    pub address: String,
    /// The parts of the store that are there.
    pub partitions: Vec<u16>,
    pub away: Option<Away>,
    /// How long it took to answer last.
    pub round_trip: Duration,
    /// Those that follow it, if it tells.
    pub replicas: Option<Replicas>,
    /// How long it is, if it is so, that not all that other servers did there is known here.
    pub news_lag: Option<Duration>,
}

/// It cannot be used.
#[derive(Clone, Debug)]
pub struct Away {
    /// How long it has been so.
    pub time: Duration,
    pub why: String,
}

/// The replicas of a node that follow it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replicas {
    pub count: u32,
    /// What the one that is furthest behind has not said that it has.
    pub lag_bytes: u64,
    /// How long the most silent of them has said nothing.
    pub lag: Duration,
}
