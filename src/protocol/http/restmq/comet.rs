//! Comet: an answer that never ends, with a line for each message of the queue.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use tokio::sync::watch;

use super::super::app::App;
use super::super::connection::Connection;
use super::super::extract::Name;
use super::super::failure::Answer;
use super::answer::{self, Ending};
use super::fields::Fields;
use super::reader::Reader;

struct Comet {
    reader: Reader,
    callback: Option<String>,
    flushes: watch::Receiver<u64>,
    /// How many messages were given to be written last, and how often all had been before.
    given: Option<(usize, u64)>,
}

pub async fn consume(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    Extension(connection): Extension<Arc<Connection>>,
    fields: Fields,
) -> Answer<Response> {
    let comet = Comet {
        reader: Reader::join(app, queue).await?,
        callback: fields.callback().map(str::to_owned),
        flushes: connection.flushes(),
        given: None,
    };
    let lines = stream::unfold(comet, Comet::next);
    Ok(answer::response(answer::TEXT, Body::from_stream(lines)))
}

impl Comet {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Comet)> {
        if let Some((messages, before)) = self.given {
            self.flushes.wait_for(|flushes| *flushes > before).await.ok()?;
            self.reader.written(messages);
        }
        let objects = self.reader.next().await?;
        let lines =
            objects.iter().map(|object| Ending::LINE.write(object, self.callback.as_deref()));
        let lines: Vec<u8> = lines.flatten().collect();
        self.given = Some((objects.len(), *self.flushes.borrow()));
        Some((Ok(lines.into()), self))
    }
}
