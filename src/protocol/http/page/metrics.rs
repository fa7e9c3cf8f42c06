//! `/metrics` in the text format of Prometheus.

use std::fmt::{Display, Write};

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::monitor::Snapshot;
use crate::broker::{Busy, Health};
use crate::limits;
use crate::ops::Node;
use crate::protocol::http::app::ForCaller;
use crate::protocol::http::failure::HttpResult;

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text under construction. Each family has its help and type first, then its values.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled(&mut self, name: &str, label: &str, label_value: &str, value: impl Display) {
        let label_value =
            label_value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = writeln!(self.0, "{name}{{{label}=\"{label_value}\"}} {value}");
    }
}

pub async fn metrics(app: ForCaller) -> HttpResult<Response> {
    let snapshot = app.monitor.latest(&app).await?;
    let mut text = Exposition::default();
    server(&mut text, &snapshot, app.config.max_connections);
    nodes(&mut text, &snapshot.stats.nodes);
    topics(&mut text, &app.broker().most_used(&app.caller, limits::METRICS_TOPICS));
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(FORMAT))];
    Ok((kind, text.0).into_response())
}

fn server(text: &mut Exposition, snapshot: &Snapshot, max_connections: usize) {
    let stats = &snapshot.stats;
    text.family("dsmq_build_info", "gauge", "The version of the server.");
    text.labelled("dsmq_build_info", "version", env!("CARGO_PKG_VERSION"), 1);
    text.family("dsmq_health", "gauge", "1 for the present state of the server.");
    for health in Health::ALL {
        let now = u8::from(health == snapshot.health);
        text.labelled("dsmq_health", "state", health.as_str(), now);
    }
    let wait = snapshot.wait.as_secs_f64();
    text.single(
        "dsmq_store_wait_seconds",
        "gauge",
        "Time that a request waits for the store.",
        wait,
    );
    let uptime = stats.uptime_seconds;
    text.single("dsmq_uptime_seconds", "gauge", "Time since the server started.", uptime);
    text.family("dsmq_connections", "gauge", "Open connections by protocol.");
    for (protocol, count) in &snapshot.protocol_counts {
        text.labelled("dsmq_connections", "protocol", protocol, count);
    }
    let silent = stats.connections.saturating_sub(snapshot.protocol_counts.values().sum());
    text.labelled("dsmq_connections", "protocol", "none_yet", silent);
    for (name, help, value) in [
        ("dsmq_connections_max", "Limit of connections.", max_connections as u64),
        ("dsmq_takers_waiting", "Takers that wait for a message.", stats.waiting),
        ("dsmq_topics", "Topics in the store.", stats.topics),
        ("dsmq_messages", "Messages in the store.", stats.messages),
        ("dsmq_messages_bytes", "Bytes of JSON text of the messages.", stats.bytes),
        ("dsmq_messages_leased", "Messages under a lease.", stats.leased),
        ("dsmq_messages_delayed", "Messages that are not due yet.", stats.delayed),
        ("dsmq_store_bytes", "Size of the store.", stats.store.bytes),
    ] {
        text.single(name, "gauge", help, value);
    }
    if let Some(max) = stats.store.max_bytes {
        text.single("dsmq_store_max_bytes", "gauge", "Limit of the size of the store.", max);
    }
    for (name, help, value) in [
        ("dsmq_puts_total", "Messages put since the start.", stats.puts),
        ("dsmq_takes_total", "Messages taken since the start.", stats.takes),
        ("dsmq_reads_total", "Messages got or pushed since the start.", stats.reads),
        ("dsmq_refused_total", "Requests refused because the store is full.", stats.store.refused),
        ("dsmq_dropped_total", "Messages removed by a limit since the start.", stats.dropped),
    ] {
        text.single(name, "counter", help, value);
    }
}

/// A node's value of a metric, if it has one.
type NodeValue = fn(&Node) -> Option<f64>;

fn nodes(text: &mut Exposition, nodes: &[Node]) {
    let families: [(&str, &str, NodeValue); 7] = [
        ("up", "1 if the node of the store can be used.", |node| {
            Some(f64::from(u8::from(node.away.is_none())))
        }),
        (
            "parts",
            "Partitions of the store on the node.",
            |node| Some(node.partitions.len() as f64),
        ),
        ("round_trip_seconds", "Round trip time of the last probe.", |node| {
            Some(node.round_trip.as_secs_f64())
        }),
        ("replicas", "Connected replicas of the node.", |node| {
            node.replicas.as_ref().map(|replicas| replicas.count.into())
        }),
        ("replica_lag_bytes", "Bytes that the slowest replica has not acknowledged.", |node| {
            node.replicas.as_ref().map(|replicas| replicas.lag_bytes as f64)
        }),
        ("replica_lag_seconds", "Time since the most silent replica reported.", |node| {
            node.replicas.as_ref().map(|replicas| replicas.lag.as_secs_f64())
        }),
        ("news_lag_seconds", "Time for which changes by other servers are not visible.", |node| {
            Some(node.news_lag.unwrap_or_default().as_secs_f64())
        }),
    ];
    for (name, help, value) in families.iter().filter(|_| !nodes.is_empty()) {
        let name = format!("dsmq_store_node_{name}");
        text.family(&name, "gauge", help);
        for (node, value) in nodes.iter().filter_map(|node| Some((node, value(node)?))) {
            text.labelled(&name, "node", &node.address, value);
        }
    }
}

/// The most used topics only: clients can create any number of topics.
fn topics(text: &mut Exposition, topics: &[Busy]) {
    type TopicValue = fn(&Busy) -> u64;
    let families: [(&str, &str, &str, TopicValue); 6] = [
        ("dsmq_topic_messages", "gauge", "Messages in the topic.", |t| t.counts.length),
        ("dsmq_topic_bytes", "gauge", "Bytes of JSON text of the messages.", |t| t.counts.bytes),
        ("dsmq_topic_consumers", "gauge", "Consumers and subscriptions.", |t| t.consumers as u64),
        ("dsmq_topic_stopped", "gauge", "1 if the topic is stopped.", |t| t.counts.stopped.into()),
        ("dsmq_topic_puts_total", "counter", "Messages put since the start.", |t| t.counts.puts),
        ("dsmq_topic_takes_total", "counter", "Messages taken since the start.", |t| {
            t.counts.takes
        }),
    ];
    for (name, kind, help, value) in families {
        text.family(name, kind, help);
        for topic in topics {
            text.labelled(name, "topic", topic.topic.as_str(), value(topic));
        }
    }
}
