//! Comet: an answer that never ends, with a line for each message of the queue.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use tokio::sync::watch;

use super::answer::{self, Ending};
use super::fields::Fields;
use super::reader::Reader;
use crate::broker::Turned;
use crate::protocol::http::app::App;
use crate::protocol::http::connection::Connection;
use crate::protocol::http::extract::Name;
use crate::protocol::http::failure::Answer;

struct Comet {
    reader: Reader,
    callback: Option<String>,
    flushes: watch::Receiver<u64>,
    /// How often all had been written when the last line was given to be.
    given: Option<u64>,
    _turned: Turned,
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
        _turned: connection.turn("comet"),
    };
    let lines = stream::unfold(comet, Comet::next);
    Ok(answer::response(answer::TEXT, Body::from_stream(lines)))
}

impl Comet {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Comet)> {
        if let Some(given) = self.given {
            self.flushes.wait_for(|flushes| *flushes > given).await.ok()?;
            self.reader.written();
        }
        let object = self.reader.next().await?;
        let line = Ending::LINE.write(&object, self.callback.as_deref());
        self.given = Some(*self.flushes.borrow());
        Some((Ok(line.into()), self))
    }
}
