//! O3one MQ: ØMQ on ports of its own (`--o3one`, 5555 and 5556), a WebSocket bridge (8765) and a
//! page (9000), documented in docs/reference/o3one.md. A message is one text, `topic content`. May
//! use `compat::zmq`, `protocol` and `config`, must not know the store.

#[cfg(feature = "http")]
pub mod page;
pub mod settings;
#[cfg(test)]
mod tests;
#[cfg(feature = "http")]
pub mod websocket;

use std::cmp::Reverse;
use std::sync::Arc;

use super::zmq::{self, Dialect};
use crate::broker::{Broker, Caller};
use crate::compat::{Endpoint, ListenerKind, ProtocolKind};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{Batch, Message, PRIORITY_DEFAULT, PRIORITY_MAX, PutOptions, Topic};
#[cfg(feature = "http")]
use crate::protocol::http::Site;
use crate::protocol::json;

/// The dialect of one connection.
pub struct O3one {
    broker: Arc<Broker>,
    caller: Arc<Caller>,
    max_message: usize,
    /// The answer to a publication.
    ack: String,
    /// Whether a number as the second word is a priority.
    has_priority: bool,
    batch: Batch,
}

struct TextMessage {
    topic: Topic,
    /// The content as a JSON string.
    content: Vec<u8>,
    priority: u8,
}

impl O3one {
    pub fn new(broker: Arc<Broker>, caller: Arc<Caller>, config: &Config) -> O3one {
        O3one {
            broker,
            caller,
            max_message: config.max_message,
            ack: config.o3one_ack.clone(),
            has_priority: config.o3one_priority,
            batch: Batch::default(),
        }
    }

    fn read(&self, text: &[u8]) -> Result<TextMessage> {
        let text = str::from_utf8(text)
            .map_err(|_| Error::new(Code::BadUtf8, "a message is text, and this is no UTF-8"))?;
        let (topic, content) = text.split_once(' ').unwrap_or((text, ""));
        let (priority, content) = match self.has_priority {
            true => split_priority(content),
            false => (PRIORITY_DEFAULT, content),
        };
        let content = serde_json::to_vec(content)
            .map_err(|_| Error::new(Code::BadJson, "the message cannot be encoded as JSON"))?;
        if content.len() > self.max_message {
            return Err(Error::new(
                Code::MessageTooLarge,
                "the message is too large for this server",
            ));
        }
        Ok(TextMessage { topic: Topic::new(topic)?, content, priority })
    }

    fn put(&mut self, publication: &TextMessage) {
        let TextMessage { topic, content, priority } = publication;
        let options = PutOptions { priority: *priority, ..PutOptions::default() };
        let options = (*priority != PRIORITY_DEFAULT).then(|| Box::new(options));
        self.batch.put(topic.clone(), content, options);
        self.batch.confirm();
    }

    fn answer(&self, refused: Option<&Error>) -> Vec<u8> {
        refused.map_or_else(|| self.ack.clone(), |error| format!("ERROR: {}", error.text)).into()
    }
}

/// Splits a leading priority from a content. A content of one word is never a priority.
fn split_priority(content: &str) -> (u8, &str) {
    let split = content.split_once(' ').filter(|(_, rest)| !rest.is_empty());
    let split = split.and_then(|(word, rest)| Some((word.parse::<i64>().ok()?, rest)));
    match split {
        Some((number, rest)) => (number.clamp(0, i64::from(PRIORITY_MAX)) as u8, rest),
        None => (PRIORITY_DEFAULT, content),
    }
}

impl Dialect for O3one {
    const SEPARATOR: u8 = b' ';

    /// Carries out messages that arrived together by descending priority; the answers keep their
    /// order.
    fn receive(&mut self, messages: &[&[u8]]) -> Vec<Vec<u8>> {
        let read: Vec<_> = messages.iter().map(|message| self.read(message)).collect();
        let mut answers: Vec<_> =
            read.iter().map(|read| self.answer(read.as_ref().err())).collect();
        let valid = read.iter().zip(&mut answers);
        let mut order: Vec<_> =
            valid.filter_map(|(read, answer)| Some((read.as_ref().ok()?, answer))).collect();
        order.sort_by_key(|(message, _)| Reverse(message.priority));
        order.iter().for_each(|(message, _)| self.put(message));
        if self.batch.is_empty() {
            return answers;
        }
        self.broker.apply(&self.caller, &mut self.batch);
        for (outcome, (_, answer)) in self.batch.outcomes.iter().zip(order) {
            if let Err(error) = outcome {
                *answer = self.answer(Some(error));
            }
        }
        self.batch.clear(limits::BUFFER_BYTES);
        answers
    }

    fn write(&self, out: &mut Vec<u8>, topic: &Topic, message: Message<'_>) {
        write(out, topic, message);
    }
}

/// Writes a message as subscribers read it; a message that is not a string as its JSON text.
pub fn write(out: &mut Vec<u8>, topic: &Topic, message: Message<'_>) {
    out.extend_from_slice(topic.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(json::text(message.body).as_bytes());
}

/// Handles ØMQ connections. O3one is also the dialect on the server's own port, so these
/// connections count as `zmtp`.
pub fn handler(broker: Arc<Broker>, config: &Config) -> ProtocolKind {
    let config = config.clone();
    let begin = Arc::new(move |session, caller: Arc<Caller>, waker| {
        let dialect = O3one::new(broker.clone(), caller.clone(), &config);
        let max = config.max_message;
        Ok(Box::new(zmq::ZmtpHandler::new(broker.clone(), caller, session, max, waker, dialect))
            as _)
    });
    ProtocolKind { gauge: "zmtp", begin }
}

/// The listeners: for subscribers, for publishers, for the WebSocket bridge, and for the page,
/// which serves everything that the server's own port serves. The names are those of O3one's
/// programs: the server receives on its "sub" port.
pub fn endpoints(
    config: &Config,
    handler: &ProtocolKind,
    #[cfg(feature = "http")] bridge: impl FnOnce() -> Site,
) -> Vec<Endpoint> {
    let Some(ports) = config.o3one else { return Vec::new() };
    let endpoint = |name, port, kind| Endpoint {
        name,
        host: config.host.clone(),
        port,
        advice: "choose other ports with --o3one=PUB,SUB,WS",
        kind,
    };
    let handlers = || ListenerKind::Protocol(handler.clone());
    let endpoints = [("o3one pub", ports.subscribe), ("o3one sub", ports.publish)];
    let endpoints = endpoints.map(|(name, port)| endpoint(name, port, handlers())).into_iter();
    #[cfg(feature = "http")]
    let endpoints = {
        let bridge = ListenerKind::Http(Arc::new(bridge()));
        let bridge = endpoint("o3one ws", ports.websocket, bridge);
        let page = ports.page.map(|port| endpoint("o3one page", port, ListenerKind::FirstByte));
        endpoints.chain([bridge]).chain(page)
    };
    endpoints.collect()
}
