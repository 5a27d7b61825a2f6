//! How the mock is reached: a listener, or a pipe inside the process.
//!
//! HTTP/1.1 only. Each connection's task has an owner: it ends with the listener or the pipe's
//! maker. Waits for nobody at the end; a mock has no callers to be polite to.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Mock;
use crate::limits::{ACCEPT_BACKOFF, MOCK_CONNECTIONS_MAX, MOCK_PIPE_BYTES};

/// Serves `mock` on `listener` until `shutdown` is ready; open connections are closed then.
pub async fn serve(listener: TcpListener, mock: Arc<Mock>, shutdown: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without it an event waits for the acknowledgement of the one before.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, Arc::clone(&mock)));
                }
                Err(error) => {
                    tracing::warn!(%error, "mock: accept failed");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
        }
    }
}

/// The mock without a socket. Dropping it closes every connection.
#[derive(Debug)]
pub struct InMemory {
    mock: Arc<Mock>,
    connections: Mutex<JoinSet<()>>,
}

impl InMemory {
    pub fn new(mock: Arc<Mock>) -> Self {
        Self { mock, connections: Mutex::default() }
    }

    /// A new connection, served by a task of the calling runtime; closed at once where there are
    /// too many.
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(MOCK_PIPE_BYTES);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        while connections.try_join_next().is_some() {}
        if connections.len() < MOCK_CONNECTIONS_MAX {
            connections.spawn(connection(theirs, Arc::clone(&self.mock)));
        }
        ours
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, mock: Arc<Mock>) {
    let service = service_fn(|request: Request<Incoming>| {
        let mock = Arc::clone(&mock);
        async move { Ok::<_, Infallible>(mock.handle(request).await) }
    });
    let mut server = http1::Builder::new();
    server.header_read_timeout(None);
    // An error here is a caller who left or a break that was asked for.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
