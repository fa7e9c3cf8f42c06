//! The addresses where O3one MQ's programs expect it, with `--o3one`.

use std::sync::Arc;

use super::O3one;
use crate::broker::{Broker, Caller};
use crate::compat::{Endpoint, ListenerKind, ProtocolKind, zmq};
use crate::config::Config;
#[cfg(feature = "http")]
use crate::protocol::http::Site;

/// O3one MQ is what ØMQ carries unless the address says otherwise.
pub fn handler(broker: Arc<Broker>, config: &Config) -> ProtocolKind {
    let config = config.clone();
    let begin = Arc::new(move |session, caller: Arc<Caller>, waker| {
        let dialect = O3one::new(broker.clone(), caller.clone(), &config);
        let max = config.max_message;
        Ok(Box::new(zmq::ZmtpHandler::new(broker.clone(), caller, session, max, waker, dialect))
            as _)
    });
    ProtocolKind { gauge: "zmtp", begin }
}

/// The addresses: for subscribers, for publishers, for the WebSocket bridge, and for the page, where
/// all is served that the server's own port serves. What its programs call the sub port is the one
/// that this server receives on.
pub fn endpoints(
    config: &Config,
    handler: &ProtocolKind,
    #[cfg(feature = "http")] bridge: impl FnOnce() -> Site,
) -> Vec<Endpoint> {
    let Some(ports) = config.o3one else { return Vec::new() };
    let endpoint = |name, port, kind| Endpoint {
        name,
        host: config.host.clone(),
        port,
        advice: "choose other ports with --o3one=PUB,SUB,WS",
        kind,
    };
    let handlers = || ListenerKind::Protocol(handler.clone());
    let endpoints = [("o3one pub", ports.subscribe), ("o3one sub", ports.publish)];
    let endpoints = endpoints.map(|(name, port)| endpoint(name, port, handlers())).into_iter();
    #[cfg(feature = "http")]
    let endpoints = {
        let bridge = ListenerKind::Http(Arc::new(bridge()));
        let bridge = endpoint("o3one ws", ports.websocket, bridge);
        let page = ports.page.map(|port| endpoint("o3one page", port, ListenerKind::FirstByte));
        endpoints.chain([bridge]).chain(page)
    };
    endpoints.collect()
}
