//! Choices of the operator that the store obeys. The configuration reads them.

/// What a commit to a file waits for. Killing the server loses nothing confirmed in any of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SyncMode {
    /// The disk: a confirmed message survives a power failure.
    #[default]
    Full,
    /// The system: a power failure may lose the last moments, confirmed or not.
    Normal,
    /// The system, even where the file must be whole: a power failure may destroy the file.
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

/// What a full store does with a put.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenFull {
    /// It removes the oldest messages of any topic, taken ones included.
    DropOldest,
    /// It answers with an error of code `full`.
    #[default]
    Refuse,
}
