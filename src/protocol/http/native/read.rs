//! Reading: the messages behind an id, now or as soon as there is one. The place is the client's.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use tokio::time::{Instant, timeout_at};

use super::super::app::{App, Bell};
use super::super::failure::{Answer, Json};
use super::fields::Fields;
use crate::broker::{Page, look_again};
use crate::error::Result;
use crate::ops::{Id, Topic};
use crate::protocol::json::{self, Request};

/// Messages of a page that does not say how many.
const LIMIT_DEFAULT: usize = 100;

pub async fn read(app: &Arc<App>, topic: Topic, uri: &Uri) -> Answer<Json<Vec<u8>>> {
    let (since, wait, limit) = asked(app, uri)?;
    let page = page(app, topic, since, wait, limit).await?;
    Ok(Json(json::reply(|reply| reply.page(&page))))
}

fn asked(app: &App, uri: &Uri) -> Result<(Id, Duration, usize)> {
    let fields = || Fields::new().field("limit", LIMIT_DEFAULT).query(uri);
    let (get, history) = (
        fields().request(app.config.max_message, "get", "?")?,
        fields().request(app.config.max_message, "history", "?")?,
    );
    match (get.request()?, history.request()?) {
        (Request::Get { since, wait, .. }, Request::History { limit, .. }) => {
            Ok((since.unwrap_or(0), wait, limit))
        }
        _ => Ok((0, Duration::ZERO, LIMIT_DEFAULT)),
    }
}

async fn page(
    app: &Arc<App>,
    topic: Topic,
    since: Id,
    wait: Duration,
    limit: usize,
) -> Result<Page> {
    let deadline = Instant::now() + wait;
    let bell = Bell::new();
    // From here on it rings at every put: what was put before is found below.
    let _watch = (!wait.is_zero()).then(|| app.broker().watch(topic.clone(), bell.waker()));
    let mut waits = false;
    loop {
        let topic = topic.clone();
        let read = app.run(move |broker| broker.read(topic.as_str(), since, limit));
        let read = read.await?;
        if let Err(error) = &read
            && waits
            && let Some(again) = look_again(error, deadline.into())
        {
            app.broker().check_open()?;
            let _ = timeout_at(again.into(), bell.rung()).await;
            continue;
        }
        let page = read?;
        waits = true;
        if !page.parts.is_empty() || Instant::now() >= deadline {
            return Ok(page);
        }
        app.broker().check_open()?;
        // Also when the time is up it looks once more.
        let _ = timeout_at(deadline, bell.rung()).await;
    }
}
