//! What an upstream's error means: (status, code) to [`FaultClass`], the row's deviations over the
//! defaults of CONTRACT 3.5.
//!
//! Decides nothing about keys or retries (that is `dispatch/verdict.rs`), and never looks at the
//! text of a message: wording changes, codes do not.

use serde_json::Value;

use super::ProviderRow;
use crate::error::FaultClass;
use crate::limits::ERROR_CODE_BYTES_MAX;

/// Codes that say more than the status they come with. Matched as a whole, ignoring case.
const CODES: &[(&str, FaultClass)] = &[
    // Out of money: a 429 (or 400) that no waiting heals, so it must not look like a rate limit.
    ("insufficient_quota", FaultClass::Credential),
    ("billing_hard_limit_reached", FaultClass::Credential),
    ("billing_not_active", FaultClass::Credential),
    ("insufficient_user_quota", FaultClass::Credential),
    ("access_terminated", FaultClass::Credential),
    ("account_deactivated", FaultClass::Credential),
    ("invalid_api_key", FaultClass::Credential),
    ("content_policy_violation", FaultClass::Content),
    ("content_filter", FaultClass::Content),
    ("moderation_blocked", FaultClass::Content),
];

/// Codes by which an error inside an answer of status 200 is known (a stream's first event).
const CODES_WITHOUT_STATUS: &[(&str, FaultClass)] = &[
    ("authentication_error", FaultClass::Credential),
    ("unauthenticated", FaultClass::Credential),
    ("billing_error", FaultClass::Credential),
    ("permission_error", FaultClass::ModelAccess),
    ("permission_denied", FaultClass::ModelAccess),
    ("rate_limit_error", FaultClass::Rate),
    ("rate_limit_exceeded", FaultClass::Rate),
    ("resource_exhausted", FaultClass::Rate),
    ("throttlingexception", FaultClass::Rate),
    ("too_many_requests", FaultClass::Rate),
    ("servicequotaexceededexception", FaultClass::Rate),
    ("validationexception", FaultClass::Caller),
    ("accessdeniedexception", FaultClass::ModelAccess),
    ("unrecognizedclientexception", FaultClass::Credential),
    ("expiredtokenexception", FaultClass::Credential),
    ("invalid_request_error", FaultClass::Caller),
    ("invalid_argument", FaultClass::Caller),
    ("not_found_error", FaultClass::Caller),
    ("request_too_large", FaultClass::Caller),
    ("context_length_exceeded", FaultClass::Caller),
];

/// The class of an upstream error. `code` comes from [`error_code`] and may be empty.
pub fn classify(row: &ProviderRow, status: u16, code: &str) -> FaultClass {
    let by_row = |wanted: u16| {
        let deviations = || row.faults.iter().filter(move |(s, ..)| *s == wanted);
        // A deviation for this very code beats one for the whole status.
        deviations()
            .find(|(_, c, _)| !c.is_empty() && c.eq_ignore_ascii_case(code))
            .or_else(|| deviations().find(|(_, c, _)| c.is_empty()))
            .map(|(.., class)| *class)
    };
    let named = |table: &[(&str, FaultClass)]| {
        table.iter().find(|(name, _)| name.eq_ignore_ascii_case(code)).map(|(_, class)| *class)
    };
    if let Some(class) = by_row(status).or_else(|| named(CODES)) {
        return class;
    }
    match status {
        401 | 402 => FaultClass::Credential,
        403 => FaultClass::ModelAccess,
        429 => FaultClass::Rate,
        // Not implemented, and not this version of HTTP: whoever asks again is told the same.
        400..=499 | 501 | 505 => FaultClass::Caller,
        500.. => FaultClass::Server,
        // No error status: an error inside a good answer, or a redirect, which is never followed.
        // vLLM puts the status it means into the code.
        _ => match code.parse::<u16>() {
            Ok(meant @ 400..=599) => classify(row, meant, ""),
            _ => named(CODES_WITHOUT_STATUS).unwrap_or(FaultClass::Server),
        },
    }
}

/// The most telling code of an error body, whatever provider wrote it: the `reason` that Google
/// gives, `error.code`, `error.type`, the same without the envelope. Numbers as their digits.
pub fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    // Google wraps the error of a streamed call into a list.
    let body = body.get(0).unwrap_or(&body);
    let error = body.get("error").filter(|e| e.is_object()).unwrap_or(body);
    let reason = || {
        let details = error.get("details")?.as_array()?;
        details.iter().find_map(|detail| text_of(detail.get("reason")?))
    };
    let member = |name| error.get(name).and_then(text_of);
    // Where `code` only repeats the status, the word beside it says more.
    let word = || member("code").filter(|code| code.parse::<u16>().is_err());
    reason()
        .or_else(word)
        .or_else(|| member("status").filter(|status| status.parse::<u16>().is_err()))
        .or_else(|| member("type").filter(|kind| kind != "error"))
        .or_else(|| member("code"))
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if (1..=ERROR_CODE_BYTES_MAX).contains(&text.len()) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{row, rows};
    use super::*;
    use FaultClass::{Caller, ClockSkew, Content, Credential, ModelAccess, Rate, Server};

    fn class(id: &str, status: u16, code: &str) -> FaultClass {
        classify(row(id).unwrap(), status, code)
    }

    /// CONTRACT 3.5, the statuses in brackets.
    #[test]
    fn defaults() {
        for (class, statuses) in [
            (Credential, &[401, 402][..]),
            (ModelAccess, &[403]),
            (Rate, &[429]),
            (Caller, &[400, 404, 405, 408, 409, 410, 413, 415, 418, 422, 424, 451, 499, 501, 505]),
            (Server, &[500, 502, 503, 504, 506, 507, 508, 520, 524, 529, 530, 599]),
            // Neither good nor an error: a redirect is an upstream that we were not told of.
            (Server, &[200, 301, 302, 307]),
        ] {
            for status in statuses {
                assert_eq!(self::class("openai", *status, ""), class, "{status}");
                assert_eq!(self::class("openai", *status, "never_heard_of"), class, "{status}");
            }
        }
    }

    #[test]
    fn codes_and_deviations() {
        for (id, status, code, class) in [
            ("openai", 429, "insufficient_quota", Credential),
            ("openai", 429, "Insufficient_Quota", Credential),
            ("openai", 429, "rate_limit_exceeded", Rate),
            ("openai", 429, "requests", Rate),
            ("openai", 400, "billing_hard_limit_reached", Credential),
            ("openai", 400, "content_policy_violation", Content),
            ("openai", 403, "content_filter", Content),
            ("openai", 404, "model_not_found", Caller),
            ("openai", 400, "context_length_exceeded", Caller),
            ("gemini", 400, "API_KEY_INVALID", Credential),
            ("gemini", 400, "INVALID_ARGUMENT", Caller),
            ("cohere", 498, "", Credential),
            ("groq", 498, "", Rate),
            ("openai", 498, "", Caller),
            ("openrouter", 403, "", Content),
            ("openrouter", 408, "", Server),
            ("fireworks", 412, "", Credential),
            ("bedrock", 403, "InvalidSignatureException", ClockSkew),
            ("bedrock", 403, "ExpiredTokenException", Credential),
            ("bedrock", 403, "AccessDeniedException", ModelAccess),
            ("bedrock", 429, "ThrottlingException", Rate),
            ("xai", 403, "", ModelAccess),
            // Errors inside a 200.
            ("vllm", 200, "429", Rate),
            ("vllm", 200, "401", Credential),
            ("openai", 200, "server_error", Server),
            ("openai", 200, "rate_limit_exceeded", Rate),
            ("anthropic", 200, "overloaded_error", Server),
            ("anthropic", 200, "authentication_error", Credential),
            ("openai", 200, "invalid_request_error", Caller),
            ("vllm", 200, "70000", Server),
            ("vllm", 200, "200", Server),
        ] {
            assert_eq!(self::class(id, status, code), class, "{id} {status} {code}");
        }
    }

    #[test]
    fn codes_in_bodies() {
        for (body, code) in [
            (
                r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                Some("insufficient_quota"),
            ),
            (
                r#"{"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}}"#,
                Some("rate_limit_exceeded"),
            ),
            (r#"{"error":{"message":"m","type":"invalid_request_error","code":null}}"#, Some("invalid_request_error")),
            (r#"{"error":{"message":"m","type":"Unauthorized","code":401}}"#, Some("Unauthorized")),
            (r#"{"error":{"message":"m","code":402}}"#, Some("402")),
            (r#"{"error":{"code":"429","message":"Please retry after 6 seconds."}}"#, Some("429")),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, Some("overloaded_error")),
            (
                r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT","details":[{"@type":"t"},{"reason":"API_KEY_INVALID"}]}}"#,
                Some("API_KEY_INVALID"),
            ),
            (r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]"#, Some("RESOURCE_EXHAUSTED")),
            (r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#, Some("BadRequestError")),
            (r#"{"code":"invalid-argument","error":"text"}"#, Some("invalid-argument")),
            ("\n  {\"error\":{\"code\":\"x\"}}", Some("x")),
            (r#"{"error":"text"}"#, None),
            (r#"{"message":"m"}"#, None),
            (r#"{"error":{"code":"","type":""}}"#, None),
            (r#"{"error":{"code":{"a":1}}}"#, None),
            ("[]", None),
            ("null", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(error_code(body.as_bytes()).as_deref(), code, "{body}");
        }
        let long = format!(r#"{{"error":{{"code":"{}"}}}}"#, "x".repeat(ERROR_CODE_BYTES_MAX + 1));
        assert_eq!(error_code(long.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_body_any_status(body in proptest::collection::vec(any::<u8>(), 0..200), status in 0u16..1000) {
            let code = error_code(&body).unwrap_or_default();
            for row in rows() {
                classify(row, status, &code);
            }
        }
    }
}
