//! The addresses where Mezzenger's programs expect it, with `--mezzenger`.

use std::sync::Arc;
use std::task::Waker;

use super::{Hub, Mezzenger};
use crate::broker::{Broker, Caller};
use crate::compat::{Endpoint, ListenerKind, ProtocolKind, zmq};
use crate::config::Config;
use crate::error::Result;

/// What the connections of a server share, with `--mezzenger`.
pub fn hub(config: &Config, broker: &Arc<Broker>) -> Result<Option<Arc<Hub>>> {
    let hub = config.mezzenger.map(|_| Hub::new(broker.clone(), config.mezzenger_resend));
    Ok(hub.transpose()?.map(Arc::new))
}

/// The addresses: for subscribers, and from publishers.
pub fn endpoints(config: &Config, hub: Option<&Arc<Hub>>) -> Vec<Endpoint> {
    let (Some([to_subscribers, from_publishers]), Some(hub)) = (config.mezzenger, hub) else {
        return Vec::new();
    };
    let (hub, max) = (hub.clone(), config.max_message);
    let begin = Arc::new(move |session, caller: Arc<Caller>, waker: Waker| {
        let dialect = Mezzenger::new(hub.clone(), caller.clone(), waker.clone(), max);
        let broker = hub.broker().clone();
        Ok(Box::new(zmq::ZmtpHandler::new(broker, caller, session, max, waker, dialect)) as _)
    });
    let handler = ProtocolKind { gauge: "mezzenger", begin };
    let ports = [("mezzenger pub", to_subscribers), ("mezzenger recv", from_publishers)];
    let endpoints = ports.map(|(name, port)| Endpoint {
        name,
        host: config.host.clone(),
        port,
        advice: "choose other ports with --mezzenger=PUB,RECV",
        kind: ListenerKind::Protocol(handler.clone()),
    });
    endpoints.into()
}
