//! Errors that upstreams put into their streams: found and told apart, never kept or repeated.
//!
//! One reader for every dialect whose streams are server-sent events: the forms do not contradict each
//! other, and compatible servers mix them.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::frame::sse::Event;

/// An error that an upstream put into its stream, as far as judging needs it. Its text is not kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamError {
    /// The HTTP status that it stands for, where it gives one.
    pub status: Option<u16>,
    /// `code`, else Google's `status`, else `type`; a word rather than a number. Empty when it has none.
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

/// The error in an event, in any of the forms in use: a top-level `error` member, a typed `error` event,
/// or `response.failed`.
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
    let named = || [members.code, members.status, members.kind].into_iter().flatten().filter_map(text);
    let is_number = |code: &String| code.bytes().all(|byte| byte.is_ascii_digit());
    let code = named().find(|code| !is_number(code)).or_else(|| named().next()).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(name: &'a str, data: &'a str) -> Event<'a> {
        Event { name: name.as_bytes(), data: data.as_bytes() }
    }

    #[test]
    fn errors_in_events() {
        let error = |status: Option<u16>, code: &str| Some(StreamError { status, code: code.into() });
        let table = [
            (
                "",
                r#"{"error":{"message":"m","type":"t","code":"insufficient_quota"}}"#,
                error(None, "insufficient_quota"),
            ),
            ("", r#"{"error":{"message":"m","type":"t","code":null}}"#, error(None, "t")),
            ("", r#"{"id":"x","error":{"code":429,"message":"m"},"choices":[]}"#, error(Some(429), "429")),
            ("", r#"{"error":{"code":"502"}}"#, error(Some(502), "502")),
            ("", r#"{"error":{"code":7,"status":503}}"#, error(Some(503), "7")),
            ("", r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}"#, error(Some(503), "UNAVAILABLE")),
            (
                "error",
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                error(None, "overloaded_error"),
            ),
            ("", r#"{"error":"overloaded"}"#, error(None, "")),
            ("", r#"{"error":null,"choices":[]}"#, None),
            ("", r#"{"error":{},"choices":[]}"#, None),
            ("", r#"{"choices":[{"delta":{"content":"{\"error\":1}"}}]}"#, None),
            ("", r#"{"choices":[{"error":{"code":"x"}}]}"#, None),
            (
                "error",
                r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#,
                error(None, "rate_limit_exceeded"),
            ),
            ("error", r#"{"type":"error","message":"m"}"#, error(None, "")),
            ("", r#"{"type":"error","code":null,"message":"m"}"#, error(None, "")),
            ("error", "it broke", error(None, "")),
            (
                "response.failed",
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
                error(None, "server_error"),
            ),
            ("response.created", r#"{"type":"response.created","response":{"error":null}}"#, None),
            ("", r#"{"error":"#, None),
            ("", "[DONE]", None),
        ];
        for (name, data, expected) in table {
            assert_eq!(error_in(&event(name, data)), expected, "{name} {data}");
        }
    }
}
