//! Requests that look and change nothing: what the broker shows, and the reply that tells it.

use std::sync::Arc;

use super::{Reply, Request};
use crate::broker::{Broker, Stats, TopicStats};
use crate::error::Result;
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
