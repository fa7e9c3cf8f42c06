//! Replies and pushes as values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Confirmed, Error, Message, Origin, Push, Result, Stats, Taken, TopicInfo};

/// The tag of unconfirmed puts. Requests with a reply carry a number.
pub(super) const PUT_TAG: &str = "put";

/// Which request a reply belongs to.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Tag {
    /// To none: the server speaks of the connection.
    #[default]
    None,
    /// To an unconfirmed put, which was refused.
    Put,
    Request(u64),
    Unknown,
}

impl From<Value> for Tag {
    fn from(tag: Value) -> Tag {
        match (tag.as_u64(), tag.as_str()) {
            (Some(number), _) => Tag::Request(number),
            (_, Some(PUT_TAG)) => Tag::Put,
            _ => Tag::Unknown,
        }
    }
}

/// A reply of any kind, or a push. Its fields depend on the request.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) tag: Tag,
    error: Option<String>,
    code: Option<String>,
    /// A push has it, and a reply does not.
    topic: Option<String>,
    message: Option<Box<RawValue>>,
    empty: bool,
    id: Option<u64>,
    timestamp: Option<f64>,
    since: Option<u64>,
    due: Option<f64>,
    duplicate: bool,
    deliveries: Option<u64>,
    from: Option<Origin>,
    looks: Option<u64>,
    deleted: Option<bool>,
    purged: Option<u64>,
    /// The outer option says whether the field exists, the inner one whether it is null.
    policy: Option<Option<String>>,
    messages: Option<Vec<Reply>>,
    topics: Option<Vec<TopicInfo>>,
    stats: Option<Box<Stats>>,
}

impl Reply {
    /// The code and text if the server refused the request.
    pub(super) fn refusal(&mut self) -> Option<(String, String)> {
        let text = self.error.take()?;
        Some((self.code.take().unwrap_or_default(), text))
    }

    /// The reply to a request that has no other result than success.
    pub(super) fn accepted(mut self) -> Result<Reply> {
        match self.refusal() {
            Some((code, text)) => Err(Error::Server { code, text }),
            None => Ok(self),
        }
    }

    /// As [`Reply::accepted`], unless the server is closing: then it has carried out nothing and
    /// refused nothing.
    pub(super) fn unless_closing(self) -> Result<Reply> {
        match &self {
            Reply { error: Some(_), code: Some(code), .. } if code == "closing" => self.accepted(),
            _ => Ok(self),
        }
    }

    /// The part of the reply that the request needs. A reply without it does not come from a dsmq
    /// server.
    fn part<T>(self, request: &str, part: impl FnOnce(Reply) -> Option<T>) -> Result<T> {
        part(self.accepted()?).ok_or_else(|| unexpected(request))
    }

    /// The push, if this is one.
    pub(super) fn push(&mut self) -> Option<Push> {
        let topic = self.topic.take()?;
        let (json, from) = (self.message.take()?.into(), self.from.take());
        let message = Message { id: self.id?, timestamp: self.timestamp?, from, json };
        Some(Push { topic, message })
    }

    fn into_message(self) -> Option<Message> {
        let (json, from) = (self.message?.into(), self.from);
        Some(Message { id: self.id?, timestamp: self.timestamp?, from, json })
    }

    /// The reply to a get, with the message converted by `part`.
    fn if_any<T>(self, request: &str, part: impl FnOnce(Reply) -> Option<T>) -> Result<Option<T>> {
        self.part(request, |reply| if reply.empty { Some(None) } else { part(reply).map(Some) })
    }

    pub(super) fn message(self) -> Result<Option<Message>> {
        self.if_any("a get", Reply::into_message)
    }

    /// The reply to a take of this topic.
    pub(super) fn taken(self, topic: &str) -> Result<Option<Taken>> {
        self.if_any("a take", |reply| {
            let (topic, deliveries) = (topic.to_owned(), reply.deliveries?);
            Some(Taken { topic, message: reply.into_message()?, deliveries })
        })
    }

    /// The reply to a peek: the message, and how often it was peeked at.
    pub(super) fn peeked(self) -> Result<Option<(Message, u64)>> {
        self.if_any("a peek", |reply| {
            let looks = reply.looks?;
            Some((reply.into_message()?, looks))
        })
    }

    /// The reply to a confirmed put.
    pub(super) fn confirmed(self) -> Result<Confirmed> {
        self.part("a put", |reply| match reply {
            Reply { id: id @ Some(_), timestamp: Some(timestamp), duplicate, .. }
            | Reply { id, due: Some(timestamp), duplicate, .. } => {
                Some(Confirmed { id, timestamp, duplicate })
            }
            _ => None,
        })
    }

    /// The reply to a ping: the id at which the session started.
    pub(super) fn since(self) -> Result<u64> {
        self.part("a ping", |reply| reply.since)
    }

    /// The reply to a subscribe: the id that "now" stood for.
    pub(super) fn subscribed(self) -> Result<Option<u64>> {
        Ok(self.accepted()?.since)
    }

    pub(super) fn history(self) -> Result<Vec<Message>> {
        self.part("a history", |reply| {
            reply.messages?.into_iter().map(Reply::into_message).collect()
        })
    }

    pub(super) fn deleted(self) -> Result<bool> {
        self.part("a delete", |reply| reply.deleted)
    }

    pub(super) fn purged(self) -> Result<u64> {
        self.part("a purge", |reply| reply.purged)
    }

    pub(super) fn policy(self) -> Result<Option<String>> {
        self.part("a policy", |reply| reply.policy)
    }

    pub(super) fn topics(self) -> Result<Vec<TopicInfo>> {
        self.part("topics", |reply| reply.topics)
    }

    pub(super) fn stats(self) -> Result<Stats> {
        self.part("stats", |reply| reply.stats.map(|stats| *stats))
    }
}

pub(super) fn unexpected(request: &str) -> Error {
    Error::Protocol(format!("its reply is not one to {request}"))
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reply, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Reply;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reply")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reply, A::Error> {
        let mut reply = Reply::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "tag" => reply.tag = Tag::from(map.next_value::<Value>()?),
                "error" => reply.error = Some(map.next_value()?),
                "code" => reply.code = Some(map.next_value()?),
                "message" => reply.message = Some(map.next_value()?),
                "empty" => reply.empty = map.next_value()?,
                "id" => reply.id = Some(map.next_value()?),
                "timestamp" => reply.timestamp = Some(map.next_value()?),
                "since" => reply.since = Some(map.next_value()?),
                "topic" => reply.topic = Some(map.next_value()?),
                "deliveries" => reply.deliveries = Some(map.next_value()?),
                "from" => reply.from = Some(map.next_value()?),
                "due" => reply.due = Some(map.next_value()?),
                "duplicate" => reply.duplicate = map.next_value()?,
                "looks" => reply.looks = Some(map.next_value()?),
                "deleted" => reply.deleted = Some(map.next_value()?),
                "purged" => reply.purged = Some(map.next_value()?),
                "policy" => reply.policy = Some(map.next_value()?),
                "messages" => reply.messages = Some(map.next_value()?),
                "topics" => reply.topics = Some(map.next_value()?),
                "stats" => reply.stats = Some(Box::new(map.next_value()?)),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_is_a_message_too() {
        let reply = r#"{"message": null, "id": 5, "timestamp": 5e-6, "tag": 1, "new": [{}]}"#;
        let reply: Reply = serde_json::from_str(reply).unwrap();
        assert_eq!(reply.tag, Tag::Request(1));
        let message = reply.message().unwrap().unwrap();
        assert_eq!((message.id, message.json()), (5, "null"));
    }

    fn reply(json: &str) -> Reply {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_reply_of_another_kind_is_no_dsmq() {
        let strange = [Reply::message, |reply: Reply| reply.taken("t").map(|_| None)];
        for part in strange {
            let error = part(reply(r#"{"ok":true}"#)).unwrap_err();
            assert!(matches!(error, Error::Protocol(_)));
        }
        assert!(matches!(reply(r#"{"ok":true}"#).confirmed(), Err(Error::Protocol(_))));
        assert!(matches!(reply(r#"{"messages":[{}]}"#).history(), Err(Error::Protocol(_))));
    }

    #[test]
    fn a_dead_letter_says_where_it_was() {
        let json =
            r#"{"message":1,"id":5,"timestamp":5e-6,"deliveries":1,"from":{"topic":"t","id":3}}"#;
        let taken = reply(json).taken("t.dead").unwrap().unwrap();
        let from = taken.message.from.unwrap();
        assert_eq!((taken.topic.as_str(), from.topic.as_str(), from.id), ("t.dead", "t", 3));
    }

    #[test]
    fn a_push_has_a_topic() {
        let push = reply(r#"{"topic":"t","message":[ ],"id":5,"timestamp":5e-6}"#).push().unwrap();
        assert_eq!((push.topic.as_str(), push.message.json()), ("t", "[ ]"));
        assert!(reply(r#"{"message":1,"id":5,"timestamp":5e-6}"#).push().is_none());
    }

    #[test]
    fn a_policy_that_was_never_set_is_null() {
        assert_eq!(reply(r#"{"ok":true,"policy":null}"#).policy().unwrap(), None);
        assert!(reply(r#"{"ok":true}"#).policy().is_err());
    }
}
