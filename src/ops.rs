//! What passes between the layers: topics, ids and messages, batches of operations and their outcomes,
//! runs of messages. Every layer may use it; it knows no store, no socket and nobody who waits.

mod batch;
pub mod completion;
mod kept;
mod message;
mod moment;
mod node;
mod rules;
mod run;

pub use self::batch::{Batch, Op, Outcome, Policy, PutOptions, Returned, Taken, not_done};
pub use self::completion::{Completion, ThreadWaiter};
pub use self::kept::{Kept, Place};
pub use self::message::{
    DEAD_SUFFIX, ID_END, Id, Message, PRIORITY_DEFAULT, PRIORITY_MAX, Timestamp, Topic,
};
#[cfg(feature = "redis")]
pub use self::moment::Inquiry;
pub use self::moment::{Moment, part};
#[cfg(feature = "redis")]
pub use self::node::Replicas;
pub use self::node::{Away, Node};
pub use self::rules::{SyncMode, WhenFull};
pub use self::run::{Encoded, Form, Run};
