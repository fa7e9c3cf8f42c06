//! Reading: the messages behind an id, now or as soon as there is one. The place is the client's.

use std::time::Duration;

use axum::http::Uri;
use tokio::time::{Instant, timeout_at};

use super::super::app::{ForCaller, NotifyWaker};
use super::super::failure::{Answer, Json};
use super::params::Params;
use crate::broker::{Page, look_again};
use crate::error::Result;
use crate::ops::{Id, Topic};
use crate::protocol::json::{self, Field, Source as _};

/// Messages of a page that does not say how many.
const LIMIT_DEFAULT: usize = 100;

pub async fn read(app: &ForCaller, topic: Topic, uri: &Uri) -> Answer<Json<Vec<u8>>> {
    let params = &Params::new(uri);
    let (since, wait, limit) = (params.since()?, params.wait()?, params.limit(LIMIT_DEFAULT)?);
    // It changes nothing here, but a wrong value is refused as in a history.
    params.flag(Field::Delayed, false)?;
    let since = since.unwrap_or(0);
    let page = page(app, topic, since, wait, limit).await?;
    Ok(Json(json::reply(|reply| reply.page(&page))))
}

async fn page(
    app: &ForCaller,
    topic: Topic,
    since: Id,
    wait: Duration,
    limit: usize,
) -> Result<Page> {
    let deadline = Instant::now() + wait;
    let notify = NotifyWaker::new();
    // From here on it rings at every put: what was put before is found below.
    let _watch =
        (!wait.is_zero()).then(|| app.broker().watch(&app.caller, topic.clone(), notify.waker()));
    let mut waits = false;
    loop {
        let topic = topic.clone();
        let read = app.run(move |broker, caller| broker.read(caller, topic.as_str(), since, limit));
        let read = read.await?;
        if let Err(error) = &read
            && waits
            && let Some(again) = look_again(error, deadline.into())
        {
            app.broker().check_open(&app.caller)?;
            let _ = timeout_at(again.into(), notify.notified()).await;
            continue;
        }
        let page = read?;
        waits = true;
        if !page.parts.is_empty() || Instant::now() >= deadline {
            return Ok(page);
        }
        app.broker().check_open(&app.caller)?;
        // Also when the time is up it looks once more.
        let _ = timeout_at(deadline, notify.notified()).await;
    }
}
