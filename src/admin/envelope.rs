//! A refusal in the words of the face that was asked, with the headers that all faces give it.
//!
//! Redeo and Modelux share one shape, OpenAI's with members of its own (seed of the Modelux
//! conventions); Bifrost's stands with its face.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value as Json, json};

use super::bifrost;
use super::error::ApiError;
use crate::id::RequestId;
use crate::router::Face;

/// A refusal; `provider` is the one that the path names, where it names one.
pub fn of(face: Face, error: &ApiError, id: &RequestId, provider: &str) -> Response<Bytes> {
    match face {
        Face::Bifrost => bifrost::envelope(error, id, provider),
        Face::Modelux | Face::Redeo => plain(error),
    }
}

/// `{"error": {"type", "message", "code"}}`, and what is known beside it.
pub fn plain(error: &ApiError) -> Response<Bytes> {
    let mut inner = Map::new();
    for (name, text) in [("type", kind(error.status)), ("message", error.message.as_str()), ("code", error.code)] {
        inner.insert(name.to_owned(), text.into());
    }
    if let Some(field) = &error.field {
        inner.insert("param".to_owned(), field.as_str().into());
    }
    if let Some((resource, id)) = error.resource.as_deref() {
        inner.insert("resource".to_owned(), Json::from(*resource));
        inner.insert("id".to_owned(), id.as_str().into());
    }
    if let Some(problems) = &error.problems {
        inner.insert("problems".to_owned(), problems.to_json());
    }
    finished(error, &json!({"error": inner}))
}

/// `type`, in the words of those conventions.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::CONFLICT => "conflict",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => "upstream_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

/// The answer with its body and the headers that go with the status.
pub fn finished(error: &ApiError, body: &Json) -> Response<Bytes> {
    let mut response = super::json(error.status, body);
    let head = response.headers_mut();
    if error.status == StatusCode::UNAUTHORIZED {
        head.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(allow) = error.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        head.insert(header::ALLOW, allow);
    }
    if matches!(error.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        // What is left of the body is not read: the connection cannot be used again.
        head.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if error.status == StatusCode::SERVICE_UNAVAILABLE {
        head.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
