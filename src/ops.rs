//! The data that passes between the layers: topics, ids, messages, chunks, and batches of operations with
//! their outcomes. Every layer may use it. It knows no store, socket or waiting client.

mod batch;
mod chunk;
pub mod completion;
mod message;
mod operator;
mod watermark;

pub use self::batch::{Batch, Op, Outcome, Policy, PutOptions, Requeue, Taken, not_done};
pub use self::chunk::{Chunk, Encoded, Encoding};
pub use self::completion::{Completion, ThreadWaiter};
pub use self::message::{
    DEAD_SUFFIX, ID_END, Id, Message, PRIORITY_DEFAULT, PRIORITY_MAX, ScanCursor, StoredMessage,
    Timestamp, Topic,
};
#[cfg(feature = "redis")]
pub use self::operator::Replicas;
pub use self::operator::{Away, Node, SyncMode, WhenFull};
#[cfg(feature = "redis")]
pub use self::watermark::WatermarkQuery;
pub use self::watermark::{Watermark, partition};
