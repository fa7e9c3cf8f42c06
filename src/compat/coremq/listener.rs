//! What the connections that speak CoreMQ share, whatever address they come to.

use std::net::{IpAddr, ToSocketAddrs};

use tracing::{info, warn};

use super::Hub;
use super::settings::CoreMq;
use crate::server::listen::Listener;
use crate::server::speaks::Speaks;

/// Messages name the server with CoreMQ's port, where it has one.
pub fn hub<'l>(
    coremq: Option<&CoreMq>,
    mut listeners: impl Iterator<Item = &'l Listener>,
    port: u16,
) -> Hub {
    let remarks = coremq.iter().flat_map(|coremq| &coremq.remarks);
    remarks.for_each(|remark| info!("{remark}"));
    let own = listeners.find(|listener| listener.speaks == Speaks::CoreMq);
    let port = own.map_or(port, |listener| listener.addr.port());
    Hub::new(port, coremq.map(allowed).unwrap_or_default())
}

/// The addresses of hosts from which replicants may come.
fn allowed(coremq: &CoreMq) -> Vec<IpAddr> {
    let mut allowed = Vec::new();
    for host in &coremq.replicants {
        match (host.as_str(), 0).to_socket_addrs() {
            Ok(addrs) => allowed.extend(addrs.map(|addr| addr.ip().to_canonical())),
            Err(error) => warn!("no replicant can come from {host}: {error}"),
        }
    }
    allowed
}
