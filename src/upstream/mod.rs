//! Upstream connections of one worker: [`Upstream::send`] takes a request to where it belongs.
//!
//! Knows transports, deadlines and bytes; nothing of keys, models or retries over keys. What may be
//! tried again is said by [`Sent`]: `Never` where the dial failed or hyper gave the unwritten
//! request back, `Maybe` everywhere else. A stale pooled connection is replaced silently, only in
//! the first of these cases.

mod answer;
mod body;
mod dial;
mod gate;
mod io;
mod link;
mod pool;
mod tls;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Request, StatusCode, header};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use answer::{Answer, AnswerBody, AnswerFault};
pub use body::UpstreamBody;
pub use tls::Tls;

use crate::error::{BoxError, Sent};
use crate::limits::POOL_SWEEP_INTERVAL;
use crate::snapshot::{Timeouts, Transport};
use dial::{DialError, Dialler};
use link::{Link, Unanswered};
use pool::{Home, Lease, Pool};

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

/// One per worker; clones share the same connections.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    dialler: Dialler,
    /// The sweep of idle connections: started at the first dial, ended with the last clone.
    sweep: Mutex<Option<JoinSet<()>>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("idle", &self.idle_connections()).finish()
    }
}

impl Upstream {
    pub fn new(tls: Tls, in_process: Arc<dyn InProcess>) -> Self {
        let dialler = Dialler::new(tls, in_process);
        Self { shared: Arc::new(Shared { pool: Pool::default(), dialler, sweep: Mutex::default() }) }
    }

    /// Sends `request` and waits for the head of the answer. The URI is in origin form; `Host` is
    /// set here. Dropping the future or the answer's body closes the connection.
    pub async fn send(
        &self,
        transport: &Transport,
        timeouts: &Timeouts,
        mut request: Request<UpstreamBody>,
    ) -> Result<Answer, SendError> {
        let home = self.shared.pool.home(transport);
        match &home.host {
            Some(host) => request.headers_mut().insert(header::HOST, host.clone()),
            // The caller's own must not travel in its place.
            None => request.headers_mut().remove(header::HOST),
        };
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
                // Nobody asked for it, and what follows is not HTTP: it must not reach a caller.
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    let source = Some("the upstream switches protocols unasked".into());
                    return Err(SendError { what: SendFault::Broken, sent: Sent::Maybe, source });
                }
                Ok(response) => {
                    let (parts, incoming) = response.into_parts();
                    let lease = Lease { link, home };
                    let body = AnswerBody::new(incoming, lease, timeouts.idle_gap, first_byte);
                    return Ok(Answer { parts, body, reused });
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

    async fn connect(&self, transport: &Transport, home: &Home, timeouts: &Timeouts) -> Result<Box<Link>, SendError> {
        self.start_sweep();
        let mut dialled = self.shared.dialler.dial(transport, home, timeouts.connect).await;
        if matches!(dialled, Err(DialError::NoDescriptor)) && self.shared.pool.clear() > 0 {
            // What idles is worth less than what is asked for now.
            dialled = self.shared.dialler.dial(transport, home, timeouts.connect).await;
        }
        let io = dialled?;
        Link::over(io).await.map_err(|error| SendError {
            what: SendFault::Connect,
            sent: Sent::Never,
            source: Some(error.into()),
        })
    }

    fn start_sweep(&self) {
        let mut sweep = self.shared.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if sweep.is_none() {
            let mut tasks = JoinSet::new();
            tasks.spawn(sweep_while_alive(Arc::downgrade(&self.shared)));
            *sweep = Some(tasks);
        }
    }
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
