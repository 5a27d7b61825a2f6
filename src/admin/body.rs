//! The body of a management request: JSON and nothing else, whole, within a bound.
//!
//! Strict: no comments, no trailing commas, no member twice. Two readers that take one of two equal
//! members are how a check is led around.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body::Body;

use super::error::{ApiError, in_words};
use crate::config::Tree;
use crate::config::syntax::Kind;
use crate::error::BoxError;
use crate::permit::Room;
use crate::server::read_held;
use crate::snapshot::ServerLimits;

/// Reads the text of a JSON body; what it says is not looked at.
pub async fn text<B>(
    head: &HeaderMap,
    body: B,
    bytes_max: u64,
    limits: &ServerLimits,
    room: &Room,
) -> Result<String, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    is_json(head)?;
    let cap = bytes_max.min(limits.request_body_bytes_max);
    let mut share = room.share();
    let chunks = read_held(body, cap, limits.body_timeout, &mut share, |_| ()).await?;
    let mut bytes = Vec::with_capacity(chunks.len());
    for chunk in chunks.iter() {
        bytes.extend_from_slice(chunk);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::bad_request("invalid_json", "the body is not UTF-8"))
}

/// The same as a tree of which the root is an object.
pub fn object(text: &str) -> Result<Arc<Tree>, ApiError> {
    let bad = |message: String| ApiError::bad_request("invalid_json", message);
    // The file's reader takes comments and trailing commas; a body has none. What serde says is not
    // shown, for it quotes values.
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        let message = match Tree::parse(text) {
            Err(problems) => in_words(&problems),
            Ok(_) => "comments, trailing commas and the like are for the file".to_owned(),
        };
        return Err(bad(format!("the body is not JSON: {message}")));
    }
    let tree = Tree::parse(text).map_err(|problems| bad(format!("the body is refused: {}", in_words(&problems))))?;
    match tree.root().kind {
        Kind::Object(_) => Ok(Arc::new(tree)),
        _ => Err(bad("the body is not a JSON object".to_owned())),
    }
}

/// `application/json`, with parameters or without; nothing compressed.
fn is_json(head: &HeaderMap) -> Result<(), ApiError> {
    let unsupported =
        |message: &str| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let mut types = head.get_all(CONTENT_TYPE).iter();
    let named = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = named.split(';').next().unwrap_or_default().trim();
    if types.next().is_some() || !essence.eq_ignore_ascii_case("application/json") {
        return Err(unsupported("send `content-type: application/json`").field("content-type"));
    }
    let plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !head.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Err(unsupported("bodies are taken as they are, not compressed").field("content-encoding"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        assert!(object("{\"a\": {\"b\": [1, 2.5e3, null, \"x\"]}}").is_ok());
        for text in [
            "",
            "nul",
            "[]",
            "1",
            "\"x\"",
            "null",
            "{",
            "{\"a\":1,}",
            "{\"a\":1}//",
            "{'a':1}",
            "{\"a\":1}{}",
            "{\"a\":01}",
            "{\"a\":1,\"a\":2}",
            "{\"b\":{\"a\":1,\"a\":2}}",
            "\u{feff}{}",
        ] {
            let error = object(text).expect_err(text);
            assert_eq!((error.status, error.code), (StatusCode::BAD_REQUEST, "invalid_json"), "{text}");
        }
        let error = object("{\"value\": \"sk-canary-0123456789\" \"x\"}").unwrap_err();
        assert!(!error.message.contains("canary"), "{}", error.message);
    }

    #[test]
    fn json_alone() {
        for (value, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonx", false),
            ("", false),
        ] {
            let head: HeaderMap = [(CONTENT_TYPE, value.parse().unwrap())].into_iter().collect();
            assert_eq!(is_json(&head).is_ok(), good, "{value}");
        }
        assert_eq!(is_json(&HeaderMap::new()).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let mut head: HeaderMap = [(CONTENT_TYPE, "application/json".parse().unwrap())].into_iter().collect();
        head.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(is_json(&head).is_err());
    }
}
