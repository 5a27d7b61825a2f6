//! Bytes as they came from the socket: never joined, only cut and re-ordered.
//!
//! A request body is held as the chunks in which it was read. A clone is a few reference counts,
//! which is the whole story of replaying a body on the next key; replacing the model name is three
//! slices instead of a copy. Refuses nothing: limits are kept by whoever reads.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// Byte positions in a body, counted from its first byte.
pub type Span = Range<usize>;

/// A body in pieces.
#[derive(Clone, Debug, Default)]
pub struct Chunks(SmallVec<[Bytes; 3]>);

/// One replacement in a body: what stands at `span` gives way to `with` (empty = cut out).
#[derive(Clone, Debug)]
pub struct Edit {
    pub span: Span,
    pub with: Bytes,
}

impl Chunks {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.0.push(chunk);
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// The piece at `index`, for a cursor that walks the body.
    pub fn get(&self, index: usize) -> Option<&Bytes> {
        self.0.get(index)
    }

    /// The body with `edits` applied. `edits` are in ascending order and do not overlap; one that
    /// does not fit the body is passed over, for a wrong span must not become a torn request.
    pub fn splice(&self, edits: &[Edit]) -> Self {
        let total = self.len();
        let mut out = Self::new();
        let mut at = 0;
        for edit in edits {
            if edit.span.start < at || edit.span.start > edit.span.end || edit.span.end > total {
                continue;
            }
            self.copy_range(at..edit.span.start, &mut out);
            out.push(edit.with.clone());
            at = edit.span.end;
        }
        self.copy_range(at..total, &mut out);
        out
    }

    /// The bytes at `span` as their own pieces.
    pub fn slice(&self, span: Span) -> Self {
        let mut out = Self::new();
        self.copy_range(span, &mut out);
        out
    }

    /// One contiguous buffer: for translators and tests, never on the relay path.
    pub fn flatten(&self) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.len());
                for chunk in many {
                    all.put_slice(chunk);
                }
                all.freeze()
            }
        }
    }

    fn copy_range(&self, span: Span, out: &mut Self) {
        let mut start = 0;
        for chunk in &self.0 {
            let end = start + chunk.len();
            let from = span.start.max(start);
            let to = span.end.min(end);
            if from < to {
                out.push(chunk.slice(from - start..to - start));
            }
            start = end;
        }
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        let mut chunks = Self::new();
        chunks.push(bytes);
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &[u8], sizes: &[usize]) -> Chunks {
        let mut chunks = Chunks::new();
        let mut rest = Bytes::copy_from_slice(text);
        for size in sizes {
            chunks.push(rest.split_to((*size).min(rest.len())));
        }
        chunks.push(rest);
        chunks
    }

    proptest! {
        #[test]
        fn splice_equals_the_naive_edit(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            sizes in proptest::collection::vec(0usize..40, 0..6),
            a in 0usize..220, b in 0usize..220, with in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let (start, end) = (a.min(b), a.max(b));
            let chunks = cut(&body, &sizes);
            let spliced = chunks.splice(&[Edit { span: start..end, with: Bytes::from(with.clone()) }]);
            let expected = if end <= body.len() {
                [&body[..start], &with, &body[end..]].concat()
            } else {
                body.clone()
            };
            prop_assert_eq!(spliced.len(), expected.len());
            prop_assert_eq!(&spliced.flatten()[..], &expected[..]);
        }
    }

    #[test]
    fn two_edits_and_one_that_overlaps() {
        let chunks = cut(b"abcdefghij", &[3, 1, 4]);
        let edit = |span: Span, with: &'static str| Edit { span, with: Bytes::from_static(with.as_bytes()) };
        let out = chunks.splice(&[edit(1..2, "XX"), edit(1..3, "no"), edit(5..8, "")]);
        assert_eq!(&out.flatten()[..], b"aXXcdeij");
    }
}
