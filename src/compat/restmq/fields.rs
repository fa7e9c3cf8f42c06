//! What a request says beside its path: in its query, and in the form that is its body.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};

use super::{check_callback, missing};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::{PutOptions, Topic};
use crate::protocol::http::app::App;
use crate::protocol::http::extract::{self, Form};
use crate::protocol::http::failure::{Answer, Failure};

/// In a form a byte takes up to three: `%XX`.
const FORM_BYTES_PER_BYTE: usize = 3;

/// The fields of the query and of the form; the form's go first.
pub struct Fields(Form);

impl FromRequest<Arc<App>> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Answer<Fields> {
        let query = Form::strict(request.uri().query().unwrap_or_default().as_bytes())?;
        let most = app.body_max().saturating_mul(FORM_BYTES_PER_BYTE);
        let body = extract::body(request, most).await?;
        let fields = Fields(query.and(Form::strict(&body)?));
        fields.callback().map_or(Ok(()), check_callback)?;
        Ok(fields)
    }
}

impl Fields {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// The function that a page wants to be called with the answer (JSONP).
    pub fn callback(&self) -> Option<&str> {
        self.get("callback")
    }

    /// The value to add, as JSON text.
    pub fn message(&self) -> Result<String> {
        let text = self.get("value").or_else(|| self.get("msg"));
        let text = text.ok_or_else(|| missing("the form has no value: say value=… or msg=…"))?;
        Ok(serde_json::Value::from(text).to_string())
    }

    /// The queue, where the path names none.
    pub fn queue(&self) -> Result<Topic> {
        Topic::new(self.get("queue").ok_or_else(|| missing("there is no queue: say queue=…"))?)
    }

    /// How long the value lives, in whole seconds.
    pub fn options(&self) -> Result<Option<Box<PutOptions>>> {
        let Some(text) = self.get("ttl") else { return Ok(None) };
        let seconds = text.parse().ok().filter(|s: &u64| *s <= limits::DURATION_MAX.as_secs());
        let seconds = seconds.ok_or_else(|| {
            Error::new(Code::BadField, "ttl must be a whole number of seconds, at most 100 years")
        })?;
        let ttl = Some(seconds * 1_000_000);
        Ok(Some(Box::new(PutOptions { ttl, ..PutOptions::default() })))
    }
}
