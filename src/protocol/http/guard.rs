//! The guard refuses, before any route, requests that a browser sends on behalf of a foreign page.
//!
//! The `Host` header reveals a page whose name resolves to this machine (DNS rebinding), `Origin`
//! any other page, and `Sec-Fetch-Site` a request that a page sends without `Origin`.

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

/// Characters of a refused host name that its error repeats.
const HOST_SHOWN_CHARS: usize = 253;

/// The host names of this server and the origins that are allowed besides its own.
pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// The result for an admitted request.
#[derive(Debug, Default, PartialEq)]
pub struct Admission {
    /// The foreign origin whose page may read the response.
    pub origin: Option<HeaderValue>,
    /// Set for a preflight request, which needs no route.
    pub preflight: Option<Preflight>,
    /// Whether a foreign page navigates the browser here: see [`CrossSite`].
    pub is_cross_site: bool,
}

/// Marks a navigation from a page of another origin, such as a link.
#[derive(Clone, Copy)]
pub struct CrossSite;

#[derive(Debug, PartialEq)]
pub struct Preflight {
    /// The headers of the request that will follow.
    pub headers: Option<HeaderValue>,
}

/// Declares that a GET of this route removes messages: navigations from other origins are refused,
/// and so is HEAD, which axum would pass to the handler of GET.
pub fn removing(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    removing_if(|_| true, route)
}

/// Like [`removing`], for requests that match `removes`.
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

/// The refusal of a request that must not remove anything; `None` if it may.
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
        let node_name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let lower = |names: &[String]| names.iter().map(|n| n.to_ascii_lowercase()).collect();
        let mut hosts: Vec<String> = lower(&config.allow_host);
        hosts.push("localhost".to_owned());
        hosts.push(node_name);
        Guard { hosts, origins: lower(&config.allow_origin) }
    }

    /// Admits a request, or returns the reason for its refusal.
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

    /// Returns the `Host` header if it names this server.
    fn check_host<'a>(
        &self,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        version: Version,
    ) -> Result<Option<&'a str>> {
        // The authority of the request line takes precedence, but the header must be valid as well.
        if let Some(named) = uri.authority().map(Authority::as_str)
            && !self.names_this_server(named)
        {
            return Err(wrong_host(named));
        }
        if headers.get_all(HOST).iter().nth(1).is_some() {
            return Err(Error::new(Code::BadField, "the request has two Host headers: send one"));
        }
        match headers.get(HOST).map(HeaderValue::to_str) {
            None if version < Version::HTTP_11 => Ok(None),
            None => Err(Error::new(Code::MissingField, "the request has no Host header: send one")),
            Some(Ok(host)) if self.names_this_server(host) => Ok(Some(host)),
            Some(Ok(host)) => Err(wrong_host(host)),
            Some(Err(_)) => Err(Error::new(
                Code::WrongHost,
                "the Host header is not ASCII: send the name of the server",
            )),
        }
    }

    fn names_this_server(&self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
            }
            None => host.split_at(host.find(':').unwrap_or(host.len())),
        };
        let is_configured = || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
        is_port(port) && !name.is_empty() && (name.parse::<Ipv4Addr>().is_ok() || is_configured())
    }

    fn is_open_to_all(&self) -> bool {
        self.origins.iter().any(|open| open == "*")
    }

    /// Returns the page's origin if it is allowed; `None` for our own pages and requests without a
    /// page.
    fn check_origin(&self, headers: &HeaderMap, host: Option<&str>) -> Result<Option<HeaderValue>> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
        let text = single_header(headers, &ORIGIN).unwrap_or_default();
        let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        if authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
        {
            return Ok(None);
        }
        if self.is_open_to_all() || self.origins.iter().any(|o| o.eq_ignore_ascii_case(text)) {
            return Ok(Some(origin.clone()));
        }
        let text = "pages of other origins are refused: allow this one with --allow-origin";
        Err(Error::new(Code::Forbidden, text))
    }
}

/// Whether a foreign page navigates a browser here. Every other request of a foreign page without
/// `Origin`, such as an image or a script, is refused.
fn is_cross_site<B>(request: &Request<B>) -> Result<bool> {
    let headers = request.headers();
    let Some(site) = headers.get("sec-fetch-site") else { return Ok(false) };
    if matches!(site.as_bytes(), b"same-origin" | b"none") {
        return Ok(false);
    }
    let navigates = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    if navigates && request.method() == Method::GET { Ok(true) } else { Err(cross_site_error()) }
}

fn cross_site_error() -> Error {
    Error::new(
        Code::Forbidden,
        "a page of another origin sent this request: open the address directly",
    )
}

/// Whether `text` is empty, or `:` and a port.
fn is_port(text: &str) -> bool {
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| digits(port) && port.parse::<u16>().is_ok())
}

/// The value of a header that occurs once and is text.
fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    first.to_str().ok()
}

fn wrong_host(host: &str) -> Error {
    let name: String = host.chars().take_while(|c| *c != ':').take(HOST_SHOWN_CHARS).collect();
    let text = format!("host '{name}' is not allowed: start dsmq with --allow-host {name}");
    Error::new(Code::WrongHost, text)
}

#[cfg(test)]
mod tests;
