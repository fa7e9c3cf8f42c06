//! Addresses of Redis and of a cluster's nodes, as users and nodes say them.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError};

/// How a cluster is named, and how one node of it is.
const CLUSTER: [(&str, &str); 2] =
    [("redis-cluster://", "redis://"), ("rediss-cluster://", "rediss://")];

/// How many parts a cluster's store has that was made without saying it, and how many it may have.
pub const PARTITIONS_DEFAULT: usize = 16;
pub const PARTITIONS_MAX: usize = 1_024;

/// How one Redis is named.
const ONE: &str =
    "redis://[USER:PASSWORD@]HOST[:PORT][/DB], with %XX for what is special in a password";
const UNIX: &str = "redis+unix:///PATH[?db=N&user=U&pass=P]";

/// Where a store is, and how it is reached.
#[derive(Clone, Debug)]
pub struct RedisAt<'a> {
    pub url: &'a str,
    /// What every key begins with.
    pub prefix: &'a str,
    /// Connections at most to each node, beside those that hear news.
    pub pool: usize,
    /// Replicas that must have what is promised.
    pub replicas: u32,
}

impl RedisAt<'_> {
    /// What the keys of a part begin with: they have a hash tag in common, so that they stand on one node of
    /// a cluster.
    pub fn keys(&self, partition: usize) -> String {
        format!("{}{{{partition}}}:", self.prefix)
    }
}

/// What a URL of a store names.
pub enum StoreUrl {
    One(ConnectionInfo),
    Cluster {
        /// Some of its nodes.
        seeds: Vec<ConnectionInfo>,
        /// Parts of the store, if that is said.
        partitions: Option<usize>,
    },
}

/// Reads `redis://…` and the others, or `redis-cluster://[USER:PASSWORD@]HOST:PORT,…[?partitions=N]`.
pub fn parse(url: &str) -> Result<StoreUrl, String> {
    let info = |url: &str| url.into_connection_info().map_err(|error| wrong(url, &error));
    let cluster = CLUSTER.iter().find_map(|(cluster, one)| Some((url.strip_prefix(cluster)?, one)));
    let Some((rest, scheme)) = cluster else {
        return match url.split_once('?') {
            Some((_, query)) if query.starts_with("parts=") => {
                Err("one Redis has no parts: redis-cluster://HOST:PORT,… is a cluster".to_owned())
            }
            _ => info(url).map(StoreUrl::One),
        };
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let number = query.strip_prefix("parts=").and_then(|number| number.parse().ok());
    let partitions = number.filter(|partitions| (1..=PARTITIONS_MAX).contains(partitions));
    if partitions.is_none() && !query.is_empty() {
        // What stands there is not repeated: it may be a password.
        return Err(format!(
            "behind ? stands parts=N, from 1 to {PARTITIONS_MAX}, or nothing (a ? in a password is %3F)"
        ));
    }
    let (user, hosts) = match rest.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), rest),
    };
    let seeds = hosts.trim_end_matches('/').split(',').map(|host| {
        if host.is_empty() || host.contains('/') {
            return Err("nodes are named as HOST:PORT,HOST:PORT".to_owned());
        }
        info(&format!("{scheme}{user}{host}"))
    });
    Ok(StoreUrl::Cluster { seeds: seeds.collect::<Result<_, _>>()?, partitions })
}

fn wrong(url: &str, error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::InvalidClientConfig if url.starts_with("redis+unix") => {
            format!("it is not {UNIX}")
        }
        ErrorKind::InvalidClientConfig => format!("it is not {ONE}"),
        _ => error.to_string(),
    }
}

/// Where a Redis listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// A path, if there is no port.
    host: String,
    port: u16,
}

impl Address {
    /// As a node says it; without a host it is that of the node that was asked.
    pub fn new(host: &str, port: u16, asked: &Address) -> Address {
        let host = if host.is_empty() || host == "?" { &asked.host } else { host };
        Address { host: host.to_owned(), port }
    }

    /// Reads `HOST:PORT`.
    pub fn parse(text: &str, asked: &Address) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Address::new(host, port.parse().ok()?, asked))
    }

    /// The same, reached as the other address is.
    pub fn of(&self, other: &ConnectionAddr) -> ConnectionAddr {
        let (host, port) = (self.host.clone(), self.port);
        match other {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                let (insecure, tls_params) = (*insecure, tls_params.clone());
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        }
    }
}

impl From<&ConnectionAddr> for Address {
    fn from(address: &ConnectionAddr) -> Address {
        match address {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Address { host: host.clone(), port: *port }
            }
            ConnectionAddr::Unix(path) => Address { host: path.display().to_string(), port: 0 },
            _ => Address::default(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.host, self.port) {
            (path, 0) => f.write_str(path),
            (host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(url: &str) -> (Vec<String>, Option<usize>) {
        match parse(url).unwrap() {
            StoreUrl::Cluster { seeds, partitions } => {
                let shown = |seed: &ConnectionInfo| {
                    let redis = seed.redis_settings();
                    let user = redis.username().zip(redis.password());
                    format!("{} {user:?}", Address::from(seed.addr()))
                };
                (seeds.iter().map(shown).collect(), partitions)
            }
            StoreUrl::One(_) => panic!("{url} is one"),
        }
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let (seeds, partitions) = cluster("redis-cluster://127.0.0.1:7001,h:7002,[::1]:7003");
        assert_eq!(seeds, ["127.0.0.1:7001 None", "h:7002 None", "[::1]:7003 None"]);
        assert_eq!(partitions, None);
        let (seeds, partitions) = cluster("redis-cluster://me:p%40ss@a,b:2/?parts=3");
        assert_eq!(seeds, [r#"a:6379 Some(("me", "p@ss"))"#, r#"b:2 Some(("me", "p@ss"))"#]);
        assert_eq!(partitions, Some(3));
        assert!(matches!(parse("redis://h:1/2"), Ok(StoreUrl::One(_))));
        for wrong in ["", "a,", ",a", "a/1", "a?parts=0", "a?parts=1025", "a?x=1", "a:x"] {
            assert!(parse(&format!("redis-cluster://{wrong}")).is_err(), "{wrong}");
        }
        assert!(parse("redis://h:1?parts=4").is_err());
        for wrong in ["u:secret?secret@a", "a?pass=secret", "a?parts=secret"] {
            let why = parse(&format!("redis-cluster://{wrong}")).err().unwrap();
            assert!(!why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn a_node_without_a_name_is_where_it_was_asked() {
        let asked = Address { host: "h".into(), port: 1 };
        for (said, address) in [("10.0.0.1:7", "10.0.0.1:7"), (":7", "h:7"), ("::1:7", "[::1]:7")] {
            assert_eq!(Address::parse(said, &asked).unwrap().to_string(), address);
        }
        assert!(Address::parse("10.0.0.1", &asked).is_none());
        assert_eq!(Address::new("?", 7, &asked).to_string(), "h:7");
    }
}
