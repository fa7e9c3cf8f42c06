//! Who may ask: what a browser must not do for the page of a stranger is refused, before any route.
//!
//! A page whose name leads to this machine (DNS rebinding) is known by its Host, any other page by
//! its Origin, and what a page fetches without an Origin by Sec-Fetch-Site.

use std::net::{Ipv4Addr, Ipv6Addr};

use std::sync::Arc;

use axum::extract;
use axum::http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HOST, HeaderName, ORIGIN,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

use super::app::App;
use super::failure::Failure;
use super::method_not_allowed;
use crate::config::Config;
use crate::error::{Code, Error, Result};

/// The names of this server, and the origins that may use it beside its own.
pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// What the guard lets through.
#[derive(Debug, Default, PartialEq)]
pub struct Admission {
    /// The origin whose page may read the answer.
    pub origin: Option<HeaderValue>,
    /// A browser asks first; this is all that it asks.
    pub preflight: Option<Preflight>,
    /// A page of another origin leads the browser here: see [`CrossSite`].
    pub is_cross_site: bool,
}

/// Marks a request to which a page of another origin leads a browser, say by a link.
#[derive(Clone, Copy)]
pub struct CrossSite;

#[derive(Debug, PartialEq)]
pub struct Preflight {
    /// The headers that the request would have.
    pub headers: Option<HeaderValue>,
}

/// Declares that a GET of this route removes messages: a page of another origin cannot lead a
/// browser here, and HEAD, which the handler of GET would answer, is refused.
pub fn removing(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    removing_if(|_| true, route)
}

/// The same, for requests of which `removes` is true.
pub fn removing_if(
    removes: fn(&Uri) -> bool,
    route: MethodRouter<Arc<App>>,
) -> MethodRouter<Arc<App>> {
    route.route_layer(from_fn(move |request: extract::Request, next: Next| async move {
        if removes(request.uri())
            && let Some(refused) = check_removal(&request)
        {
            return refused;
        }
        next.run(request).await
    }))
}

/// The answer to a request that may not remove anything.
fn check_removal(request: &extract::Request) -> Option<Response> {
    if request.method() == Method::HEAD {
        let allow = [(ALLOW, HeaderValue::from_static("GET"))];
        return Some((allow, method_not_allowed()).into_response());
    }
    let is_cross_site = request.extensions().get::<CrossSite>().is_some();
    is_cross_site.then(|| Failure::from(cross_site_error()).into_response())
}

impl Guard {
    pub fn new(config: &Config) -> Guard {
        let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let lower = |names: &[String]| names.iter().map(|n| n.to_ascii_lowercase()).collect();
        let mut hosts: Vec<String> = lower(&config.allow_host);
        hosts.push("localhost".to_owned());
        hosts.push(own);
        Guard { hosts, origins: lower(&config.allow_origin) }
    }

    /// Whether this may go to its route. An error is why not.
    pub fn check<B>(&self, request: &Request<B>) -> Result<Admission> {
        let headers = request.headers();
        let host = self.check_host(request.uri(), headers, request.version())?;
        if let Some(origin) = self.check_origin(headers, host)? {
            let asks_first = request.method() == Method::OPTIONS
                && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
            let preflight = asks_first.then(|| Preflight {
                headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
            });
            return Ok(Admission { origin: Some(origin), preflight, is_cross_site: false });
        }
        let is_cross_site =
            !headers.contains_key(ORIGIN) && !self.is_open_to_all() && is_cross_site(request)?;
        Ok(Admission { is_cross_site, ..Admission::default() })
    }

    /// The Host, if it is one of this server's.
    fn check_host<'a>(
        &self,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        version: Version,
    ) -> Result<Option<&'a str>> {
        // What stands in the first line goes before the header, which must do all the same.
        if let Some(named) = uri.authority().map(Authority::as_str)
            && !self.is_own(named)
        {
            return Err(wrong_host());
        }
        if headers.get_all(HOST).iter().nth(1).is_some() {
            return Err(Error::new(Code::BadField, "there are two Host headers: send one"));
        }
        match headers.get(HOST).map(HeaderValue::to_str) {
            None if version < Version::HTTP_11 => Ok(None),
            None => Err(Error::new(Code::MissingField, "there is no Host header: send one")),
            Some(Ok(host)) if self.is_own(host) => Ok(Some(host)),
            Some(_) => Err(wrong_host()),
        }
    }

    fn is_own(&self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
            }
            None => host.split_at(host.find(':').unwrap_or(host.len())),
        };
        let known = || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
        is_port(port) && !name.is_empty() && (name.parse::<Ipv4Addr>().is_ok() || known())
    }

    fn is_open_to_all(&self) -> bool {
        self.origins.iter().any(|open| open == "*")
    }

    /// The origin of the page that asks, if it may: `None` if no page does, or one of our own.
    fn check_origin(&self, headers: &HeaderMap, host: Option<&str>) -> Result<Option<HeaderValue>> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
        let text = single_header(headers, &ORIGIN).unwrap_or_default();
        let place = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        if place.zip(host).is_some_and(|(place, host)| place.eq_ignore_ascii_case(host)) {
            return Ok(None);
        }
        if self.is_open_to_all() || self.origins.iter().any(|o| o.eq_ignore_ascii_case(text)) {
            return Ok(Some(origin.clone()));
        }
        let text = "this is the page of another origin: --allow-origin lets it in";
        Err(Error::new(Code::Forbidden, text))
    }
}

/// Whether a page of another origin leads a browser here. A page may not fetch anything without
/// saying its Origin, say as an image or a script.
fn is_cross_site<B>(request: &Request<B>) -> Result<bool> {
    let headers = request.headers();
    let Some(site) = headers.get("sec-fetch-site") else { return Ok(false) };
    if matches!(site.as_bytes(), b"same-origin" | b"none") {
        return Ok(false);
    }
    let leads = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    if leads && request.method() == Method::GET { Ok(true) } else { Err(cross_site_error()) }
}

fn cross_site_error() -> Error {
    Error::new(Code::Forbidden, "a page of another origin asks for this: open it by itself")
}

/// Nothing, or `:` and a port.
fn is_port(text: &str) -> bool {
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| digits(port) && port.parse::<u16>().is_ok())
}

/// A header that is there once, and text.
fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    first.to_str().ok()
}

fn wrong_host() -> Error {
    Error::new(Code::WrongHost, "this server has another name: --allow-host gives it this one")
}

#[cfg(test)]
mod tests;
