//! CoreMQ: frames on a port of its own (`--coremq`, 6747) and a WebSocket at `/ws`, documented in
//! docs/reference/coremq.md. A queue is a topic. May use `protocol` and `config`, must not know the
//! store.

#[cfg(any(test, fuzzing))]
pub mod check;
mod connection;
mod frame;
mod hub;
mod object;
mod session;
pub mod settings;
#[cfg(test)]
mod tests;
#[cfg(feature = "http")]
pub mod websocket;

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use tracing::{info, warn};

pub use self::connection::CoreMqHandler;
pub use self::hub::CoreMqHub;
pub use self::session::CoreMqSession;
use self::settings::CoreMqSettings;
use crate::broker::{Broker, Caller};
use crate::compat::{Endpoint, ListenerKind, ProtocolKind};
#[cfg(feature = "http")]
use crate::protocol::http::Site;

/// Names the listener for frames. Its port is the one that messages name as the server's.
pub const NAME: &str = "coremq";

/// Creates the hub, and logs what the settings say about unused keys. `settings` is `None` without
/// `--coremq`.
pub fn hub(settings: Option<&CoreMqSettings>) -> Arc<CoreMqHub> {
    let remarks = settings.iter().flat_map(|settings| &settings.remarks);
    remarks.for_each(|remark| info!("{remark}"));
    Arc::new(CoreMqHub::new(settings.map(allowed).unwrap_or_default()))
}

/// Resolves the hosts from which replicants may connect.
fn allowed(settings: &CoreMqSettings) -> Vec<IpAddr> {
    let mut allowed = Vec::new();
    for host in &settings.replicants {
        match (host.as_str(), 0).to_socket_addrs() {
            Ok(addrs) => allowed.extend(addrs.map(|addr| addr.ip().to_canonical())),
            Err(error) => {
                warn!("cannot resolve the replicant {host}, its connections are refused: {error}")
            }
        }
    }
    allowed
}

/// The listeners: one for frames and, with `[CoreWS]` in coremq.conf, one for the WebSocket.
pub fn endpoints(
    settings: &CoreMqSettings,
    broker: Arc<Broker>,
    hub: &Arc<CoreMqHub>,
    max_message: usize,
    #[cfg(feature = "http")] site: impl FnOnce() -> Site,
) -> Vec<Endpoint> {
    let hub = hub.clone();
    let begin = Arc::new(move |session, caller: Arc<Caller>, waker| {
        let may_replicate = hub.allows(caller.address());
        let coremq =
            CoreMqSession::new(broker.clone(), caller, session, waker, hub.clone(), max_message)?;
        Ok(Box::new(CoreMqHandler::new(coremq.may_replicate(may_replicate))) as _)
    });
    let frames = Endpoint {
        name: NAME,
        host: settings.host.clone(),
        port: settings.port,
        advice: "choose another port with --coremq=PORT",
        kind: ListenerKind::Protocol(ProtocolKind { gauge: "coremq", begin }),
    };
    let endpoints = [frames].into_iter();
    #[cfg(feature = "http")]
    let endpoints = endpoints.chain(settings.web.clone().map(|(host, port)| Endpoint {
        name: "coremq websocket",
        host,
        port,
        advice: "choose another port for [CoreWS] in coremq.conf",
        kind: ListenerKind::HttpByFirstByte(Arc::new(site())),
    }));
    endpoints.collect()
}
