//! Reading without a place: the messages behind an id, for those who keep their place themselves.

use std::ops::Range;
use std::sync::Arc;

use super::Broker;
use crate::error::Result;
use crate::limits;
use crate::ops::{Id, Run};

/// Messages of one topic that follow one another.
#[derive(Debug)]
pub struct Page {
    pub parts: Vec<(Arc<Run>, Range<usize>)>,
    /// The id of the last of them, or the one that was to be read behind.
    pub last: Id,
}

impl Broker {
    /// The topic's oldest messages behind `after`: at most `limit`, and fewer if together they are
    /// over [`limits::HISTORY_BYTES`]. None only where there is none.
    pub fn read(&self, topic: &str, after: Id, limit: usize) -> Result<Page> {
        let (mut page, mut left, mut bytes) = (Page { parts: Vec::new(), last: after }, limit, 0);
        if self.store.topic(topic).is_none_or(|head| head.newest() <= after) {
            self.store.refresh(topic)?;
        }
        let Some(head) = self.store.topic(topic) else { return Ok(page) };
        while left > 0 && bytes < limits::HISTORY_BYTES && head.newest() > page.last {
            let run = self.store.run(&head, page.last, limits::RUN_MESSAGES)?;
            let Some(start) = run.position(page.last) else { break };
            let range = start..run.len().min(start + left);
            let messages = range.clone().filter_map(|index| run.get(index));
            for message in messages {
                (page.last, left, bytes) = (message.id, left - 1, bytes + message.body.len());
            }
            page.parts.push((run, range));
        }
        self.count_reads(limit - left);
        Ok(page)
    }
}
