//! The HTTP server of one worker: any [`Handler`], over TCP, TLS and Unix sockets.
//!
//! Knows sockets, HTTP/1.1 and HTTP/2, limits and deadlines; nothing of routes, keys or models.
//! Every connection has a permit, an owner who waits for it, and a deadline in each of its phases.
//! What a caller is told about a broken head is hyper's own 400, 414 or 431, after which the
//! connection closes.

mod accept;
mod body;
mod conn;
mod drain;
mod io;
mod listen;
mod serve;
mod sniff;
mod tls;
mod watch;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

pub use accept::{ListenerCommand, ServerRuntime, WorkerListener, serve};
pub use body::{BodyError, Flowing, hold, read_held};
pub use drain::{Drain, Drained};
pub use listen::{BindError, Bound, Socket};
pub use tls::{TlsError, server_config};

use crate::error::BoxError;

/// Answers requests. One clone per request, so it is an `Arc` or two.
pub trait Handler: Clone + Send + Sync + 'static {
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Interrupt + Unpin + Send + 'static;
    /// What is kept of a request while it is answered, so that an answer in place of the handler's
    /// still speaks to its caller.
    type Asker: Send + Sync;

    fn asker(&self, request: &Request<Incoming>) -> Self::Asker;

    /// Dropped before it is done when the caller leaves.
    fn call(
        &self,
        request: Request<Incoming>,
        asker: &Self::Asker,
        conn: Arc<ConnInfo>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The answer in place of one that `call` did not give.
    fn unserved(&self, why: Unserved, asker: &Self::Asker) -> Response<Self::Body>;

    /// A handler or a body panicked. Its caller is told, everybody else is served on.
    fn panicked(&self);
}

/// Why a request gets an answer that is not the handler's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unserved {
    /// A bug of ours.
    Panicked,
    /// Draining is over, and the handler still waits.
    Stopping,
}

/// A body that can be told to end before its time.
pub trait Interrupt {
    /// What it gives from here on is its last word.
    fn interrupt(&mut self);
}

/// Where a request came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnInfo {
    pub peer: PeerKind,
    /// The listener, as it is printed: `http://127.0.0.1:8080`.
    pub local: Arc<str>,
    pub tls: bool,
    /// The listener is one of `management.listen`.
    pub management: bool,
}

/// Who is at the other end, as far as the socket tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PeerKind {
    Loopback,
    Unix { uid: u32 },
    Remote,
}

#[cfg(test)]
mod tests;
