//! The answer on its way back: the upstream's bytes as they come.
//!
//! Nothing is parsed, joined or re-chunked. When the upstream breaks or falls silent, a stream gets
//! the dialect's error event and an aborted body, never a clean end (CONTRACT 3.5). Dropping the
//! body is how a caller leaves: the upstream's connection closes, health stays untouched.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::guard::{AttemptGuard, RequestGuard};
use crate::dialect::openai;
use crate::dispatch::{Policy, judge};
use crate::error::{Kind, Public, Sent};
use crate::telemetry::AttemptOutcome;
use crate::upstream::{AnswerBody, AnswerFault};

/// The body of every answer of the gateway.
pub enum ReplyBody {
    /// Our own words, or an upstream's error that was read whole.
    Whole {
        bytes: Option<Bytes>,
        guard: Option<Box<RequestGuard>>,
    },
    Relay(Box<Relay>),
}

/// Why an answer ended before its end. The connection is aborted; the caller has been told in-band
/// where the dialect has words for it.
#[derive(Debug)]
pub struct StreamBroken;

impl std::fmt::Display for StreamBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the upstream's answer broke off")
    }
}

impl std::error::Error for StreamBroken {}

impl ReplyBody {
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole { bytes: Some(bytes), guard: None }
    }

    /// As [`Self::whole`]; the guard lives until the bytes are taken.
    pub fn guarded(bytes: Bytes, guard: Box<RequestGuard>) -> Self {
        Self::Whole { bytes: Some(bytes), guard: Some(guard) }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = StreamBroken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamBroken>>> {
        match self.get_mut() {
            Self::Whole { bytes, guard } => {
                if let Some(guard) = guard {
                    guard.complete();
                }
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, .. } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Relay(relay) => relay.state == State::Ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Relay(relay) => relay.inner.size_hint(),
        }
    }
}

/// One upstream answer being passed on.
pub struct Relay {
    inner: AnswerBody,
    attempt: Option<AttemptGuard>,
    /// The answer is a server-sent event stream: errors have a form in-band.
    events: bool,
    state: State,
    guard: Box<RequestGuard>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// The error event is out; the next poll lets hyper flush it before the abort.
    Flushing,
    Failed,
    Ended,
}

impl Relay {
    pub fn new(inner: AnswerBody, attempt: AttemptGuard, events: bool, guard: Box<RequestGuard>) -> Self {
        let mut relay = Self { inner, attempt: Some(attempt), events, state: State::Flowing, guard };
        // hyper does not poll a body that says it has ended: a 204, an empty answer.
        if relay.inner.is_end_stream() {
            relay.finish();
        }
        relay
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamBroken>>> {
        match self.state {
            State::Flowing => {}
            State::Flushing => {
                self.state = State::Failed;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            State::Failed => return Poll::Ready(Some(Err(StreamBroken))),
            State::Ended => return Poll::Ready(None),
        }
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers are not passed on: nothing is known to need them, and they could
                    // carry what the header list keeps back.
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.guard.sent(bytes.len());
                    if self.inner.is_end_stream() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(fault)) => return self.fail(&fault),
                None => {
                    self.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn finish(&mut self) {
        if self.state != State::Flowing {
            return;
        }
        self.state = State::Ended;
        self.attempt = None;
        self.guard.complete();
    }

    fn fail(&mut self, fault: &AnswerFault) -> Poll<Option<Result<Frame<Bytes>, StreamBroken>>> {
        let (kind, code, message) = match fault {
            AnswerFault::FirstByteTimeout => (
                Kind::FirstByteTimeout,
                "upstream_first_byte_timeout",
                "the upstream did not begin to answer within default_request_timeout_in_seconds",
            ),
            AnswerFault::IdleTimeout => {
                (Kind::Broken, "upstream_idle_timeout", "the upstream sent nothing for stream_idle_timeout_in_seconds")
            }
            AnswerFault::Broken(_) => {
                (Kind::Broken, "upstream_broken", "the upstream closed the connection in mid-answer")
            }
        };
        if let Some(attempt) = self.attempt.take() {
            let policy = Policy { rate_scope: attempt.key().row.rate_scope, signed_again: false };
            let verdict = judge(kind, Sent::Maybe, &policy);
            attempt.failed(&verdict, None, AttemptOutcome::Broken);
        }
        self.guard.truncated(code);
        if !self.events {
            self.state = State::Failed;
            return Poll::Ready(Some(Err(StreamBroken)));
        }
        self.state = State::Flushing;
        let public = Public { code, message: message.to_owned(), ..Public::default() };
        let event = openai::error_event(self.guard.operation, kind, &public);
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}
