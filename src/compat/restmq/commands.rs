//! RestMQ's JSON commands: a form holds one command, and the answer is an object, also for an
//! error.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::value::RawValue;

use super::exchange::{self, Ending, ObjectWriter, RequestFields};
use super::{id_of, key, missing, not_done};
use crate::error::{Code, Error, Result};
use crate::ops::{Batch, Op, Outcome, Topic};
use crate::protocol::http::app::ForCaller;
use crate::protocol::http::extract::Name;
use crate::protocol::http::failure::{Failure, HttpResult};
use crate::protocol::json;

/// The queue in the path, for commands without a queue.
pub struct DefaultQueue(Option<Topic>);

impl<S: Send + Sync> FromRequestParts<S> for DefaultQueue {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> HttpResult<DefaultQueue> {
        if parts.uri.path() == "/queue" {
            return Ok(DefaultQueue(None));
        }
        let Name(queue) = Name::from_request_parts(parts, state).await?;
        Ok(DefaultQueue(Some(queue)))
    }
}

pub async fn carry_out(
    app: ForCaller,
    DefaultQueue(queue): DefaultQueue,
    fields: RequestFields,
) -> HttpResult<Response> {
    let text = fields.get("body").or_else(|| fields.get("msg"));
    let text = text.ok_or_else(|| missing("the form has no command: add body=… or msg=…"))?;
    let command = Command::new(text, queue)?;
    let object = match command.cmd.as_str() {
        "take" => match command.take(&app, &fields).await {
            Ok(response) => return Ok(response),
            Err(error) => Err(error),
        },
        "add" => command.add(&app).await,
        "get" => command.get(&app).await,
        "del" => command.delete(&app).await,
        // A command. Its fields are kept as JSON text.
        _ => {
            let unknown = br#"{"error":"null resultset"}"#;
            return Ok(exchange::json(unknown, Ending::COMMAND, &fields));
        }
    };
    let object = object.unwrap_or_else(|error| ObjectWriter::new().text("error", &error.text));
    Ok(exchange::json(&object.end(), Ending::COMMAND, &fields))
}

/// Returns the oldest value without removing it, and counts how often that happened.
struct Command<'a> {
    cmd: String,
    fields: BTreeMap<String, &'a RawValue>,
    default_queue: Option<Topic>,
}

impl<'a> Command<'a> {
    fn new(text: &'a str, default_queue: Option<Topic>) -> Result<Command<'a>> {
        let malformed =
            || Error::new(Code::BadJson, "the command must be a JSON object with a \"cmd\"");
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|_| malformed())?;
        let cmd = fields.get("cmd").and_then(|cmd| serde_json::from_str(cmd.get()).ok());
        let cmd = cmd.filter(|cmd: &String| !cmd.is_empty()).ok_or_else(malformed)?;
        Ok(Command { cmd, fields, default_queue })
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.fields.get(name)?.get()).ok()
    }

    fn queue(&self) -> Result<Topic> {
        match (self.fields.get("queue"), &self.default_queue) {
            (None, Some(queue)) => Ok(queue.clone()),
            (None, None) => Err(missing("the command has no \"queue\": add it")),
            (Some(_), _) => Topic::new(
                &self
                    .text("queue")
                    .ok_or_else(|| Error::new(Code::BadTopic, "\"queue\" must be a string"))?,
            ),
        }
    }

    async fn add(&self, app: &ForCaller) -> Result<ObjectWriter> {
        let queue = self.queue()?;
        let value = self.fields.get("value").map(|value| value.get());
        let value = value.ok_or_else(|| missing("the command has no \"value\": add it"))?;
        let message = json::message(value.as_bytes(), app.config.max_message)?;
        match app.put(queue.clone(), message, None).await? {
            Outcome::Stored { id, .. } => Ok(named(&queue, message, &key(&queue, id))),
            other => Err(not_done(&other)),
        }
    }

    async fn take(&self, app: &ForCaller, fields: &RequestFields) -> Result<Response> {
        let queue = self.queue()?;
        let delivery = app.take(queue.clone(), None).await?.ok_or_else(empty)?;
        let id = delivery.taken().map_or(0, |taken| taken.id);
        let object = named(&queue, delivery.text(), &key(&queue, id)).end();
        let body = Ending::COMMAND.write(&object, fields.callback());
        Ok(exchange::written(delivery.respond(body), fields))
    }

    /// Looks at the oldest value, which stays, and counts the looks.
    async fn get(&self, app: &ForCaller) -> Result<ObjectWriter> {
        let queue = self.queue()?;
        let looked = app.run(move |broker, caller| {
            let mut batch = Batch::default();
            batch.ops.push(Op::Peek { topic: queue.clone() });
            broker.apply(caller, &mut batch);
            match batch.outcomes.pop() {
                Some(Ok(Outcome::Peeked(Some((seen, looks))))) => {
                    let named = named(&queue, batch.taken_body(&seen), &key(&queue, seen.id));
                    Ok(named.number("count", looks))
                }
                Some(Err(error)) => Err(error),
                _ => Err(empty()),
            }
        });
        looked.await?
    }

    async fn delete(&self, app: &ForCaller) -> Result<ObjectWriter> {
        let queue = self.queue()?;
        let key = self.text("key").ok_or_else(|| missing("the command has no \"key\": add it"))?;
        let deleted = match id_of(&queue, &key) {
            Some(id) => app.apply(Op::Delete { topic: queue.clone(), id }).await?,
            None => Outcome::Deleted(false),
        };
        let deleted: &[u8] = if deleted == Outcome::Deleted(true) { b"true" } else { b"false" };
        let object = ObjectWriter::new().text("queue", queue.as_str()).text("key", &key);
        Ok(object.json("deleted", deleted))
    }
}

fn named(queue: &Topic, value: &[u8], key: &str) -> ObjectWriter {
    ObjectWriter::new().text("queue", queue.as_str()).json("value", value).text("key", key)
}

fn empty() -> Error {
    Error::new(Code::NotFound, "empty queue")
}
