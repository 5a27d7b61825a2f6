//! The OpenAI wire: its paths, its error shape, and the few events that end or break its streams.
//!
//! Bodies and answers of this dialect are relayed, so nothing here reads or writes a whole message.
//! Error texts come from [`Public`] alone; an upstream's text never passes through.

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;

use super::Operation;
use super::frame::ending::Terminal;
use super::frame::sse::Event;
use super::inband::error_in;
use super::path::{PathRow, Pattern, row};
use super::scan::write_json_string;
use crate::error::{FaultClass, Kind, Public};

/// The paths that mean something to routing; every other one is [`Operation::Other`]. Read from the
/// top: the first row that fits wins, and the frequent ones stand first.
pub const PATHS: &[PathRow] = {
    use super::BodyKind::{ByContentType, Form, Json, None};
    use Pattern::{Below, Exact, Model};
    &[
        row("POST", Exact("/chat/completions"), Operation::ChatCompletion, Json),
        row("POST", Exact("/responses"), Operation::Responses, Json),
        row("POST", Exact("/embeddings"), Operation::Embedding, Json),
        row("POST", Exact("/completions"), Operation::TextCompletion, Json),
        row("POST", Exact("/moderations"), Operation::Moderation, Json),
        row("POST", Exact("/rerank"), Operation::Rerank, Json),
        row("POST", Exact("/images/generations"), Operation::ImageGeneration, Json),
        row("POST", Exact("/images/edits"), Operation::ImageEdit, Form),
        row("POST", Exact("/images/variations"), Operation::ImageVariation, Form),
        row("POST", Exact("/audio/speech"), Operation::Speech, Json),
        row("POST", Exact("/audio/transcriptions"), Operation::Transcription, Form),
        row("POST", Exact("/audio/translations"), Operation::Translation, Form),
        row("GET", Exact("/models"), Operation::ListModels, None),
        row("GET", Model("/models"), Operation::Model, None),
        row("DELETE", Model("/models"), Operation::Other, None),
        // Nothing of OpenAI's; below it others have paths of their own.
        row("POST", Below("/models"), Operation::Other, ByContentType),
        row("POST", Exact("/files"), Operation::Files, ByContentType),
        row("GET", Exact("/files"), Operation::Files, None),
        row("GET", Below("/files"), Operation::Files, None),
        row("DELETE", Below("/files"), Operation::Files, None),
        row("POST", Below("/files"), Operation::Files, ByContentType),
        row("POST", Exact("/batches"), Operation::Batches, Json),
        row("GET", Exact("/batches"), Operation::Batches, None),
        row("GET", Below("/batches"), Operation::Batches, None),
        row("DELETE", Below("/batches"), Operation::Batches, None),
        row("POST", Below("/batches"), Operation::Batches, ByContentType),
        // These two name a model in their body and no stored response in their path.
        row("POST", Exact("/responses/compact"), Operation::Other, ByContentType),
        row("POST", Exact("/responses/input_tokens"), Operation::Other, ByContentType),
        row("GET", Below("/responses"), Operation::ResponsesItem, None),
        row("DELETE", Below("/responses"), Operation::ResponsesItem, None),
        row("POST", Below("/responses"), Operation::ResponsesItem, ByContentType),
        // Stored completions: the same path under another method.
        row("GET", Exact("/chat/completions"), Operation::Other, None),
    ]
};

/// `error.type` of a failure.
pub fn error_type(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest
        | Kind::NotFound
        | Kind::MethodNotAllowed
        | Kind::ModelNotFound
        | Kind::BodyTooLarge
        | Kind::HeadTooLarge
        | Kind::BodyTimeout
        | Kind::UnsupportedMediaType
        | Kind::Unsupported => "invalid_request_error",
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::AllCooling | Kind::RateLimited | Kind::Answer(FaultClass::Rate) => "rate_limit_error",
        Kind::BudgetExceeded => "insufficient_quota",
        Kind::Overloaded | Kind::NoEligibleKey => "service_unavailable_error",
        Kind::Connect
        | Kind::FirstByteTimeout
        | Kind::Broken
        | Kind::Answer(_)
        | Kind::CredentialsExhausted
        | Kind::Internal => "server_error",
    }
}

/// `{"error":{"message","type","param","code"}}`.
pub fn error_body(kind: Kind, public: &Public) -> Bytes {
    let mut out = Vec::with_capacity(128 + public.message.len());
    out.extend_from_slice(b"{\"error\":{");
    write_members(kind, public, &mut out);
    out.extend_from_slice(b"}}");
    Bytes::from(out)
}

/// The event that ends a broken stream. Responses streams have typed events, all others a chunk with
/// an `error` member; both SDKs raise on it.
pub fn error_event(operation: Operation, kind: Kind, public: &Public) -> Bytes {
    let mut out = Vec::with_capacity(160 + public.message.len());
    match operation {
        Operation::Responses | Operation::ResponsesItem => {
            out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"error\":{");
            write_members(kind, public, &mut out);
            out.extend_from_slice(b"},\"code\":");
            write_code(public, &mut out);
            out.extend_from_slice(b",\"message\":");
            write_json_string(&public.message, &mut out);
            out.extend_from_slice(b",\"param\":null}\n\n");
        }
        _ => {
            out.extend_from_slice(b"data: {\"error\":{");
            write_members(kind, public, &mut out);
            out.extend_from_slice(b"}}\n\n");
        }
    }
    Bytes::from(out)
}

fn write_members(kind: Kind, public: &Public, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"message\":");
    write_json_string(&public.message, out);
    out.extend_from_slice(b",\"type\":");
    write_json_string(error_type(kind), out);
    out.extend_from_slice(b",\"param\":");
    match &public.param {
        Some(param) => write_json_string(param, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"code\":");
    write_code(public, out);
}

fn write_code(public: &Public, out: &mut Vec<u8>) {
    match public.code {
        "" => out.extend_from_slice(b"null"),
        code => write_json_string(code, out),
    }
}

/// Types of events after which a stream may end.
const LAST_EVENTS: [&str; 10] = [
    "response.completed",
    "response.failed",
    "response.incomplete",
    "response.cancelled",
    "transcript.text.done",
    "speech.audio.done",
    "image_generation.completed",
    "image_edit.completed",
    "transcription.done",
    "error",
];

/// What ends a stream of this operation; `None` where nothing is known to, so that its end must be
/// believed.
pub fn terminal(operation: Operation) -> Option<Terminal> {
    match operation {
        Operation::ChatCompletion | Operation::TextCompletion => Some(Terminal::Done),
        Operation::Responses
        | Operation::ResponsesItem
        | Operation::Speech
        | Operation::Transcription
        | Operation::ImageGeneration
        | Operation::ImageEdit => Some(Terminal::Typed(&LAST_EVENTS)),
        Operation::Embedding
        | Operation::CountTokens
        | Operation::Invoke
        | Operation::Moderation
        | Operation::Rerank
        | Operation::ImageVariation
        | Operation::Translation
        | Operation::ListModels
        | Operation::Model
        | Operation::Files
        | Operation::Batches
        | Operation::Other => None,
    }
}

/// `type` is the first member of a typed event; beyond this it is not looked for.
const TYPE_WITHIN_BYTES: usize = 256;

/// Whether the stream is whole once this event has passed. A broken one is whole as well when the
/// upstream said so itself.
pub fn is_terminal(event: &Event<'_>) -> bool {
    if event.data.trim_ascii_start().starts_with(b"[DONE]") {
        return true;
    }
    if LAST_EVENTS.iter().any(|last| last.as_bytes() == event.name) || error_in(event).is_some() {
        return true;
    }
    if !event.name.is_empty() {
        return false;
    }
    let head = event.data.get(..TYPE_WITHIN_BYTES).unwrap_or(event.data);
    let typed = memmem::find(head, b"\"type\"").is_some();
    typed && LAST_EVENTS.iter().any(|last| memmem::find(head, last.as_bytes()).is_some()) && {
        #[derive(Deserialize)]
        struct Typed<'a> {
            #[serde(rename = "type", borrow)]
            kind: std::borrow::Cow<'a, str>,
        }
        serde_json::from_slice::<Typed<'_>>(event.data).is_ok_and(|typed| LAST_EVENTS.contains(&&*typed.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event<'a>(name: &'a str, data: &'a str) -> Event<'a> {
        Event { name: name.as_bytes(), data: data.as_bytes() }
    }

    #[test]
    fn error_bodies() {
        let public = Public {
            code: "model_not_found",
            message: "no provider serves \"x\"\u{1}\nhere".into(),
            param: Some("model".into()),
            retry_after: None,
        };
        let body: Value = serde_json::from_slice(&error_body(Kind::ModelNotFound, &public)).unwrap();
        let error = json!({"message": public.message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"});
        assert_eq!(body, json!({"error": error}));
        let bare = error_body(Kind::Internal, &Public { message: "m".into(), ..Public::default() });
        assert_eq!(&bare[..], br#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#);
    }

    #[test]
    fn error_events_are_seen_as_such() {
        let public = Public { code: "upstream_broken", message: "cut\n\nshort".into(), ..Public::default() };
        for operation in [Operation::ChatCompletion, Operation::Responses, Operation::TextCompletion] {
            let bytes = error_event(operation, Kind::Broken, &public);
            let mut seen = 0;
            super::super::frame::sse::Splitter::new().push(&bytes, |item| {
                let super::super::frame::sse::Item::Event(event) = item else { return };
                seen += 1;
                assert_eq!(error_in(&event).map(|error| error.code), Some("upstream_broken".into()));
                assert!(is_terminal(&event));
                let data: Value = serde_json::from_slice(event.data).unwrap();
                assert_eq!(data["error"]["message"], "cut\n\nshort");
                let typed = operation == Operation::Responses;
                assert_eq!(event.name == b"error" && data["type"] == "error", typed);
            });
            assert_eq!(seen, 1);
        }
    }

    #[test]
    fn terminal_events() {
        let table = [
            ("", "[DONE]", true),
            ("", " [DONE] ", true),
            ("message", "[DONE]", true),
            ("", r#"{"choices":[{"delta":{"content":"[DONE]"},"finish_reason":"stop"}]}"#, false),
            ("response.created", r#"{"type":"response.created","response":{"error":null}}"#, false),
            ("response.completed", r#"{"type":"response.completed"}"#, true),
            ("response.incomplete", "{}", true),
            ("response.failed", "{}", true),
            ("", r#"{"type":"response.completed","sequence_number":9,"response":{}}"#, true),
            ("", r#"{"sequence_number":9,"type":"response.completed"}"#, true),
            ("", r#"{"type":"response.output_text.delta","delta":"response.completed"}"#, false),
            (
                "response.output_text.delta",
                r#"{"type":"response.output_text.delta","delta":"\"type\": \"response.completed\""}"#,
                false,
            ),
            ("error", r#"{"type":"error","message":"x"}"#, true),
            ("", r#"{"error":{"message":"x"}}"#, true),
            ("", r#"{"type":"transcript.text.done","text":"x"}"#, true),
            ("", "not json", false),
            ("", "", false),
        ];
        for (name, data, expected) in table {
            assert_eq!(is_terminal(&event(name, data)), expected, "{name} {data}");
        }
    }
}
