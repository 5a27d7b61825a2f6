//! One connection of a caller, from accept to close.
//!
//! TLS, the first bytes, then hyper under a [`Watch`]. A caller who leaves is noticed by hyper, which
//! drops the handler's future or the answer's body, whatever they are doing; only bytes pipelined
//! behind a request hide it, until the handler's own deadlines end it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::drain::Drain;
use super::io::{Active, Pulse, Stream, Watched};
use super::serve::{self, Terms};
use super::sniff::{Protocol, sniff};
use super::watch::{Verdict, Watch};
use super::{ConnInfo, Handler};
use crate::limits::{
    H2_CONNECTION_WINDOW_BYTES, H2_PING_INTERVAL, H2_SEND_BUFFER_BYTES, H2_STREAM_WINDOW_BYTES, H2_STREAMS_MAX,
    HEADER_COUNT_DEFAULT,
};
use crate::snapshot::ServerLimits;

/// A connection as it was accepted.
pub struct Accepted {
    pub stream: Raw,
    pub tls: Option<Arc<ServerConfig>>,
    pub info: Arc<ConnInfo>,
    pub limits: ServerLimits,
    pub buffer_bytes_max: usize,
}

pub enum Raw {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

/// Serves `accepted` until it is done, its caller leaves or misbehaves, or draining is over.
pub async fn serve<H: Handler + Unpin>(accepted: Accepted, handler: H, drain: Drain) {
    let Accepted { stream, tls, info, limits, buffer_bytes_max } = accepted;
    let since = Instant::now();
    let opening = timeout_at(since + limits.header_timeout, open(stream, tls));
    let opened = tokio::select! {
        opened = opening => opened,
        // Nothing was asked yet, so nothing is lost.
        _ = drain.begun() => return,
    };
    let Ok(Some((stream, protocol, sniffed))) = opened else { return };
    let pulse = Arc::new(Pulse::new());
    let watch = Watch::new(Arc::clone(&pulse), protocol, limits.header_timeout, since);
    let io = Watched::new(stream, sniffed, Arc::clone(&pulse));
    let header_count_max = usize::try_from(limits.header_count_max).unwrap_or(usize::MAX);
    let terms = Arc::new(Terms { info, protocol, header_count_max, drain: drain.clone() });
    let service = service_fn(move |request: Request<Incoming>| {
        serve::answer(request, handler.clone(), Arc::clone(&terms), Active::begin(&pulse))
    });
    match protocol {
        Protocol::Http1 => {
            run(http1_builder(&limits, buffer_bytes_max).serve_connection(io, service), watch, &drain).await
        }
        Protocol::Http2 => run(http2_builder(&limits).serve_connection(io, service), watch, &drain).await,
    }
}

/// TLS where it is due, then the first bytes. `None`: the caller left or speaks neither.
async fn open(stream: Raw, tls: Option<Arc<ServerConfig>>) -> Option<(Stream, Protocol, Bytes)> {
    let (mut stream, agreed) = match (stream, tls) {
        (Raw::Tcp(stream), Some(config)) => {
            let stream = TlsAcceptor::from(config).accept(stream).await.ok()?;
            let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            (Stream::Tls(Box::new(stream)), agreed)
        }
        (Raw::Tcp(stream), None) => (Stream::Tcp(stream), false),
        (Raw::Unix(stream), _) => (Stream::Unix(stream), false),
    };
    if agreed {
        return Some((stream, Protocol::Http2, Bytes::new()));
    }
    let (protocol, sniffed) = match &mut stream {
        Stream::Tcp(io) => sniff(io).await,
        Stream::Unix(io) => sniff(io).await,
        Stream::Tls(io) => sniff(io.as_mut()).await,
    }
    .ok()??;
    Some((stream, protocol, sniffed))
}

fn http1_builder(limits: &ServerLimits, buffer_bytes_max: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let head_max = usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX);
    builder.max_header_size(head_max).max_buf_size(buffer_bytes_max.max(head_max));
    builder.header_read_timeout(None);
    if limits.header_count_max != HEADER_COUNT_DEFAULT {
        // Left alone where it is hyper's own: setting it moves the parser's table to the heap.
        builder.max_headers(usize::try_from(limits.header_count_max).unwrap_or(usize::MAX));
    }
    builder
}

fn http2_builder(limits: &ServerLimits) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams::default());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(H2_PING_INTERVAL);
    builder
}

/// The tasks of HTTP/2 streams, owned by their connection: they end with it.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(stream);
    }
}

/// What both kinds of hyper's connections can do.
trait Graceful: Future {
    fn finish(self: Pin<&mut Self>);
}

impl<S, B> Graceful for http1::Connection<Watched, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<crate::error::BoxError>,
    B: Body + 'static,
    B::Error: Into<crate::error::BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B, E> Graceful for http2::Connection<Watched, S, E>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<crate::error::BoxError>,
    B: Body + 'static,
    B::Error: Into<crate::error::BoxError>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Polls the connection until it ends or is found wanting. Signal and timer are polled once, which
/// leaves this task's waker with them; from then on a load each tells whether they went off.
async fn run<C: Graceful>(connection: C, mut watch: Watch, drain: &Drain) {
    let mut connection = pin!(connection);
    let mut begun = pin!(drain.begun());
    let mut over = pin!(drain.over());
    let mut watching = false;
    let mut finishing = false;
    poll_fn(|cx| {
        if !watching {
            watching = true;
            let _ = begun.as_mut().poll(cx);
            watch.arm(cx, Instant::now());
        }
        if !finishing && drain.is_begun() {
            finishing = true;
            connection.as_mut().finish();
        }
        if drain.is_begun() && !drain.is_over() {
            // Leaves the waker with the second signal, too: answers ask for it in a load.
            let _ = over.as_mut().poll(cx);
        }
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match watch.look(cx) {
            Verdict::Fine => Poll::Pending,
            Verdict::Close => Poll::Ready(()),
            Verdict::Finish => {
                finishing = true;
                connection.as_mut().finish();
                connection.as_mut().poll(cx).map(|_| ())
            }
        }
    })
    .await;
}
