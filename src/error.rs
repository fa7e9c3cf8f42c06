//! Errors of requests: a stable code, and a text that says what to do. docs/reference/errors.md
//! lists every code.

use std::borrow::Cow;
use std::fmt;

/// The kind of an error. Programs compare it, so releases do not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadJson,
    BadUtf8,
    MissingField,
    BadField,
    UnknownAction,
    Gone,
    BadTopic,
    MessageTooLarge,
    RequestTooLarge,
    TooDeep,
    TooManyTopics,
    TooManyPlaces,
    TooManySubscriptions,
    StoreFailed,
    Unavailable,
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a Redis has replicas"))]
    Unconfirmed,
    Damaged,
    Full,
    Busy,
    Closing,
    UnknownProtocol,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone says so"))]
    NotFound,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone says so"))]
    MethodNotAllowed,
    Forbidden,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP alone says so"))]
    WrongHost,
}

impl Code {
    /// Every code, for the test of the documentation.
    #[cfg(test)]
    pub const ALL: [Code; 25] = [
        Code::BadJson,
        Code::BadUtf8,
        Code::MissingField,
        Code::BadField,
        Code::UnknownAction,
        Code::Gone,
        Code::BadTopic,
        Code::MessageTooLarge,
        Code::RequestTooLarge,
        Code::TooDeep,
        Code::TooManyTopics,
        Code::TooManyPlaces,
        Code::TooManySubscriptions,
        Code::StoreFailed,
        Code::Unavailable,
        Code::Unconfirmed,
        Code::Damaged,
        Code::Full,
        Code::Busy,
        Code::Closing,
        Code::UnknownProtocol,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::Forbidden,
        Code::WrongHost,
    ];

    /// The code as it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadJson => "bad_json",
            Code::BadUtf8 => "bad_utf8",
            Code::MissingField => "missing_field",
            Code::BadField => "bad_field",
            Code::UnknownAction => "unknown_action",
            Code::Gone => "gone",
            Code::BadTopic => "bad_topic",
            Code::MessageTooLarge => "message_too_large",
            Code::RequestTooLarge => "request_too_large",
            Code::TooDeep => "too_deep",
            Code::TooManyTopics => "too_many_topics",
            Code::TooManyPlaces => "too_many_places",
            Code::TooManySubscriptions => "too_many_subscriptions",
            Code::StoreFailed => "store_failed",
            Code::Unavailable => "unavailable",
            Code::Unconfirmed => "unconfirmed",
            Code::Damaged => "damaged",
            Code::Full => "full",
            Code::Busy => "busy",
            Code::Closing => "closing",
            Code::UnknownProtocol => "unknown_protocol",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::Forbidden => "forbidden",
            Code::WrongHost => "wrong_host",
        }
    }
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    /// What to do about it, for a person.
    pub text: Cow<'static, str>,
}

impl Error {
    pub fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Error {
        Error { code, text: text.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code.as_str())
    }
}

impl std::error::Error for Error {}

/// The result of a request.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_code() {
        let document =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/errors.md"));
        for code in Code::ALL {
            let row = format!("| `{}` | ", code.as_str());
            assert_eq!(document.matches(&row).count(), 1, "{row}");
        }
    }
}
