//! metrics.txt: the names, types and labels at /metrics. Values are not compared.

use std::collections::BTreeMap;

use dsmq::{Config, CoreMqPort};

use crate::suite::cluster::Redis;
use crate::suite::compat::coremq_frames;
use crate::suite::compat::o3one::{address_of, subscriber};
use crate::suite::support::peer::Peer;
use crate::suite::support::{server_with, until};
use crate::suite::web::http::{ask, get};
use crate::suite::web::http_events;
use crate::suite::wire::websocket;

use super::golden;

/// Labels whose values are the same in every server of a version: they are compared.
const FIXED: [&str; 2] = ["state", "protocol"];

#[test]
fn names_types_and_labels_of_metrics() {
    let server = server_with(Config {
        coremq: Some(CoreMqPort::Port(0)),
        o3one: Some([0, 0, 0].into()),
        mezzenger: Some([0, 0]),
        ..Config::default()
    });
    let addr = server.addr();
    // A connection of each protocol, and a topic.
    let mut json = Peer::connect(addr);
    let put = r#"{"action":"put","topic":"t","message":1,"confirm":true}"#;
    json.ask(put, r#"{"ok":true,"id":1795216135066522,"timestamp":1795216135.066522}"#);
    let _coremq = coremq_frames::Client::connect(coremq_frames::address(&server));
    let _zmq = ["o3one pub", "mezzenger pub"].map(|name| subscriber(address_of(&server, name), ""));
    let mut websocket = websocket::Client::connect(addr, "/");
    websocket.ask(r#"{"action":"ping"}"#);
    let mut corews = websocket::Client::connect(addr, "/ws");
    corews.ask(r#"{"corews_status":true}"#);
    let _bridge = websocket::Client::connect(address_of(&server, "o3one ws"), "/");
    let _consumer = websocket::Client::connect(addr, "/ws/t");
    let mut comet = Peer::connect_silent(addr);
    comet.send(get("/c/t"));
    assert_eq!(comet.receive("HTTP/1.1 200".len()), b"HTTP/1.1 200");
    let mut events = http_events::follow(&server, "/t/t");
    assert!(events.block().is_some());
    let metrics = ask(&mut Peer::connect_silent(addr), get("/metrics")).body;
    golden::check("metrics.txt", &described(&metrics));
}

/// With the metrics that only a store in Redis has.
#[test]
#[ignore = "needs redis-server: make test runs it"]
fn names_types_and_labels_of_a_store_in_redis() {
    let redis = Redis::start();
    let server = redis.server();
    let mut metrics = String::new();
    // What a node tells of its replicas is asked for once a second.
    until(|| {
        metrics = ask(&mut Peer::connect_silent(server.addr()), get("/metrics")).body;
        metrics.contains("dsmq_store_node_replicas{")
    });
    let nodes = described(&metrics).into_iter().filter(|line| line.starts_with("dsmq_store_"));
    golden::check("metrics-redis.txt", &nodes.collect::<Vec<_>>());
}

/// A line for each family: its name, type, and labels.
fn described(metrics: &str) -> Vec<String> {
    let mut families: BTreeMap<&str, (String, Vec<String>)> = BTreeMap::new();
    for line in metrics.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(families.insert(name, (kind.to_owned(), Vec::new())).is_none(), "{name}");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let labels = shown(labels.trim_end_matches('}'));
            let (_, all) = families.get_mut(name).unwrap_or_else(|| panic!("{name} has no type"));
            if !all.contains(&labels) {
                all.push(labels);
            }
        }
    }
    let lines = families.into_iter().map(|(name, (kind, labels))| {
        format!("{name} {kind} {}", labels.join(" ")).trim_end().to_owned()
    });
    lines.collect()
}

/// A sample's label, without its value unless that is fixed.
fn shown(label: &str) -> String {
    match label.split_once('=') {
        Some((name, value)) if FIXED.contains(&name) => format!("{name}={value}"),
        Some((name, _)) => name.to_owned(),
        None => String::new(),
    }
}
