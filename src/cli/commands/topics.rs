//! `dsmq topics`, `dsmq stats` and `dsmq purge`: what there is, for people and for programs.

use std::io::{self, Write};

use super::super::args::{Listed, Purge};
use super::super::terminal::stdout;
use super::{Failure, connect, in_json, say};
use crate::Config;
use crate::client::{NodeInfo, Stats, TopicInfo};

/// Lists the topics; false if there is none.
pub fn topics(args: &Listed, config: &Config) -> Result<bool, Failure> {
    let topics = connect(config)?.topics()?;
    let mut output = stdout(args.json);
    if args.json {
        let lines = |output: &mut dyn Write| {
            topics.iter().try_for_each(|topic| writeln!(output, "{}", in_json(topic)))
        };
        say(&mut output, lines)?;
    } else if !topics.is_empty() {
        let head = HEAD.map(str::to_owned);
        let rows: Vec<_> = [head].into_iter().chain(topics.iter().map(row)).collect();
        say(&mut output, |output| table(&rows, output))?;
    }
    Ok(!topics.is_empty())
}

const HEAD: [&str; 10] = [
    "TOPIC",
    "LENGTH",
    "BYTES",
    "LEASED",
    "DELAYED",
    "PUT/S",
    "TAKE/S",
    "CONSUMERS",
    "POLICY",
    "STATE",
];

fn row(topic: &TopicInfo) -> [String; HEAD.len()] {
    [
        topic.topic.clone(),
        topic.length.to_string(),
        topic.bytes.to_string(),
        topic.leased.to_string(),
        topic.delayed.to_string(),
        format!("{:.1}", topic.put_rate),
        format!("{:.1}", topic.take_rate),
        topic.consumers.to_string(),
        topic.policy.map_or("-".to_owned(), |policy| policy.to_string()),
        topic.state.clone(),
    ]
}

/// Columns as wide as what is in them: the first stands left, the others right.
fn table<const N: usize>(rows: &[[String; N]], output: &mut dyn Write) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            match column {
                0 => write!(output, "{cell:<width$}")?,
                _ => write!(output, "  {cell:>width$}")?,
            }
        }
        writeln!(output)?;
    }
    Ok(())
}

/// Tells of the server.
pub fn stats(args: &Listed, config: &Config) -> Result<bool, Failure> {
    let stats = connect(config)?.stats()?;
    let mut output = stdout(args.json);
    if args.json {
        say(&mut output, |output| writeln!(output, "{}", in_json(&stats)))?;
    } else {
        say(&mut output, |output| table(&rows(&stats), output))?;
    }
    Ok(true)
}

fn rows(stats: &Stats) -> Vec<[String; 2]> {
    let rows = [
        ["version", &stats.version],
        ["uptime", &format!("{:.0} s", stats.uptime)],
        ["store", &stats.store],
        ["size", &stats.size.to_string()],
        ["max-size", &stats.max_size.map_or("-".to_owned(), |bytes| bytes.to_string())],
        ["connections", &stats.connections.to_string()],
        ["waiting", &stats.waiting.to_string()],
        ["topics", &stats.topics.to_string()],
        ["messages", &stats.messages.to_string()],
        ["bytes", &stats.bytes.to_string()],
        ["leased", &stats.leased.to_string()],
        ["delayed", &stats.delayed.to_string()],
        ["puts", &stats.puts.to_string()],
        ["takes", &stats.takes.to_string()],
        ["dropped", &stats.dropped.to_string()],
    ];
    let nodes = stats.nodes.iter().map(|node| [format!("node {}", node.address), state(node)]);
    rows.map(|row| row.map(str::to_owned)).into_iter().chain(nodes).collect()
}

/// How a node is, in a few words.
fn state(node: &NodeInfo) -> String {
    match (node.away_seconds, node.replicas.zip(node.replica_lag_bytes)) {
        (Some(seconds), _) => format!("away for {seconds:.0} s"),
        (None, Some((replicas, bytes))) if replicas > 0 => {
            format!("{} us, {replicas} replicas, lag {bytes} bytes", node.round_trip_us)
        }
        (None, _) => format!("{} us", node.round_trip_us),
    }
}

/// Empties a topic, and prints how many messages that were; false if there were none.
pub fn purge(args: &Purge, config: &Config) -> Result<bool, Failure> {
    let purged = connect(config)?.purge(&args.topic)?;
    say(&mut stdout(false), |output| writeln!(output, "{purged}"))?;
    Ok(purged > 0)
}
