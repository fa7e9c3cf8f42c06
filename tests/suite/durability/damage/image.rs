//! Store files with messages of every kind, and their expected content.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::suite::support::folder::{Folder, copy_store};
use crate::suite::support::line::{Fields, Line, micros, number, text};
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::random::Random;

pub const TOPICS: [&str; 6] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];

/// The number of messages of the first life, and of the second life, which leaves its messages in
/// the log.
const MESSAGES: u64 = 2_000;
const MORE: u64 = 400;

/// The number of requests in flight.
const PIPELINE: usize = 32;

/// A store's files, and everything that its server confirmed.
#[derive(Clone, Default)]
pub struct Image {
    pub store: PathBuf,
    /// Every message ever put and not delayed, by topic and id.
    pub put: BTreeMap<(usize, u64), String>,
    /// Delayed messages: topic, due time, text.
    pub delayed: BTreeSet<(usize, u64, String)>,
    /// Taken messages, by topic and id.
    pub taken: BTreeSet<(usize, u64)>,
    /// The messages put and taken in the last life.
    pub put_last: BTreeSet<(usize, u64)>,
    pub taken_last: BTreeSet<(usize, u64)>,
    pub delayed_last: BTreeSet<(usize, u64, String)>,
}

impl Image {
    /// The files of a server that was stopped with SIGTERM.
    pub fn stopped(folder: &Folder, random: &mut Random) -> Image {
        let store = folder.path("stopped.db");
        let mut image = Image { store, ..Image::default() };
        let (process, addr) = start(folder, &image.store);
        image.fill(addr, random, MESSAGES);
        let id = process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert_eq!(process.end().code, Some(0));
        image
    }

    /// The files of a server that was stopped, started again and killed.
    pub fn killed(first: &Image, folder: &Folder, random: &mut Random) -> Image {
        let mut image = Image { store: folder.path("killed.db"), ..first.clone() };
        copy_store(&first.store, &image.store);
        let (process, addr) = start(folder, &image.store);
        image.fill(addr, random, MORE);
        drop(process);
        let new = |key: &&(usize, u64)| !first.put.contains_key(*key);
        image.put_last = image.put.keys().filter(new).copied().collect();
        image.taken_last = image.taken.difference(&first.taken).copied().collect();
        image.delayed_last = image.delayed.difference(&first.delayed).cloned().collect();
        image
    }

    /// Puts messages of every kind, and takes, leases and returns some.
    fn fill(&mut self, addr: SocketAddr, random: &mut Random, messages: u64) {
        let mut line = Line::connect(addr);
        for _ in 0..messages / PIPELINE as u64 {
            let puts: Vec<_> = (0..PIPELINE).map(|_| new_put(random)).collect();
            let requests: String = puts.iter().map(|(.., request)| request.as_str()).collect();
            line.send(&requests).unwrap();
            for (topic, body, _) in puts {
                let reply = line.reply().unwrap();
                match (number(&reply, "id"), micros(&reply, "due")) {
                    (Some(id), _) => drop(self.put.insert((topic, id), body)),
                    (_, Some(due)) => drop(self.delayed.insert((topic, due, body))),
                    _ => panic!("{reply:?}"),
                }
            }
        }
        for _ in 0..messages / 8 {
            self.take_one(&mut line, random);
        }
    }

    fn take_one(&mut self, line: &mut Line<Fields>, random: &mut Random) {
        let topic = random.below(TOPICS.len() as u64) as usize;
        let name = TOPICS[topic];
        let (lease, then) = match random.below(4) {
            0 => ("", None),
            1 => (r#","lease":3600"#, None),
            2 => (r#","lease":3600"#, Some("ack")),
            _ => (r#","lease":3600"#, Some("nack")),
        };
        line.send(&format!(r#"{{"action":"take","topic":"{name}"{lease}}}"#)).unwrap();
        let reply = line.reply().unwrap();
        let (Some(id), Some(times)) = (number(&reply, "id"), number(&reply, "deliveries")) else {
            return;
        };
        if let Some(action) = then {
            let request = format!(
                r#"{{"action":"{action}","topic":"{name}","id":{id},"deliveries":{times}}}"#
            );
            line.send(&request).unwrap();
            assert_eq!(text(&line.reply().unwrap(), "ok"), Some("true"));
        }
        if lease.is_empty() || then == Some("ack") {
            self.taken.insert((topic, id));
        }
    }
}

fn start(folder: &Folder, store: &Path) -> (Process, SocketAddr) {
    // No power is cut here, so no syncs are needed.
    let mut command = dsmq(&["--port", "0", "--log", "error", "--sync", "off", "--store"]);
    command.arg(store).stderr(folder.output("stderr"));
    Process::server(&mut command)
}

/// A put: its topic, its message, and the request.
fn new_put(random: &mut Random) -> (usize, String, String) {
    let topic = random.below(TOPICS.len() as u64) as usize;
    let len = match random.below(100) {
        0..=64 => 10 + random.below(190),
        65..=91 => 200 + random.below(2_300),
        92..=98 => 2_500 + random.below(7_500),
        _ => 10_000 + random.below(90_000),
    };
    let mut body = format!("\"{:016x}", random.next());
    while body.len() < len as usize {
        body += &format!("{:016x}", random.next());
    }
    body.truncate(len as usize - 1);
    body.push('"');
    let option = match random.below(20) {
        0 | 1 => format!(r#","priority":{}"#, random.below(10)),
        2 => r#","ttl":86400"#.to_owned(),
        3 => format!(r#","delay":{}"#, 3_600 + random.below(3_600)),
        4 => format!(r#","dedupe":"{:x}""#, random.next()),
        _ => String::new(),
    };
    let name = TOPICS[topic];
    let request =
        format!(r#"{{"action":"put","topic":"{name}","confirm":true{option},"message":{body}}}"#);
    (topic, body, request)
}
