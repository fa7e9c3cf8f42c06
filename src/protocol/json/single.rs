//! A request by itself: for HTTP, which carries the words of this protocol one at a time.

use super::fault::fault_error;
use super::request::Text;
use super::scanner::{Fault, Scan, Scanner};
use super::{Reply, Request, look};
use crate::broker::Broker;
use crate::error::{Code, Error, Result};
use crate::ops::Batch;

/// The text of one request, scanned.
pub struct Single {
    text: Vec<u8>,
    scanner: Scanner,
    max_message: usize,
}

impl Single {
    /// `text` must be one request and nothing else.
    pub fn new(text: Vec<u8>, max_message: usize) -> Result<Single> {
        let mut scanner = Scanner::new(max_message);
        match scanner.scan(&text) {
            Ok(Scan::Done(len)) if len == text.len() && !scanner.is_skipping() => {
                Ok(Single { text, scanner, max_message })
            }
            Ok(_) | Err(Fault::NotJson { .. }) => {
                Err(Error::new(Code::BadJson, "the body is not one JSON object"))
            }
            Err(Fault::NotUtf8 { .. }) => Err(Error::new(Code::BadUtf8, "the body is no UTF-8")),
            Err(fault) => Err(fault_error(&fault, max_message)),
        }
    }

    pub fn request(&self) -> Result<Request<'_>> {
        Text::new(&self.text, self.scanner.fields()).decode(self.max_message)
    }

    /// Carries out a request that neither waits nor takes nor puts, and returns its reply.
    pub fn carry_out(&self, broker: &Broker) -> Result<Vec<u8>> {
        let (op, answer) = match self.request()?.into_op() {
            Ok(op) => op,
            Err(other) => {
                let shown = look::show(broker, &other)?;
                return Ok(reply(|reply| shown.write(reply)));
            }
        };
        let mut batch = Batch::default();
        batch.ops.push(op);
        broker.apply(&mut batch);
        let outcome = batch.only()?;
        Ok(reply(|reply| answer.write(reply, &batch, &outcome)))
    }
}

/// A reply by itself.
pub fn reply(write: impl FnOnce(Reply<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(Reply::new(&mut out, None));
    out
}
