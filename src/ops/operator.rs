//! The store as the operator sees it: the settings `--sync` and `--when-full`, and the health of the Redis
//! nodes for statistics.

use std::time::Duration;

/// What a commit to a file waits for. In every mode, confirmed messages survive a killed server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SyncMode {
    /// Wait for the disk: confirmed messages survive a power failure.
    #[default]
    Full,
    /// Wait for the system: a power failure can lose the most recent messages, confirmed or not.
    Normal,
    /// Never sync, not even at checkpoints: a power failure can corrupt the file.
    Off,
}

impl SyncMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SyncMode::Full => "full",
            SyncMode::Normal => "normal",
            SyncMode::Off => "off",
        }
    }
}

/// The reaction of a full store to a put.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenFull {
    /// Remove the oldest messages of any topic, including leased ones.
    DropOldest,
    /// Refuse the put with the error `full`.
    #[default]
    Refuse,
}

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
