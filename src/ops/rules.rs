//! Settings of the store that the operator chooses: `--sync` and `--when-full`.

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
