//! Statistics of a server and of its topics.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// How the consumers of a topic share its messages. Consumers exist in other protocols only; take,
/// get and subscribe ignore the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every consumer receives every message.
    Broadcast,
    /// Every message goes to one consumer, in turn.
    RoundRobin,
}

impl Policy {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Broadcast => "broadcast",
            Policy::RoundRobin => "roundrobin",
        }
    }

    /// The policy with this name.
    pub fn from_name(name: &str) -> Option<Policy> {
        [Policy::Broadcast, Policy::RoundRobin].into_iter().find(|policy| policy.name() == name)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Policy, D::Error> {
        let name = String::deserialize(deserializer)?;
        Policy::from_name(&name).ok_or_else(|| D::Error::custom(format!("no policy: {name:?}")))
    }
}

/// Defines a struct that is a JSON object with the same names. A missing field keeps its default,
/// and an unknown one is ignored.
macro_rules! json_object {
    (
        $(#[$outer:meta])*
        $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $(map.serialize_entry(stringify!($field), &self.$field)?;)*
                map.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Fields;

                impl<'de> Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut found = $name::default();
                        while let Some(name) = map.next_key::<String>()? {
                            match name.as_str() {
                                $(stringify!($field) => found.$field = map.next_value()?,)*
                                _ => drop(map.next_value::<IgnoredAny>()?),
                            }
                        }
                        Ok(found)
                    }
                }

                deserializer.deserialize_map(Fields)
            }
        }
    };
}

json_object! {
    /// Where a dead letter comes from.
    Origin {
        /// The topic that it was put into.
        topic: String,
        /// Its id there.
        id: u64,
    }
}

json_object! {
    /// Statistics of a topic.
    TopicInfo {
        /// Its name.
        topic: String,
        /// Number of messages.
        length: u64,
        /// Bytes of their JSON text.
        bytes: u64,
        /// The id of the oldest message, if there is one.
        oldest: Option<u64>,
        /// The id of the newest message, if there is one.
        newest: Option<u64>,
        /// Messages under a lease.
        leased: u64,
        /// Delayed messages; `length` does not count them.
        delayed: u64,
        /// Messages dropped by a bound since the server started, the oldest first.
        dropped: u64,
        /// Puts per second, over the last 10 seconds.
        put_rate: f64,
        /// Takes per second, over the last 10 seconds.
        take_rate: f64,
        /// Connected consumers and subscribers.
        consumers: u64,
        /// How consumers share its messages, if a policy was set.
        policy: Option<Policy>,
        /// `started`, or `stopped` while its consumers receive nothing.
        state: String,
    }
}

json_object! {
    /// State of a Redis node that holds the store or partitions of it.
    NodeInfo {
        /// Its address.
        address: String,
        /// The partitions that it holds.
        parts: Vec<u16>,
        /// Seconds for which it has been unusable, if it is.
        away_seconds: Option<f64>,
        /// Why it is unusable.
        away_why: Option<String>,
        /// Microseconds that its last answer took.
        round_trip_us: u64,
        /// Number of its replicas, if it reports them.
        replicas: Option<u64>,
        /// Bytes that the slowest replica has not acknowledged.
        replica_lag_bytes: Option<u64>,
        /// Seconds since the last acknowledgement of the slowest replica.
        replica_lag_seconds: Option<f64>,
        /// Seconds for which changes by other servers may be unknown to this server, if they may.
        news_lag_seconds: Option<f64>,
    }
}

json_object! {
    /// Statistics of the server.
    Stats {
        /// Its version.
        version: String,
        /// Seconds since it started.
        uptime: f64,
        /// Open connections, including this one.
        connections: u64,
        /// Takers that wait for a message.
        waiting: u64,
        /// Number of topics.
        topics: u64,
        /// Messages in all topics.
        messages: u64,
        /// Bytes of their JSON text.
        bytes: u64,
        /// Messages under a lease.
        leased: u64,
        /// Delayed messages.
        delayed: u64,
        /// Messages put since it started.
        puts: u64,
        /// Messages taken since it started.
        takes: u64,
        /// Messages dropped by a bound since it started, the oldest first.
        dropped: u64,
        /// The kind of its store: `memory`, `file`, `redis` or `redis-cluster`.
        store: String,
        /// Bytes that the store uses.
        size: u64,
        /// Maximum bytes of the store, if it has a bound.
        max_size: Option<u64>,
        /// The nodes that hold the store, if it is in Redis.
        nodes: Vec<NodeInfo>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_whatever_else_is_told_and_written_as_it_was_read() {
        let json = r#"{"topic":"t","length":2,"bytes":10,"oldest":7,"newest":null,"leased":0,"delayed":1,"dropped":0,"put_rate":0.5,"take_rate":0.0,"consumers":3,"policy":"roundrobin","state":"stopped"}"#;
        let row: TopicInfo = serde_json::from_str(json).unwrap();
        assert_eq!((row.oldest, row.newest), (Some(7), None));
        assert_eq!(row.policy, Some(Policy::RoundRobin));
        assert_eq!(serde_json::to_string(&row).unwrap(), json);
        let row: TopicInfo =
            serde_json::from_str(r#"{"new":[{}],"put_rate":1,"topic":"t","policy":null}"#).unwrap();
        assert_eq!((row.topic.as_str(), row.put_rate, row.policy), ("t", 1.0, None));
        assert!(serde_json::from_str::<TopicInfo>(r#"{"policy":"lottery"}"#).is_err());
    }
}
