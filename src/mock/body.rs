//! Bodies of the mock: a list of steps, each a piece to send, a wait, or a break.
//!
//! A body that is whole tells its length; one in steps does not, as a real stream would not.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::error::BoxError;

/// What comes next.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Bytes),
    /// From the end of the step before.
    Wait(Duration),
    /// Lets what was sent reach the socket.
    Flush,
    /// The same piece again and again, on a schedule that does not drift.
    Repeat {
        piece: Bytes,
        left: u32,
        every: Duration,
    },
    /// Breaks the connection.
    Abort,
}

/// A request that the mock has not finished.
#[derive(Debug)]
pub struct Open(Arc<AtomicU64>);

impl Open {
    pub fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug)]
pub struct MockBody {
    steps: VecDeque<Step>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the next piece of a `Repeat` is due.
    due: Option<Instant>,
    flushed: bool,
    _open: Option<Open>,
}

impl MockBody {
    pub fn whole(bytes: Bytes) -> Self {
        Self::steps([Step::Send(bytes)], None)
    }

    pub fn steps(steps: impl IntoIterator<Item = Step>, open: Option<Open>) -> Self {
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Send(bytes) if bytes.is_empty()));
        Self { steps: steps.collect(), timer: None, due: None, flushed: false, _open: open }
    }

    /// True when `until` has passed.
    fn waited(&mut self, until: Instant, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        let passed = timer.as_mut().poll(cx).is_ready();
        if passed {
            self.timer = None;
        }
        passed
    }

    fn wait(&mut self, span: Duration, cx: &mut Context<'_>) -> bool {
        let until = self.timer.as_ref().map_or_else(|| Instant::now() + span, |timer| timer.deadline());
        self.waited(until, cx)
    }

    fn repeat(&mut self, piece: Bytes, left: u32, every: Duration, cx: &mut Context<'_>) -> Option<Bytes> {
        if !every.is_zero() {
            let due = *self.due.get_or_insert_with(|| Instant::now() + every);
            if !self.waited(due, cx) {
                self.steps.push_front(Step::Repeat { piece, left, every });
                return None;
            }
            self.due = Some(due + every);
        }
        if left > 1 {
            self.steps.push_front(Step::Repeat { piece: piece.clone(), left: left - 1, every });
        }
        Some(piece)
    }
}

impl Body for MockBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match this.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Send(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Abort) => return Poll::Ready(Some(Err("cut off, as asked".into()))),
                Some(Step::Wait(span)) => {
                    if !this.wait(span, cx) {
                        this.steps.push_front(Step::Wait(span));
                        return Poll::Pending;
                    }
                }
                Some(Step::Flush) => {
                    // hyper flushes when a body has nothing to give for now.
                    if !std::mem::take(&mut this.flushed) {
                        this.flushed = true;
                        this.steps.push_front(Step::Flush);
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Some(Step::Repeat { left: 0, .. }) => {}
                Some(Step::Repeat { piece, left, every }) => {
                    return match this.repeat(piece, left, every, cx) {
                        Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match (self.steps.len(), self.steps.front()) {
            (0, _) => SizeHint::with_exact(0),
            (1, Some(Step::Send(bytes))) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            _ => SizeHint::default(),
        }
    }
}
