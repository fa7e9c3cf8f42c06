//! Values of the configuration with a form of their own: the location of the store, the sync mode,
//! the behaviour of a full store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::PossibleValue;

pub use crate::ops::{SyncMode, WhenFull};

const NO_STORE: &str = "no such store: say 'memory', the path of a file, redis://HOST:PORT or \
                        redis-cluster://HOST:PORT,HOST:PORT";
#[cfg(not(feature = "tls"))]
const NO_TLS: &str = "this dsmq was built without TLS (--features tls)";
const NO_PATH: &str = "no path of a file: say 'memory' or a path, such as ./queue.db";

/// Where messages are kept.
///
/// ```
/// assert_eq!("memory".parse(), Ok(dsmq::StoreLocation::Memory));
/// assert_eq!("queue.db".parse(), Ok(dsmq::StoreLocation::File("queue.db".into())));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum StoreLocation {
    /// In memory, until the server stops.
    #[default]
    Memory,
    /// In this file, which is created if it does not exist.
    File(PathBuf),
    /// In this Redis, which other servers can share.
    Redis(RedisUrl),
}

/// Address and credentials of a Redis: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://` with
/// TLS, or `redis+unix:///PATH`; of a Redis Cluster, some of its nodes:
/// `redis-cluster://HOST:PORT,…` or `rediss-cluster://`. It is printed without the password.
#[derive(Clone, Eq, PartialEq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The schemes of such a URL.
    const SCHEMES: [&str; 5] =
        ["redis://", "rediss://", "redis+unix://", "redis-cluster://", "rediss-cluster://"];

    fn new(text: &str) -> Option<RedisUrl> {
        let rest = RedisUrl::SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))?;
        (!rest.is_empty()).then(|| RedisUrl(text.to_owned()))
    }

    /// The whole URL, with the password.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "nobody goes there"))]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, query) = self.0.split_once('?').unwrap_or((&self.0, ""));
        let shown = place.split_once("://").and_then(|(scheme, rest)| {
            // A password may contain a question mark that was not written as %3F.
            if query.contains('@') {
                return Some(format!("{scheme}://***"));
            }
            let (user, host) = rest.rsplit_once('@')?;
            let (user, _) = user.split_once(':')?;
            Some(format!("{scheme}://{user}:***@{host}"))
        });
        f.write_str(shown.as_deref().unwrap_or(place))?;
        match query {
            "" => Ok(()),
            partitions if is_partition_count(partitions) => write!(f, "?{partitions}"),
            // An unknown query may be part of a password.
            _ => f.write_str("?***"),
        }
    }
}

fn is_partition_count(query: &str) -> bool {
    let number = query.strip_prefix("parts=");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Parses a prefix of keys. Braces are refused, because they select the slot of a key in a cluster.
pub(crate) fn redis_prefix(text: &str) -> Result<String, String> {
    let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '{' || c == '}';
    if text.is_empty() || text.len() > REDIS_PREFIX_BYTES || text.contains(wrong) {
        return Err(format!(
            "1 to {REDIS_PREFIX_BYTES} characters, without spaces or braces, such as dsmq:"
        ));
    }
    Ok(text.to_owned())
}

const REDIS_PREFIX_BYTES: usize = 64;

impl StoreLocation {
    /// Refuses paths that SQLite would read as something else.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            StoreLocation::File(path) if !is_path(path) => Err(NO_PATH.to_owned()),
            _ => Ok(()),
        }
    }
}

fn is_path(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    let other = [&b":"[..], b"file:"].iter().any(|prefix| name.starts_with(prefix));
    !name.is_empty() && !name.contains(&0) && !other
}

impl FromStr for StoreLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<StoreLocation, String> {
        if text == "memory" {
            return Ok(StoreLocation::Memory);
        }
        #[cfg(not(feature = "tls"))]
        if text.starts_with("rediss") && text.contains("://") {
            return Err(NO_TLS.to_owned());
        }
        if let Some(url) = RedisUrl::new(text) {
            return Ok(StoreLocation::Redis(url));
        }
        if text.contains("://") {
            return Err(NO_STORE.to_owned());
        }
        let store = StoreLocation::File(text.into());
        store.check().map(|()| store)
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreLocation::Memory => f.write_str("memory"),
            StoreLocation::File(path) if path.as_os_str() == "memory" => f.write_str("./memory"),
            StoreLocation::File(path) => write!(f, "{}", path.display()),
            StoreLocation::Redis(url) => write!(f, "{url}"),
        }
    }
}

impl ValueEnum for SyncMode {
    fn value_variants<'a>() -> &'a [SyncMode] {
        &[SyncMode::Full, SyncMode::Normal, SyncMode::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            SyncMode::Full => "Nothing confirmed: a confirmed message is on disk",
            SyncMode::Normal => "The last moments, confirmed or not",
            SyncMode::Off => "The whole file",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

impl ValueEnum for WhenFull {
    fn value_variants<'a>() -> &'a [WhenFull] {
        &[WhenFull::DropOldest, WhenFull::Refuse]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            WhenFull::DropOldest => PossibleValue::new("drop-oldest")
                .help("Remove the oldest messages of any topic, leased ones included"),
            WhenFull::Refuse => PossibleValue::new("refuse").help("Fail with the code 'full'"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_store_is_memory_or_a_file() {
        assert_eq!("memory".parse(), Ok(StoreLocation::Memory));
        for path in ["queue.db", "./memory", "/var/lib/q", "Memory", "redis", "a:b", "./file:x"] {
            assert_eq!(path.parse(), Ok(StoreLocation::File(path.into())));
        }
        for other in ["redis-cluster://", "rediss://", "redis://", "sqlite:///q.db"] {
            assert_eq!(other.parse::<StoreLocation>(), Err(NO_STORE.to_owned()), "{other}");
        }
        for wrong in ["", ":memory:", "file:queue.db?mode=memory", "a\0b"] {
            assert_eq!(wrong.parse::<StoreLocation>(), Err(NO_PATH.to_owned()), "{wrong:?}");
            assert_eq!(
                StoreLocation::File(wrong.into()).check(),
                Err(NO_PATH.to_owned()),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("redis://host:6379/0", "redis://host:6379/0"),
            #[cfg(feature = "tls")]
            ("rediss://:secret@host", "rediss://:***@host"),
            ("redis://:secret@host", "redis://:***@host"),
            ("redis://user:se:c@ret@host:1/2", "redis://user:***@host:1/2"),
            ("redis://u:sec?ret@host", "redis://***?***"),
            ("redis-cluster://u:secret@a:1,b:2?parts=3", "redis-cluster://u:***@a:1,b:2?parts=3"),
            ("redis-cluster://a:1?parts=16&pass=secret", "redis-cluster://a:1?***"),
            ("redis-cluster://a:1?parts=secret", "redis-cluster://a:1?***"),
            ("redis+unix:///run/redis.sock?db=1&pass=secret", "redis+unix:///run/redis.sock?***"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
        ] {
            let store: StoreLocation = url.parse().unwrap();
            assert_eq!(store.to_string(), shown);
            assert_eq!(format!("{store:?}"), format!("Redis(\"{shown}\")"));
        }
    }

    #[test]
    fn a_prefix_has_no_braces() {
        assert_eq!(redis_prefix("dsmq:"), Ok("dsmq:".to_owned()));
        for wrong in ["", "a b", "{a}", "}", "\n", &"a".repeat(65)] {
            assert!(redis_prefix(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_that_is_called_memory_is_shown_as_one() {
        let store = StoreLocation::File("memory".into());
        assert_eq!(store.to_string().parse(), Ok(StoreLocation::File("./memory".into())));
    }

    proptest! {
        #[test]
        fn a_store_that_is_shown_can_be_read(path in "[^\0:]{1,20}") {
            let store = StoreLocation::File(path.into());
            prop_assert_eq!(store.to_string().parse(), Ok(store));
        }
    }
}
