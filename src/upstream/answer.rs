//! The answer of an upstream, while it arrives.
//!
//! [`AnswerBody`] drives the connection that it reads from, unless that is shared. At its end the connection goes back to
//! the pool by itself, provided that the request body was taken whole; dropped earlier, it closes
//! the connection, which is how an upstream learns that the caller has left. Nothing is buffered:
//! a consumer who stops polling stops the upstream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::link::Late;
use super::mux::Riding;
use super::pool::Lease;

/// What an upstream answered.
#[derive(Debug)]
pub struct Answer {
    pub parts: Parts,
    pub body: AnswerBody,
    /// The connection came from the pool.
    pub reused: bool,
}

/// Why an answer ended early. All of them mean that the caller got less than the upstream meant.
#[derive(Debug)]
pub enum AnswerFault {
    /// Nothing of the body arrived within the deadline for the first byte.
    FirstByteTimeout,
    /// The upstream fell silent in the middle of it.
    IdleTimeout,
    /// The connection broke or what came is not HTTP.
    Broken(hyper::Error),
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByteTimeout => "the upstream sent no body within the first-byte deadline",
            Self::IdleTimeout => "the upstream fell silent for longer than the idle deadline",
            Self::Broken(_) => "the upstream's answer broke off",
        })
    }
}

impl std::error::Error for AnswerFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::FirstByteTimeout | Self::IdleTimeout => None,
        }
    }
}

pub struct AnswerBody {
    incoming: Incoming,
    carrier: Carrier,
    /// Longest silence once the body has begun.
    gap: Duration,
    /// First the deadline for the first byte, then moved on by each frame.
    deadline: Instant,
    begun: bool,
}

/// A frame, or the end.
type Arrived = Option<Result<Frame<Bytes>, hyper::Error>>;

/// What brings the rest of an answer.
pub(super) enum Carrier {
    /// A connection of the answer's own.
    Lease(Lease),
    /// A stream of a shared one.
    Riding(Riding),
    /// Gone back to the pool, or closed.
    Gone,
}

impl Carrier {
    /// A frame, the end, or `Late`.
    fn poll(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
        deadline: Instant,
    ) -> Poll<Result<Arrived, Late>> {
        match self {
            Self::Lease(lease) => lease.link.poll_with(cx, deadline, |cx| Pin::new(&mut *incoming).poll_frame(cx)),
            Self::Riding(riding) => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending if riding.is_late(cx, deadline) => Poll::Ready(Err(Late)),
                Poll::Pending => Poll::Pending,
            },
            Self::Gone => Poll::Ready(Ok(None)),
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, carrier: Carrier, gap: Duration, first_byte: Instant) -> Self {
        let mut body = Self { incoming, carrier, gap, deadline: first_byte, begun: false };
        body.release_at_end();
        body
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Carrier::Lease(lease) = std::mem::replace(&mut self.carrier, Carrier::Gone) {
            lease.finish();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerFault>>> {
        let body = self.get_mut();
        match ready!(body.carrier.poll(&mut body.incoming, cx, body.deadline)) {
            Ok(Some(Ok(frame))) => {
                body.release_at_end();
                if !body.carrier.is_gone() {
                    body.deadline = Instant::now() + body.gap;
                    body.begun = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(None) => {
                body.release();
                Poll::Ready(None)
            }
            Ok(Some(Err(error))) => {
                body.carrier = Carrier::Gone;
                Poll::Ready(Some(Err(AnswerFault::Broken(error))))
            }
            Err(Late) => {
                body.carrier = Carrier::Gone;
                let fault = if body.begun { AnswerFault::IdleTimeout } else { AnswerFault::FirstByteTimeout };
                Poll::Ready(Some(Err(fault)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("begun", &self.begun).field("open", &!self.carrier.is_gone()).finish()
    }
}
