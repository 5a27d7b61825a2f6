//! HTTP/2 connections to upstreams: many requests on one, driven by a task of their own.
//!
//! Unlike a [`super::link::Link`], which lives with one request, a connection here is shared, so whoever
//! drops a request resets its stream and nothing else. Refuses to queue: with every stream taken another
//! connection is made, up to the bound of the transport.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioTimer;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::body::UpstreamBody;
use super::cap::Live;
use super::io::Io;
use super::link::Unanswered;
use crate::limits::{
    CONNECTION_AGE_MAX, MUX_CONNECTION_WINDOW_BYTES, MUX_PING_INTERVAL, MUX_PING_TIMEOUT, MUX_SEND_BUFFER_BYTES,
    MUX_STREAM_WINDOW_BYTES, MUX_STREAMS_MAX, UPSTREAM_HEAD_BYTES_MAX,
};

/// The tasks of one worker's upstream side; they end with it.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// How hyper starts what drives a connection. Weak: the tasks must not hold what owns them.
#[derive(Clone)]
struct Spawner(Weak<Tasks>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.spawn(task);
        }
    }
}

/// One shared connection.
#[derive(Clone)]
pub struct Mux {
    sender: SendRequest<UpstreamBody>,
    riders: Arc<Riders>,
    born: Instant,
}

struct Riders {
    count: AtomicUsize,
    idle_since: Mutex<Instant>,
    _place: Option<Live>,
}

/// One request on a shared connection, until its answer has ended.
pub struct Ride(Arc<Riders>);

impl Drop for Ride {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Mux {
    pub async fn over(io: Io, place: Option<Live>, tasks: &Arc<Tasks>) -> Result<Self, hyper::Error> {
        let (sender, driver) = Builder::new(Spawner(Arc::downgrade(tasks)))
            .timer(TokioTimer::new())
            .initial_stream_window_size(MUX_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(MUX_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(MUX_SEND_BUFFER_BYTES)
            .max_header_list_size(UPSTREAM_HEAD_BYTES_MAX as u32)
            .keep_alive_interval(MUX_PING_INTERVAL)
            .keep_alive_timeout(MUX_PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(io)
            .await?;
        // Its error, if any, goes to whoever waits for an answer or a body.
        tasks.spawn(async move { drop(driver.await) });
        let now = Instant::now();
        let riders = Riders { count: AtomicUsize::new(0), idle_since: Mutex::new(now), _place: place };
        Ok(Self { sender, riders: Arc::new(riders), born: now })
    }

    /// A seat, if the connection takes one more request.
    pub fn board(&self, now: Instant) -> Option<Ride> {
        if self.sender.is_closed() || now.duration_since(self.born) > CONNECTION_AGE_MAX {
            return None;
        }
        let riders = &self.riders.count;
        let taken = riders.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < MUX_STREAMS_MAX).then(|| n + 1));
        taken.is_ok().then(|| Ride(Arc::clone(&self.riders)))
    }

    /// A seat in any case, on a connection that is as full as one should be: the server's own bound makes
    /// the request wait.
    pub fn squeeze_in(&self) -> Ride {
        self.riders.count.fetch_add(1, Ordering::AcqRel);
        Ride(Arc::clone(&self.riders))
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub fn riders(&self) -> usize {
        self.riders.count.load(Ordering::Acquire)
    }

    /// Whether it is worth keeping.
    pub fn is_good(&self, now: Instant, keep_alive: Duration) -> bool {
        let idle_since = *self.riders.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        let idles_long = self.riders() == 0 && now.duration_since(idle_since) > keep_alive;
        !self.sender.is_closed() && !idles_long && now.duration_since(self.born) <= CONNECTION_AGE_MAX
    }

    /// Sends `request` and waits for the head of its answer until `deadline`.
    pub async fn exchange(
        &self,
        request: Request<UpstreamBody>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut sender = self.sender.clone();
        let answer = pin!(async move {
            // Not "ready" within the deadline means that the server admits no more streams.
            if let Err(error) = sender.ready().await {
                return Err(Unanswered::HandedBack(Box::new(request), error));
            }
            sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(request) => Unanswered::HandedBack(Box::new(request), error.into_error()),
                None => Unanswered::Lost(error.into_error()),
            })
        });
        timeout_at(deadline, answer).await.unwrap_or(Err(Unanswered::Late))
    }
}

/// What carries the rest of an answer: the seat, and the clock that bounds its silences.
pub struct Riding {
    _ride: Ride,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Riding {
    pub fn new(ride: Ride, deadline: Instant) -> Self {
        Self { _ride: ride, timer: Box::pin(tokio::time::sleep_until(deadline)) }
    }

    /// Asked when nothing has come. A timer that fires early, because the deadline has moved on, is set anew.
    pub fn is_late(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        loop {
            match self.timer.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(()) if Instant::now() >= deadline => return true,
                Poll::Ready(()) => self.timer.as_mut().reset(deadline),
            }
        }
    }
}
