//! The OpenAI wire: its paths, its error shape, and the few events that end or break its streams.
//!
//! Bodies and answers of this dialect are relayed, so nothing here reads or writes a whole message.
//! Error texts come from [`Public`] alone; an upstream's text never passes through.

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::frame::sse::Event;
use super::scan::write_json_string;
use super::{BodyKind, Operation};
use crate::error::{FaultClass, Kind, Public};

/// One path of the dialect, below its version prefix.
#[derive(Clone, Copy, Debug)]
pub struct PathRow {
    pub method: &'static str,
    pub pattern: Pattern,
    pub operation: Operation,
    pub body: BodyKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// The path and nothing else.
    Exact(&'static str),
    /// The path, a slash and a model name, which may hold slashes.
    Model(&'static str),
    /// The path, a slash and whatever follows.
    Below(&'static str),
}

const fn row(method: &'static str, pattern: Pattern, operation: Operation, body: BodyKind) -> PathRow {
    PathRow { method, pattern, operation, body }
}

/// The paths that mean something to routing; every other one is [`Operation::Other`]. Read from the
/// top: the first row that fits wins, and the frequent ones stand first.
pub const PATHS: &[PathRow] = {
    use BodyKind::{ByContentType, Form, Json, None};
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

impl Pattern {
    /// Whether `path` fits, and what stands behind the literal part.
    pub fn fits(self, path: &str) -> Option<&str> {
        match self {
            Self::Exact(literal) => (path == literal).then_some(""),
            Self::Model(literal) | Self::Below(literal) => {
                path.strip_prefix(literal)?.strip_prefix('/').filter(|rest| !rest.is_empty())
            }
        }
    }
}

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
        Kind::AllCooling | Kind::Answer(FaultClass::Rate) => "rate_limit_error",
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

/// An error that an upstream put into its stream, as far as judging needs it. Its text is not kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamError {
    /// The HTTP status that it stands for, where it gives one.
    pub status: Option<u16>,
    /// `code`, else `type`; empty when it has neither.
    pub code: String,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
    #[serde(rename = "type", default, borrow)]
    kind: Option<&'a RawValue>,
    #[serde(default, borrow)]
    code: Option<&'a RawValue>,
    #[serde(default, borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorMembers<'a> {
    #[serde(default, borrow)]
    code: Option<&'a RawValue>,
    #[serde(rename = "type", default, borrow)]
    kind: Option<&'a RawValue>,
    #[serde(default, borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Failed<'a> {
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

/// The error in an event: a top-level `error` member, a typed `error` event, or `response.failed`.
pub fn error_in(event: &Event<'_>) -> Option<StreamError> {
    // Nearly every event says nothing of the kind; this look costs less than one of its copies.
    memmem::find(event.data, b"\"error\"").or_else(|| (event.name == b"error").then_some(0))?;
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(event.data) else {
        return (event.name == b"error").then(StreamError::default);
    };
    let kind = chunk.kind.and_then(text);
    if let Some(error) = chunk.error.filter(|error| !is_nothing(error)) {
        return Some(members(error));
    }
    match kind.as_deref() {
        Some("response.failed") => {
            let failed = serde_json::from_str::<Failed<'_>>(chunk.response?.get()).ok()?;
            Some(failed.error.map(members).unwrap_or_default())
        }
        Some("error") => {
            let code = chunk.code.and_then(text).unwrap_or_default();
            Some(StreamError { status: chunk.code.and_then(status), code })
        }
        _ => (event.name == b"error").then(StreamError::default),
    }
}

/// `null` and the empty forms that some servers send with every chunk.
fn is_nothing(value: &RawValue) -> bool {
    matches!(value.get(), "null" | "false" | "\"\"" | "{}")
}

fn members(error: &RawValue) -> StreamError {
    let Ok(members) = serde_json::from_str::<ErrorMembers<'_>>(error.get()) else {
        return StreamError::default();
    };
    let status = members.status.and_then(status).or_else(|| members.code.and_then(status));
    let code = members.code.and_then(text).or_else(|| members.kind.and_then(text)).unwrap_or_default();
    StreamError { status, code }
}

/// A string as it is, a number as its digits.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(value.get()).ok().or_else(|| {
        let number = value.get().bytes().all(|byte| byte.is_ascii_digit());
        number.then(|| value.get().to_owned())
    })
}

/// An HTTP error status, written as a number or as text.
fn status(value: &RawValue) -> Option<u16> {
    text(value)?.parse().ok().filter(|status| (400..600).contains(status))
}
