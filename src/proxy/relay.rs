//! The answer on its way back: the upstream's bytes as they come.
//!
//! Nothing is parsed, joined or re-chunked. When the upstream breaks, falls silent or ends a stream
//! without its last event, the caller gets the dialect's error event and an aborted body, never a
//! clean end (CONTRACT 3.5); once the last event has passed, the answer is whole whatever the
//! connection does. Dropping the body is how a caller leaves: the upstream's connection closes,
//! health stays untouched.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::affinity::Learner;
use super::ear::Ear;
use super::error_response;
use super::guard::{AttemptGuard, RequestGuard};
use super::peek::Opened;
use super::shape::Shape;
use crate::dialect::inband::StreamError;
use crate::dialect::unasked::Unasked;
use crate::dispatch::{Policy, judge};
use crate::error::{FaultClass, Kind, Public, Sent};
use crate::provider::classify;
use crate::upstream::AnswerFault;

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

    /// Ends a stream before its time: its caller is told in-band.
    pub fn stop(&mut self) {
        if let Self::Relay(relay) = self {
            relay.stop();
        }
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
            // A stream may need room for a last word.
            Self::Relay(relay) if relay.has_room => SizeHint::default(),
            Self::Relay(relay) => relay.inner.size_hint(),
        }
    }
}

/// One upstream answer being passed on.
pub struct Relay {
    inner: Opened,
    attempt: Option<AttemptGuard>,
    ear: Ear,
    /// No length was announced: words of our own may follow.
    has_room: bool,
    /// Takes out what the upstream was asked for in the caller's place.
    filter: Option<Box<Unasked>>,
    state: State,
    /// Listens for ids of what was made.
    learner: Option<Box<Learner>>,
    guard: Box<RequestGuard>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// To be broken off at the next poll.
    Stopping,
    /// The error event is out; the next poll lets hyper flush it before the abort.
    Flushing,
    Failed,
    Ended,
}

/// Why an answer ends before its end.
enum Broken {
    Upstream(AnswerFault),
    /// Its bytes ended well, and not all had come.
    Unfinished,
    /// A checksum was wrong.
    Garbled,
    /// We are going down.
    Stopping,
}

impl Relay {
    pub fn new(inner: Opened, attempt: AttemptGuard, shape: Shape, guard: Box<RequestGuard>) -> Self {
        let (ear, has_room) = (Ear::of(shape, guard.operation), shape.is_stream());
        let filter = (shape.is_stream() && guard.asked_for_usage).then(Box::default);
        let (attempt, state) = (Some(attempt), State::Flowing);
        let mut relay = Self { inner, attempt, ear, has_room, filter, state, learner: None, guard };
        // hyper does not poll a body that says it has ended: a 204, an empty answer. A stream that
        // owes a last event is asked all the same.
        if relay.inner.is_end_stream() && relay.ear.is_whole() {
            relay.finish();
        }
        relay
    }

    /// What the answer names is remembered before it goes on.
    pub fn learning(mut self, learner: Option<Box<Learner>>) -> Self {
        self.learner = learner;
        self
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamBroken>>> {
        match self.state {
            State::Flowing => {}
            State::Stopping => return self.fail(&Broken::Stopping, cx),
            State::Flushing => {
                self.state = State::Failed;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            State::Failed => return Poll::Ready(Some(Err(StreamBroken))),
            State::Ended => return Poll::Ready(None),
        }
        loop {
            if self.ear.is_garbled() {
                return self.fail(&Broken::Garbled, cx);
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers are not passed on: nothing is known to need them, and they could
                    // carry what the header list keeps back.
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.guard.hear(&bytes);
                    if let Some(error) = self.ear.push(&bytes, self.guard.operation) {
                        self.hear_error(&error);
                    }
                    if let Some(learner) = &mut self.learner {
                        learner.hear(&bytes, self.guard.proxy());
                    }
                    let is_last = self.inner.is_end_stream() && self.ear.is_whole();
                    let bytes = self.asked_for(bytes, is_last);
                    self.guard.sent(bytes.len());
                    if is_last {
                        self.finish();
                    }
                    if bytes.is_empty() && !is_last {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(fault)) if !self.ear.has_said_all() => return self.fail(&Broken::Upstream(fault), cx),
                None if !self.ear.is_whole() => return self.fail(&Broken::Unfinished, cx),
                Some(Err(_)) | None => {
                    let rest = self.asked_for(Bytes::new(), true);
                    self.finish();
                    if rest.is_empty() {
                        return Poll::Ready(None);
                    }
                    self.guard.sent(rest.len());
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
            }
        }
    }

    /// What of a chunk the caller has asked for.
    fn asked_for(&mut self, chunk: Bytes, is_last: bool) -> Bytes {
        let Some(filter) = &mut self.filter else { return chunk };
        let passed = filter.push(chunk);
        if !is_last {
            return passed;
        }
        let rest = filter.finish();
        if rest.is_empty() {
            return passed;
        }
        let mut both = BytesMut::from(passed);
        both.extend_from_slice(&rest);
        both.freeze()
    }

    /// The upstream has told the caller of an error in the middle of a stream. It is passed on as it
    /// is, and counts as if it had come in place of the answer.
    fn hear_error(&mut self, error: &StreamError) {
        self.guard.upstream_error();
        let Some(mut attempt) = self.attempt.take() else { return };
        let status = error.status.unwrap_or(self.guard.line.status);
        let class = classify(attempt.key().row, status, &error.code);
        // A key is not benched on the word of a stream that had begun well.
        if class == FaultClass::Server {
            let policy = Policy { rate_scope: attempt.key().row.rate_scope, signed_again: false };
            let kind = Kind::Answer(class);
            attempt.failed(&judge(kind, Sent::Answered { status }, &policy), None, kind);
        } else {
            attempt.passes_on(class);
            attempt.ended();
        }
    }

    /// Ends the answer before its time, because the process does.
    pub fn stop(&mut self) {
        if self.state == State::Flowing {
            self.state = State::Stopping;
        }
    }

    fn finish(&mut self) {
        if self.state != State::Flowing {
            return;
        }
        self.state = State::Ended;
        if let Some(attempt) = self.attempt.take() {
            attempt.ended();
        }
        self.guard.complete();
    }

    fn fail(&mut self, broken: &Broken, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamBroken>>> {
        let (kind, code, message) = broken.told();
        match (self.attempt.take(), broken) {
            (Some(attempt), Broken::Upstream(_) | Broken::Unfinished | Broken::Garbled) => {
                let policy = Policy { rate_scope: attempt.key().row.rate_scope, signed_again: false };
                attempt.failed(&judge(kind, Sent::Maybe, &policy), None, kind);
            }
            // What there was of it was good.
            (Some(attempt), Broken::Stopping) => attempt.ended(),
            (None, _) => {}
        }
        self.guard.truncated(code);
        let public = Public { code, message: message.to_owned(), ..Public::default() };
        let RequestGuard { dialect, operation, ref id, .. } = *self.guard;
        let failure = error_response::failure(kind, &public, id);
        let Some(word) = self.ear.last_word(dialect, operation, &failure) else {
            // What came so far goes out before the abort, the head at least.
            self.state = State::Failed;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        self.state = State::Flushing;
        Poll::Ready(Some(Ok(Frame::data(word))))
    }
}

impl Broken {
    /// Kind, code and words for the caller.
    fn told(&self) -> (Kind, &'static str, &'static str) {
        match self {
            Self::Upstream(fault) => fault_told(fault),
            Self::Unfinished => {
                (Kind::Broken, "upstream_truncated", "the upstream ended its answer before it was whole")
            }
            Self::Garbled => (Kind::Broken, "upstream_garbled", "the upstream sent a frame that is none"),
            Self::Stopping => (Kind::Overloaded, "gateway_stopping", "the gateway is being stopped"),
        }
    }
}

/// What is said of an answer that broke.
pub fn fault_told(fault: &AnswerFault) -> (Kind, &'static str, &'static str) {
    match fault {
        AnswerFault::FirstByteTimeout => (
            Kind::FirstByteTimeout,
            "upstream_first_byte_timeout",
            "the upstream did not begin to answer within default_request_timeout_in_seconds",
        ),
        AnswerFault::IdleTimeout => {
            (Kind::Broken, "upstream_idle_timeout", "the upstream sent nothing for stream_idle_timeout_in_seconds")
        }
        AnswerFault::Broken(_) => (Kind::Broken, "upstream_broken", "the upstream closed the connection in mid-answer"),
    }
}
