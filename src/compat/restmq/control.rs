//! How a queue is doing and what its consumers get of it: policy, stop and start, statistics.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::{self, Ending, Object};
use super::fields::Fields;
use super::missing;
use crate::broker::TopicStats;
use crate::error::Result;
use crate::ops::{Op, Policy, Topic};
use crate::protocol::http::app::App;
use crate::protocol::http::extract::Name;
use crate::protocol::http::failure::Answer;

pub async fn policy(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    fields: Fields,
) -> Answer<Response> {
    let stats = look(&app, &queue).await?;
    let policy = stats.and_then(|stats| stats.counts.policy).map_or("unknown", Policy::as_str);
    let object = Object::new().text("queue", queue.as_str()).text("value", policy).end();
    Ok(answer::json(&object, Ending::LINE, &fields))
}

pub async fn set_policy(
    State(app): State<Arc<App>>,
    Name(topic): Name,
    fields: Fields,
) -> Answer<Response> {
    let policy = fields.get("policy").ok_or_else(|| missing("there is no policy: say policy=…"))?;
    let Some(policy) = Policy::new(policy) else {
        return Ok(answer::line("null", b"null", &fields));
    };
    app.apply(Op::SetPolicy { topic, policy }).await?;
    Ok(answer::line("OK", b"\"OK\"", &fields))
}

pub async fn state(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    fields: Fields,
) -> Answer<Response> {
    let started = look(&app, &queue).await?.map(|stats| !stats.counts.stopped);
    let object = Object::new().text("redis", &store(&app)).text("queue", queue.as_str());
    let object = object.json("status", &status(&queue, started)).end();
    Ok(answer::json(&object, Ending::CONTROL, &fields))
}

pub async fn all_states(State(app): State<Arc<App>>, fields: Fields) -> Answer<Response> {
    let all = app.run(|broker| broker.topics()).await??;
    let queues = all.iter().fold(Object::new(), |queues, stats| {
        let status = status(&stats.topic, Some(!stats.counts.stopped));
        queues.json(stats.topic.as_str(), &status)
    });
    let object = Object::new().text("redis", &store(&app)).json("queues", &queues.end());
    let object = object.number("count", all.len() as u64).end();
    Ok(answer::json(&object, Ending::CONTROL, &fields))
}

pub async fn set_state(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    fields: Fields,
) -> Answer<Response> {
    let asked = fields.get("status");
    let started = match asked {
        Some("start") => true,
        Some("stop") => false,
        other => {
            let text = format!("invalid status: {}", other.unwrap_or("None"));
            let object = Object::new().text("stat", &text).end();
            return Ok(answer::json(&object, Ending::CONTROL, &fields));
        }
    };
    app.apply(Op::SetStopped { topic: queue.clone(), stopped: !started }).await?;
    let object = Object::new().json("stat", &status(&queue, Some(started))).end();
    Ok(answer::json(&object, Ending::CONTROL, &fields))
}

pub async fn stats(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    fields: Fields,
) -> Answer<Response> {
    let length = look(&app, &queue).await?.map_or(0, |stats| waiting(&stats));
    let object = Object::new().text("redis", &store(&app)).text("queue", queue.as_str());
    let object = object.number("len", length).end();
    Ok(answer::json(&object, Ending::STATS, &fields))
}

pub async fn all_stats(State(app): State<Arc<App>>, fields: Fields) -> Answer<Response> {
    let all = app.run(|broker| broker.topics()).await??;
    let queues = all.iter().fold(Object::new(), |queues, stats| {
        let name = stats.topic.as_str();
        let status: &[u8] = if stats.counts.stopped { b"\"\"" } else { b"1" };
        let queue = Object::new().text("name", name).number("len", waiting(stats));
        let queue = queue.json("status", status).json("policy", policy_number(stats));
        queues.json(name, &queue.end())
    });
    let object = Object::new().json("queues", &queues.end()).text("redis", &store(&app));
    let object = object.number("count", all.len() as u64).end();
    Ok(answer::json(&object, Ending::STATS, &fields))
}

pub async fn look(app: &App, queue: &Topic) -> Result<Option<TopicStats>> {
    let queue = queue.clone();
    app.run(move |broker| broker.topic(queue.as_str())).await?
}

fn status(queue: &Topic, started: Option<bool>) -> Vec<u8> {
    let status: &[u8] = match started {
        Some(true) => b"1",
        Some(false) => b"0",
        None => b"null",
    };
    Object::new().text("queue", queue.as_str()).json("status", status).end()
}

/// What is in a queue, without what is on its way.
fn waiting(stats: &TopicStats) -> u64 {
    stats.counts.length.saturating_sub(stats.counts.leased)
}

fn policy_number(stats: &TopicStats) -> &'static [u8] {
    match stats.counts.policy {
        Some(Policy::Broadcast) => b"1",
        Some(Policy::RoundRobin) => b"2",
        None => b"\"\"",
    }
}

/// Where RestMQ names its Redis.
fn store(app: &App) -> String {
    format!("dsmq store: {}", app.config.store)
}
