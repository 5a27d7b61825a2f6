//! What a string token of JSON says: its escapes undone, its length judged.

use super::Member;
use crate::limits::MODEL_NAME_BYTES_MAX;

/// `"fallbacks"` with every letter as `\uXXXX`, quotes included; a longer token is another name.
pub(super) const NAME_TOKEN_BYTES_MAX: usize = 2 + 6 * "fallbacks".len();
/// A model name with every byte as `\uXXXX`, quotes included.
pub(super) const MODEL_TOKEN_BYTES_MAX: usize = 2 + 6 * MODEL_NAME_BYTES_MAX;

/// Which of our members a name token is, escapes undone.
pub(super) fn which(token: &[u8]) -> Option<Member> {
    match token {
        b"\"model\"" => Some(Member::Model),
        b"\"stream\"" => Some(Member::Stream),
        b"\"fallbacks\"" => Some(Member::Fallbacks),
        _ if memchr::memchr(b'\\', token).is_none() || token.len() > NAME_TOKEN_BYTES_MAX => None,
        _ => match serde_json::from_slice::<String>(token).ok()?.as_str() {
            "model" => Some(Member::Model),
            "stream" => Some(Member::Stream),
            "fallbacks" => Some(Member::Fallbacks),
            _ => None,
        },
    }
}

/// `Model` and the like: Go's decoder, which several upstreams use, takes them for `model`.
pub(super) fn spelled_like_model(token: &[u8]) -> bool {
    if memchr::memchr(b'\\', token).is_none() {
        return token.eq_ignore_ascii_case(b"\"model\"");
    }
    serde_json::from_slice::<String>(token).is_ok_and(|name| name.eq_ignore_ascii_case("model"))
}

/// The text of a string token, if it is text and short enough for a model name.
pub(super) fn decode(token: &[u8]) -> Option<String> {
    if token.len() > MODEL_TOKEN_BYTES_MAX {
        return None;
    }
    let plain = token.iter().all(|byte| !matches!(byte, b'\\' | 0..=0x1f));
    let name = match token {
        [b'"', text @ .., b'"'] if plain => std::str::from_utf8(text).ok()?.to_owned(),
        _ => serde_json::from_slice(token).ok()?,
    };
    (name.len() <= MODEL_NAME_BYTES_MAX).then_some(name)
}
