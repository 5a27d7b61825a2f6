//! The error envelope of the Bifrost face, in the words of its clients.

use bytes::Bytes;
use http::Response;
use serde_json::{Value as Json, json};

use crate::admin::envelope;
use crate::admin::error::ApiError;
use crate::id::RequestId;

/// The error envelope (bifrost.md 3.7), filled.
pub fn envelope(error: &ApiError, id: &RequestId, provider: &str) -> Response<Bytes> {
    let mut extra = json!({"provider": provider, "model_requested": "", "request_type": ""});
    if let (Some(problems), Some(extra)) = (&error.problems, extra.as_object_mut()) {
        extra.insert("problems".to_owned(), problems.to_json());
    }
    let body: Json = json!({
        "event_id": id.as_str(),
        "type": error.kind(),
        // Not an answer of a provider, and not one of the gateway's way there: the caller's matter.
        "is_bifrost_error": false,
        "status_code": error.status.as_u16(),
        "error": {
            "type": error.kind(),
            "code": error.code,
            "message": error.message,
            "param": error.field.as_deref().unwrap_or_default(),
            "event_id": id.as_str(),
        },
        "extra_fields": extra,
    });
    envelope::finished(error, &body)
}
