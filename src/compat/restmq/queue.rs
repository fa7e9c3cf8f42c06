//! The routes of one queue: add, take, purge, policy, start and stop, statistics.

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::exchange::{self, Ending, ObjectWriter, RequestFields};
use super::{key, missing, not_done};
use crate::broker::TopicStats;
use crate::error::{Code, Error, Result};
use crate::ops::{Op, Outcome, Policy, Topic};
use crate::protocol::http::app::ForCaller;
use crate::protocol::http::extract::{Form, Name};
use crate::protocol::http::failure::HttpResult;
use crate::protocol::http::page;

pub async fn add(app: ForCaller, Name(queue): Name, fields: RequestFields) -> HttpResult<Response> {
    put(&app, queue, &fields).await
}

pub async fn add_to_named(app: ForCaller, fields: RequestFields) -> HttpResult<Response> {
    put(&app, fields.queue()?, &fields).await
}

/// Adds a value and answers with its key.
async fn put(app: &ForCaller, queue: Topic, fields: &RequestFields) -> HttpResult<Response> {
    let (message, options) = (fields.message()?, fields.options()?);
    match app.put(queue.clone(), message.as_bytes(), options).await? {
        Outcome::Stored { id, .. } => {
            let key = key(&queue, id);
            Ok(exchange::line(&key, &exchange::string(&key), fields))
        }
        other => Err(not_done(&other).into()),
    }
}

pub async fn take(
    app: ForCaller,
    Name(queue): Name,
    fields: RequestFields,
) -> HttpResult<Response> {
    let taken = take_from(&app, queue, &fields).await?;
    Ok(taken.unwrap_or_else(|| StatusCode::NO_CONTENT.into_response()))
}

/// Whether the query names a queue.
pub fn is_named(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| Form::new(query.as_bytes()).get("queue").is_some())
}

/// Takes from the queue in the query. Without a queue the request only shows the page.
pub async fn take_or_page(app: ForCaller, fields: RequestFields) -> HttpResult<Response> {
    if fields.get("queue").is_none() {
        return Ok(page::index().await);
    }
    let taken = take_from(&app, fields.queue()?, &fields).await?;
    Ok(taken.ok_or_else(|| Error::new(Code::NotFound, "the queue is empty: nothing to take"))?)
}

/// Takes the oldest value; `None` if the queue is empty.
async fn take_from(
    app: &ForCaller,
    queue: Topic,
    fields: &RequestFields,
) -> Result<Option<Response>> {
    let Some(delivery) = app.take(queue.clone(), None).await? else { return Ok(None) };
    let id = delivery.taken().map_or(0, |taken| taken.id);
    let object = ObjectWriter::new().json("value", delivery.text());
    let object = object.text("key", &key(&queue, id)).number("count", 0).end();
    let body = Ending::LINE.write(&object, fields.callback());
    Ok(Some(exchange::written(delivery.respond(body), fields)))
}

/// Removes all messages of the queue and disconnects its consumers.
pub async fn purge(
    app: ForCaller,
    Name(queue): Name,
    fields: RequestFields,
) -> HttpResult<Response> {
    let purged = queue.clone();
    let waited = app.run(move |broker, caller| broker.purge_and_dismiss(caller, &purged)).await??;
    let object = ObjectWriter::new().text("queue", queue.as_str());
    let object = object.number("status", u64::from(waited)).end();
    Ok(exchange::json(&object, Ending::LINE, &fields))
}

pub async fn policy(
    app: ForCaller,
    Name(queue): Name,
    fields: RequestFields,
) -> HttpResult<Response> {
    let stats = topic_stats(&app, &queue).await?;
    let policy = stats.and_then(|stats| stats.counts.policy).map_or("unknown", Policy::as_str);
    let object = ObjectWriter::new().text("queue", queue.as_str()).text("value", policy).end();
    Ok(exchange::json(&object, Ending::LINE, &fields))
}

pub async fn set_policy(
    app: ForCaller,
    Name(topic): Name,
    fields: RequestFields,
) -> HttpResult<Response> {
    let policy = fields.get("policy").ok_or_else(|| missing("policy is missing: add policy=…"))?;
    let Some(policy) = Policy::new(policy) else {
        return Ok(exchange::line("null", b"null", &fields));
    };
    app.apply(Op::SetPolicy { topic, policy }).await?;
    Ok(exchange::line("OK", b"\"OK\"", &fields))
}

pub async fn state(
    app: ForCaller,
    Name(queue): Name,
    fields: RequestFields,
) -> HttpResult<Response> {
    let started = topic_stats(&app, &queue).await?.map(|stats| !stats.counts.stopped);
    let object = ObjectWriter::new().text("redis", &store(&app)).text("queue", queue.as_str());
    let object = object.json("status", &status(&queue, started)).end();
    Ok(exchange::json(&object, Ending::CONTROL, &fields))
}

pub async fn all_states(app: ForCaller, fields: RequestFields) -> HttpResult<Response> {
    let all = app.run(|broker, caller| broker.topics(caller)).await??;
    let queues = all.iter().fold(ObjectWriter::new(), |queues, stats| {
        let status = status(&stats.topic, Some(!stats.counts.stopped));
        queues.json(stats.topic.as_str(), &status)
    });
    let object = ObjectWriter::new().text("redis", &store(&app)).json("queues", &queues.end());
    let object = object.number("count", all.len() as u64).end();
    Ok(exchange::json(&object, Ending::CONTROL, &fields))
}

pub async fn set_state(
    app: ForCaller,
    Name(queue): Name,
    fields: RequestFields,
) -> HttpResult<Response> {
    let started = match fields.get("status") {
        Some("start") => true,
        Some("stop") => false,
        other => {
            let text = format!("invalid status: {}", other.unwrap_or("None"));
            let object = ObjectWriter::new().text("stat", &text).end();
            return Ok(exchange::json(&object, Ending::CONTROL, &fields));
        }
    };
    app.apply(Op::SetStopped { topic: queue.clone(), stopped: !started }).await?;
    let object = ObjectWriter::new().json("stat", &status(&queue, Some(started))).end();
    Ok(exchange::json(&object, Ending::CONTROL, &fields))
}

pub async fn stats(
    app: ForCaller,
    Name(queue): Name,
    fields: RequestFields,
) -> HttpResult<Response> {
    let length = topic_stats(&app, &queue).await?.map_or(0, |stats| waiting(&stats));
    let object = ObjectWriter::new().text("redis", &store(&app)).text("queue", queue.as_str());
    let object = object.number("len", length).end();
    Ok(exchange::json(&object, Ending::STATS, &fields))
}

pub async fn all_stats(app: ForCaller, fields: RequestFields) -> HttpResult<Response> {
    let all = app.run(|broker, caller| broker.topics(caller)).await??;
    let queues = all.iter().fold(ObjectWriter::new(), |queues, stats| {
        let name = stats.topic.as_str();
        let status: &[u8] = if stats.counts.stopped { b"\"\"" } else { b"1" };
        let queue = ObjectWriter::new().text("name", name).number("len", waiting(stats));
        let queue = queue.json("status", status).json("policy", policy_number(stats));
        queues.json(name, &queue.end())
    });
    let object = ObjectWriter::new().json("queues", &queues.end()).text("redis", &store(&app));
    let object = object.number("count", all.len() as u64).end();
    Ok(exchange::json(&object, Ending::STATS, &fields))
}

pub async fn topic_stats(app: &ForCaller, queue: &Topic) -> Result<Option<TopicStats>> {
    let queue = queue.clone();
    app.run(move |broker, caller| broker.topic(caller, queue.as_str())).await?
}

fn status(queue: &Topic, started: Option<bool>) -> Vec<u8> {
    let status: &[u8] = match started {
        Some(true) => b"1",
        Some(false) => b"0",
        None => b"null",
    };
    ObjectWriter::new().text("queue", queue.as_str()).json("status", status).end()
}

/// The number of messages that are not leased.
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

/// The store's name, under RestMQ's key `redis`.
fn store(app: &ForCaller) -> String {
    format!("dsmq store: {}", app.config.store)
}
