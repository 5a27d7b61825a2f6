//! The Anthropic wire: its paths, its error shape, and the events that end its streams.
//!
//! Bodies and answers are relayed, so nothing here reads or writes a whole message. Error texts come
//! from [`Public`](crate::error::Public) alone; an upstream's text never passes through.

use bytes::Bytes;

use super::frame::ending::Terminal;
use super::path::{PathRow, Pattern, row};
use super::scan::write_json_string;
use super::{Failure, Operation};
use crate::error::{FaultClass, Kind};

/// Without this header the API answers 400. Sent where the caller names no version: the oldest one,
/// which every model and every member of a request knows.
pub const DEFAULT_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// The paths that mean something to routing.
pub const PATHS: &[PathRow] = {
    use super::BodyKind::{ByContentType, Json, None};
    use Pattern::{Below, Exact, Model};
    &[
        row("POST", Exact("/messages"), Operation::ChatCompletion, Json),
        row("POST", Exact("/messages/count_tokens"), Operation::CountTokens, Json),
        row("POST", Exact("/messages/batches"), Operation::Batches, Json),
        row("GET", Exact("/messages/batches"), Operation::Batches, None),
        row("GET", Below("/messages/batches"), Operation::Batches, None),
        row("DELETE", Below("/messages/batches"), Operation::Batches, None),
        row("POST", Below("/messages/batches"), Operation::Batches, ByContentType),
        row("GET", Exact("/models"), Operation::ListModels, None),
        row("GET", Model("/models"), Operation::Model, None),
        row("POST", Exact("/files"), Operation::Files, ByContentType),
        row("GET", Exact("/files"), Operation::Files, None),
        row("GET", Below("/files"), Operation::Files, None),
        row("DELETE", Below("/files"), Operation::Files, None),
        // The API before Messages.
        row("POST", Exact("/complete"), Operation::TextCompletion, Json),
    ]
};

/// What ends a stream of this operation; nothing is known to end the one before Messages.
pub fn terminal(operation: Operation) -> Option<Terminal> {
    (operation == Operation::ChatCompletion).then_some(Terminal::Typed(&["message_stop"]))
}

/// `error.type` of a failure.
pub fn error_type(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest
        | Kind::MethodNotAllowed
        | Kind::HeadTooLarge
        | Kind::BodyTimeout
        | Kind::UnsupportedMediaType
        | Kind::Unsupported => "invalid_request_error",
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound | Kind::ModelNotFound => "not_found_error",
        Kind::BodyTooLarge => "request_too_large",
        Kind::AllCooling | Kind::RateLimited | Kind::Answer(FaultClass::Rate) => "rate_limit_error",
        Kind::BudgetExceeded => "billing_error",
        Kind::Overloaded => "overloaded_error",
        Kind::FirstByteTimeout => "timeout_error",
        Kind::NoEligibleKey
        | Kind::Connect
        | Kind::Broken
        | Kind::Answer(_)
        | Kind::CredentialsExhausted
        | Kind::Internal => "api_error",
    }
}

/// `{"type":"error","error":{"type","message"},"request_id"}`.
pub fn error_body(failure: &Failure<'_>) -> Bytes {
    let mut out = Vec::with_capacity(160 + failure.public.message.len());
    write_error(failure, &mut out);
    Bytes::from(out)
}

/// The event that ends a broken stream.
pub fn error_event(failure: &Failure<'_>) -> Bytes {
    let mut out = Vec::with_capacity(192 + failure.public.message.len());
    out.extend_from_slice(b"event: error\ndata: ");
    write_error(failure, &mut out);
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}

fn write_error(failure: &Failure<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
    write_json_string(error_type(failure.kind), out);
    out.extend_from_slice(b",\"message\":");
    write_json_string(&failure.public.message, out);
    out.extend_from_slice(b"},\"request_id\":");
    write_json_string(failure.id, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::super::frame::sse::{Item, Splitter};
    use super::*;
    use crate::error::Public;
    use serde_json::{Value, json};

    #[test]
    fn bodies_and_events_say_the_same() {
        let public = Public { code: "overloaded", message: "too \"many\"\n\nat once".into(), ..Public::default() };
        let failure = Failure { kind: Kind::Overloaded, status: 503, public: &public, id: "req-1" };
        let body: Value = serde_json::from_slice(&error_body(&failure)).unwrap();
        let error = json!({"type": "overloaded_error", "message": public.message});
        assert_eq!(body, json!({"type": "error", "error": error, "request_id": "req-1"}));
        let mut seen = 0;
        Splitter::new().push(&error_event(&failure), |item| {
            let Item::Event(event) = item else { return };
            seen += 1;
            assert_eq!(event.name, b"error");
            assert_eq!(serde_json::from_slice::<Value>(event.data).unwrap(), body);
        });
        assert_eq!(seen, 1);
    }
}
