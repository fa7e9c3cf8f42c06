//! Extractors: the topic in the path, the body, and the fields of a form.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;

use tokio::time::{Instant, timeout_at};

use super::app::App;
use super::failure::{Failure, HttpResult};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::ops::Topic;

/// The topic named by the path's only variable.
pub struct Name(pub Topic);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> HttpResult<Name> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = path.map_err(|rejection| {
            Error::new(Code::BadTopic, format!("the path does not name a topic: {rejection}"))
        })?;
        Ok(Name(Topic::new(&name)?))
    }
}

/// The request's body, of at most [`App::body_max`] bytes.
pub struct Payload(pub Vec<u8>);

impl FromRequest<Arc<App>> for Payload {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> HttpResult<Payload> {
        Ok(Payload(body(request, app.body_max()).await?))
    }
}

/// Reads a request's body of at most `most` bytes.
pub async fn body(request: Request, most: usize) -> Result<Vec<u8>> {
    let claimed = request.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok());
    if claimed.and_then(|len| len.parse().ok()).is_some_and(|len: u64| len > most as u64) {
        return Err(too_large(most));
    }
    read(request.into_body(), most).await
}

/// The buffer grows with the bytes received, never with the announced length.
async fn read(mut body: Body, most: usize) -> Result<Vec<u8>> {
    let (mut bytes, end) = (Vec::new(), Instant::now() + limits::HTTP_BODY);
    loop {
        let patience = end.min(Instant::now() + limits::HTTP_BODY_STALL);
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = timeout_at(patience, frame).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|error| {
            Error::new(Code::BadField, format!("the body cannot be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(too_large(most));
        }
        bytes.extend_from_slice(&data);
    }
}

fn too_slow() -> Error {
    let (stall, whole) = (limits::HTTP_BODY_STALL.as_secs(), limits::HTTP_BODY.as_secs());
    let text = format!(
        "the body comes too slowly: send a part every {stall} s and all of it within {whole} s"
    );
    Error::new(Code::BadField, text)
}

fn too_large(most: usize) -> Error {
    Error::new(
        Code::RequestTooLarge,
        format!("the body is too large: it can have at most {most} bytes"),
    )
}

/// The fields of a form or a query (application/x-www-form-urlencoded).
#[derive(Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    pub fn new(text: &[u8]) -> Form {
        Form(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Parses fields that become messages: bytes that are not UTF-8 are refused, not replaced.
    pub fn strict(text: &[u8]) -> Result<Form> {
        let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let (name, value) = (parts.next(), parts.next());
            Ok((decoded(name.unwrap_or_default())?, decoded(value.unwrap_or_default())?))
        });
        Ok(Form(pairs.collect::<Result<_>>()?))
    }

    /// Appends the fields of another form, which take precedence.
    pub fn and(mut self, other: Form) -> Form {
        self.0.extend(other.0);
        self
    }

    /// The value of a field. If it occurs twice, the last one counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a field that may occur several times.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn decoded(text: &[u8]) -> Result<String> {
    let text: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes = Cow::from(percent_encoding::percent_decode(&text)).into_owned();
    String::from_utf8(bytes)
        .map_err(|_| Error::new(Code::BadUtf8, "the form is not UTF-8: encode it as UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Form;
    use crate::error::Code;

    proptest! {
        #[test]
        fn encoded_form_is_decoded_unchanged(fields in vec((".{0,9}", ".{0,40}"), 0..6)) {
            let mut text = form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(&fields);
            let form = Form::strict(text.finish().as_bytes()).unwrap();
            prop_assert_eq!(form.0, fields);
        }

        #[test]
        fn strict_form_agrees_with_lossy_form_or_refuses(
            text in vec(prop_oneof![any::<u8>(), prop::sample::select(b"%&=+e9fF0".to_vec())], 0..60)
        ) {
            match Form::strict(&text) {
                Ok(form) => prop_assert_eq!(form.0, Form::new(&text).0),
                Err(error) => {
                    prop_assert_eq!(error.code, Code::BadUtf8);
                    let lossy = Form::new(&text).0;
                    let replaced = |text: &String| text.contains('\u{fffd}');
                    prop_assert!(lossy.iter().any(|(name, value)| replaced(name) || replaced(value)));
                }
            }
        }
    }
}
