//! What the status page shows: the busiest topics and the last messages. Part of the broker.

use std::cmp::Reverse;

use super::{Broker, Caller};
use crate::error::Result;
use crate::ops::{Id, Topic};
use crate::store::{Counts, TopicState};

/// Maximum number of topics that are read for the last messages.
const READ_TOPICS: usize = 200;

/// A topic as its state shows it, without a query of the store.
#[derive(Debug)]
pub struct Busy {
    pub topic: Topic,
    pub counts: Counts,
    pub put_rate: f64,
    pub take_rate: f64,
    pub consumers: usize,
}

impl Broker {
    /// The busiest topics, at most `limit` of those whose names contain `part`, and the number of
    /// all that do.
    pub fn busiest(&self, _: &Caller, part: &str, limit: usize) -> (Vec<Busy>, usize) {
        let now = self.store.now();
        let heads = self.store.topics().into_iter();
        let matching = heads.filter(|state| holds(state.topic().as_str(), part));
        let mut ranked: Vec<_> = matching
            .map(|state| {
                let (puts, takes) = state.rates(now);
                (puts + takes, state.counts().length, state)
            })
            .collect();
        let count = ranked.len();
        ranked.sort_unstable_by(|(a_rate, a_length, a), (b_rate, b_length, b)| {
            let by_rate = b_rate.total_cmp(a_rate).then(b_length.cmp(a_length));
            by_rate.then_with(|| a.topic().cmp(b.topic()))
        });
        ranked.truncate(limit);
        (ranked.iter().map(|(.., state)| self.busy(state)).collect(), count)
    }

    /// One topic, as [`Broker::busiest`] shows it; `None` before its first put.
    pub fn busy_topic(&self, _: &Caller, name: &str) -> Option<Busy> {
        self.store.topic(name).map(|state| self.busy(&state))
    }

    /// The topics with most puts and takes since the start.
    pub fn most_used(&self, _: &Caller, limit: usize) -> Vec<Busy> {
        let mut heads = self.store.topics();
        let used = |state: &TopicState| state.counts().puts + state.counts().takes;
        heads.sort_by_cached_key(|state| (Reverse(used(state)), state.topic().clone()));
        heads.truncate(limit);
        heads.iter().map(|state| self.busy(state)).collect()
    }

    fn busy(&self, state: &TopicState) -> Busy {
        let (put_rate, take_rate) = state.rates(self.store.now());
        let topic = state.topic().clone();
        let consumers = self.subscribers.followers(&topic) + self.consumers.of(&topic);
        Busy { counts: state.counts(), topic, put_rate, take_rate, consumers }
    }

    /// The last messages of all topics, newest first, each converted by `show`.
    pub fn last<T>(
        &self,
        _: &Caller,
        limit: usize,
        show: impl Fn(&Topic, Id, &[u8]) -> T,
    ) -> Result<Vec<(Id, T)>> {
        let mut heads = self.store.topics();
        heads.retain(|state| state.counts().length > 0);
        heads.sort_unstable_by_key(|state| Reverse(state.newest()));
        let mut last: Vec<(Id, T)> = Vec::new();
        for state in heads.iter().take(READ_TOPICS) {
            let oldest = last.get(limit.saturating_sub(1)).map_or(0, |(id, _)| *id);
            if state.newest() <= oldest {
                break;
            }
            // Converted at once, because the messages of a topic can be large.
            let run = self.store.read_last(state, limit)?;
            let messages = (0..run.len()).filter_map(|index| run.get(index));
            let newer = messages.filter(|message| message.id > oldest);
            last.extend(newer.map(|m| (m.id, show(state.topic(), m.id, m.body))));
            last.sort_unstable_by_key(|(id, _)| Reverse(*id));
            last.truncate(limit);
        }
        Ok(last)
    }
}

/// Whether a name contains `part`, ignoring case.
fn holds(name: &str, part: &str) -> bool {
    part.is_empty() || name.to_lowercase().contains(&part.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Batch, Op};
    use crate::store::{self, Rules};

    fn broker() -> Broker {
        Broker::new(store::in_memory(Rules::default()).unwrap())
    }

    fn put(broker: &Broker, topic: &str, message: &str) {
        let mut batch = Batch::default();
        batch.put(Topic::new(topic).unwrap(), message.as_bytes(), None);
        broker.apply(&Caller::server(), &mut batch);
    }

    #[test]
    fn the_busiest_come_first_and_no_more_than_asked() {
        let broker = broker();
        for (topic, puts) in [("Some", 2), ("most", 3), ("few", 1), ("else", 1)] {
            (0..puts).for_each(|_| put(&broker, topic, "1"));
        }
        let names = |part, limit| {
            let (topics, count) = broker.busiest(&Caller::server(), part, limit);
            (topics.iter().map(|t| t.topic.to_string()).collect::<Vec<_>>(), count)
        };
        assert_eq!(names("", 3), (vec!["most".into(), "Some".into(), "else".into()], 4));
        assert_eq!(names("SO", 3), (vec!["Some".into()], 1));
        let used: Vec<_> =
            broker.most_used(&Caller::server(), 2).iter().map(|t| t.counts.puts).collect();
        assert_eq!(used, [3, 2]);
        assert!(
            broker.busy_topic(&Caller::server(), "few").is_some()
                && broker.busy_topic(&Caller::server(), "none").is_none()
        );
    }

    #[test]
    fn the_last_messages_are_those_of_all_topics() {
        let broker = broker();
        for number in 0..20 {
            put(&broker, ["a", "b", "c"][number % 3], &number.to_string());
        }
        put(&broker, "empty", "1");
        let mut batch = Batch::default();
        batch.ops.push(Op::Purge { topic: Topic::new("empty").unwrap() });
        broker.apply(&Caller::server(), &mut batch);
        let show =
            |topic: &Topic, _, body: &[u8]| format!("{topic}{}", String::from_utf8_lossy(body));
        let last: Vec<_> =
            broker.last(&Caller::server(), 4, show).unwrap().into_iter().map(|(_, m)| m).collect();
        assert_eq!(last, ["b19", "a18", "c17", "b16"]);
        assert_eq!(broker.last(&Caller::server(), 50, show).unwrap().len(), 20);
    }
}
