//! A CoreMQ session over either transport: each object is a command or a message, and has one
//! answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use serde_json::value::RawValue;

use super::hub::{CoreMqHub, DirectMessage, DirectQueue};
use super::object::{
    ObjectText, RawObject, bad_field, error_response, json_string, names, response,
};
use crate::broker::{Broker, Caller, From, Pattern, Pushes, Session};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Batch, Id, Op, Outcome, Topic};
use crate::protocol::json;
use crate::sync::lock;

/// The number of latest messages that a history shows for each queue.
const HISTORY_MESSAGES: usize = 10;

/// The keys that the server sets in each message. Values sent by clients under these keys are
/// dropped.
const ADDED: [&str; 3] = ["coremq_sender", "coremq_sent", "coremq_server"];

/// The state of one connection.
pub struct CoreMqSession {
    pub(super) broker: Arc<Broker>,
    pub(super) caller: Arc<Caller>,
    pub(super) session: Session,
    waker: Waker,
    pub(super) hub: Arc<CoreMqHub>,
    pub(super) id: String,
    direct_queue: Arc<DirectQueue>,
    max_message: usize,
    /// Whether the connection may become a replicant, and whether it is one. A replicant receives
    /// the messages of all queues.
    may_replicate: bool,
    replicates: bool,
    followed: HashSet<Topic>,
    /// The ids of messages that this connection put into queues it follows: senders do not receive
    /// their own messages.
    sent: HashMap<Topic, Vec<Id>>,
}

impl CoreMqSession {
    /// `session` started when the connection was accepted. `waker` is woken when a message arrives.
    pub fn new(
        broker: Arc<Broker>,
        caller: Arc<Caller>,
        session: Session,
        waker: Waker,
        hub: Arc<CoreMqHub>,
        max_message: usize,
    ) -> Result<CoreMqSession> {
        let id = hub.ids.next();
        hub.connections.fetch_add(1, Ordering::Relaxed);
        let direct_queue = hub.direct_queues.open(&id, waker.clone());
        let mut coremq = CoreMqSession {
            broker,
            caller,
            session,
            waker,
            hub,
            id,
            direct_queue,
            max_message,
            may_replicate: false,
            replicates: false,
            followed: HashSet::new(),
            sent: HashMap::new(),
        };
        // A connection receives messages sent to its id without subscribing, also those that other
        // protocols put there.
        coremq.subscribe(&[coremq.id.clone()])?;
        Ok(coremq)
    }

    pub fn may_replicate(mut self, may_replicate: bool) -> CoreMqSession {
        self.may_replicate = may_replicate;
        self
    }

    /// The largest request in bytes: a message plus the queue's name and the command keys. The size
    /// of the message itself is checked when it is put.
    pub(super) fn max_request(&self) -> usize {
        self.max_message.saturating_add(limits::REQUEST_OVERHEAD_BYTES)
    }

    /// Carries out a command, or else sends the object to the queue. Returns the answer as JSON.
    pub fn receive(&mut self, queue: &str, object: &RawObject<'_>) -> String {
        self.carry_out(queue, object).unwrap_or_else(|error| error_response(&error))
    }

    /// Sends a list unchanged.
    pub fn receive_list(&mut self, queue: &str, list: &str) -> Result<String> {
        self.put(queue, list)?;
        Ok(response("OK: Message sent"))
    }

    fn carry_out(&mut self, queue: &str, object: &RawObject<'_>) -> Result<String> {
        if let Some(queues) = object.get("coremq_subscribe") {
            self.subscribe(&names(queues)?)?;
            return Ok(response("OK: Subscribe successful"));
        }
        if let Some(queues) = object.get("coremq_unsubscribe") {
            self.unsubscribe(&names(queues)?)?;
            return Ok(response("OK: Unsubscribe successful"));
        }
        if let Some(options) = object.get("coremq_options") {
            // CoreMQ defines options, but none has an effect.
            RawObject::new(options.get()).ok_or_else(|| bad_field("options are an object"))?;
            return Ok(response("OK: Options set"));
        }
        if let Some(queues) = object.get("coremq_gethistory") {
            return self.history(&names(queues)?);
        }
        if let Some(name) = object.get("coremq_replicant") {
            self.replicate(name)?;
            return Ok(response("OK: Replication request successful"));
        }
        if object.get("coremq_status").is_some() {
            return Ok(json!({
                "coremq_fwdto": self.id,
                "master": self.hub.name,
                "replicants": lock(&self.hub.replicants).values().collect::<Vec<_>>(),
                "connections": self.hub.connections(),
            })
            .to_string());
        }
        self.send(queue, object)?;
        Ok(response("OK: Message sent"))
    }

    pub fn subscribe(&mut self, queues: &[String]) -> Result<()> {
        let topics = queues.iter().map(|queue| Topic::new(queue)).collect::<Result<Vec<_>>>()?;
        self.follow(topics.iter().cloned().map(Pattern::Topic).collect())?;
        self.followed.extend(topics);
        Ok(())
    }

    fn follow(&mut self, patterns: Vec<Pattern>) -> Result<()> {
        self.broker
            .subscribe(&self.caller, &mut self.session, patterns, From::Now, &self.waker)
            .map(drop)
    }

    fn unsubscribe(&mut self, queues: &[String]) -> Result<()> {
        for queue in queues {
            let topic = Topic::new(queue)?;
            self.broker.unsubscribe(
                &self.caller,
                &mut self.session,
                &Pattern::Topic(topic.clone()),
            );
            self.followed.remove(&topic);
            if !self.replicates {
                self.sent.remove(&topic);
            }
        }
        Ok(())
    }

    fn replicate(&mut self, name: &RawValue) -> Result<()> {
        if !self.may_replicate {
            return Err(Error::new(Code::Forbidden, "Not allowed to be a replicant"));
        }
        let name = json_string(name).ok_or_else(|| bad_field("a replicant has a name"))?;
        self.follow(vec![Pattern::Prefix("".into())])?;
        self.replicates = true;
        lock(&self.hub.replicants).insert(self.id.clone(), name);
        Ok(())
    }

    /// The latest messages of these queues; queues without messages are left out.
    fn history(&self, queues: &[String]) -> Result<String> {
        let mut bytes = 0;
        let mut history = ObjectText::default();
        for queue in queues {
            let run = self.broker.history(&self.caller, queue, HISTORY_MESSAGES)?;
            bytes += run.bytes();
            if bytes > limits::HISTORY_BYTES {
                return Err(bad_field("the history is larger than 16 MiB: ask for fewer queues"));
            }
            let messages = (0..run.len()).filter_map(|index| run.get(index));
            let messages = messages.filter_map(|message| str::from_utf8(message.body).ok());
            let messages: Vec<&str> = messages.collect();
            if !messages.is_empty() {
                history.add(queue, &format!("[{}]", messages.join(",")));
            }
        }
        let mut answer = ObjectText::default();
        answer.add("history", &history.end());
        Ok(answer.end())
    }

    /// Puts the object, with the keys of [`ADDED`].
    fn send(&mut self, queue: &str, object: &RawObject<'_>) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let values = [json!(self.id), json!(now.as_secs_f64()), json!(self.hub.server())];
        let added: Vec<_> = ADDED.into_iter().zip(values).collect();
        self.put(queue, &object.with(&added))
    }

    /// Sends a direct message to one connection, and to all replicants. The sender does not receive
    /// it.
    fn deliver(&self, id: &str, message: &str) -> Result<()> {
        let direct = DirectMessage { queue: id.to_owned(), json: message.to_owned() };
        let replicants: Vec<_> = lock(&self.hub.replicants).keys().cloned().collect();
        let others = replicants.iter().filter(|other| *other != id && **other != self.id);
        for other in others {
            if let Err(error) = self.hub.direct_queues.deliver(other, direct.clone()) {
                tracing::warn!(
                    "cannot send a direct message to a replicant, it misses the message: {error}"
                );
            }
        }
        if id == self.id { Ok(()) } else { self.hub.direct_queues.deliver(id, direct) }
    }

    fn put(&mut self, queue: &str, message: &str) -> Result<()> {
        let topic = Topic::new(queue)?;
        let text = message;
        let message = json::message(message.as_bytes(), self.max_message)?;
        if self.hub.direct_queues.has(queue) {
            return self.deliver(queue, text);
        }
        let mut batch = Batch::default();
        batch.put(topic.clone(), message, None);
        batch.confirm();
        self.broker.apply(&self.caller, &mut batch);
        if let Some(Outcome::Stored { id, .. }) = batch.outcomes.pop().transpose()?
            && (self.replicates || self.followed.contains(&topic))
        {
            self.sent.entry(topic).or_default().push(id);
        }
        Ok(())
    }

    /// The next direct message to this connection.
    pub fn next_direct(&self) -> Option<DirectMessage> {
        self.direct_queue.next()
    }

    /// The next messages of a followed queue; `None` if there are none now.
    pub fn next(&mut self) -> Result<Option<QueueMessages>> {
        let Some(pushes) = self.broker.pushes(&self.caller, &mut self.session)? else {
            return Ok(None);
        };
        let last = pushes.range.end.checked_sub(1).and_then(|last| pushes.chunk.get(last));
        let last = last.map_or(0, |last| last.id);
        let mut sent = self.sent.remove(&pushes.topic).unwrap_or_default();
        let later = sent.split_off(sent.partition_point(|id| *id <= last));
        if !later.is_empty() {
            self.sent.insert(pushes.topic.clone(), later);
        }
        Ok(Some(QueueMessages { pushes, sent }))
    }
}

impl Drop for CoreMqSession {
    /// Also purges the connection's own queue, which nobody will read.
    fn drop(&mut self) {
        self.hub.connections.fetch_sub(1, Ordering::Relaxed);
        lock(&self.hub.replicants).remove(&self.id);
        self.hub.direct_queues.close(&self.id);
        let Ok(topic) = Topic::new(&self.id) else { return };
        let mut batch = Batch::default();
        batch.ops.push(Op::Purge { topic });
        self.broker.apply(&self.caller, &mut batch);
        if let Some(Err(error)) = batch.outcomes.first() {
            tracing::debug!("cannot purge the queue {} of a closed connection: {error}", self.id);
        }
    }
}

/// Messages of one queue for this connection.
pub struct QueueMessages {
    pub(super) pushes: Pushes,
    /// The ids among them that this connection sent.
    sent: Vec<Id>,
}

impl QueueMessages {
    pub fn queue(&self) -> &str {
        self.pushes.topic.as_str()
    }

    /// The bodies as they were put, without this connection's own messages.
    #[cfg(any(test, feature = "http"))]
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let messages = self.indices().filter_map(|index| self.pushes.chunk.get(index));
        messages.map(|message| message.body)
    }

    /// Positions in the chunk, without this connection's own messages.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.pushes.range.clone().filter(|index| {
            let message = self.pushes.chunk.get(*index);
            message.is_some_and(|message| self.sent.binary_search(&message.id).is_err())
        })
    }
}
