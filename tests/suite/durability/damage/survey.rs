//! Reads everything from a server on a damaged file, with every action.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::image::{Image, TOPICS};
use crate::suite::support::line::{Fields, Line, micros, number, text};

/// The number of requests in flight.
const PIPELINE: usize = 32;

/// The messages and errors that a server returned.
#[derive(Default)]
pub struct Survey {
    /// Messages returned by get, by topic and id.
    seen: BTreeSet<(usize, u64)>,
    delayed: BTreeSet<(usize, u64, String)>,
    /// Messages that were not put, by any action.
    pub wrong: Vec<String>,
    /// The number of errors, by action and code.
    pub errors: BTreeMap<String, u64>,
}

impl Survey {
    pub fn of(addr: SocketAddr, image: &Image) -> Survey {
        let mut survey = Survey::default();
        let mut line = Line::connect(addr);
        survey.topics(&mut line);
        for topic in 0..TOPICS.len() {
            survey.get(&mut line, topic, image);
            survey.history(&mut line, topic, image);
            survey.subscribe(addr, topic, image);
        }
        // Takes change the store, so they come last.
        for topic in 0..TOPICS.len() {
            survey.take(&mut line, topic, image);
        }
        survey
    }

    /// Confirmed messages that are missing, and messages that must not be there.
    pub fn violations(&self, image: &Image) -> Vec<String> {
        let there: BTreeSet<_> = image.put.keys().copied().collect();
        let there: BTreeSet<_> = there.difference(&image.taken).copied().collect();
        let missing = there.difference(&self.seen).map(|at| format!("missing {at:?}"));
        let back = self.seen.difference(&there).map(|at| format!("back again {at:?}"));
        let late = image.delayed.symmetric_difference(&self.delayed);
        let late = late.map(|(topic, due, _)| format!("delayed {:?}", (topic, due)));
        missing.chain(back).chain(late).collect()
    }

    /// Whether the content is that of an earlier moment of the last life, with all later changes
    /// undone.
    pub fn is_cut_short(&self, image: &Image) -> bool {
        let put: Vec<bool> = image
            .put_last
            .iter()
            .filter(|at| !image.taken.contains(at))
            .map(|at| (at.1, self.seen.contains(at)))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect();
        let lost = put.iter().position(|there| !there).unwrap_or(put.len());
        let suffix = put.iter().skip(lost).all(|there| !there);
        let of_last = |at: &(usize, u64)| image.put_last.contains(at);
        let there = image.put.keys().filter(|at| !image.taken.contains(at));
        let older_are_there = there.filter(|at| !of_last(at)).all(|at| self.seen.contains(at));
        let back = self.seen.iter().filter(|at| image.taken.contains(at));
        let only_new = back.clone().all(|at| image.taken_last.contains(at));
        let gone = image.delayed.difference(&self.delayed);
        let delayed = gone.clone().all(|at| image.delayed_last.contains(at));
        // All messages were put before the first was taken.
        let taken_if_whole = lost == put.len()
            || image.taken_last.iter().all(|at| self.seen.contains(at) || of_last(at));
        suffix && older_are_there && only_new && delayed && taken_if_whole
    }

    fn error(&mut self, action: &str, reply: &Fields) {
        match text(reply, "code") {
            Some(code) => *self.errors.entry(format!("{action}: {code}")).or_default() += 1,
            None => self.wrong.push(format!("{action} is answered {}", shortened(reply))),
        }
    }

    /// Whether a reply has a message. A message that was not put is noted as wrong.
    fn message(
        &mut self,
        action: &str,
        topic: usize,
        reply: &Fields,
        image: &Image,
    ) -> Option<u64> {
        let Some(id) = number(reply, "id") else {
            if !reply.contains_key("empty") {
                self.error(action, reply);
            }
            return None;
        };
        let body = text(reply, "message").unwrap_or_default();
        if image.put.get(&(topic, id)).map(String::as_str) != Some(body) {
            let early = image.delayed.iter().any(|(t, _, b)| (*t, b.as_str()) == (topic, body));
            let what = if early { "before it is due" } else { "that was not put" };
            self.wrong.push(format!("{action} of {} {what}: {}", TOPICS[topic], shortened(reply)));
        }
        Some(id)
    }

    fn topics(&mut self, line: &mut Line<Fields>) {
        line.send(r#"{"action":"topics"}"#).unwrap();
        let reply = line.reply().expect("the server ended at topics");
        let Some(list) = text(&reply, "topics") else { return self.error("topics", &reply) };
        let list: Vec<Fields> = serde_json::from_str(list).unwrap();
        for fields in list {
            let name = text(&fields, "topic").unwrap_or_default().trim_matches('"');
            if !TOPICS.contains(&name) {
                self.wrong.push(format!("there is a topic {}", shortened(&fields)));
            }
        }
    }

    /// Reads a topic from the start. After an error it continues after the next expected message.
    fn get(&mut self, line: &mut Line<Fields>, topic: usize, image: &Image) {
        let name = TOPICS[topic];
        let next = format!(r#"{{"action":"get","topic":"{name}","meta":true}}"#);
        let mut place = 0;
        loop {
            let first =
                format!(r#"{{"action":"get","topic":"{name}","since":{place},"meta":true}}"#);
            line.send(&(first + &next.repeat(PIPELINE - 1))).unwrap();
            let (mut failed, mut empty) = (false, false);
            for _ in 0..PIPELINE {
                let reply = line.reply().expect("the server ended at a get");
                empty = reply.contains_key("empty");
                if let Some(id) = self.message("get", topic, &reply, image) {
                    if id <= place {
                        self.wrong.push(format!("{id} of {name} follows {place}"));
                    }
                    place = id;
                    self.seen.insert((topic, id));
                } else {
                    failed |= !empty;
                }
            }
            if failed {
                let behind = (topic, place + 1)..=(topic, u64::MAX);
                match image.put.range(behind).find(|(at, _)| !image.taken.contains(at)) {
                    Some(((_, id), _)) => place = *id,
                    None => return,
                }
            } else if empty {
                return;
            }
        }
    }

    fn history(&mut self, line: &mut Line<Fields>, topic: usize, image: &Image) {
        for delayed in [false, true] {
            let name = TOPICS[topic];
            line.send(&format!(
                r#"{{"action":"history","topic":"{name}","limit":1000,"delayed":{delayed}}}"#
            ))
            .unwrap();
            let reply = line.reply().expect("the server ended at a history");
            let Some(list) = text(&reply, "messages") else {
                self.error("history", &reply);
                continue;
            };
            let list: Vec<Fields> = serde_json::from_str(list).unwrap();
            for fields in list {
                if !delayed {
                    self.message("history", topic, &fields, image);
                    continue;
                }
                let body = text(&fields, "message").unwrap_or_default().to_owned();
                let entry = (topic, micros(&fields, "due").unwrap_or(0), body);
                if !image.delayed.contains(&entry) {
                    self.wrong.push(format!("delayed in {name}: {}", shortened(&fields)));
                }
                self.delayed.insert(entry);
            }
        }
    }

    /// Reads a topic by subscription. A ping that is answered before any push shows the end.
    fn subscribe(&mut self, addr: SocketAddr, topic: usize, image: &Image) {
        let mut line: Line<Fields> = Line::connect(addr);
        let name = TOPICS[topic];
        line.send(&format!(r#"{{"action":"subscribe","topic":"{name}","from":"oldest","tag":0}}"#))
            .unwrap();
        let mut last = 0;
        loop {
            line.send(r#"{"action":"ping","tag":1}"#).unwrap();
            let mut pushed = false;
            loop {
                let reply = line.reply().expect("the server ended a subscription");
                match (reply.contains_key("topic"), text(&reply, "tag")) {
                    (false, Some("1")) => break,
                    (false, Some("0")) if text(&reply, "ok") == Some("true") => pushed = true,
                    (false, _) => self.error("subscribe", &reply),
                    (true, _) => {
                        pushed = true;
                        let of_topic = text(&reply, "topic").map(|t| t.trim_matches('"'));
                        let id = self.message("subscribe", topic, &reply, image).unwrap_or(0);
                        if of_topic != Some(name) || id <= last {
                            self.wrong.push(format!("pushed behind {last}: {}", shortened(&reply)));
                        }
                        last = id;
                    }
                }
            }
            if !pushed {
                break;
            }
        }
        // A server that stops waits for subscribers that are connected.
        line.send(&format!(r#"{{"action":"unsubscribe","topic":"{name}","tag":2}}"#)).unwrap();
        while line.reply().is_some_and(|reply| text(&reply, "tag") != Some("2")) {}
    }

    /// Takes until nothing more is delivered, past damaged messages.
    fn take(&mut self, line: &mut Line<Fields>, topic: usize, image: &Image) {
        let take = format!(r#"{{"action":"take","topic":"{}"}}"#, TOPICS[topic]);
        let mut got = true;
        while got {
            line.send(&take.repeat(PIPELINE)).unwrap();
            got = false;
            for _ in 0..PIPELINE {
                let reply = line.reply().expect("the server ended at a take");
                got |= self.message("take", topic, &reply, image).is_some();
            }
        }
    }
}

/// A reply, shortened.
fn shortened(reply: &Fields) -> String {
    let whole: BTreeMap<_, _> = reply
        .iter()
        .map(|(name, text)| (name, text.get().chars().take(80).collect::<String>()))
        .collect();
    format!("{whole:?}")
}
