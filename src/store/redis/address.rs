//! URLs of a store in Redis, and addresses of cluster nodes as nodes report them.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError};

/// Schemes of a cluster, each with the scheme of its nodes.
const CLUSTER: [(&str, &str); 2] =
    [("redis-cluster://", "redis://"), ("rediss-cluster://", "rediss://")];

/// Number of partitions of a new store in a cluster if the URL has none, and the largest number.
pub const PARTITIONS_DEFAULT: usize = 16;
pub const PARTITIONS_MAX: usize = 1_024;

/// The URL forms of a single Redis, as error texts show them.
const ONE: &str =
    "redis://[USER:PASSWORD@]HOST[:PORT][/DB], with special characters of a password as %XX";
const UNIX: &str = "redis+unix:///PATH[?db=N&user=U&pass=P]";

/// Where a store is, and how to connect.
#[derive(Clone, Debug)]
pub struct RedisAt<'a> {
    pub url: &'a str,
    /// Prefix of all keys.
    pub prefix: &'a str,
    /// Most connections to each node, besides those of the change feed.
    pub pool: usize,
    /// Replicas that must confirm a durable change.
    pub replicas: u32,
}

impl RedisAt<'_> {
    /// Prefix of a partition's keys. It contains a hash tag, so all keys of a partition have one
    /// slot.
    pub fn keys(&self, partition: usize) -> String {
        format!("{}{{{partition}}}:", self.prefix)
    }
}

/// A parsed store URL.
pub enum StoreUrl {
    One(ConnectionInfo),
    Cluster {
        /// Some nodes of the cluster.
        seeds: Vec<ConnectionInfo>,
        /// Number of partitions, if the URL has it.
        partitions: Option<usize>,
    },
}

/// Parses `redis://…` and its variants, or
/// `redis-cluster://[USER:PASSWORD@]HOST:PORT,…[?parts=N]`.
pub fn parse(url: &str) -> Result<StoreUrl, String> {
    let info = |url: &str| url.into_connection_info().map_err(|error| invalid_url(url, &error));
    let cluster = CLUSTER.iter().find_map(|(cluster, one)| Some((url.strip_prefix(cluster)?, one)));
    let Some((rest, scheme)) = cluster else {
        return match url.split_once('?') {
            Some((_, query)) if query.starts_with("parts=") => Err(
                "a single Redis has no partitions: for a cluster use redis-cluster://HOST:PORT,…"
                    .to_owned(),
            ),
            _ => info(url).map(StoreUrl::One),
        };
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let number = query.strip_prefix("parts=").and_then(|number| number.parse().ok());
    let partitions = number.filter(|partitions| (1..=PARTITIONS_MAX).contains(partitions));
    if partitions.is_none() && !query.is_empty() {
        // The error does not quote the query: it may be a password.
        return Err(format!(
            "only parts=N, from 1 to {PARTITIONS_MAX}, may follow ? (write ? in a password as %3F)"
        ));
    }
    let (user, hosts) = match rest.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), rest),
    };
    let seeds = hosts.trim_end_matches('/').split(',').map(|host| {
        if host.is_empty() || host.contains('/') {
            return Err("write the nodes as HOST:PORT,HOST:PORT".to_owned());
        }
        info(&format!("{scheme}{user}{host}"))
    });
    Ok(StoreUrl::Cluster { seeds: seeds.collect::<Result<_, _>>()?, partitions })
}

fn invalid_url(url: &str, error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::InvalidClientConfig if url.starts_with("redis+unix") => {
            format!("invalid URL: write {UNIX}")
        }
        ErrorKind::InvalidClientConfig => format!("invalid URL: write {ONE}"),
        _ => error.to_string(),
    }
}

/// Address of a Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// The path of a Unix socket if `port` is 0.
    host: String,
    port: u16,
}

impl Address {
    /// An address as a node reports it; an unknown host is that of the node asked.
    pub fn new(host: &str, port: u16, reporter: &Address) -> Address {
        let host = if host.is_empty() || host == "?" { &reporter.host } else { host };
        Address { host: host.to_owned(), port }
    }

    /// Parses `HOST:PORT`.
    pub fn parse(text: &str, reporter: &Address) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Address::new(host, port.parse().ok()?, reporter))
    }

    /// This address with the transport settings of `other`.
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
    fn cluster_url_names_some_nodes() {
        let (seeds, partitions) = cluster("redis-cluster://127.0.0.1:7001,h:7002,[::1]:7003");
        assert_eq!(seeds, ["127.0.0.1:7001 None", "h:7002 None", "[::1]:7003 None"]);
        assert_eq!(partitions, None);
        let (seeds, partitions) = cluster("redis-cluster://me:p%40ss@a,b:2/?parts=3");
        assert_eq!(seeds, [r#"a:6379 Some(("me", "p@ss"))"#, r#"b:2 Some(("me", "p@ss"))"#]);
        assert_eq!(partitions, Some(3));
        assert!(matches!(parse("redis://h:1/2"), Ok(StoreUrl::One(_))));
        for invalid_url in ["", "a,", ",a", "a/1", "a?parts=0", "a?parts=1025", "a?x=1", "a:x"] {
            assert!(parse(&format!("redis-cluster://{invalid_url}")).is_err(), "{invalid_url}");
        }
        assert!(parse("redis://h:1?parts=4").is_err());
        for invalid_url in ["u:secret?secret@a", "a?pass=secret", "a?parts=secret"] {
            let why = parse(&format!("redis-cluster://{invalid_url}")).err().unwrap();
            assert!(!why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn unknown_host_is_the_host_that_was_asked() {
        let reporter = Address { host: "h".into(), port: 1 };
        for (said, address) in [("10.0.0.1:7", "10.0.0.1:7"), (":7", "h:7"), ("::1:7", "[::1]:7")] {
            assert_eq!(Address::parse(said, &reporter).unwrap().to_string(), address);
        }
        assert!(Address::parse("10.0.0.1", &reporter).is_none());
        assert_eq!(Address::new("?", 7, &reporter).to_string(), "h:7");
    }
}
