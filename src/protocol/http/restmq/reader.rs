//! A consumer that is connected over HTTP: it receives what the broker has for it, and gives back
//! what could not be written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use super::super::app::App;
use super::super::bell::Bell;
use super::answer::Object;
use super::{key, on_one_line};
use crate::broker::{Broker, Consumer, Parcel, Received};
use crate::error::Result;
use crate::message::Topic;
use crate::store::lock;

/// What is received at a time, in bytes of messages, or one message more.
const GATHERED_BYTES: usize = 16 * 1024;

/// One reader of a queue, who leaves when this is dropped.
pub struct Reader {
    app: Arc<App>,
    bell: Arc<Bell>,
    /// Also of a thread that may wait for a disk.
    seat: Arc<Mutex<Seat>>,
}

/// A reader's place among the consumers, and the messages that it has and that are not written.
struct Seat {
    broker: Arc<Broker>,
    consumer: Option<Consumer>,
    unwritten: VecDeque<Parcel>,
    dismissed: bool,
}

impl Reader {
    /// Begins to read the queue: what waits in it comes first.
    pub async fn join(app: Arc<App>, queue: Topic) -> Result<Reader> {
        let bell = Bell::new();
        let waker = bell.waker();
        let seat = app.run(move |broker| Seat {
            broker: broker.clone(),
            consumer: Some(broker.consume(&queue, waker)),
            unwritten: VecDeque::new(),
            dismissed: false,
        });
        let seat = Arc::new(Mutex::new(seat.await?));
        Ok(Reader { app, bell, seat })
    }

    /// The messages that are to be written next, an object each: those that are not written yet, or
    /// else new ones. None if the reader is to hang up.
    pub async fn next(&self) -> Option<Vec<Vec<u8>>> {
        tokio::select! {
            biased;
            () = self.app.stopping() => None,
            more = self.gather() => more,
        }
    }

    async fn gather(&self) -> Option<Vec<Vec<u8>>> {
        loop {
            let seat = self.seat.clone();
            self.app.run(move |_| lock(&seat).gather()).await.ok()?;
            {
                let seat = lock(&self.seat);
                if !seat.unwritten.is_empty() {
                    return Some(seat.objects());
                }
                if seat.dismissed {
                    return None;
                }
            }
            self.bell.rung().await;
        }
    }

    /// So many of the messages have reached the connection.
    pub fn written(&self, messages: usize) {
        let unwritten = &mut lock(&self.seat).unwritten;
        unwritten.drain(..messages.min(unwritten.len()));
    }
}

impl Seat {
    fn gather(&mut self) {
        let Some(consumer) = &self.consumer else { return };
        let mut bytes = 0;
        while self.unwritten.is_empty() || (0 < bytes && bytes < GATHERED_BYTES) {
            match self.broker.receive(consumer) {
                Received::Message(parcel) => {
                    bytes += parcel.message.body.len();
                    self.unwritten.push_back(parcel);
                }
                Received::Nothing => return,
                Received::Dismissed => {
                    self.dismissed = true;
                    return;
                }
            }
        }
    }

    fn objects(&self) -> Vec<Vec<u8>> {
        let Some(queue) = self.consumer.as_ref().map(Consumer::topic) else { return Vec::new() };
        let objects = self.unwritten.iter().map(|parcel| {
            let message = &parcel.message;
            let object = Object::new().text("key", &key(queue, message.taken.id));
            object.json("value", &on_one_line(&message.body)).end()
        });
        objects.collect()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let leaving = Leaving {
            broker: self.broker.clone(),
            left: Some((consumer, std::mem::take(&mut self.unwritten))),
        };
        match Handle::try_current() {
            // To put back may wait for a disk. If that thread is not to be had any more, it is here.
            Ok(runtime) if self.broker.blocks() => drop(runtime.spawn_blocking(|| drop(leaving))),
            _ => drop(leaving),
        }
    }
}

/// Leaves when it is dropped.
struct Leaving {
    broker: Arc<Broker>,
    left: Option<(Consumer, VecDeque<Parcel>)>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some((consumer, unwritten)) = self.left.take() {
            self.broker.leave(consumer, unwritten.into());
        }
    }
}
