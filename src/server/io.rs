//! A caller's byte stream, and what its connection shows of itself: the [`Pulse`].
//!
//! hyper arms a timer for every request head; here the stream notes what happens in a few plain
//! stores, and `conn.rs` looks at them when its one timer goes off. So a deadline on heads, idling
//! and stalled writes costs a request next to nothing.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// What is going on in a connection. Written by its own tasks, read by the same: the orderings are
/// relaxed because nothing else hangs on them.
#[derive(Debug)]
pub struct Pulse {
    /// Requests being served.
    active: AtomicU32,
    /// Requests ever begun, wrapping.
    requests: AtomicU32,
    /// Bytes have come while no request was being served: a head is on its way.
    in_head: AtomicBool,
    /// The last write found the socket full.
    stalled: AtomicBool,
    /// Writes that went through, wrapping.
    writes: AtomicU32,
}

impl Pulse {
    /// Of a connection whose first bytes have come.
    pub fn new() -> Self {
        Self {
            active: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            in_head: AtomicBool::new(true),
            stalled: AtomicBool::new(false),
            writes: AtomicU32::new(0),
        }
    }

    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    pub fn requests(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    pub fn in_head(&self) -> bool {
        self.in_head.load(Relaxed)
    }

    /// `Some(writes so far)` while the socket is full.
    pub fn stalled_at(&self) -> Option<u32> {
        self.stalled.load(Relaxed).then(|| self.writes.load(Relaxed))
    }

    fn received(&self) {
        if self.active() == 0 {
            self.in_head.store(true, Relaxed);
        }
    }

    fn wrote<T>(&self, outcome: &Poll<Result<T>>) {
        match outcome {
            Poll::Pending => self.stalled.store(true, Relaxed),
            Poll::Ready(_) => {
                self.stalled.store(false, Relaxed);
                self.writes.store(self.writes.load(Relaxed).wrapping_add(1), Relaxed);
            }
        }
    }
}

/// A request that is being served: from its head until its answer has been handed to hyper whole,
/// or given up.
#[derive(Debug)]
pub struct Active(Arc<Pulse>);

impl Active {
    pub fn begin(pulse: &Arc<Pulse>) -> Self {
        pulse.active.fetch_add(1, Relaxed);
        pulse.requests.fetch_add(1, Relaxed);
        pulse.in_head.store(false, Relaxed);
        Self(Arc::clone(pulse))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

/// An accepted socket, after the TLS handshake where there is one.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The stream that hyper serves: what was sniffed, then the rest.
pub struct Watched {
    io: Io,
    sniffed: Bytes,
    pulse: Arc<Pulse>,
}

enum Io {
    Tcp(TokioIo<TcpStream>),
    Unix(TokioIo<UnixStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

macro_rules! each {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            Io::Tcp($io) => $call,
            Io::Unix($io) => $call,
            Io::Tls($io) => $call,
        }
    };
}

impl Watched {
    pub fn new(stream: Stream, sniffed: Bytes, pulse: Arc<Pulse>) -> Self {
        let io = match stream {
            Stream::Tcp(stream) => Io::Tcp(TokioIo::new(stream)),
            Stream::Unix(stream) => Io::Unix(TokioIo::new(stream)),
            Stream::Tls(stream) => Io::Tls(Box::new(TokioIo::new(*stream))),
        };
        Self { io, sniffed, pulse }
    }
}

impl Read for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<Result<()>> {
        let watched = self.get_mut();
        if watched.sniffed.has_remaining() {
            let chunk = watched.sniffed.split_to(watched.sniffed.len().min(buf.remaining()));
            buf.put_slice(&chunk);
            return Poll::Ready(Ok(()));
        }
        let outcome = each!(&mut watched.io, io => Pin::new(io).poll_read(cx, buf));
        if outcome.is_ready() {
            watched.pulse.received();
        }
        outcome
    }
}

impl Write for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let watched = self.get_mut();
        let outcome = each!(&mut watched.io, io => Pin::new(io).poll_write(cx, buf));
        watched.pulse.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let watched = self.get_mut();
        let outcome = each!(&mut watched.io, io => Pin::new(io).poll_write_vectored(cx, bufs));
        watched.pulse.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        each!(&self.io, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        each!(&mut self.get_mut().io, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        each!(&mut self.get_mut().io, io => Pin::new(io).poll_shutdown(cx))
    }
}
