//! Bodies on the upstream side: what is sent, and what comes back.
//!
//! A held body is sent chunk by chunk as it lies in memory, so that a spliced one costs no copy; a
//! flowing one passes through. Nothing is read ahead, nothing is buffered here.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::chunks::Chunks;
use crate::error::BoxError;

/// A request body on its way to an upstream.
#[derive(Default)]
pub enum UpstreamBody {
    #[default]
    Empty,
    /// In memory, hence its length is known and it can be sent again.
    Held { chunks: Chunks, next: usize },
    /// What was read already, then the rest as it comes. Can be sent once.
    Flowing { head: Chunks, next: usize, rest: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>> },
}

impl UpstreamBody {
    pub fn held(chunks: Chunks) -> Self {
        if chunks.is_empty() { Self::Empty } else { Self::Held { chunks, next: 0 } }
    }

    /// `head` is sent first, then `rest`.
    pub fn flowing<B>(head: Chunks, rest: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::Flowing { head, next: 0, rest: Box::pin(rest.map_err(Into::into)) }
    }
}

/// The chunk at `next`, which moves on.
fn advance(chunks: &Chunks, next: &mut usize) -> Option<Bytes> {
    let chunk = chunks.get(*next)?.clone();
    *next += 1;
    Some(chunk)
}

fn length_from(chunks: &Chunks, next: usize) -> u64 {
    chunks.iter().skip(next).map(|chunk| chunk.len() as u64).sum()
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Held { chunks, next } => Poll::Ready(advance(chunks, next).map(|chunk| Ok(Frame::data(chunk)))),
            Self::Flowing { head, next, rest } => match advance(head, next) {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
                None => rest.as_mut().poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Held { chunks, next } => chunks.get(*next).is_none(),
            Self::Flowing { head, next, rest } => head.get(*next).is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Held { chunks, next } => SizeHint::with_exact(length_from(chunks, *next)),
            Self::Flowing { head, next, rest } => {
                let before = length_from(head, *next);
                let after = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(before.saturating_add(after.lower()));
                if let Some(upper) = after.upper() {
                    hint.set_upper(before.saturating_add(upper));
                }
                hint
            }
        }
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Held { chunks, .. } => write!(f, "Held({} bytes)", chunks.len()),
            Self::Flowing { head, .. } => write!(f, "Flowing({} bytes and more)", head.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn chunks(parts: &[&'static str]) -> Chunks {
        let mut chunks = Chunks::new();
        for part in parts {
            chunks.push(Bytes::from_static(part.as_bytes()));
        }
        chunks
    }

    #[tokio::test]
    async fn frames_and_lengths() {
        let rest = Full::new(Bytes::from_static(b"rest"));
        for (mut body, frames, length) in [
            (UpstreamBody::Empty, vec![], 0),
            (UpstreamBody::held(Chunks::new()), vec![], 0),
            (UpstreamBody::held(chunks(&["ab", "c"])), vec!["ab", "c"], 3),
            (UpstreamBody::flowing(chunks(&["head "]), rest.clone()), vec!["head ", "rest"], 9),
            (UpstreamBody::flowing(Chunks::new(), rest), vec!["rest"], 4),
        ] {
            assert_eq!(body.size_hint().exact(), Some(length));
            let mut left = length;
            for expected in frames {
                assert!(!body.is_end_stream());
                let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(frame, expected);
                left -= frame.len() as u64;
                assert_eq!(body.size_hint().exact(), Some(left));
            }
            assert!(body.is_end_stream());
            assert!(body.frame().await.is_none());
        }
    }
}
