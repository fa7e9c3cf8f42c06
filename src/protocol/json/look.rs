//! Requests that look and change nothing: what the broker shows, and the reply that tells it.

use std::sync::Arc;

use super::{Reply, Request};
use crate::broker::{Broker, Stats, TopicStats};
use crate::error::Result;
#[cfg(feature = "http")]
use crate::ops::Batch;
use crate::ops::{Policy, Run};

/// What was there to be seen.
pub enum Shown {
    History(Arc<Run>),
    Delayed(Box<Run>),
    Policy(Option<Policy>),
    Topics(Vec<TopicStats>),
    Stats(Box<Stats>),
    Nothing,
}

/// Looks at what the request asks for.
pub fn show(broker: &Broker, request: &Request<'_>) -> Result<Shown> {
    Ok(match request {
        Request::History { topic, limit, delayed: true } => {
            Shown::Delayed(Box::new(broker.delayed(topic.as_str(), *limit)?))
        }
        Request::History { topic, limit, .. } => {
            Shown::History(broker.history(topic.as_str(), *limit)?)
        }
        Request::Policy { topic } => Shown::Policy(broker.policy(topic.as_str())),
        Request::Topics => Shown::Topics(broker.topics()?),
        Request::Stats => Shown::Stats(Box::new(broker.stats())),
        // What changes something is dealt with elsewhere.
        _ => Shown::Nothing,
    })
}

impl Shown {
    pub fn write(&self, reply: Reply<'_>) {
        match self {
            Shown::History(run) => reply.history(run),
            Shown::Delayed(run) => reply.delayed(run),
            Shown::Policy(policy) => reply.policy(*policy),
            Shown::Topics(topics) => reply.topics(topics),
            Shown::Stats(stats) => reply.stats(stats),
            Shown::Nothing => reply.ok(),
        }
    }
}

/// Carries out a request that neither waits nor takes nor puts, and returns its reply.
#[cfg(feature = "http")]
pub fn carry_out(broker: &Broker, request: Request<'_>) -> Result<Vec<u8>> {
    let (op, answer) = match request.into_op() {
        Ok(op) => op,
        Err(other) => {
            let shown = show(broker, &other)?;
            return Ok(reply(|reply| shown.write(reply)));
        }
    };
    let mut batch = Batch::default();
    batch.ops.push(op);
    broker.apply(&mut batch);
    let outcome = batch.only()?;
    Ok(reply(|reply| answer.write(reply, &batch, &outcome)))
}

/// A reply by itself.
#[cfg(feature = "http")]
pub fn reply(write: impl FnOnce(Reply<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(Reply::new(&mut out, None));
    out
}
