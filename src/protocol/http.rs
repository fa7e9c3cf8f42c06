//! HTTP/1.1: our own routes, the page, and the parts that other systems' routes share.
//!
//! A [`Site`] is the content of one address, and [`serve`] serves one connection of it. A [`guard`]
//! checks every request before its route. Handlers receive an [`App`] as their state. This module
//! does not know the routes of other systems: `server` adds them.

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
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use self::app::App;
pub use self::connection::serve;
use self::failure::Failure;
use self::guard::{CrossSite, Guard, Preflight};
use crate::error::{Code, Error};

/// The routes of one address, with their guard.
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

    /// Answers a request that the guard admits.
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
        let headers = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, DELETE"),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        let mut response = (StatusCode::NO_CONTENT, headers).into_response();
        if let Some(requested) = &self.headers {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        response
    }
}

pub async fn unknown_route() -> Failure {
    Error::new(Code::NotFound, "no such route: see /openapi.json").into()
}

pub async fn wrong_method() -> Failure {
    method_not_allowed()
}

fn method_not_allowed() -> Failure {
    let text = "no such method: the header Allow lists the methods of this path";
    Error::new(Code::MethodNotAllowed, text).into()
}
