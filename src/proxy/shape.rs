//! What an answer's head says of its body, as far as its end must be told from a cut.
//!
//! Reads headers and nothing else.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, Version, response};

use crate::dialect::frame::ending::Terminal;
use crate::dialect::frame::eventstream;
use crate::dialect::usage::Tap;
use crate::dialect::{Dialect, Operation};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A stream of server-sent events: errors have a form in-band. `terminal`: by what it ends, where
    /// that is known; `framed`: the upstream also says where its answer ends, by a length or chunk by
    /// chunk.
    Events { terminal: Option<Terminal>, framed: bool },
    /// Frames of an AWS event stream: likewise, between two of them.
    Frames { framed: bool },
    /// A JSON text that ends with its connection or, `framed` chunk by chunk, may be a list that takes
    /// one more element.
    Document { framed: bool },
    /// Bytes of which the connection knows the end, or nobody does.
    Opaque,
}

impl Shape {
    /// Of an answer with this head to a call of this operation. An upstream that compresses although
    /// it was asked not to is relayed unread.
    pub fn of(parts: &response::Parts, dialect: Dialect, operation: Operation) -> Self {
        let head = &parts.headers;
        let kind = head.get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
        let sized = head.contains_key(CONTENT_LENGTH);
        let framed = sized || head.contains_key(TRANSFER_ENCODING) || parts.version >= Version::HTTP_2;
        let plain = head.get(CONTENT_ENCODING).is_none_or(|value| value.as_bytes() == b"identity");
        if plain && kind.starts_with(b"text/event-stream") {
            Self::Events { terminal: dialect.terminal(operation), framed }
        } else if plain && dialect == Dialect::Bedrock && kind.starts_with(eventstream::CONTENT_TYPE.as_bytes()) {
            Self::Frames { framed }
        } else if plain && kind.starts_with(b"application/json") && (!framed || !sized && dialect.has_lists(operation))
        {
            Self::Document { framed }
        } else {
            Self::Opaque
        }
    }

    /// What listens for the usage in an answer with this head; nothing where it cannot be read.
    pub fn tap(self, head: &HeaderMap) -> Option<Tap> {
        let plain = head.get(CONTENT_ENCODING).is_none_or(|value| value.as_bytes() == b"identity");
        let is_json = head.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        match self {
            Self::Events { .. } => Some(Tap::events()),
            Self::Frames { .. } => Some(Tap::frames()),
            Self::Document { .. } | Self::Opaque => (plain && is_json).then(Tap::text),
        }
    }

    /// Whether words of our own have a form in it.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Events { .. } | Self::Frames { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(head: &[(&str, &str)], version: Version) -> response::Parts {
        let mut builder = http::Response::builder().version(version);
        for (name, value) in head {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

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
            let parts = answer(head, Version::HTTP_11);
            assert_eq!(Shape::of(&parts, Dialect::OpenAi, operation), expected, "{head:?}");
        }
        let chunked = ("transfer-encoding", "chunked");
        let json = ("content-type", "application/json; charset=UTF-8");
        let frames = ("content-type", "application/vnd.amazon.eventstream");
        for (dialect, head, version, operation, expected) in [
            (
                Dialect::Gemini,
                &[json, chunked][..],
                Version::HTTP_11,
                Operation::ChatCompletion,
                Shape::Document { framed: true },
            ),
            (Dialect::Gemini, &[json], Version::HTTP_2, Operation::ChatCompletion, Shape::Document { framed: true }),
            (
                Dialect::Gemini,
                &[json, ("content-length", "9")],
                Version::HTTP_11,
                Operation::ChatCompletion,
                Shape::Opaque,
            ),
            (Dialect::Gemini, &[json, chunked], Version::HTTP_11, Operation::Embedding, Shape::Opaque),
            (Dialect::OpenAi, &[json], Version::HTTP_2, Operation::ChatCompletion, Shape::Opaque),
            (Dialect::Bedrock, &[frames, chunked], Version::HTTP_11, Operation::Invoke, Shape::Frames { framed: true }),
            (Dialect::Bedrock, &[frames], Version::HTTP_11, Operation::Invoke, Shape::Frames { framed: false }),
            (Dialect::OpenAi, &[frames], Version::HTTP_11, Operation::ChatCompletion, Shape::Opaque),
        ] {
            assert_eq!(Shape::of(&answer(head, version), dialect, operation), expected, "{dialect:?} {head:?}");
        }
    }
}
