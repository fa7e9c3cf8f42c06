//! Assembles the HTTP routes: our own and those of the older systems, for the server's own port and
//! for ports that some systems have for themselves.

use std::sync::Arc;

use axum::Router;

use crate::compat::coremq::{self, CoreMqHub};
use crate::compat::{dsmq1, o3one, restmq};
use crate::protocol::http::app::App;
use crate::protocol::http::{Site, native, page, unknown_route, wrong_method};

/// All routes.
pub fn site(app: &Arc<App>, coremq: &Arc<CoreMqHub>) -> Site {
    let routes = Router::new()
        .route("/", dsmq1::root(app.clone(), restmq::root()))
        .merge(restmq::routes())
        .merge(native::routes())
        .merge(page::routes())
        .merge(o3one::page::routes())
        .merge(coremq::websocket::routes(coremq.clone()))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method);
    Site::new(app.clone(), routes)
}

/// O3one's WebSocket bridge only.
pub fn o3one_bridge(app: &Arc<App>) -> Site {
    Site::new(app.clone(), o3one::websocket::routes())
}

/// CoreMQ's WebSocket only.
pub fn coremq_alone(app: &Arc<App>, coremq: &Arc<CoreMqHub>) -> Site {
    let routes = coremq::websocket::routes(coremq.clone()).fallback(unknown_route);
    Site::new(app.clone(), routes)
}
