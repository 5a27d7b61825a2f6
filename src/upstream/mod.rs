//! Upstream connections of one worker: [`Upstream::send`] takes a request to where it belongs.
//!
//! Knows transports, deadlines and bytes; nothing of keys, models or retries over keys. What may be
//! tried again is said by [`Sent`]: `Never` where the dial failed or hyper gave the unwritten
//! request back, `Maybe` everywhere else. A stale pooled connection is replaced silently, only in
//! the first of these cases.

mod answer;
mod body;
mod cap;
mod dial;
mod gate;
mod io;
mod link;
mod mux;
mod names;
mod pool;
mod tls;
mod tunnel;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep, timeout_at};

pub use answer::{Answer, AnswerBody, AnswerFault};
pub use body::UpstreamBody;
pub use cap::Caps;
pub use tls::Tls;

use crate::error::{BoxError, Sent};
use crate::limits::{POOL_SWEEP_INTERVAL, UPSTREAM_BUFFER_BYTES_MAX};
use crate::snapshot::{Timeouts, Transport};
use answer::Carrier;
use cap::Live;
use dial::{DialError, Dialler};
use io::Io;
use link::{Link, Unanswered};
use mux::{Mux, Ride, Riding, Tasks};
use names::Names;
use pool::{Home, Lease, Pool, Saturated};

/// Upstreams that live inside the process.
pub trait InProcess: Send + Sync {
    /// The client's end of a new connection; somebody serves HTTP/1.1 on the other.
    fn connect(&self) -> DuplexStream;
}

/// What stopped a request before its answer began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SendFault {
    /// No connection: refused, unreachable, name not found, certificate not trusted.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// Connected and sent, but the answer did not begin in time.
    FirstByteTimeout,
    /// All connections that `max_conns_per_host` admits stayed in use.
    Saturated,
    /// The process has no descriptor left: nothing is wrong with the upstream.
    NoDescriptor,
    /// The request body could not be read from the caller; `source` says why.
    RequestBody,
    /// The connection broke, or what came back is not HTTP.
    Broken,
}

/// A request that got no answer.
#[derive(Debug)]
pub struct SendError {
    pub what: SendFault,
    /// `Never`: safe to try elsewhere.
    pub sent: Sent,
    pub source: Option<BoxError>,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            SendFault::Connect => "no connection to the upstream",
            SendFault::ConnectTimeout => "no connection to the upstream in time",
            SendFault::FirstByteTimeout => "the upstream did not begin to answer in time",
            SendFault::Saturated => "every connection to the upstream that may be made stayed in use",
            SendFault::NoDescriptor => "no descriptor for a connection to the upstream",
            SendFault::RequestBody => "the request body could not be read to its end",
            SendFault::Broken => "the connection to the upstream broke",
        })
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| &**error as &(dyn std::error::Error + 'static))
    }
}

impl From<DialError> for SendError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Timeout => Self { what: SendFault::ConnectTimeout, sent: Sent::Never, source: None },
            DialError::NoDescriptor => Self { what: SendFault::NoDescriptor, sent: Sent::Never, source: None },
            DialError::Failed(error) => Self { what: SendFault::Connect, sent: Sent::Never, source: Some(error) },
        }
    }
}

impl From<Saturated> for SendError {
    fn from(_: Saturated) -> Self {
        Self { what: SendFault::Saturated, sent: Sent::Never, source: None }
    }
}

/// One per worker; clones share the same connections.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    dialler: Dialler,
    /// Bounds on connections that hold for all workers together.
    caps: Caps,
    /// The sweep of idle connections, and what drives shared ones: ended with the last clone.
    tasks: Arc<Tasks>,
    /// The sweep is started at the first dial.
    sweeping: AtomicBool,
    /// What a connection reads ahead of a caller who does not.
    buffer_bytes_max: usize,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("idle", &self.idle_connections()).finish()
    }
}

impl Upstream {
    /// `caps` are those of all workers.
    pub fn new(tls: Tls, in_process: Arc<dyn InProcess>, caps: Caps) -> Self {
        Self::within(UPSTREAM_BUFFER_BYTES_MAX, tls, in_process, caps)
    }

    /// With smaller buffers, where there is little memory.
    pub fn within(buffer_bytes_max: usize, tls: Tls, in_process: Arc<dyn InProcess>, caps: Caps) -> Self {
        Self::with(Dialler::new(tls, in_process, Names::default()), caps, buffer_bytes_max)
    }

    fn with(dialler: Dialler, caps: Caps, buffer_bytes_max: usize) -> Self {
        let (pool, tasks, sweeping) = (Pool::default(), Arc::default(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { pool, dialler, caps, tasks, sweeping, buffer_bytes_max }) }
    }

    /// Sends `request` and waits for the head of the answer. The URI is in origin form; `Host` is
    /// set here. Dropping the future or the answer's body closes the connection.
    pub async fn send(
        &self,
        transport: &Transport,
        timeouts: &Timeouts,
        mut request: Request<UpstreamBody>,
    ) -> Result<Answer, SendError> {
        let home = self.shared.pool.home(transport, &self.shared.caps);
        match &home.host {
            Some(host) => request.headers_mut().insert(header::HOST, host.clone()),
            // The caller's own must not travel in its place.
            None => request.headers_mut().remove(header::HOST),
        };
        if transport.wire.http2 {
            // Rare, and its future is large: it must not be carried by every other request.
            return Box::pin(self.send_shared(transport, &home, timeouts, request)).await;
        }
        if let Some(login) = &home.through_proxy {
            *request.uri_mut() = absolute(transport, request.uri());
            if let Some(login) = login {
                request.headers_mut().insert(header::PROXY_AUTHORIZATION, login.clone());
            }
        }
        let mut turn = home.turn(timeouts.connect).await?;
        let mut now = Instant::now();
        loop {
            let (mut link, reused) = match home.checkout(now) {
                Some(link) => (link, true),
                None => (self.connect(transport, &home, timeouts).await?, false),
            };
            if !reused {
                now = Instant::now();
            }
            let first_byte = now + timeouts.first_byte;
            match link.exchange(request, first_byte).await {
                Ok(response) => {
                    let lease = Lease { link, home, _turn: turn.take() };
                    return answer(response, Carrier::Lease(lease), timeouts, first_byte, reused);
                }
                Err(Unanswered::HandedBack(unsent, _)) if reused => request = *unsent,
                Err(fault) => return Err(unanswered(fault)),
            }
        }
    }

    /// Connections that wait for a request.
    pub fn idle_connections(&self) -> usize {
        self.shared.pool.idle_connections()
    }

    /// The same over HTTP/2, on a connection that others use as well.
    async fn send_shared(
        &self,
        transport: &Transport,
        home: &Arc<Home>,
        timeouts: &Timeouts,
        mut request: Request<UpstreamBody>,
    ) -> Result<Answer, SendError> {
        request.headers_mut().remove(header::HOST);
        *request.uri_mut() = absolute(transport, request.uri());
        loop {
            let (mux, ride, reused) = self.seat(transport, home, timeouts).await?;
            let first_byte = Instant::now() + timeouts.first_byte;
            match mux.exchange(request, first_byte).await {
                Ok(response) => {
                    let carrier = Carrier::Riding(Riding::new(ride, first_byte));
                    return answer(response, carrier, timeouts, first_byte, reused);
                }
                Err(Unanswered::HandedBack(unsent, _)) if reused => request = *unsent,
                Err(fault) => return Err(unanswered(fault)),
            }
        }
    }

    /// A seat on a shared connection: one that is there, else a new one.
    async fn seat(
        &self,
        transport: &Transport,
        home: &Arc<Home>,
        timeouts: &Timeouts,
    ) -> Result<(Mux, Ride, bool), SendError> {
        if let Some((mux, ride)) = home.board(Instant::now()) {
            return Ok((mux, ride, true));
        }
        let late = || SendError { what: SendFault::ConnectTimeout, sent: Sent::Never, source: None };
        let until = Instant::now() + timeouts.connect;
        // Who waited for another's connection may ride along on it.
        let _dialling = timeout_at(until, home.dialling.lock()).await.map_err(|_| late())?;
        if let Some((mux, ride)) = home.board(Instant::now()) {
            return Ok((mux, ride, true));
        }
        let place = match &home.cap {
            None => None,
            Some(cap) => match (cap.place(), home.squeeze_in()) {
                (None, Some((mux, ride))) => return Ok((mux, ride, true)),
                // Each worker may have one: it cannot use another's.
                (place, _) => place,
            },
        };
        let io = self.dial(transport, home, timeouts).await?;
        let mux = Mux::over(io, place, &self.shared.tasks).await.map_err(not_http)?;
        let ride = mux.squeeze_in();
        home.keep(mux.clone());
        Ok((mux, ride, false))
    }

    async fn connect(&self, transport: &Transport, home: &Home, timeouts: &Timeouts) -> Result<Box<Link>, SendError> {
        let place: Option<Live> = match &home.cap {
            None => None,
            Some(cap) => Some(cap.place_by_turn().await.ok_or(Saturated)?),
        };
        let io = self.dial(transport, home, timeouts).await?;
        Link::over(io, place, self.shared.buffer_bytes_max).await.map_err(not_http)
    }

    async fn dial(&self, transport: &Transport, home: &Home, timeouts: &Timeouts) -> Result<Io, SendError> {
        self.start_sweep();
        let mut dialled = self.shared.dialler.dial(transport, home, timeouts.connect).await;
        if matches!(dialled, Err(DialError::NoDescriptor)) && self.shared.pool.clear() > 0 {
            // What idles is worth less than what is asked for now.
            dialled = self.shared.dialler.dial(transport, home, timeouts.connect).await;
        }
        Ok(dialled?)
    }

    fn start_sweep(&self) {
        if !self.shared.sweeping.swap(true, Ordering::AcqRel) {
            self.shared.tasks.spawn(sweep_while_alive(Arc::downgrade(&self.shared)));
        }
    }
}

/// The answer whose head has come.
fn answer(
    response: Response<Incoming>,
    carrier: Carrier,
    timeouts: &Timeouts,
    first_byte: Instant,
    reused: bool,
) -> Result<Answer, SendError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for it, and what follows is not HTTP: it must not reach a caller.
        let source = Some("the upstream switches protocols unasked".into());
        return Err(SendError { what: SendFault::Broken, sent: Sent::Maybe, source });
    }
    let (parts, incoming) = response.into_parts();
    let body = AnswerBody::new(incoming, carrier, timeouts.idle_gap, first_byte);
    Ok(Answer { parts, body, reused })
}

/// The URI with scheme and authority, as proxies and HTTP/2 want it.
fn absolute(transport: &Transport, uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(transport.scheme.clone());
    parts.authority = Some(transport.authority.clone());
    parts.path_and_query = Some(path);
    // All three are there, which is all that is asked of a URI.
    Uri::from_parts(parts).unwrap_or_default()
}

fn not_http(error: hyper::Error) -> SendError {
    SendError { what: SendFault::Connect, sent: Sent::Never, source: Some(error.into()) }
}

async fn sweep_while_alive(shared: Weak<Shared>) {
    loop {
        sleep(POOL_SWEEP_INTERVAL).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.pool.sweep(Instant::now());
    }
}

fn unanswered(fault: Unanswered) -> SendError {
    match fault {
        Unanswered::Late => SendError { what: SendFault::FirstByteTimeout, sent: Sent::Maybe, source: None },
        Unanswered::HandedBack(_, error) => {
            SendError { what: SendFault::Broken, sent: Sent::Never, source: Some(error.into()) }
        }
        Unanswered::Lost(error) => {
            let what = if error.is_user() { SendFault::RequestBody } else { SendFault::Broken };
            SendError { what, sent: Sent::Maybe, source: Some(error.into()) }
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wire_tests;
