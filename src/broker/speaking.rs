//! What the connections of a server speak, counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Broker, Caller};
use crate::sync::lock;

/// Connections by what they speak.
#[derive(Default)]
pub struct Spoken(Mutex<BTreeMap<&'static str, u64>>);

/// A connection counts under what it speaks until this is dropped.
pub struct Speaking {
    spoken: Arc<Spoken>,
    protocol: &'static str,
}

/// Until this is dropped, a connection counts under what it has turned to.
#[cfg(feature = "http")]
pub struct Turned {
    from: Arc<Speaking>,
    protocol: &'static str,
}

impl Spoken {
    fn more(&self, protocol: &'static str) {
        *lock(&self.0).entry(protocol).or_default() += 1;
    }

    fn fewer(&self, protocol: &'static str) {
        if let Some(count) = lock(&self.0).get_mut(protocol) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.spoken.fewer(self.protocol);
    }
}

#[cfg(feature = "http")]
impl Speaking {
    pub fn turn(self: &Arc<Self>, protocol: &'static str) -> Turned {
        self.spoken.fewer(self.protocol);
        self.spoken.more(protocol);
        Turned { from: self.clone(), protocol }
    }
}

#[cfg(feature = "http")]
impl Drop for Turned {
    fn drop(&mut self) {
        let spoken = &self.from.spoken;
        spoken.fewer(self.protocol);
        spoken.more(self.from.protocol);
    }
}

impl Broker {
    /// Counts the caller's connection under its protocol.
    pub fn speaking(&self, caller: &Caller) -> Speaking {
        let protocol = caller.protocol();
        self.spoken.more(protocol);
        Speaking { spoken: self.spoken.clone(), protocol }
    }

    /// How many connections speak what; who has said nothing yet speaks nothing.
    #[cfg(feature = "http")]
    pub fn spoken(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.spoken.0).clone()
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;
    use crate::store::{self, Rules};

    #[test]
    fn a_connection_counts_once_whatever_it_turns_to() {
        let broker = Broker::new(store::in_memory(Rules::default()).unwrap());
        let counts = || broker.spoken().into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>();
        let speaking = |protocol| {
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            broker.speaking(&Caller::new(address, protocol))
        };
        let json = speaking("json");
        let http = Arc::new(speaking("http"));
        assert_eq!(counts(), [("http", 1), ("json", 1)]);
        let turned = http.turn("sse");
        // What it was before may end first.
        drop(http);
        assert_eq!(counts(), [("json", 1), ("sse", 1)]);
        drop(turned);
        drop(json);
        assert_eq!(counts(), []);
    }
}
