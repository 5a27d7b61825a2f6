//! What an answer's head says of its body, as far as its end must be told from a cut.
//!
//! Reads headers and nothing else.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};

use crate::dialect::frame::ending::Terminal;
use crate::dialect::{Dialect, Operation};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A stream of server-sent events: errors have a form in-band. `terminal`: by what it ends, where
    /// that is known; `framed`: the upstream also says where its answer ends, by a length or chunk by
    /// chunk.
    Events { terminal: Option<Terminal>, framed: bool },
    /// A JSON text that ends with its connection or, `framed` chunk by chunk, may be a list that takes
    /// one more element.
    Document { framed: bool },
    /// Bytes of which the connection knows the end, or nobody does.
    Opaque,
}

impl Shape {
    /// Of an answer with this head to a call of this operation. An upstream that compresses although
    /// it was asked not to is relayed unread.
    pub fn of(head: &HeaderMap, dialect: Dialect, operation: Operation) -> Self {
        let kind = head.get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
        let sized = head.contains_key(CONTENT_LENGTH);
        let framed = sized || head.contains_key(TRANSFER_ENCODING);
        let plain = head.get(CONTENT_ENCODING).is_none_or(|value| value.as_bytes() == b"identity");
        if plain && kind.starts_with(b"text/event-stream") {
            Self::Events { terminal: dialect.terminal(operation), framed }
        } else if plain && kind.starts_with(b"application/json") && (!framed || !sized && dialect.has_lists(operation))
        {
            Self::Document { framed }
        } else {
            Self::Opaque
        }
    }

    pub fn is_events(self) -> bool {
        matches!(self, Self::Events { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let done = Dialect::OpenAi.terminal(Operation::ChatCompletion);
        let events = |terminal, framed| Shape::Events { terminal, framed };
        for (head, operation, expected) in [
            (&[("content-type", "text/event-stream")][..], Operation::ChatCompletion, events(done, false)),
            (
                &[("content-type", "text/event-stream; charset=utf-8"), ("transfer-encoding", "chunked")],
                Operation::ChatCompletion,
                events(done, true),
            ),
            (&[("content-type", "text/event-stream"), ("content-length", "9")], Operation::Other, events(None, true)),
            (
                &[("content-type", "text/event-stream"), ("content-encoding", "gzip")],
                Operation::Responses,
                Shape::Opaque,
            ),
            (&[("content-type", "application/json")], Operation::ChatCompletion, Shape::Document { framed: false }),
            (&[("content-type", "application/json"), ("content-length", "9")], Operation::Embedding, Shape::Opaque),
            (&[("content-type", "audio/mpeg")], Operation::Speech, Shape::Opaque),
            (&[], Operation::Files, Shape::Opaque),
        ] {
            let head: HeaderMap =
                head.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(Shape::of(&head, Dialect::OpenAi, operation), expected, "{head:?}");
        }
        let mut head = HeaderMap::new();
        head.insert(CONTENT_TYPE, "application/json; charset=UTF-8".parse().unwrap());
        head.insert(TRANSFER_ENCODING, "chunked".parse().unwrap());
        for (operation, expected) in
            [(Operation::ChatCompletion, Shape::Document { framed: true }), (Operation::Embedding, Shape::Opaque)]
        {
            assert_eq!(Shape::of(&head, Dialect::Gemini, operation), expected, "{operation:?}");
        }
    }
}
