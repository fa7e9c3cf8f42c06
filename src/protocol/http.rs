//! HTTP/1.1 on the same port: RestMQ's routes, our own, and the page.
//!
//! [`Site`] is what one server serves; [`serve`] serves one connection of it, whatever that is made
//! of. Before any route a [`guard`] looks at who asks. Handlers get an [`App`] as their state.

pub mod app;
pub mod bell;
pub mod connection;
pub mod extract;
pub mod failure;
mod guard;
pub mod handed;
mod head_timer;
pub mod html;
mod native;
pub mod page;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use self::app::App;
pub use self::connection::serve;
use self::failure::Failure;
use self::guard::{Guard, Pass, Preflight};
use super::websocket;
use crate::broker::Broker;
use crate::compat::coremq::Hub;
use crate::compat::{coremq, dsmq1, o3one, restmq};
use crate::config::Config;
use crate::error::{Code, Error};

/// What a server serves over HTTP.
pub struct Site {
    app: Arc<App>,
    guard: Guard,
    router: TowerToHyperService<Router>,
    serves: Serves,
}

/// What is there at an address.
#[derive(PartialEq, Eq)]
enum Serves {
    All,
    /// O3one's WebSocket bridge, at every path.
    Bridge,
    /// CoreMQ's WebSocket alone.
    CoreMq,
}

/// Every route that there is.
fn router(app: &Arc<App>) -> Router {
    Router::new()
        .merge(restmq::routes())
        .merge(native::routes())
        .merge(page::routes())
        .merge(coremq::websocket::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app.clone())
}

impl Site {
    /// `stop` becomes true when the server stops.
    pub fn new(
        broker: Arc<Broker>,
        config: &Config,
        coremq: Arc<Hub>,
        stop: watch::Receiver<bool>,
    ) -> Site {
        let guard = Guard::new(config);
        let app = Arc::new(App::new(broker, config.clone(), coremq, stop));
        let router = TowerToHyperService::new(router(&app));
        Site { app, guard, router, serves: Serves::All }
    }

    /// The site on the port of O3one's WebSocket bridge.
    pub fn bridge(&self) -> Site {
        let (app, guard, router) = (self.app.clone(), self.guard.clone(), self.router.clone());
        Site { app, guard, router, serves: Serves::Bridge }
    }

    /// The site with CoreMQ's WebSocket and nothing else.
    pub fn coremq_alone(&self) -> Site {
        let (app, guard) = (self.app.clone(), self.guard.clone());
        let router = coremq::websocket::routes().fallback(unknown_route).with_state(app.clone());
        Site { app, guard, router: TowerToHyperService::new(router), serves: Serves::CoreMq }
    }

    /// Answers a request, unless whoever asks may not.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let pass = match self.guard.check(&request) {
            Ok(pass) => pass,
            Err(refused) => return Ok(Failure::from(refused).into_response()),
        };
        let mut response = match &pass {
            Pass { preflight: Some(preflight), .. } => preflight.into_response(),
            _ if self.serves == Serves::Bridge => {
                o3one::websocket::bridge(self.app.clone(), request.map(Body::new))
                    .await
                    .into_response()
            }
            // A route for GET would answer, and remove.
            _ if request.method() == Method::HEAD && guard::removes(request.uri()) => {
                let allow = [(header::ALLOW, HeaderValue::from_static("GET"))];
                (allow, method_not_allowed()).into_response()
            }
            _ if self.serves == Serves::All
                && request.uri().path() == dsmq1::PATH
                && websocket::asked_for(&request) =>
            {
                dsmq1::websocket(self.app.clone(), request.map(Body::new)).await.into_response()
            }
            _ => self.router.call(request).await?,
        };
        if let Some(origin) = pass.origin {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        Ok(response)
    }
}

impl IntoResponse for &Preflight {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = axum::http::StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        let methods = HeaderValue::from_static("GET, HEAD, POST, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if let Some(asked) = &self.headers {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        response
    }
}

async fn unknown_route() -> Failure {
    Error::new(Code::NotFound, "there is nothing at this path: look into the documentation").into()
}

async fn wrong_method() -> Failure {
    method_not_allowed()
}

fn method_not_allowed() -> Failure {
    let text = "this path has no such method: the header Allow names those that it has";
    Error::new(Code::MethodNotAllowed, text).into()
}
