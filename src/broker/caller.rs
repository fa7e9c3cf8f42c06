//! The caller of the broker: the one place for access rules. It knows addresses, and no sockets.

use std::net::{IpAddr, Ipv4Addr};

/// Where a request comes from: address and protocol.
///
/// Every method of the broker that a client's request can reach takes the caller as its first
/// argument. Methods that only the server itself calls take none; `tests/layers.rs` lists them. A
/// caller has no identity yet, and nothing is refused to it.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    address: IpAddr,
    protocol: &'static str,
}

impl Caller {
    /// The client of a connection from `address`, counted under `protocol`.
    pub const fn new(address: IpAddr, protocol: &'static str) -> Caller {
        Caller { address, protocol }
    }

    /// The server itself, for its own work and for tests. Its address is unspecified.
    pub const fn server() -> Caller {
        Caller::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), "server")
    }

    /// The same client after an upgrade to another protocol.
    #[cfg(feature = "http")]
    pub fn over(&self, protocol: &'static str) -> Caller {
        Caller { protocol, ..*self }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The name under which the connection is counted, such as `json`; `none_yet` before its first
    /// byte.
    pub fn protocol(&self) -> &'static str {
        self.protocol
    }
}
