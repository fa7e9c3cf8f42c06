//! What is spoken at each address of a server. Here a protocol that expects ports of its own is
//! given them; `connection` serves it there.

use crate::compat::coremq::settings::CoreMq;
use crate::config::Config;

/// What the connections of one address speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Whatever a connection's first byte says.
    ByFirstByte,
    CoreMq,
    /// CoreMQ's WebSocket, and nothing else of HTTP.
    CoreMqWeb,
    /// O3one MQ, to subscribers and to publishers. What their programs call the sub port is ours
    /// to receive on.
    O3onePub,
    O3oneSub,
    /// Its WebSocket bridge.
    #[cfg(feature = "http")]
    O3oneWs,
    /// All that the server's own port speaks, on the port where its users look for the page.
    #[cfg(feature = "http")]
    O3onePage,
    /// Mezzenger, to subscribers and from publishers.
    MezzengerPub,
    MezzengerRecv,
}

/// An address to listen on, as configured.
#[derive(Debug)]
pub struct Address<'c> {
    pub speaks: Speaks,
    pub host: &'c str,
    pub port: u16,
}

impl Speaks {
    /// As it stands on the line that tells of the address.
    pub fn name(self) -> &'static str {
        match self {
            Speaks::ByFirstByte if cfg!(feature = "http") => "json, http",
            Speaks::ByFirstByte => "json",
            Speaks::CoreMq => "coremq",
            Speaks::CoreMqWeb => "coremq websocket",
            Speaks::O3onePub => "o3one pub",
            Speaks::O3oneSub => "o3one sub",
            #[cfg(feature = "http")]
            Speaks::O3oneWs => "o3one ws",
            #[cfg(feature = "http")]
            Speaks::O3onePage => "o3one page",
            Speaks::MezzengerPub => "mezzenger pub",
            Speaks::MezzengerRecv => "mezzenger recv",
        }
    }

    /// What somebody does whose port is taken already.
    pub fn other_port(self) -> &'static str {
        match self {
            Speaks::ByFirstByte => "choose a --port",
            Speaks::CoreMq => "choose another port with --coremq=PORT",
            Speaks::CoreMqWeb => "choose another port for [CoreWS] in coremq.conf",
            Speaks::MezzengerPub | Speaks::MezzengerRecv => {
                "choose other ports with --mezzenger=PUB,RECV"
            }
            _ => "choose other ports with --o3one=PUB,SUB,WS",
        }
    }
}

/// Where a server listens, its own port first.
pub fn addresses<'c>(config: &'c Config, coremq: Option<&'c CoreMq>) -> Vec<Address<'c>> {
    let host = config.host.as_str();
    let mut addresses = vec![Address { speaks: Speaks::ByFirstByte, host, port: config.port }];
    if let Some(coremq) = coremq {
        addresses.push(Address { speaks: Speaks::CoreMq, host: &coremq.host, port: coremq.port });
        if let Some((host, port)) = &coremq.web {
            addresses.push(Address { speaks: Speaks::CoreMqWeb, host, port: *port });
        }
    }
    let mut further = |speaks, port| addresses.push(Address { speaks, host, port });
    if let Some(ports) = config.o3one {
        further(Speaks::O3onePub, ports.subscribe);
        further(Speaks::O3oneSub, ports.publish);
        #[cfg(feature = "http")]
        further(Speaks::O3oneWs, ports.websocket);
        #[cfg(feature = "http")]
        ports.page.into_iter().for_each(|port| further(Speaks::O3onePage, port));
    }
    if let Some([to_subscribers, from_publishers]) = config.mezzenger {
        further(Speaks::MezzengerPub, to_subscribers);
        further(Speaks::MezzengerRecv, from_publishers);
    }
    addresses
}
