//! Errors as responses: the JSON protocol's error object, with the HTTP status of its code.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{Code, Error};
use crate::protocol::json;

/// A request that failed.
pub struct Failure {
    pub status: StatusCode,
    pub error: Error,
}

/// The result of a handler.
pub type HttpResult<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { status: status(error.code), error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json::error_reply(&self.error))).into_response();
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 requires the header `Upgrade`, and RFC 6455 the supported version.
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// JSON text as a response.
pub struct Json<T>(pub T);

impl<T: IntoResponse> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

fn status(code: Code) -> StatusCode {
    match code {
        Code::BadJson
        | Code::BadUtf8
        | Code::MissingField
        | Code::BadField
        | Code::UnknownAction
        | Code::BadTopic
        | Code::TooDeep
        | Code::UnknownProtocol => StatusCode::BAD_REQUEST,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::Gone => StatusCode::GONE,
        Code::MessageTooLarge | Code::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::WrongHost => StatusCode::MISDIRECTED_REQUEST,
        Code::TooManyPlaces | Code::TooManySubscriptions => StatusCode::TOO_MANY_REQUESTS,
        Code::StoreFailed | Code::Damaged => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Busy | Code::Closing | Code::Unavailable | Code::Unconfirmed => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::TooManyTopics | Code::Full => StatusCode::INSUFFICIENT_STORAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_are_those_of_the_contract() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/error-codes.txt");
        let golden = std::fs::read_to_string(path).unwrap();
        let expected: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
        let codes = Code::ALL.map(|code| (code.as_str(), status(code).as_u16()));
        let codes = codes.map(|(code, status)| format!("{code} {status}"));
        let begins = expected.iter().map(|line| line.rsplit_once(' ').unwrap().0);
        assert_eq!(begins.collect::<Vec<_>>(), codes);
    }
}
