//! HTTP/1.1: our own routes, the page, and what other routes need.
//!
//! A [`Site`] is what one address serves; [`serve`] serves one connection of it. A [`guard`] looks at
//! every request before its route. Handlers get an [`App`] as their state. This module knows none of
//! the routes of older systems: `server` adds them.

pub mod app;
pub mod connection;
pub mod delivery;
pub mod extract;
pub mod failure;
pub mod guard;
pub mod native;
pub mod page;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use self::app::App;
pub use self::connection::serve;
use self::failure::Failure;
use self::guard::{CrossSite, Guard, Preflight};
use crate::error::{Code, Error};

/// What one address serves over HTTP.
pub struct Site {
    app: Arc<App>,
    guard: Guard,
    router: TowerToHyperService<Router>,
}

impl Site {
    pub fn new(app: Arc<App>, routes: Router<Arc<App>>) -> Site {
        let guard = Guard::new(&app.config);
        let router = TowerToHyperService::new(routes.with_state(app.clone()));
        Site { app, guard, router }
    }

    /// Answers a request, unless the guard refuses it.
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        let admission = match self.guard.check(&request) {
            Ok(admission) => admission,
            Err(refused) => return Ok(Failure::from(refused).into_response()),
        };
        if admission.is_cross_site {
            request.extensions_mut().insert(CrossSite);
        }
        let mut response = match &admission.preflight {
            Some(preflight) => preflight.into_response(),
            None => self.router.call(request).await?,
        };
        if let Some(origin) = admission.origin {
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

/// Answers a request for a path that has no route.
pub async fn unknown_route() -> Failure {
    Error::new(Code::NotFound, "there is nothing at this path: look into the documentation").into()
}

/// Answers a request whose path has no such method.
pub async fn wrong_method() -> Failure {
    method_not_allowed()
}

fn method_not_allowed() -> Failure {
    let text = "this path has no such method: the header Allow names those that it has";
    Error::new(Code::MethodNotAllowed, text).into()
}
