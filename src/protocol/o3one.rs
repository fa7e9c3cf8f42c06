//! O3one MQ: a message is one text, `topic content`, published by requests that are answered `OK`,
//! and sent to whoever subscribes to what it begins with.

use std::sync::Arc;

use super::json;
use super::zmtp::Dialect;
use crate::broker::Broker;
use crate::error::{Code, Error, Result};
use crate::message::{self, PRIORITY_DEFAULT, PRIORITY_MAX, Topic};
use crate::store::{Batch, PutOptions};

/// How a server speaks it.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What a publication is answered.
    pub ack: String,
    /// Whether a second word that is a number says how soon a message goes.
    pub priority: bool,
    pub max_message: usize,
}

pub struct O3one {
    broker: Arc<Broker>,
    rules: Arc<Rules>,
    batch: Batch,
}

impl O3one {
    pub fn new(broker: Arc<Broker>, rules: Arc<Rules>) -> O3one {
        O3one { broker, rules, batch: Batch::default() }
    }

    /// Adds a publication to what is to be carried out.
    fn put(&mut self, text: &[u8]) -> Result<()> {
        let wrong = |code, text: &'static str| Error::new(code, text);
        let text = str::from_utf8(text)
            .map_err(|_| wrong(Code::BadUtf8, "a message is text, and this is not UTF-8"))?;
        let (topic, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (priority, content) = match self.rules.priority {
            true => priority(rest),
            false => (PRIORITY_DEFAULT, rest),
        };
        let topic = Topic::new(topic)?;
        let message = serde_json::to_vec(content)
            .map_err(|_| wrong(Code::BadJson, "the message cannot be written as JSON"))?;
        if message.len() > self.rules.max_message {
            return Err(wrong(Code::MessageTooLarge, "the message is too large for this server"));
        }
        let options = (priority != PRIORITY_DEFAULT)
            .then(|| Box::new(PutOptions { priority, ..PutOptions::default() }));
        self.batch.put(topic, &message, options);
        self.batch.confirm();
        Ok(())
    }
}

/// The priority that a content begins with, and the rest of it.
fn priority(content: &str) -> (u8, &str) {
    let (word, rest) = content.split_once(' ').unwrap_or((content, ""));
    // Two words, the topic and this: then it is the content.
    let number = word.parse::<i64>().ok().filter(|_| !rest.is_empty());
    match number {
        Some(number) => (number.clamp(0, i64::from(PRIORITY_MAX)) as u8, rest),
        None => (PRIORITY_DEFAULT, content),
    }
}

impl Dialect for O3one {
    const SEPARATOR: u8 = b' ';

    fn receive(&mut self, messages: &[&[u8]]) -> Vec<Vec<u8>> {
        let refused: Vec<_> = messages.iter().map(|message| self.put(message).err()).collect();
        if !self.batch.is_empty() {
            self.broker.apply(&mut self.batch);
        }
        let mut outcomes = self.batch.outcomes.drain(..);
        let answers = refused.into_iter().map(|refused| {
            match refused.or_else(|| outcomes.next().and_then(Result::err)) {
                Some(error) => format!("ERROR: {error}").into_bytes(),
                None => self.rules.ack.clone().into_bytes(),
            }
        });
        let answers = answers.collect();
        drop(outcomes);
        self.batch.clear(crate::limits::BUFFER_BYTES);
        answers
    }

    fn write(&self, out: &mut Vec<u8>, topic: &Topic, message: message::Message<'_>) {
        out.extend_from_slice(topic.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(json::text(message.body).as_bytes());
    }
}
