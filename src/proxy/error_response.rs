//! The only place where a [`GatewayError`] becomes status, headers and a body in the caller's
//! dialect. Decides nothing about retries and shows nothing but `public`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use super::headers::X_SHOULD_RETRY;
use crate::dialect::{Dialect, Failure};
use crate::error::{GatewayError, Kind, Public};
use crate::id::RequestId;

/// An error as an answer in the caller's dialect; paths of no dialect get OpenAI's (CONTRACT 3.5).
pub fn render(error: &GatewayError, dialect: Dialect, id: &RequestId) -> Response<Bytes> {
    let status = status(error.kind);
    let body = dialect.error_body(&failure(error.kind, &error.public, id));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let head = response.headers_mut();
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some((name, value)) = dialect.error_header(error.kind) {
        head.insert(name, HeaderValue::from_static(value));
    }
    advise(head, error, status);
    response
}

/// An error as a dialect puts it into words, in an answer or in a stream.
pub fn failure<'a>(kind: Kind, public: &'a Public, id: &'a RequestId) -> Failure<'a> {
    Failure { kind, status: status(kind).as_u16(), public, id: id.as_str() }
}

/// Tells the SDK whether to come back: our own retries are spent, so a retry of its own would only
/// multiply them, unless there is a time after which it makes sense (wire.md A6).
fn advise(head: &mut HeaderMap, error: &GatewayError, status: StatusCode) {
    match error.public.retry_after {
        Some(span) => {
            head.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(span)));
        }
        None if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            head.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        None => {}
    }
    if status == StatusCode::UNAUTHORIZED {
        head.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(error.kind, Kind::BodyTooLarge | Kind::BodyTimeout) {
        // What is left of the body is not read: the connection cannot be used again.
        head.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Rounded up: a caller who comes back one second early is refused again.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// Status of each kind (CONTRACT 3.5, 4.2).
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::BadRequest | Kind::Unsupported => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound | Kind::ModelNotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Kind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Overloaded | Kind::NoEligibleKey => StatusCode::SERVICE_UNAVAILABLE,
        Kind::AllCooling | Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::BudgetExceeded => StatusCode::PAYMENT_REQUIRED,
        Kind::Connect | Kind::Broken | Kind::CredentialsExhausted | Kind::Answer(_) => StatusCode::BAD_GATEWAY,
        Kind::FirstByteTimeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
