//! Where a body names the model of its path once more: Gemini's embeddings and token counts.
//!
//! Walks over a body in pieces, which a [`Scanner`](super::scan::Scanner) has found to be JSON, and
//! notes the strings `model`, `requests[].model` and `generateContentRequest.model`. Builds nothing,
//! joins nothing, and keeps one name at a time.

use smallvec::SmallVec;

use crate::chunks::{Chunks, Span};
use crate::limits::MODEL_NAME_BYTES_MAX;

/// Each of its bytes may be written as `\u0000`.
const TOKEN_BYTES_MAX: usize = 6 * MODEL_NAME_BYTES_MAX + 2;

/// Reports name and place of each model, in the order of the body. The place is that of the string
/// with its quotes.
pub fn models(body: &Chunks, visit: impl FnMut(&str, Span)) {
    let mut walk =
        Walk { visit, at: 0, within: SmallVec::new(), skipped: 0, key: Key::Other, value: false, token: None };
    for chunk in body.iter() {
        walk.push(chunk);
    }
}

/// A container that matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Body,
    Requests,
    /// An element of `requests`, or `generateContentRequest`.
    Request,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Model,
    Requests,
    Request,
    Other,
}

struct Walk<V> {
    visit: V,
    at: usize,
    within: SmallVec<[Within; 3]>,
    /// Containers that are open and do not matter.
    skipped: usize,
    /// The last key of the innermost container, and whether its value follows.
    key: Key,
    value: bool,
    token: Option<Token>,
}

/// A string that has not ended.
struct Token {
    start: usize,
    escaped: bool,
    /// With its quotes; empty where it does not matter or is too long for a name.
    text: Option<Vec<u8>>,
}

impl<V: FnMut(&str, Span)> Walk<V> {
    fn push(&mut self, mut chunk: &[u8]) {
        while let Some((first, rest)) = chunk.split_first() {
            chunk = match self.token.take() {
                Some(token) => self.string(token, chunk),
                None => {
                    self.outside(*first);
                    rest
                }
            };
        }
    }

    /// A byte outside of strings.
    fn outside(&mut self, byte: u8) {
        let start = self.at;
        self.at += 1;
        match byte {
            b'"' => {
                let text = (self.skipped == 0).then(|| vec![b'"']);
                self.token = Some(Token { start, escaped: false, text });
            }
            b':' => self.value = true,
            b',' => self.value = false,
            b'{' | b'[' => {
                match (self.within.last(), self.key, byte) {
                    _ if self.skipped > 0 => self.skipped += 1,
                    (None, _, b'{') => self.within.push(Within::Body),
                    (Some(Within::Body), Key::Requests, b'[') if self.value => self.within.push(Within::Requests),
                    (Some(Within::Body), Key::Request, b'{') if self.value => self.within.push(Within::Request),
                    (Some(Within::Requests), _, b'{') => self.within.push(Within::Request),
                    _ => self.skipped += 1,
                }
                (self.key, self.value) = (Key::Other, false);
            }
            b'}' | b']' => {
                match self.skipped {
                    0 => drop(self.within.pop()),
                    _ => self.skipped -= 1,
                }
                (self.key, self.value) = (Key::Other, false);
            }
            _ => {}
        }
    }

    /// More of a string; returns what stands behind.
    fn string<'a>(&mut self, mut token: Token, chunk: &'a [u8]) -> &'a [u8] {
        let stop = match token.escaped {
            true => Some(0),
            false => memchr::memchr2(b'"', b'\\', chunk),
        };
        let (taken, behind) = chunk.split_at(stop.map_or(chunk.len(), |stop| stop + 1));
        self.at += taken.len();
        if let Some(text) = &mut token.text {
            text.extend_from_slice(taken);
            if text.len() > TOKEN_BYTES_MAX {
                token.text = None;
            }
        }
        match taken.last() {
            _ if token.escaped => token.escaped = false,
            Some(b'"') if stop.is_some() => {
                self.ended(&token);
                return behind;
            }
            Some(b'\\') if stop.is_some() => token.escaped = true,
            _ => {}
        }
        self.token = Some(token);
        behind
    }

    fn ended(&mut self, token: &Token) {
        let text = token.text.as_ref().and_then(|text| serde_json::from_slice::<String>(text).ok());
        match (self.within.last(), &text) {
            (Some(Within::Body | Within::Request), Some(name)) if self.value && self.key == Key::Model => {
                (self.visit)(name, token.start..self.at);
            }
            (Some(Within::Body | Within::Request), _) if !self.value => {
                self.key = match text.as_deref() {
                    Some("model") => Key::Model,
                    Some("requests") => Key::Requests,
                    Some("generateContentRequest") => Key::Request,
                    _ => Key::Other,
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(body: &str, sizes: &[usize]) -> Vec<(String, String)> {
        let (mut chunks, mut rest, mut sizes) = (Chunks::new(), body.as_bytes(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            chunks.push(Bytes::copy_from_slice(chunk));
            rest = behind;
        }
        let mut seen = Vec::new();
        models(&chunks, |name, span| seen.push((name.to_owned(), body[span].to_owned())));
        seen
    }

    #[test]
    fn places() {
        for (body, expected) in [
            (r#"{"model": "a\/b" }"#, &[("a/b", r#""a\/b""#)][..]),
            (r#"{"mod\u0065l":"\u0061"}"#, &[("a", r#""\u0061""#)]),
            (
                r#"{"requests":[{"content":{"model":"x"},"model":"a"},{},{"model":"b"}],"model":"c"}"#,
                &[("a", r#""a""#), ("b", r#""b""#), ("c", r#""c""#)],
            ),
            (r#"{"generateContentRequest":{"model":"a","contents":[{"model":"x"}]}}"#, &[("a", r#""a""#)]),
            (r#"{"requests":{"model":"x"},"generateContentRequest":[{"model":"x"}]}"#, &[]),
            (r#"{"requests":[[{"model":"x"}],"model","x"]}"#, &[]),
            (r#"{"x":"model","y":"z","model":7,"n":"x"}"#, &[]),
            (r#"{"a":{"requests":[{"model":"x"}]},"b":"\"model\":\"x\""}"#, &[]),
            ("{}", &[]),
        ] {
            for size in [1, 2, 7, body.len()] {
                let seen = read(body, &[size]);
                let seen: Vec<_> = seen.iter().map(|(name, token)| (name.as_str(), token.as_str())).collect();
                assert_eq!(seen, expected, "{body} by {size}");
            }
        }
        let long = format!(r#"{{"model":"{}","requests":[{{"model":"b"}}]}}"#, "x".repeat(TOKEN_BYTES_MAX));
        assert_eq!(read(&long, &[999]).len(), 1);
    }

    fn json() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec!["model", "requests", "generateContentRequest", "a\"b\\", "é"]);
        let leaf =
            prop_oneof![word.clone().prop_map(Value::from), Just(Value::Null), any::<i8>().prop_map(Value::from)];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_body_reads_as_a_tree_does(
            members in prop::collection::btree_map(
                prop::sample::select(vec!["model", "requests", "generateContentRequest", "x"]), json(), 0..4
            ),
            sizes in prop::collection::vec(1usize..12, 1..4),
        ) {
            let body = Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
            let named = |value: &Value| value.get("model").and_then(Value::as_str).map(str::to_owned);
            let mut expected: Vec<String> = body.get("requests").and_then(Value::as_array).into_iter().flatten()
                .filter_map(named)
                .chain(body.get("generateContentRequest").and_then(named))
                .chain(named(&body))
                .collect();
            let mut seen: Vec<String> = read(&body.to_string(), &sizes).into_iter().map(|(name, _)| name).collect();
            expected.sort();
            seen.sort();
            prop_assert_eq!(seen, expected);
        }
    }
}
