//! The table of listeners: addresses, and the protocols they serve. Each older system adds the rows
//! of its own addresses.

use std::sync::Arc;

use super::StartError;
#[cfg(feature = "http")]
use super::router;
use crate::broker::Broker;
use crate::compat::coremq::settings::CoreMqSettings;
use crate::compat::{Endpoint, ListenerKind, ProtocolKind, coremq, mezzenger, o3one};
use crate::config::Config;
#[cfg(feature = "http")]
use crate::protocol::http::{Site, app::App};

/// The table, and what its rows share.
pub struct Table {
    /// The server's own address comes first.
    pub endpoints: Vec<Endpoint>,
    pub services: Services,
    pub coremq: Arc<coremq::CoreMqHub>,
    pub mezzenger: Option<Arc<mezzenger::MezzengerHub>>,
}

/// Protocols that the first byte of a connection can select.
pub struct Services {
    pub zmtp: ProtocolKind,
    #[cfg(feature = "http")]
    pub site: Arc<Site>,
}

impl Table {
    pub fn new(
        config: &Config,
        coremq: Option<&CoreMqSettings>,
        broker: &Arc<Broker>,
        #[cfg(feature = "http")] app: &Arc<App>,
    ) -> Result<Table, StartError> {
        let hub = coremq::hub(coremq);
        let zmtp = o3one::handler(broker.clone(), config);
        let mut endpoints = vec![own(config)];
        endpoints.extend(coremq.into_iter().flat_map(|settings| {
            coremq::endpoints(
                settings,
                broker.clone(),
                &hub,
                config.max_message,
                #[cfg(feature = "http")]
                || router::coremq_alone(app, &hub),
            )
        }));
        endpoints.extend(o3one::endpoints(
            config,
            &zmtp,
            #[cfg(feature = "http")]
            || router::o3one_bridge(app),
        ));
        let mezzenger = mezzenger::hub(config, broker)
            .map_err(|error| StartError::Store(error.text.into_owned()))?;
        endpoints.extend(mezzenger::endpoints(config, mezzenger.as_ref()));
        #[cfg(feature = "http")]
        let site = Arc::new(router::site(app, &hub));
        let services = Services {
            zmtp,
            #[cfg(feature = "http")]
            site,
        };
        Ok(Table { endpoints, services, coremq: hub, mezzenger })
    }
}

/// The server's own address.
fn own(config: &Config) -> Endpoint {
    Endpoint {
        name: if cfg!(feature = "http") { "json, http" } else { "json" },
        host: config.host.clone(),
        port: config.port,
        advice: "choose a --port",
        kind: ListenerKind::FirstByte,
    }
}
