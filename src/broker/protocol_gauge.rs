//! Counts the connections of a server by protocol. Part of the broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Broker, Caller};
use crate::sync::lock;

/// Number of connections by protocol.
#[derive(Default)]
pub struct ProtocolGauge(Mutex<BTreeMap<&'static str, u64>>);

/// Counts a connection under its protocol until it is dropped.
pub struct ProtocolGuard {
    gauge: Arc<ProtocolGauge>,
    protocol: &'static str,
}

/// Counts a connection under the protocol of its upgrade until it is dropped.
#[cfg(feature = "http")]
pub struct UpgradeGuard {
    from: Arc<ProtocolGuard>,
    protocol: &'static str,
}

impl ProtocolGauge {
    fn more(&self, protocol: &'static str) {
        *lock(&self.0).entry(protocol).or_default() += 1;
    }

    fn fewer(&self, protocol: &'static str) {
        if let Some(count) = lock(&self.0).get_mut(protocol) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Drop for ProtocolGuard {
    fn drop(&mut self) {
        self.gauge.fewer(self.protocol);
    }
}

#[cfg(feature = "http")]
impl ProtocolGuard {
    pub fn upgrade(self: &Arc<Self>, protocol: &'static str) -> UpgradeGuard {
        self.gauge.fewer(self.protocol);
        self.gauge.more(protocol);
        UpgradeGuard { from: self.clone(), protocol }
    }
}

#[cfg(feature = "http")]
impl Drop for UpgradeGuard {
    fn drop(&mut self) {
        let gauge = &self.from.gauge;
        gauge.fewer(self.protocol);
        gauge.more(self.from.protocol);
    }
}

impl Broker {
    /// Counts the caller's connection under its protocol.
    pub fn count_protocol(&self, caller: &Caller) -> ProtocolGuard {
        let protocol = caller.protocol();
        self.protocols.more(protocol);
        ProtocolGuard { gauge: self.protocols.clone(), protocol }
    }

    /// Number of connections by protocol. A connection that has sent nothing yet is not counted.
    #[cfg(feature = "http")]
    pub fn protocol_counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.protocols.0).clone()
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;
    use crate::store::{self, Rules};

    #[test]
    fn a_connection_counts_once_whatever_it_turns_to() {
        let broker = Broker::new(store::in_memory(Rules::default()).unwrap());
        let counts =
            || broker.protocol_counts().into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>();
        let counted = |protocol| {
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            broker.count_protocol(&Caller::new(address, protocol))
        };
        let json = counted("json");
        let http = Arc::new(counted("http"));
        assert_eq!(counts(), [("http", 1), ("json", 1)]);
        let upgraded = http.upgrade("sse");
        // The guard of the first protocol may be dropped first.
        drop(http);
        assert_eq!(counts(), [("json", 1), ("sse", 1)]);
        drop(upgraded);
        drop(json);
        assert_eq!(counts(), []);
    }
}
