//! CoreMQ's meaning, whatever carries it: an object comes in for a queue, and an object answers it;
//! messages of other connections come out. A queue is a topic.

mod object;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use serde_json::value::RawValue;

pub use self::object::Object;
use self::object::Text;
use super::json;
use crate::broker::{Broker, From, Pattern, Pushes, Session};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::message::Topic;
use crate::store::{Batch, Op};

/// Messages of each queue that a history holds.
const HISTORY_MESSAGES: usize = 10;

/// What the server writes into each message, in place of what a client may have written there.
const ADDED: [&str; 3] = ["coremq_sender", "coremq_sent", "coremq_server"];

/// What a server's connections share.
pub struct Hub {
    name: String,
    port: u16,
    connections: AtomicUsize,
    ids: Ids,
}

impl Hub {
    /// `port` stands for this server in what it sends.
    pub fn new(port: u16) -> Hub {
        let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        Hub { name, port, connections: AtomicUsize::new(0), ids: Ids::default() }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// As messages name it.
    pub fn server(&self) -> String {
        format!("{}:{}", self.name, self.port)
    }
}

/// Makes the ids of connections: random UUIDs, by the hash that the standard library seeds.
#[derive(Default)]
struct Ids {
    keys: [std::hash::RandomState; 2],
    last: AtomicU64,
}

impl Ids {
    fn next(&self) -> String {
        use std::hash::BuildHasher;
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(number));
        let bits = (u128::from(high) << 64) | u128::from(low);
        // Version 4, variant 1.
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let text = format!("{bits:032x}");
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

/// One connection's talk.
pub struct Talk {
    broker: Arc<Broker>,
    session: Session,
    waker: Waker,
    hub: Arc<Hub>,
    id: String,
    max_message: usize,
}

impl Talk {
    /// `session` began when the connection was accepted; `waker` is woken when there is a message.
    pub fn new(
        broker: Arc<Broker>,
        session: Session,
        waker: Waker,
        hub: Arc<Hub>,
        max_message: usize,
    ) -> Result<Talk> {
        let id = hub.ids.next();
        hub.connections.fetch_add(1, Ordering::Relaxed);
        let mut talk = Talk { broker, session, waker, hub, id, max_message };
        // What is sent to its id reaches a connection without its asking.
        talk.subscribe(&[talk.id.clone()])?;
        Ok(talk)
    }

    /// The connection's id, and the name of its own queue.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Carries out a command, or else sends the object to the queue. The answer is the text of an object.
    pub fn receive(&mut self, queue: &str, object: &Object<'_>) -> String {
        match self.carry_out(queue, object) {
            Ok(answer) => answer,
            Err(error) => json!({ "response": format!("ERROR: {}", error.text) }).to_string(),
        }
    }

    fn carry_out(&mut self, queue: &str, object: &Object<'_>) -> Result<String> {
        let said = |text: &str| Ok(json!({ "response": text }).to_string());
        if let Some(queues) = object.get("coremq_subscribe") {
            self.subscribe(&names(queues)?)?;
            return said("OK: Subscribe successful");
        }
        if let Some(queues) = object.get("coremq_unsubscribe") {
            for queue in names(queues)? {
                self.broker.unsubscribe(&mut self.session, &Pattern::Topic(Topic::new(&queue)?));
            }
            return said("OK: Unsubscribe successful");
        }
        if let Some(options) = object.get("coremq_options") {
            // There is none that has a meaning, and nothing tells them.
            Object::new(options.get()).ok_or_else(|| wrong("options are an object"))?;
            return said("OK: Options set");
        }
        if let Some(queues) = object.get("coremq_gethistory") {
            return self.history(&names(queues)?);
        }
        if object.get("coremq_replicant").is_some() {
            return Err(Error::new(Code::Forbidden, "Not allowed to be a replicant"));
        }
        if object.get("coremq_status").is_some() {
            return Ok(json!({
                "coremq_fwdto": self.id,
                "master": self.hub.name,
                "replicants": [],
                "connections": self.hub.connections(),
            })
            .to_string());
        }
        self.send(queue, object)?;
        said("OK: Message sent")
    }

    pub fn subscribe(&mut self, queues: &[String]) -> Result<()> {
        let topics = queues.iter().map(|queue| Topic::new(queue).map(Pattern::Topic));
        let patterns = topics.collect::<Result<Vec<_>>>()?;
        self.broker.subscribe(&mut self.session, patterns, From::Now, &self.waker).map(drop)
    }

    /// The last messages of these queues, as far as they have any.
    fn history(&self, queues: &[String]) -> Result<String> {
        let mut bytes = 0;
        let mut history = Text::default();
        for queue in queues {
            let run = self.broker.history(queue, HISTORY_MESSAGES)?;
            bytes += run.bytes();
            if bytes > limits::HISTORY_BYTES {
                return Err(wrong("the history is larger than 16 MiB: ask for fewer queues"));
            }
            let messages = (0..run.len()).filter_map(|index| run.get(index));
            let messages = messages.filter_map(|message| str::from_utf8(message.body).ok());
            let messages: Vec<&str> = messages.collect();
            if !messages.is_empty() {
                history.add(queue, &format!("[{}]", messages.join(",")));
            }
        }
        let mut answer = Text::default();
        answer.add("history", &history.end());
        Ok(answer.end())
    }

    /// Puts the object, with what the server adds.
    fn send(&self, queue: &str, object: &Object<'_>) -> Result<()> {
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let values = [json!(self.id), json!(sent.as_secs_f64()), json!(self.hub.server())];
        let added: Vec<_> = ADDED.into_iter().zip(values).collect();
        let message = object.with(&added);
        let mut batch = Batch::default();
        batch.put(Topic::new(queue)?, json::message(message.as_bytes(), self.max_message)?, None);
        batch.confirm();
        self.broker.apply(&mut batch);
        batch.outcomes.pop().map_or(Ok(()), |outcome| outcome.map(drop))
    }

    /// What other connections have sent; `None` if there is nothing for now.
    pub fn next(&mut self) -> Result<Option<Messages>> {
        let pushes = self.broker.pushes(&mut self.session)?;
        Ok(pushes.map(|pushes| Messages { pushes, own: self.id.clone() }))
    }
}

impl Drop for Talk {
    /// Nobody reads what was sent to it alone.
    fn drop(&mut self) {
        self.hub.connections.fetch_sub(1, Ordering::Relaxed);
        let Ok(topic) = Topic::new(&self.id) else { return };
        let mut batch = Batch::default();
        batch.ops.push(Op::Purge { topic });
        self.broker.apply(&mut batch);
        if let Some(Err(error)) = batch.outcomes.first() {
            tracing::debug!("the queue {} stays: {error}", self.id);
        }
    }
}

/// Messages of one queue on their way out.
pub struct Messages {
    pushes: Pushes,
    own: String,
}

impl Messages {
    pub fn queue(&self) -> &str {
        self.pushes.topic.as_str()
    }

    /// The messages, each as it was put, without those that this connection has sent.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let messages = self.pushes.range.clone().filter_map(|index| self.pushes.run.get(index));
        messages.map(|message| message.body).filter(|body| !self.is_own(body))
    }

    fn is_own(&self, body: &[u8]) -> bool {
        let object = str::from_utf8(body).ok().and_then(Object::new);
        let sender = object.as_ref().and_then(|object| object.get("coremq_sender"));
        sender.and_then(text).is_some_and(|sender| sender == self.own)
    }
}

/// A queue's name, or a list of them.
pub fn names(value: &RawValue) -> Result<Vec<String>> {
    if let Some(name) = text(value) {
        return Ok(vec![name]);
    }
    let names: Vec<String> = serde_json::from_str(value.get())
        .map_err(|_| wrong("queues are a name, or a list of names"))?;
    if names.len() > limits::SUBSCRIPTIONS {
        return Err(wrong("these are more than 1000 queues"));
    }
    Ok(names)
}

/// The text of a JSON string.
pub fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn wrong(text: &'static str) -> Error {
    Error::new(Code::BadField, text)
}
