//! Encodes batches as arguments of the `apply` script, and decodes its replies.

use std::collections::HashMap;

use redis::{Cmd, Value};

use super::scripts::{bad_reply, optional, outcome, text};
use super::topic_cache::policy_number;
use super::{copy, node_pool};
use crate::error::{Code, Error, Result};
use crate::ops::{Batch, Chunk, Id, Op, Outcome, PRIORITY_MAX, PutOptions, Requeue, Taken, Topic};
use crate::store::{Rules, errors};

/// Most operations, and bytes, in one script call. A larger single batch is one call.
pub const OPERATIONS: usize = 1_000;
const BYTES: usize = 1024 * 1024;

/// How many of the first batches one call carries out. The limit keeps other servers from waiting
/// long.
pub fn batches_per_call(batches: &[&mut Batch]) -> usize {
    let (mut operations, mut bytes) = (0, 0);
    let fitting = batches.iter().take_while(|batch| {
        operations += batch.ops.len();
        bytes += batch.bytes();
        operations <= OPERATIONS && bytes <= BYTES
    });
    fitting.count().max(1).min(batches.len())
}

/// Adds batches to a call.
pub fn write(call: &mut Cmd, batches: &[&mut Batch]) {
    let mut names: Vec<&Topic> = Vec::new();
    let mut places: HashMap<&Topic, usize> = HashMap::new();
    for op in batches.iter().flat_map(|batch| &batch.ops) {
        if names.last() != Some(&op.topic()) {
            places.entry(op.topic()).or_insert_with(|| {
                names.push(op.topic());
                names.len()
            });
        }
    }
    call.arg(names.len());
    for name in names {
        call.arg(name.as_str());
    }
    for batch in batches {
        call.arg("/");
        write_batch(call, &places, batch);
    }
}

fn write_batch(call: &mut Cmd, places: &HashMap<&Topic, usize>, batch: &Batch) {
    let mut rest = batch.ops.as_slice();
    while let Some(op) = rest.first() {
        let place = places.get(op.topic()).copied().unwrap_or_default();
        let done = match op {
            Op::Take { lease, .. } => {
                let same = same_takes(rest);
                call.arg("t").arg(place);
                optional(call, *lease);
                call.arg(same);
                same
            }
            op => {
                write_op(call, place, batch, op);
                1
            }
        };
        rest = rest.get(done..).unwrap_or_default();
    }
}

fn begin<'c>(call: &'c mut Cmd, command: &str, place: usize) -> &'c mut Cmd {
    call.arg(command).arg(place)
}

fn write_op<'c>(call: &'c mut Cmd, place: usize, batch: &Batch, op: &Op) -> &'c mut Cmd {
    match op {
        Op::Put(put) => match &put.options {
            None => begin(call, "p", place).arg(batch.body(put)),
            Some(options) => {
                write_put_options(begin(call, "P", place).arg(batch.body(put)), options)
            }
        },
        Op::Take { .. } => call,
        Op::Ack { id, deliveries, .. } => begin(call, "a", place).arg(*id).arg(*deliveries),
        Op::Nack { id, deliveries, delay, .. } => {
            begin(call, "n", place).arg(*id).arg(*deliveries).arg(*delay)
        }
        Op::PutBack { message, .. } if message.lease.is_some() => {
            begin(call, "u", place).arg(message.taken.id).arg(message.taken.deliveries)
        }
        Op::PutBack { message, .. } => write_requeue(begin(call, "b", place), message),
        Op::Peek { .. } => begin(call, "k", place),
        Op::Delete { id, .. } => begin(call, "d", place).arg(*id),
        Op::Purge { .. } => begin(call, "g", place),
        Op::SetStopped { stopped, .. } => begin(call, "s", place).arg(u8::from(*stopped)),
        Op::SetPolicy { policy, .. } => begin(call, "y", place).arg(policy_number(*policy)),
        Op::Import { message, .. } => copy::write(begin(call, copy::word(message), place), message),
        Op::Advance { to, .. } => begin(call, "m", place).arg(*to),
    }
}

fn write_put_options<'c>(call: &'c mut Cmd, options: &PutOptions) -> &'c mut Cmd {
    let PutOptions { priority, ttl, delay, dedupe } = options;
    let default = PutOptions::default().priority;
    optional(call, (*priority != default).then(|| u64::from(PRIORITY_MAX - priority)));
    optional(call, *ttl);
    optional(call, *delay);
    text(call, dedupe.as_deref())
}

fn write_requeue<'c>(call: &'c mut Cmd, message: &Requeue) -> &'c mut Cmd {
    let Requeue { taken, body, .. } = message;
    call.arg(taken.id).arg(taken.deliveries).arg(PRIORITY_MAX - taken.priority);
    optional(call, taken.expires);
    text(call, taken.origin.as_ref().map(|origin| origin.0.as_str()));
    optional(call, taken.origin.as_ref().map(|origin| origin.1));
    call.arg(&**body)
}

/// How many of the first operations are the same take.
fn same_takes(ops: &[Op]) -> usize {
    let Some(Op::Take { topic: first, lease: first_lease }) = ops.first() else { return 0 };
    let same = |op: &&Op| matches!(op, Op::Take { topic, lease } if topic == first && lease == first_lease);
    ops.iter().take_while(same).count()
}

/// Decodes the outcomes of a batch; missing ones are for later.
pub fn read(batch: &mut Batch, outcomes: Value, rules: &Rules) {
    let wanted = batch.ops.len();
    let Value::Array(outcomes) = outcomes else { return fail(batch, &bad_reply()) };
    for reply in outcomes {
        let outcome = outcome(batch, reply, rules);
        batch.outcomes.push(outcome);
    }
    batch.outcomes.resize(wanted, Ok(Outcome::Later));
}

/// Gives every operation of a batch the same error.
pub fn fail(batch: &mut Batch, error: &Error) {
    batch.outcomes = batch.ops.iter().map(|_| Err(error.clone())).collect();
}

/// Whether replicas must confirm the batch before its reply is sent.
pub fn wants_replicas(batch: &Batch) -> bool {
    batch.ops.iter().any(is_confirmed)
}

/// A lost take or peek needs no confirmation: the message is simply there again.
fn is_confirmed(op: &Op) -> bool {
    match op {
        Op::Put(put) => put.confirms,
        Op::Take { .. } | Op::Peek { .. } | Op::PutBack { .. } => false,
        // The copy command waits for replicas itself.
        Op::Import { .. } => false,
        _ => true,
    }
}

/// Replaces the outcomes of changes that too few replicas have confirmed.
pub fn mark_unconfirmed(batch: &mut Batch, replicas: u32) {
    for (op, outcome) in batch.ops.iter().zip(&mut batch.outcomes) {
        if is_confirmed(op) && outcome.is_ok() && !matches!(outcome, Ok(Outcome::Later)) {
            let text = format!(
                "the change is done, but fewer than {replicas} replicas of Redis have confirmed it"
            );
            *outcome = Err(Error::new(Code::Unconfirmed, text));
        }
    }
}

fn outcome(batch: &mut Batch, reply: Value, rules: &Rules) -> Result<Outcome> {
    let Value::Array(reply) = reply else { return Err(bad_reply()) };
    let mut reply = reply.into_iter();
    let mut number = || match reply.next() {
        Some(Value::Int(number)) => Ok(number.cast_unsigned()),
        _ => Err(bad_reply()),
    };
    Ok(match number()?.cast_signed() {
        outcome::STORED => Outcome::Stored { id: number()?, after: number()?, duplicate: false },
        outcome::DUPLICATE => Outcome::Stored { id: number()?, after: 0, duplicate: true },
        outcome::DUE => Outcome::Due { at: number()?, duplicate: false },
        outcome::DUE_DUPLICATE => Outcome::Due { at: number()?, duplicate: true },
        outcome::TAKEN => {
            let (id, deliveries, rank) = (number()?, number()?, number()?);
            let mut taken = taken(batch, id, reply)?;
            taken.deliveries = u32::try_from(deliveries).unwrap_or(u32::MAX);
            taken.priority =
                PRIORITY_MAX.saturating_sub(u8::try_from(rank).unwrap_or(PRIORITY_MAX));
            Outcome::Taken(Some(taken))
        }
        outcome::NOTHING => Outcome::Taken(None),
        outcome::LOOK => {
            let (id, looks, _) = (number()?, number()?, number()?);
            Outcome::Peeked(Some((taken(batch, id, reply)?, looks)))
        }
        outcome::NO_LOOK => Outcome::Peeked(None),
        outcome::DONE => Outcome::Done,
        outcome::DELETED => Outcome::Deleted(number()? > 0),
        outcome::PURGED => Outcome::Purged(number()?),
        outcome::REFUSED => return Err(refused(reply.next(), rules)),
        _ => return Err(bad_reply()),
    })
}

/// Decodes a taken message.
fn taken(batch: &mut Batch, id: Id, reply: std::vec::IntoIter<Value>) -> Result<Taken> {
    let message = message(reply)?;
    let start = batch.taken.len();
    batch.taken.extend_from_slice(&message.body);
    Ok(Taken {
        id,
        body: start..batch.taken.len(),
        deliveries: 0,
        priority: 0,
        expires: message.expires,
        origin: message.origin.map(Box::new),
    })
}

struct MessageParts {
    expires: Option<Id>,
    body: Vec<u8>,
    origin: Option<(Topic, Id)>,
}

fn message(mut reply: std::vec::IntoIter<Value>) -> Result<MessageParts> {
    let (Some(Value::Int(expires)), Some(Value::BulkString(body))) = (reply.next(), reply.next())
    else {
        return Err(bad_reply());
    };
    let origin = match (reply.next(), reply.next()) {
        (Some(Value::BulkString(name)), Some(Value::Int(from_id))) => {
            let name = std::str::from_utf8(&name).ok().and_then(|name| Topic::new(name).ok());
            name.map(|name| (name, from_id.cast_unsigned()))
        }
        _ => None,
    };
    let expires = (expires > 0).then(|| expires.cast_unsigned());
    Ok(MessageParts { expires, body, origin })
}

/// Adds the messages of a reply to a chunk.
pub fn read_messages(mut chunk: Chunk, messages: Value) -> Result<Chunk> {
    let Value::Array(messages) = messages else { return Err(bad_reply()) };
    for reply in messages {
        let Value::Array(reply) = reply else { return Err(bad_reply()) };
        let mut reply = reply.into_iter();
        let Some(Value::Int(id)) = reply.next() else { return Err(bad_reply()) };
        let id = id.cast_unsigned();
        let message = message(reply)?;
        chunk.push(id, &message.body, message.expires);
        if let Some((topic, id)) = message.origin {
            chunk.set_origin(topic, id);
        }
    }
    Ok(chunk)
}

fn refused(why: Option<Value>, rules: &Rules) -> Error {
    let bound = rules.max_bytes.unwrap_or(u64::MAX);
    let why = match why {
        Some(Value::BulkString(why)) => why,
        _ => Vec::new(),
    };
    match why.as_slice() {
        b"gone" => errors::gone(),
        b"not_behind" => errors::not_behind(),
        b"full" => errors::full(bound),
        b"no_memory" => node_pool::no_memory(),
        b"topics" => errors::too_many_topics(),
        b"topic_bytes" => errors::too_much_for_topics(bound),
        _ => bad_reply(),
    }
}
