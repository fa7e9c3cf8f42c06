//! What is chosen among a few: the store, how safe a commit is, what happens when it is full.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;

const NO_STORE: &str = "no such store yet: say 'memory' or the path of a file";
const NO_PATH: &str = "no path of a file: say 'memory' or a path, such as ./queue.db";

/// Where messages are kept.
///
/// ```
/// assert_eq!("memory".parse(), Ok(dsmq::StoreAt::Memory));
/// assert_eq!("queue.db".parse(), Ok(dsmq::StoreAt::File("queue.db".into())));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum StoreAt {
    /// In the server's memory: gone when it ends.
    #[default]
    Memory,
    /// In this file, which is made if it is not there.
    File(PathBuf),
}

impl StoreAt {
    /// Refuses what SQLite would take for something else than a path.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            StoreAt::File(path) if !is_path(path) => Err(NO_PATH.to_owned()),
            _ => Ok(()),
        }
    }
}

fn is_path(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    let other = [&b":"[..], b"file:"].iter().any(|prefix| name.starts_with(prefix));
    !name.is_empty() && !name.contains(&0) && !other
}

impl FromStr for StoreAt {
    type Err = String;

    fn from_str(text: &str) -> Result<StoreAt, String> {
        if text == "memory" {
            return Ok(StoreAt::Memory);
        }
        if text.contains("://") {
            return Err(NO_STORE.to_owned());
        }
        let store = StoreAt::File(text.into());
        store.check().map(|()| store)
    }
}

impl fmt::Display for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreAt::Memory => f.write_str("memory"),
            StoreAt::File(path) if path.as_os_str() == "memory" => f.write_str("./memory"),
            StoreAt::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a commit to a file waits for. Killing the server loses nothing confirmed in any of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum SyncMode {
    /// A confirm means that the message is on disk
    #[default]
    Full,
    /// A power cut may lose the last moments, confirmed or not
    Normal,
    /// A power cut may destroy the file
    Off,
}

/// What becomes of a put into a full store.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum WhenFull {
    /// The oldest messages are removed to make room, of whatever topic, taken ones included
    DropOldest,
    /// It is answered with an error of code 'full'
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_store_is_memory_or_a_file() {
        assert_eq!("memory".parse(), Ok(StoreAt::Memory));
        for path in ["queue.db", "./memory", "/var/lib/q", "Memory", "redis", "a:b", "./file:x"] {
            assert_eq!(path.parse(), Ok(StoreAt::File(path.into())));
        }
        for other in ["redis://host:6379/0", "redis-cluster://a,b", "rediss://h", "sqlite:///q.db"]
        {
            assert_eq!(other.parse::<StoreAt>(), Err(NO_STORE.to_owned()), "{other}");
        }
        for wrong in ["", ":memory:", "file:queue.db?mode=memory", "a\0b"] {
            assert_eq!(wrong.parse::<StoreAt>(), Err(NO_PATH.to_owned()), "{wrong:?}");
            assert_eq!(StoreAt::File(wrong.into()).check(), Err(NO_PATH.to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_that_is_called_memory_is_shown_as_one() {
        let store = StoreAt::File("memory".into());
        assert_eq!(store.to_string().parse(), Ok(StoreAt::File("./memory".into())));
    }

    proptest! {
        #[test]
        fn a_store_that_is_shown_can_be_read(path in "[^\0:]{1,20}") {
            let store = StoreAt::File(path.into());
            prop_assert_eq!(store.to_string().parse(), Ok(store));
        }
    }
}
