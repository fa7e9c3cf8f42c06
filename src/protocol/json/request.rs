//! Requests of the JSON protocol: decoded from their fields, turned into operations of the store,
//! or answered as queries of the broker.

use std::borrow::Cow;
use std::time::Duration;

use super::fault::{
    field_too_large, message_too_large, missing, request_too_large, unknown_action,
};
use super::fields::{Field, FieldSpans};
#[cfg(feature = "http")]
use super::pipeline::write_outcome;
use super::reply::Reply;
use super::values::{FieldSource, FieldValue};
use crate::broker::{Broker, Caller, From, Pattern};
use crate::error::Result;
use crate::limits;
#[cfg(feature = "http")]
use crate::ops::Batch;
use crate::ops::{Id, Op, PutOptions, Topic};

/// Default `limit` of a history.
const HISTORY_DEFAULT: usize = 10;

/// One request, borrowed from its text. `lease` and `delay` are in microseconds.
#[derive(Debug)]
pub enum Request<'a> {
    Put {
        topic: Cow<'a, str>,
        message: &'a [u8],
        options: Option<Box<PutOptions>>,
        confirm: bool,
    },
    Get {
        topic: Cow<'a, str>,
        latest: bool,
        since: Option<Id>,
        wait: Duration,
        meta: bool,
    },
    Take {
        topic: Cow<'a, str>,
        lease: Option<u64>,
        wait: Duration,
    },
    /// Every other request that is one operation of the store.
    Op(Op),
    Subscribe {
        patterns: Vec<Pattern>,
        from: From,
        meta: bool,
    },
    Unsubscribe {
        patterns: Vec<Pattern>,
    },
    History {
        topic: Topic,
        limit: usize,
        delayed: bool,
    },
    Policy {
        topic: Topic,
    },
    Topics,
    Stats,
    Ping {
        meta: bool,
    },
    Shutdown,
}

impl Request<'_> {
    /// Whether the request joins the pipeline's batch. Other requests wait until the batch is
    /// committed.
    pub fn is_batched(&self) -> bool {
        match self {
            Request::Take { wait, .. } => wait.is_zero(),
            Request::Put { .. } | Request::Op(_) => true,
            _ => false,
        }
    }
}

impl<'a> Request<'a> {
    /// Decodes a request from its fields.
    pub fn decode(source: impl FieldSource<'a>) -> Result<Request<'a>> {
        Ok(match &*source.action()? {
            b"put" => {
                let topic = source.name()?;
                let message = source.field(Field::Message).and_then(FieldValue::json);
                let message = message.ok_or_else(|| missing(Field::Message))?;
                let confirm = source.flag(Field::Confirm, false)?;
                Request::Put { topic, message, options: source.put_options()?, confirm }
            }
            b"get" => Request::get(source, false)?,
            b"get_latest" => Request::get(source, true)?,
            b"take" => Request::Take {
                topic: source.name()?,
                lease: source.micros(Field::Lease)?,
                wait: source.wait()?,
            },
            b"ack" => {
                let (id, deliveries) = (source.id()?, source.deliveries()?);
                Request::Op(Op::Ack { topic: source.topic()?, id, deliveries })
            }
            b"nack" => {
                let (id, deliveries) = (source.id()?, source.deliveries()?);
                let delay = source.micros(Field::Delay)?.unwrap_or(0);
                Request::Op(Op::Nack { topic: source.topic()?, id, deliveries, delay })
            }
            b"subscribe" => {
                let (from, meta) = (source.from()?, source.flag(Field::Meta, false)?);
                Request::Subscribe { patterns: source.patterns()?, from, meta }
            }
            b"unsubscribe" => Request::Unsubscribe { patterns: source.patterns()? },
            b"history" => Request::History {
                topic: source.topic()?,
                limit: source.limit(HISTORY_DEFAULT)?,
                delayed: source.flag(Field::Delayed, false)?,
            },
            b"peek" => Request::Op(Op::Peek { topic: source.topic()? }),
            b"delete" => Request::Op(Op::Delete { topic: source.topic()?, id: source.id()? }),
            b"purge" => Request::Op(Op::Purge { topic: source.topic()? }),
            b"stop" => Request::Op(Op::SetStopped { topic: source.topic()?, stopped: true }),
            b"start" => Request::Op(Op::SetStopped { topic: source.topic()?, stopped: false }),
            b"policy" => {
                let topic = source.topic()?;
                match source.policy()? {
                    Some(policy) => Request::Op(Op::SetPolicy { topic, policy }),
                    None => Request::Policy { topic },
                }
            }
            b"topics" => Request::Topics,
            b"stats" => Request::Stats,
            b"ping" => Request::Ping { meta: source.flag(Field::Meta, false)? },
            b"shutdown" => Request::Shutdown,
            other => return Err(unknown_action(&String::from_utf8_lossy(other))),
        })
    }

    fn get(source: impl FieldSource<'a>, latest: bool) -> Result<Request<'a>> {
        Ok(Request::Get {
            topic: source.name()?,
            latest,
            since: source.since()?,
            wait: source.wait()?,
            meta: source.flag(Field::Meta, false)?,
        })
    }
}

/// The text of a request and the spans of its fields.
#[derive(Clone, Copy)]
pub struct RequestText<'a> {
    request: &'a [u8],
    fields: &'a FieldSpans,
}

impl<'a> RequestText<'a> {
    pub fn new(request: &'a [u8], fields: &'a FieldSpans) -> RequestText<'a> {
        RequestText { request, fields }
    }

    /// The tag, which the reply repeats byte for byte.
    pub fn tag(self) -> Result<Option<&'a [u8]>> {
        let tag = self.json(Field::Tag);
        if tag.is_some_and(|tag| tag.len() > limits::TAG_BYTES) {
            return Err(field_too_large(Field::Tag, 0));
        }
        Ok(tag)
    }

    pub fn is_unconfirmed_put(self) -> bool {
        self.json(Field::Action) == Some(br#""put""#) && self.json(Field::Confirm) != Some(b"true")
    }

    /// Checks the size of the message and of the rest of the request.
    pub fn check_size(self, max_message: usize) -> Result<()> {
        let message = self.json(Field::Message).map_or(0, <[u8]>::len);
        if message > max_message {
            return Err(message_too_large(max_message));
        }
        if self.request.len() - message > limits::REQUEST_OVERHEAD_BYTES {
            return Err(request_too_large());
        }
        Ok(())
    }

    fn json(self, field: Field) -> Option<&'a [u8]> {
        self.fields.get(self.request, field)
    }
}

impl<'a> FieldSource<'a> for RequestText<'a> {
    fn field(self, field: Field) -> Option<FieldValue<'a>> {
        self.json(field).map(FieldValue::Json)
    }
}

/// Writes the reply to a request that changes nothing. Writes nothing if it fails.
pub fn query(
    broker: &Broker,
    caller: &Caller,
    request: &Request<'_>,
    reply: Reply<'_>,
) -> Result<()> {
    match request {
        Request::History { topic, limit, delayed: true } => {
            reply.delayed(&broker.delayed(caller, topic.as_str(), *limit)?);
        }
        Request::History { topic, limit, .. } => {
            reply.history(&*broker.history(caller, topic.as_str(), *limit)?);
        }
        Request::Policy { topic } => reply.policy(broker.policy(caller, topic.as_str())),
        Request::Topics => reply.topics(&broker.topics(caller)?),
        Request::Stats => reply.stats(&broker.stats(caller)),
        // `JsonHandler` carries out all other requests itself.
        _ => reply.ok(),
    }
    Ok(())
}

/// Carries out a request other than put, get, take and subscribe, and returns its reply.
#[cfg(feature = "http")]
pub fn carry_out(broker: &Broker, caller: &Caller, request: Request<'_>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let reply = Reply::new(&mut out, None);
    match request {
        Request::Op(op) => {
            let mut batch = Batch::default();
            batch.ops.push(op);
            broker.apply(caller, &mut batch);
            let outcome = batch.only()?;
            if let Some(op) = batch.ops.first() {
                write_outcome(reply, &batch, op, &outcome);
            }
        }
        other => query(broker, caller, &other, reply)?,
    }
    Ok(out)
}
