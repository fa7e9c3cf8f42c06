//! routes.txt: every path of the HTTP server with the status that a bare request of each method gets.
//! The paths are those of the router's source, so that no route is added or lost unnoticed.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use dsmq::{Config, CoreMqPort};

use crate::suite::compat::o3one::address_of;
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::{server, server_with};

use super::golden;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A path that is no route.
const NOWHERE: &str = "/nowhere";

/// `WebSocket` is a GET that asks for one.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WebSocket"];

#[test]
fn status_of_a_bare_request_to_every_route() {
    let mut paths = routes_in_source();
    assert!(
        paths.len() > 20,
        "few routes are found in the source: is `.route(` written otherwise?"
    );
    paths.insert(NOWHERE.to_owned());
    let mut lines = Vec::new();
    for path in &paths {
        let server = server();
        lines.extend(statuses(server.addr(), path, path));
    }
    lines.extend(addresses_of_their_own());
    golden::check("routes.txt", &lines);
}

#[test]
fn openapi_describes_routes_that_there_are() {
    let golden = fs::read_to_string(Path::new(ROOT).join("tests/contract/routes.txt")).unwrap();
    let text = fs::read_to_string(Path::new(ROOT).join("docs/openapi.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    let described: BTreeSet<_> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().map(|key| key.to_uppercase());
            let methods = methods.filter(|method| METHODS.contains(&method.as_str()));
            methods.map(move |method| format!("{method} {path} "))
        })
        .collect();
    // RestMQ's routes, the page and what a method that every path has does are not described.
    let of_ours = golden.lines().filter(|line| {
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        ["GET", "POST", "DELETE"].contains(&method)
            && (path.starts_with("/t/") || path == "/openapi.json")
    });
    let of_ours: BTreeSet<_> =
        of_ours.map(|line| line.rsplit_once(' ').unwrap().0.to_owned() + " ").collect();
    assert_eq!(described, of_ours);
}

/// The path of each `.route("…", …)` in the source.
fn routes_in_source() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![Path::new(ROOT).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(path).unwrap();
                let routes = text.split(".route(").skip(1);
                let quoted = routes.filter_map(|rest| rest.trim_start().strip_prefix('"'));
                paths.extend(quoted.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    paths
}

/// The addresses that serve a WebSocket alone.
fn addresses_of_their_own() -> Vec<String> {
    let folder = Folder::new("contract-routes");
    let conf = folder.path("coremq.conf");
    fs::write(&conf, "[CoreMQ]\n[CoreWS]\nport = 0\n").unwrap();
    let server = server_with(Config {
        coremq: Some(CoreMqPort::Port(0)),
        coremq_conf: Some(conf),
        o3one: Some([0, 0, 0].into()),
        ..Config::default()
    });
    let mut lines = Vec::new();
    for name in ["coremq websocket", "o3one ws"] {
        for path in ["/", "/ws", "/t/t", NOWHERE] {
            lines.extend(statuses(address_of(&server, name), path, &format!("({name}) {path}")));
        }
    }
    lines
}

/// A line for each method that the path has: those that are answered with 405 are left out. Methods
/// that are all answered alike have one line.
fn statuses(addr: SocketAddr, path: &str, shown: &str) -> Vec<String> {
    let mut sample = path.to_owned();
    for (parameter, value) in
        [("{topic}", "t"), ("{id}", "1"), ("{*queue}", "q"), ("{file}", "page.css")]
    {
        sample = sample.replace(parameter, value);
    }
    assert!(!sample.contains('{'), "{path}: say which value stands for its parameter");
    let statuses: Vec<_> =
        METHODS.into_iter().map(|method| (method, status(addr, method, &sample))).collect();
    let plain = statuses[0].1;
    let are_all_alike =
        statuses.iter().all(|(method, status)| *status == plain || *method == "WebSocket");
    let is_shown = |(method, status): &(&str, u16)| match are_all_alike {
        true => *method == "GET" || *status != plain,
        false => *status != 405,
    };
    let shown_as = |method| if are_all_alike && method == "GET" { "any" } else { method };
    let lines = statuses.into_iter().filter(is_shown);
    lines.map(|(method, status)| format!("{} {shown} {status}", shown_as(method))).collect()
}

fn status(addr: SocketAddr, method: &str, path: &str) -> u16 {
    let (method, more) = match method {
        "WebSocket" => (
            "GET",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        "GET" | "HEAD" => (method, ""),
        _ => (method, "Content-Length: 0\r\n"),
    };
    let mut peer = Peer::connect_silent(addr);
    peer.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"));
    let begin = String::from_utf8(peer.receive("HTTP/1.1 200 ".len())).unwrap();
    begin.split(' ').nth(1).unwrap().parse().unwrap()
}
