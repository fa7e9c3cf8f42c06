//! The Redis nodes of a store as this server sees them, for statistics and health checks.

use std::time::Duration;

/// A node that holds a store, or some of its partitions.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Host and port, without a password.
    pub address: String,
    /// The partitions on this node.
    pub partitions: Vec<u16>,
    /// Set while the node is unreachable.
    pub away: Option<Away>,
    /// Time of the last reply.
    pub round_trip: Duration,
    /// Its replicas, if the node reports them.
    pub replicas: Option<Replicas>,
    /// How long changes by other servers may have been missing here; `None` if all are known.
    pub news_lag: Option<Duration>,
}

/// Why and for how long a node has been unreachable.
#[derive(Clone, Debug)]
pub struct Away {
    pub time: Duration,
    pub why: String,
}

/// The connected replicas of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replicas {
    pub count: u32,
    /// Bytes that the slowest replica has not acknowledged.
    pub lag_bytes: u64,
    /// Time since the last acknowledgement of the replica that has been silent for longest.
    pub lag: Duration,
}
