//! Copies topics from store to store: each message with its id and all that is known of it.
//!
//! Ids are kept, and messages go in their order; so what an interrupted copy has left is the beginning
//! of the same topic, and the next one goes on behind it. Anything else in the topic is somebody's
//! own, and nothing is written. Nobody else may use either store meanwhile: at the end both are
//! counted.

use std::sync::Arc;

use super::{Store, TopicState};
use crate::error::Error;
use crate::ops::{Batch, Op, ScanCursor, StoredMessage, Topic};

/// One of the two stores, and what it is called.
pub struct Side {
    pub name: String,
    pub store: Arc<dyn Store>,
}

/// What was copied, or was there from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub topics: u64,
    pub messages: u64,
    pub bytes: u64,
    /// So many of the messages were there.
    pub before: u64,
}

/// How far it is.
pub struct Progress<'a> {
    pub topic: &'a Topic,
    pub messages: u64,
    /// Messages of the topic.
    pub of: u64,
}

/// Copies the topics of these names, or all; a name that ends in `*` is the beginning of names. An
/// error is for the person who asked for it.
pub fn copy(
    from: &Side,
    to: &Side,
    names: &[String],
    mut progress: impl FnMut(&Progress<'_>),
) -> Result<Copied, String> {
    let states = chosen(from, names)?;
    // Before anything is written.
    let mut topics = Vec::new();
    for state in states {
        let topic = begun(from, to, state, &mut progress)?;
        topics.push(topic);
    }
    let mut all = Copied::default();
    for mut topic in topics {
        topic.go_on(from, to, &mut progress)?;
        let Copied { messages, bytes, before, .. } = topic.copied;
        all.topics += 1;
        all.messages += messages;
        all.bytes += bytes;
        all.before += before;
    }
    Ok(all)
}

/// The topics of these names, in the order of their names.
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

/// A topic on its way.
struct Copying {
    state: Arc<TopicState>,
    /// Up to where it is copied.
    place: ScanCursor,
    copied: Copied,
}

/// How much of the topic is there from an earlier copy; an error, if anything else is.
fn begun(
    from: &Side,
    to: &Side,
    state: Arc<TopicState>,
    progress: &mut impl FnMut(&Progress<'_>),
) -> Result<Copying, String> {
    let mut copying = Copying { state, place: ScanCursor::START, copied: Copied::default() };
    let Some(there) = to.store.topic(copying.state.topic().as_str()) else { return Ok(copying) };
    let mut theirs = Walk::new(to, there);
    let mut ours = Walk::new(from, copying.state.clone());
    while let Some(message) = theirs.next()? {
        let own = ours.next()?.filter(|own| own.is_copy_of(&message));
        let Some(own) = own else { return Err(taken(to, copying.state.topic())) };
        copying.count(&own);
        copying.copied.before += 1;
        copying.tell(progress);
    }
    Ok(copying)
}

fn taken(to: &Side, topic: &Topic) -> String {
    let name = topic.as_str();
    format!(
        "{}: the topic {name:?} is there already, with messages of its own: purge it there, or name \
         the topics to copy; nothing was written",
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

    fn tell(&self, progress: &mut impl FnMut(&Progress<'_>)) {
        let counts = self.state.counts();
        let of = counts.length + counts.delayed;
        progress(&Progress { topic: self.topic(), messages: self.copied.messages, of });
    }

    /// Copies what is not there, and counts.
    fn go_on(
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
            self.tell(progress);
        }
        self.apply(to, self.end())?;
        self.compare(from, to)
    }

    /// What is done last, and promised: with it all that was before is kept for good.
    fn end(&self) -> impl Iterator<Item = Op> {
        let (topic, counts) = (self.topic(), self.state.counts());
        let stopped = Op::SetStopped { topic: topic.clone(), stopped: counts.stopped };
        let policy = |policy| Op::SetPolicy { topic: topic.clone(), policy };
        // Who has had a message that is there no more has had all that are older.
        let newest = Op::Advance { topic: topic.clone(), to: self.state.newest() };
        [stopped].into_iter().chain(counts.policy.map(policy)).chain([newest])
    }

    /// All of it is done, or this is why something is not.
    fn apply(&self, to: &Side, ops: impl IntoIterator<Item = Op>) -> Result<(), String> {
        let mut batch = Batch::default();
        batch.ops.extend(ops);
        to.store.apply(&mut batch);
        batch.outcomes.drain(..).try_for_each(|outcome| outcome.map(drop)).map_err(|error| {
            let failed = failed(to, self.topic(), &error);
            format!("{failed}; what was copied stays there, and the same command goes on from it")
        })
    }

    /// Whether both stores have what was copied, neither more nor less.
    fn compare(&self, from: &Side, to: &Side) -> Result<(), String> {
        for side in [from, to] {
            let topic = self.topic();
            side.store.refresh(topic.as_str()).map_err(|error| failed(side, topic, &error))?;
            let counts = side.store.topic(topic.as_str()).map(|state| state.counts());
            let counts = counts.unwrap_or_default();
            let found = counts.length + counts.delayed;
            if found != self.copied.messages {
                return Err(format!(
                    "{}: the topic {:?} has {found} messages, and {} were copied: somebody else uses \
                     the store; stop them, purge the topic where it was copied to, and copy it again",
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

/// All that is kept of a topic, one after the other.
struct Walk<'a> {
    side: &'a Side,
    state: Arc<TopicState>,
    place: ScanCursor,
    some: std::vec::IntoIter<StoredMessage>,
}

impl Walk<'_> {
    fn new(side: &Side, state: Arc<TopicState>) -> Walk<'_> {
        Walk { side, state, place: ScanCursor::START, some: Vec::new().into_iter() }
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
