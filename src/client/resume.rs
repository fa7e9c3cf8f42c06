//! Subscribes again over a new connection: each topic continues after its last push, or where its
//! subscription began.
//!
//! A prefix has one start for all its topics, known and unknown. It starts at the first missing
//! message, found by `topics` and one get of each such topic. Messages of other topics that are
//! pushed again are recognised by their ids and dropped.

use std::time::Duration;

use super::requests::{Fields, Requests};
use super::session::Again;
use super::subscribe::{Start, Subscription, subscribe_fields};
use super::topics::history_fields;
use super::{Client, Result};

/// Maximum number of topics whose first missing message is looked up. For the others the last push
/// is the start, which can bring many messages again.
const LOOKED_UP_MAX: usize = 1_000;

impl Client {
    /// Makes sure that the server of this session knows the subscriptions.
    pub(super) fn resume(&mut self) -> Result<()> {
        if let Some(connection) = &mut self.connection {
            connection.subscribed = true;
        }
        if self.subscriptions.list.is_empty() || self.subscriptions.session == self.session {
            return Ok(());
        }
        let list = self.subscriptions.list.clone();
        let begins = self.beginnings(&list)?;
        let mut rest = list.iter().zip(begins).peekable();
        while rest.peek().is_some() {
            let first = self.last_tag + 1;
            let mut requests = Requests::default();
            while !requests.is_full()
                && let Some((Subscription { name, .. }, begin)) = rest.next()
            {
                let tag = self.next_tag();
                let start = Start::Id(begin);
                requests.add("subscribe", tag, |add| subscribe_fields(add, name, start))?;
            }
            self.with(|connection| connection.send(&mut requests))?;
            for tag in (first..).take(requests.len()) {
                self.with(|connection| connection.reply(tag, Duration::ZERO))?.accepted()?;
            }
        }
        self.subscriptions.session = self.session;
        Ok(())
    }

    /// The id after which each subscription starts.
    fn beginnings(&mut self, list: &[Subscription]) -> Result<Vec<u64>> {
        let missing = self.missing(list)?;
        let began = self.connection.as_ref().map_or(0, |connection| connection.began);
        let mut begins = Vec::with_capacity(list.len());
        for subscription in list {
            begins.push(if subscription.prefix().is_some() {
                // Every message put from now on, into any topic, has a higher id than this
                // session's start.
                let missing = missing.iter().filter(|(topic, _)| subscription.covers(topic));
                missing.map(|(_, before)| *before).fold(began, u64::min)
            } else {
                self.place_in(&subscription.name, list)?
            });
        }
        Ok(begins)
    }

    /// The topics of prefixes with messages that were not pushed, each with an id before the first
    /// such message.
    fn missing(&mut self, list: &[Subscription]) -> Result<Vec<(String, u64)>> {
        let mut missing = Vec::new();
        if list.iter().all(|subscription| subscription.prefix().is_none()) {
            return Ok(missing);
        }
        let topics = self.exchange("topics", Again::May, Duration::ZERO, |_| Ok(()))?.topics()?;
        for row in topics {
            if list.iter().any(|known| known.prefix().is_some() && known.covers(&row.topic)) {
                let place = self.place_in(&row.topic, list)?;
                // Messages up to there must not come again, wherever the prefix starts.
                self.inbox().begin(&row.topic, place);
                if row.newest.is_some_and(|newest| newest > place) {
                    missing.push((row.topic, place));
                }
            }
        }
        if missing.len() <= LOOKED_UP_MAX {
            self.look_up(&mut missing)?;
        }
        Ok(missing)
    }

    /// Moves each start to just before the message that follows it.
    fn look_up(&mut self, missing: &mut [(String, u64)]) -> Result<()> {
        for (topic, place) in missing {
            let fields = |get: &mut Fields| {
                get.plain("meta", true);
                get.plain("since", *place);
                get.json("topic", &*topic)
            };
            let next = self.exchange("get", Again::May, Duration::ZERO, fields)?.message()?;
            // This has moved the session's get cursor, so it must be named again.
            self.forget_place(topic);
            if let Some(next) = next {
                *place = next.id.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// How far a topic has come, or else where the first of its subscriptions began.
    fn place_in(&mut self, topic: &str, list: &[Subscription]) -> Result<u64> {
        if let Some(place) = self.inbox().place(topic) {
            return Ok(place);
        }
        let mut first = u64::MAX;
        for subscription in list.iter().filter(|subscription| subscription.covers(topic)) {
            first = first.min(match subscription.start {
                Start::Now | Start::Last(0) => subscription.since,
                Start::Oldest => 0,
                Start::Id(id) => id,
                Start::Last(count) => self.begin_of_last(topic, count)?.min(subscription.since),
            });
        }
        Ok(first)
    }

    /// The id before the last `count` messages of a topic.
    fn begin_of_last(&mut self, topic: &str, count: u32) -> Result<u64> {
        let fields = |history: &mut Fields| history_fields(history, topic, count as usize);
        let reply = self.exchange("history", Again::May, Duration::ZERO, fields)?;
        let last = reply.history()?;
        Ok(last.first().map_or(u64::MAX, |first| first.id.saturating_sub(1)))
    }
}
