//! The caller of the broker: part of the broker, so that access rules can have one place in it. It
//! knows addresses, and no sockets.

use std::net::IpAddr;

/// Who asks the broker for something, from which address and over which protocol.
///
/// A caller has no identity yet, and nothing is refused to it.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    address: IpAddr,
    protocol: &'static str,
}

impl Caller {
    /// The client of a connection from `address` that counts under `protocol`.
    pub const fn new(address: IpAddr, protocol: &'static str) -> Caller {
        Caller { address, protocol }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The name under which the connection is counted, as `json`; `none_yet` before its first byte.
    pub fn protocol(&self) -> &'static str {
        self.protocol
    }
}
