//! Copies topics from store to store: every message with its id and all its fields, for `dsmq copy`.
//!
//! A copy keeps the ids and the order. An interrupted copy therefore leaves a prefix of the topic, and
//! the next copy resumes after it. If the target topic has any other message, nothing is written. No
//! server may use either store meanwhile: the copy compares the counts of both at the end.

use std::sync::Arc;

use super::{Store, TopicState};
use crate::error::Error;
use crate::ops::{Batch, Op, ScanCursor, StoredMessage, Topic};

/// The source or the target of a copy, with its name for errors.
pub struct Side {
    pub name: String,
    pub store: Arc<dyn Store>,
}

/// The totals of a copy, including messages of an earlier, interrupted one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub topics: u64,
    pub messages: u64,
    pub bytes: u64,
    /// How many of the messages an earlier copy had written.
    pub before: u64,
}

/// The progress within one topic.
pub struct Progress<'a> {
    pub topic: &'a Topic,
    pub messages: u64,
    /// Total of the messages in the topic.
    pub of: u64,
}

/// Copies the topics with these names, or all if there are none. A name that ends in `*` is a prefix.
///
/// # Errors
///
/// One line for the operator: which store and topic, why, and what to do.
pub fn copy(
    from: &Side,
    to: &Side,
    names: &[String],
    mut progress: impl FnMut(&Progress<'_>),
) -> Result<Copied, String> {
    let states = chosen(from, names)?;
    // Check every target topic before writing to any.
    let mut topics = Vec::new();
    for state in states {
        let topic = find_resume_point(from, to, state, &mut progress)?;
        topics.push(topic);
    }
    let mut all = Copied::default();
    for mut topic in topics {
        topic.run(from, to, &mut progress)?;
        let Copied { messages, bytes, before, .. } = topic.copied;
        all.topics += 1;
        all.messages += messages;
        all.bytes += bytes;
        all.before += before;
    }
    Ok(all)
}

/// The topics with these names, sorted by name.
fn chosen(from: &Side, names: &[String]) -> Result<Vec<Arc<TopicState>>, String> {
    let mut states = from.store.topics();
    let is_of = |state: &TopicState, name: &str| {
        let topic = state.topic().as_str();
        name == topic || name.strip_suffix('*').is_some_and(|begin| topic.starts_with(begin))
    };
    if let Some(name) = names.iter().find(|name| !states.iter().any(|state| is_of(state, name))) {
        return Err(format!("{}: there is no topic {name:?}", from.name));
    }
    if !names.is_empty() {
        states.retain(|state| names.iter().any(|name| is_of(state, name)));
    }
    states.sort_by(|a, b| a.topic().cmp(b.topic()));
    Ok(states)
}

/// The copy of one topic.
struct Copying {
    state: Arc<TopicState>,
    /// The position up to which messages have been copied.
    place: ScanCursor,
    copied: Copied,
}

/// Compares the target topic with the source: equal messages come from an earlier copy, and the copy
/// resumes after them. Any other message is an error.
fn find_resume_point(
    from: &Side,
    to: &Side,
    state: Arc<TopicState>,
    progress: &mut impl FnMut(&Progress<'_>),
) -> Result<Copying, String> {
    let mut copying = Copying { state, place: ScanCursor::START, copied: Copied::default() };
    let Some(there) = to.store.topic(copying.state.topic().as_str()) else { return Ok(copying) };
    let mut copied = MessageScan::new(to, there);
    let mut originals = MessageScan::new(from, copying.state.clone());
    while let Some(message) = copied.next()? {
        let own = originals.next()?.filter(|original| original.is_copy_of(&message));
        let Some(own) = own else { return Err(not_a_copy(to, copying.state.topic())) };
        copying.count(&own);
        copying.copied.before += 1;
        copying.report(progress);
    }
    Ok(copying)
}

/// The error for a target topic with other messages.
fn not_a_copy(to: &Side, topic: &Topic) -> String {
    let name = topic.as_str();
    format!(
        "{}: the topic {name:?} already has other messages: purge it there, or name the topics to \
         copy; nothing was written",
        to.name
    )
}

impl Copying {
    fn topic(&self) -> &Topic {
        self.state.topic()
    }

    fn count(&mut self, message: &StoredMessage) {
        self.place = message.place;
        self.copied.messages += 1;
        self.copied.bytes += message.body.len() as u64;
    }

    fn report(&self, progress: &mut impl FnMut(&Progress<'_>)) {
        let counts = self.state.counts();
        let of = counts.length + counts.delayed;
        progress(&Progress { topic: self.topic(), messages: self.copied.messages, of });
    }

    /// Copies the remaining messages and the settings, and compares the counts.
    fn run(
        &mut self,
        from: &Side,
        to: &Side,
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<(), String> {
        loop {
            let some = from.store.scan(&self.state, self.place);
            let some = some.map_err(|error| failed(from, self.topic(), &error))?;
            if some.is_empty() {
                break;
            }
            some.iter().for_each(|message| self.count(message));
            let topic = self.topic();
            let import = |message| Op::Import { topic: topic.clone(), message: Box::new(message) };
            self.apply(to, some.into_iter().map(import))?;
            self.report(progress);
        }
        self.apply(to, self.final_ops())?;
        self.compare(from, to)
    }

    /// The final operations: settings and the highest id. Their sync makes the whole copy durable.
    fn final_ops(&self) -> impl Iterator<Item = Op> {
        let (topic, counts) = (self.topic(), self.state.counts());
        let stopped = Op::SetStopped { topic: topic.clone(), stopped: counts.stopped };
        let policy = |policy| Op::SetPolicy { topic: topic.clone(), policy };
        // A client's cursor may be at the id of a removed message. New ids must be above it: otherwise
        // the client would miss them.
        let newest = Op::Advance { topic: topic.clone(), to: self.state.newest() };
        [stopped].into_iter().chain(counts.policy.map(policy)).chain([newest])
    }

    /// Applies the operations; the first failure ends the copy.
    fn apply(&self, to: &Side, ops: impl IntoIterator<Item = Op>) -> Result<(), String> {
        let mut batch = Batch::default();
        batch.ops.extend(ops);
        to.store.apply(&mut batch);
        batch.outcomes.drain(..).try_for_each(|outcome| outcome.map(drop)).map_err(|error| {
            let failed = failed(to, self.topic(), &error);
            format!("{failed}; the copied messages stay, and the same command resumes after them")
        })
    }

    /// Checks that both stores have exactly the number of copied messages.
    fn compare(&self, from: &Side, to: &Side) -> Result<(), String> {
        for side in [from, to] {
            let topic = self.topic();
            side.store.refresh(topic.as_str()).map_err(|error| failed(side, topic, &error))?;
            let counts = side.store.topic(topic.as_str()).map(|state| state.counts());
            let counts = counts.unwrap_or_default();
            let found = counts.length + counts.delayed;
            if found != self.copied.messages {
                return Err(format!(
                    "{}: the topic {:?} has {found} messages, and {} were copied: another program uses \
                     the store: stop it, purge the topic in the target, and copy it again",
                    side.name,
                    topic.as_str(),
                    self.copied.messages
                ));
            }
        }
        Ok(())
    }
}

fn failed(side: &Side, topic: &Topic, error: &Error) -> String {
    format!("{}: topic {:?}: {error}", side.name, topic.as_str())
}

/// Iterates over all stored messages of a topic, one scan at a time.
struct MessageScan<'a> {
    side: &'a Side,
    state: Arc<TopicState>,
    place: ScanCursor,
    some: std::vec::IntoIter<StoredMessage>,
}

impl MessageScan<'_> {
    fn new(side: &Side, state: Arc<TopicState>) -> MessageScan<'_> {
        MessageScan { side, state, place: ScanCursor::START, some: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Result<Option<StoredMessage>, String> {
        if self.some.len() == 0 {
            let some = self.side.store.scan(&self.state, self.place);
            let some = some.map_err(|error| failed(self.side, self.state.topic(), &error))?;
            self.some = some.into_iter();
        }
        let next = self.some.next();
        self.place = next.as_ref().map_or(self.place, |message| message.place);
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
