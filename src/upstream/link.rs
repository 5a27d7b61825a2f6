//! One connection to an upstream, driven by whoever uses it.
//!
//! There is no task per connection: the future that waits for an answer, and the body that relays
//! it, poll the connection in place. An event from the upstream then costs one poll instead of
//! three, and dropping the request closes the socket at once, with nobody to tell. An idle
//! connection is not polled at all; that the upstream closed it shows when it is used next (hyper
//! then hands the unsent request back) or at the next sweep.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::UpstreamBody;
use super::cap::Live;
use super::gate::Gate;
use super::io::Io;
use crate::limits::{LINK_ROUNDS_MAX, UPSTREAM_HEAD_BYTES_MAX};

/// A deadline passed.
#[derive(Debug)]
pub struct Late;

/// What became of a request that got no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The deadline for the head of the answer passed.
    Late,
    /// hyper never wrote it: here it is again.
    HandedBack(Box<Request<UpstreamBody>>, hyper::Error),
    /// It may have been sent.
    Lost(hyper::Error),
}

pub struct Link {
    sender: SendRequest<UpstreamBody>,
    /// `None`: the connection has ended.
    driver: Option<Connection<Io, UpstreamBody>>,
    gate: Arc<Gate>,
    /// The gate as a waker, made once.
    waker: Waker,
    /// Stays armed from request to request: it only goes off early, and is then set anew. So a
    /// request costs no timer of its own.
    timer: Option<Pin<Box<Sleep>>>,
    pub born: Instant,
    pub idle_since: Instant,
    /// Its place among the connections of a bounded transport.
    _place: Option<Live>,
}

impl Link {
    /// Makes an HTTP/1.1 connection of a byte stream. Nothing is sent yet.
    pub async fn over(io: Io, place: Option<Live>, buffer_bytes_max: usize) -> Result<Box<Self>, hyper::Error> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(UPSTREAM_HEAD_BYTES_MAX.min(buffer_bytes_max)).max_buf_size(buffer_bytes_max);
        let (sender, driver) = builder.handshake(io).await?;
        let gate = Arc::new(Gate::default());
        let waker = Waker::from(Arc::clone(&gate));
        let now = Instant::now();
        let driver = Some(driver);
        Ok(Box::new(Self { sender, driver, gate, waker, timer: None, born: now, idle_since: now, _place: place }))
    }

    /// Sends `request` and waits for the head of its answer until `deadline`.
    pub async fn exchange(
        &mut self,
        request: Request<UpstreamBody>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let outcome = std::future::poll_fn(|cx| self.poll_with(cx, deadline, |cx| answer.as_mut().poll(cx))).await;
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Err(Unanswered::HandedBack(Box::new(request), error.into_error())),
                None => Err(Unanswered::Lost(error.into_error())),
            },
            Err(Late) => Err(Unanswered::Late),
        }
    }

    /// Drives the connection and asks `found` after each round, until it is ready or nothing moves.
    /// `found` needs no waker: it reads only what the connection, driven here, gives it.
    pub fn poll_with<T>(
        &mut self,
        cx: &Context<'_>,
        deadline: Instant,
        mut found: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Late>> {
        self.gate.enter(cx.waker());
        for _ in 0..LINK_ROUNDS_MAX {
            self.drive();
            if let Poll::Ready(found) = found(&mut Context::from_waker(Waker::noop())) {
                self.gate.leave();
                return Poll::Ready(Ok(found));
            }
            if !self.gate.woken_meanwhile() {
                return if self.is_late(deadline) { Poll::Ready(Err(Late)) } else { Poll::Pending };
            }
        }
        self.gate.leave();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether another request may be sent: the last one was taken whole, its answer has ended and
    /// the upstream keeps the connection open.
    pub fn is_reusable(&mut self) -> bool {
        if !self.sender.is_ready() {
            // One more look: the end of the answer may not have been turned into "idle" yet.
            self.gate.enter(Waker::noop());
            self.drive();
            self.gate.leave();
        }
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Puts the connection to rest. It holds no task from here on.
    pub fn rest(&mut self, now: Instant) {
        self.idle_since = now;
        self.gate.forget_task();
    }

    /// Whether an idle connection is still open, as far as the kernel knows.
    pub fn is_open(&mut self) -> bool {
        self.gate.enter(Waker::noop());
        self.drive();
        self.gate.forget_task();
        self.driver.is_some() && self.sender.is_ready()
    }

    fn drive(&mut self) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            // Its error, if any, went to whoever waits for the answer or the body.
            self.driver = None;
        }
    }

    /// Called when nothing else is ready: arms the timer where it is not armed early enough.
    fn is_late(&mut self, deadline: Instant) -> bool {
        let timer = match &mut self.timer {
            None => self.timer.insert(Box::pin(sleep_until(deadline))),
            Some(timer) if timer.is_elapsed() => {
                if Instant::now() >= deadline {
                    return true;
                }
                timer.as_mut().reset(deadline);
                timer
            }
            Some(timer) if deadline < timer.deadline() => {
                timer.as_mut().reset(deadline);
                timer
            }
            Some(_) => return false,
        };
        // Outside the task's budget: a poll refused for lack of it would leave the timer unset.
        pin!(unconstrained(timer.as_mut())).poll(&mut Context::from_waker(&self.waker)).is_ready()
    }
}
