//! Puts: a body becomes a message.

use std::borrow::Cow;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;

use super::super::app::ForCaller;
use super::super::extract::{Name, Payload};
use super::super::failure::{Answer, Json};
use super::params::Params;
use crate::error::{Code, Error, Result};
use crate::ops::Outcome;
use crate::protocol::json::{self, Field, Source as _};

/// What is to be read in a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Json,
    Text,
    /// JSON if it is some, else text: nobody said, or a tool said what it always says.
    Either,
}

impl Kind {
    pub fn new(content_type: &str) -> Kind {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*kind {
            "" | "application/x-www-form-urlencoded" => Kind::Either,
            kind if kind == "application/json" || kind.ends_with("+json") => Kind::Json,
            _ => Kind::Text,
        }
    }

    /// The body as JSON text.
    pub fn message(self, body: &[u8], max_message: usize) -> Result<Cow<'_, [u8]>> {
        let text = || -> Result<Cow<'_, [u8]>> {
            let text = str::from_utf8(body).map_err(|error| {
                Error::new(Code::BadUtf8, format!("the body is no text in UTF-8: {error}"))
            })?;
            Ok(Value::from(text).to_string().into_bytes().into())
        };
        match self {
            Kind::Text => text(),
            Kind::Json => json::message(body, max_message).map(Cow::Borrowed),
            // More likely a body that was forgotten than a message.
            Kind::Either if body.is_empty() => {
                let text = "the body is empty: send the message, or an empty text as text/plain";
                Err(Error::new(Code::MissingField, text))
            }
            Kind::Either => match json::message(body, max_message) {
                Err(error) if error.code == Code::BadJson => text(),
                message => message.map(Cow::Borrowed),
            },
        }
    }
}

/// Puts the body, and tells its id unless that is not asked for.
pub async fn put(
    app: ForCaller,
    Name(topic): Name,
    uri: Uri,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Answer<(StatusCode, Json<Vec<u8>>)> {
    let params = Params::new(&uri);
    let (confirm, options) = ((&params).flag(Field::Confirm, true)?, (&params).put_options()?);
    let kind = headers.get(CONTENT_TYPE).map_or(Ok(""), |kind| kind.to_str());
    let message = Kind::new(kind.unwrap_or("?")).message(&body, app.config.max_message)?;
    let outcome = app.put_or_accept(topic, &message, options, confirm).await?;
    let reply = json::reply(|reply| match outcome {
        _ if !confirm => reply.ok(),
        Outcome::Stored { id, duplicate, .. } => reply.stored(id, duplicate),
        Outcome::Due { at, duplicate } => reply.due(at, duplicate),
        _ => reply.ok(),
    });
    let status = if confirm { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(reply)))
}
