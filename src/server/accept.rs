//! The accept loop of one worker, and the owner of its connections.
//!
//! Listeners come and go while it runs; a connection over the bound is closed at once. Limits are
//! read at accept, so a reload reaches new connections. When draining begins the listeners close
//! first, then every connection is waited for, and what is left at the bound says its last words and is
//! cut.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

use super::conn::{self, Accepted, Raw};
use super::drain::{Drain, Drained};
use super::listen::{Bound, Socket};
use super::{ConnInfo, Handler, PeerKind};
use crate::limits::{ACCEPT_BACKOFF, ACCEPT_WARN_INTERVAL, DRAIN_LAST_WORDS, MANAGEMENT_CONNECTIONS};
use crate::permit;
use crate::snapshot::{ListenSpec, ServerLimits};

/// A listener as one worker serves it.
#[derive(Debug)]
pub struct WorkerListener {
    pub bound: Bound,
    /// Present where the spec says TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// One of `management.listen`.
    pub management: bool,
}

/// A change of listeners while the worker runs.
#[derive(Debug)]
pub enum ListenerCommand {
    Add(WorkerListener),
    /// Stops accepting; connections that are open finish what they serve and go on.
    Remove(ListenSpec),
    /// Another certificate for new connections of the listener.
    Tls(ListenSpec, Arc<ServerConfig>),
}

/// What the server reads from the running generation.
#[derive(Clone)]
pub struct ServerRuntime {
    /// Of the newest generation; called once per connection.
    pub limits: Arc<dyn Fn() -> ServerLimits + Send + Sync>,
    /// Shared by all workers.
    pub connections: permit::Bound,
    /// Connections that the process has descriptors for, whatever the config says.
    pub connections_possible: u64,
    /// Of each direction of a connection: less where there is little memory.
    pub buffer_bytes_max: usize,
}

impl ServerRuntime {
    /// The operator gets in where callers do not any more, provided that he has a listener of his own.
    fn connections_max(&self, limits: &ServerLimits, management: bool) -> u64 {
        let max = limits.connections_max.min(self.connections_possible);
        if management { max.saturating_add(MANAGEMENT_CONNECTIONS) } else { max }
    }
}

impl fmt::Debug for ServerRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRuntime").field("connections", &self.connections.taken()).finish_non_exhaustive()
    }
}

/// Serves `listeners` until `drain` is over. Dropping the future cuts all connections. Runs inside
/// a tokio runtime with I/O and time.
pub async fn serve<H: Handler + Unpin>(
    listeners: Vec<WorkerListener>,
    runtime: ServerRuntime,
    handler: H,
    drain: Drain,
    mut commands: mpsc::Receiver<ListenerCommand>,
) -> Drained {
    let mut open: Vec<Open> = listeners.into_iter().filter_map(Open::new).collect();
    let mut connections = JoinSet::new();
    let mut begun = std::pin::pin!(drain.begun());
    let mut commanded = true;
    let until = loop {
        tokio::select! {
            biased;
            until = &mut begun => break until,
            command = commands.recv(), if commanded => match command {
                Some(command) => obey(&mut open, command),
                None => commanded = false,
            },
            (stream, peer, listener) = poll_fn(|cx| poll_accept(&mut open, cx)) => {
                let limits = (runtime.limits)();
                // Over the bound: closed unserved. A queue would only move the overload.
                if let Some(permit) = runtime.connections.take(runtime.connections_max(&limits, listener.management)) {
                    let info = listener.info(peer);
                    let buffer_bytes_max = runtime.buffer_bytes_max;
                    let accepted = Accepted { stream, tls: listener.tls, info, limits, buffer_bytes_max };
                    let (handler, drain) = (handler.clone(), drain.clone());
                    connections.spawn(async move {
                        conn::serve(accepted, handler, drain).await;
                        drop(permit);
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    };
    drop(open);
    drop(commands);
    let _ = timeout_at(until, finished(&mut connections)).await;
    let cut = connections.len();
    if cut > 0 {
        drain.end();
        let _ = timeout(DRAIN_LAST_WORDS, finished(&mut connections)).await;
    }
    connections.shutdown().await;
    Drained { cut }
}

async fn finished(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

fn obey(open: &mut Vec<Open>, command: ListenerCommand) {
    match command {
        ListenerCommand::Add(listener) => open.extend(Open::new(listener)),
        ListenerCommand::Remove(spec) => open.retain(|listener| listener.spec != spec),
        ListenerCommand::Tls(spec, config) => {
            for listener in open.iter_mut().filter(|listener| listener.spec == spec) {
                listener.shared.tls = Some(Arc::clone(&config));
            }
        }
    }
}

/// A listener registered with this worker's runtime.
struct Open {
    spec: ListenSpec,
    socket: Registered,
    shared: Shared,
    /// Present while accept() fails for want of descriptors.
    pause: Option<Pin<Box<Sleep>>>,
    /// When that was last said.
    warned: Option<Instant>,
    /// Keeps the socket file.
    _bound: Bound,
}

enum Registered {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What the connections of one listener have in common.
#[derive(Clone)]
struct Shared {
    tls: Option<Arc<ServerConfig>>,
    local: Arc<str>,
    management: bool,
}

impl Shared {
    fn info(&self, peer: PeerKind) -> Arc<ConnInfo> {
        let (tls, local) = (self.tls.is_some(), Arc::clone(&self.local));
        Arc::new(ConnInfo { peer, local, tls, management: self.management })
    }
}

impl Open {
    /// `None`, with a line in the log, when the runtime cannot take the socket.
    fn new(listener: WorkerListener) -> Option<Self> {
        let WorkerListener { bound, tls, management } = listener;
        let registered = match &bound.socket {
            Socket::Tcp(socket) => socket.try_clone().and_then(TcpListener::from_std).map(Registered::Tcp),
            Socket::Unix(socket) => socket.try_clone().and_then(UnixListener::from_std).map(Registered::Unix),
        };
        match registered {
            Ok(socket) => {
                let shared = Shared { tls, local: Arc::clone(&bound.local), management };
                Some(Self { spec: bound.spec.clone(), socket, shared, pause: None, warned: None, _bound: bound })
            }
            Err(error) => {
                tracing::error!(listener = %bound.local, %error, "a worker cannot serve a listener");
                None
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(Raw, PeerKind)> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            let accepted = match &self.socket {
                Registered::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, from)| {
                    // A later failure shows itself when the socket is read.
                    let _ = stream.set_nodelay(true);
                    let loopback = from.ip().to_canonical().is_loopback();
                    (Raw::Tcp(stream), if loopback { PeerKind::Loopback } else { PeerKind::Remote })
                }),
                Registered::Unix(listener) => listener.poll_accept(cx).map(|accepted| {
                    let (stream, _) = accepted?;
                    let uid = stream.peer_cred()?.uid();
                    Ok((Raw::Unix(stream), PeerKind::Unix { uid }))
                }),
            };
            match accepted {
                Poll::Ready(Ok(accepted)) => return Poll::Ready(accepted),
                Poll::Ready(Err(error)) if is_of_one_connection(&error) => {}
                Poll::Ready(Err(error)) => {
                    let now = Instant::now();
                    if self.warned.is_none_or(|at| now.duration_since(at) >= ACCEPT_WARN_INTERVAL) {
                        self.warned = Some(now);
                        tracing::warn!(listener = %self.shared.local, %error, "cannot accept connections");
                    }
                    self.pause = Some(Box::pin(sleep(ACCEPT_BACKOFF)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The caller left before he was accepted; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | NotConnected)
}

fn poll_accept(open: &mut [Open], cx: &mut Context<'_>) -> Poll<(Raw, PeerKind, Shared)> {
    for listener in open {
        if let Poll::Ready((stream, peer)) = listener.poll_accept(cx) {
            return Poll::Ready((stream, peer, listener.shared.clone()));
        }
    }
    Poll::Pending
}
