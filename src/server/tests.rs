//! The server over real sockets, on port 0. Deadlines run on a paused clock: it jumps ahead exactly
//! when nothing moves on any socket.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::limits::{CALLER_BUFFER_BYTES_MAX, CALLER_IDLE_TIMEOUT, CALLER_STALL_MAX};
use crate::permit;
use crate::secret::Secret;
use crate::snapshot::{ListenSpec, ServerLimits, TlsFiles};

mod ends;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

fn limits() -> ServerLimits {
    ServerLimits {
        in_flight_max: 100,
        request_body_bytes_max: 1 << 20,
        header_bytes_max: 16 * 1024,
        header_count_max: 100,
        header_timeout: HEADER_TIMEOUT,
        body_timeout: Duration::from_secs(60),
        connections_max: 100,
    }
}

fn tcp(tls: bool) -> ListenSpec {
    ListenSpec::Tcp { host: "127.0.0.1".into(), port: 0, tls }
}

/// What the handler saw.
#[derive(Debug, PartialEq, Eq)]
enum Saw {
    Began(String),
    /// The handler's future or its body went away unfinished.
    Dropped,
    Panicked,
}

#[derive(Clone)]
struct Routes(mpsc::UnboundedSender<Saw>);

struct Guard(mpsc::UnboundedSender<Saw>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(Saw::Dropped);
    }
}

/// A body made of what it is asked to be.
enum TestBody {
    Whole(Option<Bytes>),
    /// Said when it is interrupted.
    LastWords(u8),
    /// One event, then silence.
    Hanging {
        first: Option<Bytes>,
        _guard: Guard,
    },
    /// Without end.
    Flood {
        _guard: Guard,
    },
    Panics,
    /// An event some time after the head.
    Late(Pin<Box<tokio::time::Sleep>>, bool),
}

#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl Interrupt for TestBody {
    fn interrupt(&mut self) {
        *self = Self::LastWords(2);
    }
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match &mut *self {
            Self::LastWords(0) => Poll::Ready(Some(Err(Cut))),
            Self::LastWords(left) => {
                *left -= 1;
                // Said, and flushed before the connection breaks off.
                if *left == 1 {
                    data(Bytes::from_static(b"last words"))
                } else {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Hanging { first, .. } => first.take().map_or(Poll::Pending, data),
            Self::Panics => panic!("sk-canary in the text of a panic"),
            Self::Flood { .. } => data(Bytes::from_static(&[b'x'; 16384])),
            Self::Late(_, true) => Poll::Ready(None),
            Self::Late(sleep, done) => {
                std::task::ready!(sleep.as_mut().poll(cx));
                *done = true;
                data(Bytes::from_static(b"event"))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            _ => SizeHint::default(),
        }
    }
}

impl Handler for Routes {
    type Body = TestBody;
    type Asker = ();

    fn asker(&self, _: &Request<Incoming>) {}

    async fn call(&self, request: Request<Incoming>, (): &(), conn: Arc<ConnInfo>) -> Response<TestBody> {
        let path = request.uri().path().to_owned();
        let _ = self.0.send(Saw::Began(path.clone()));
        let guard = Guard(self.0.clone());
        Response::new(match path.as_str() {
            "/hang" => {
                std::future::pending::<()>().await;
                drop(guard);
                TestBody::Whole(None)
            }
            "/stream" => TestBody::Hanging { first: Some(Bytes::from_static(b"first")), _guard: guard },
            "/flood" => TestBody::Flood { _guard: guard },
            "/panic" => panic!("sk-canary in the text of a panic"),
            "/panic-in-body" => TestBody::Panics,
            "/late" => TestBody::Late(Box::pin(tokio::time::sleep(Duration::from_millis(5))), false),
            "/slow" => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                TestBody::Whole(Some(Bytes::from_static(b"slow")))
            }
            "/length" => {
                let mut share = permit::Room::new(u64::MAX).share();
                let read = read_held(request.into_body(), 1000, Duration::from_secs(60), &mut share, |_| ()).await;
                TestBody::Whole(Some(Bytes::from(match read {
                    Ok(chunks) => chunks.len().to_string(),
                    Err(error) => error.to_string(),
                })))
            }
            "/info" => TestBody::Whole(Some(Bytes::from(format!("{:?} {} {}", conn.peer, conn.tls, conn.management)))),
            _ => TestBody::Whole(Some(Bytes::from(format!("{:?}", request.version())))),
        })
    }

    fn unserved(&self, why: Unserved, (): &()) -> Response<TestBody> {
        let mut response = Response::new(TestBody::Whole(Some(Bytes::from(format!("{why:?}")))));
        *response.status_mut() = match why {
            Unserved::Panicked => http::StatusCode::INTERNAL_SERVER_ERROR,
            Unserved::Stopping => http::StatusCode::SERVICE_UNAVAILABLE,
        };
        response
    }

    fn panicked(&self) {
        let _ = self.0.send(Saw::Panicked);
    }
}

struct Running {
    address: Option<SocketAddr>,
    drain: Drain,
    commands: mpsc::Sender<ListenerCommand>,
    saw: mpsc::UnboundedReceiver<Saw>,
    served: JoinHandle<Drained>,
}

impl Running {
    fn start(spec: &ListenSpec, limits: ServerLimits, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let bound = Bound::bind(spec).unwrap();
        let address = bound.address();
        let (limits, connections) = (Arc::new(move || limits), permit::Bound::new());
        let runtime = ServerRuntime {
            limits,
            connections,
            connections_possible: 1000,
            buffer_bytes_max: CALLER_BUFFER_BYTES_MAX,
        };
        let (sender, saw) = mpsc::unbounded_channel();
        let (commands, receiver) = mpsc::channel(4);
        let drain = Drain::new();
        let listener = WorkerListener { bound, tls, management: false };
        let served = tokio::spawn(serve(vec![listener], runtime, Routes(sender), drain.clone(), receiver));
        Self { address, drain, commands, saw, served }
    }

    fn plain(limits: ServerLimits) -> Self {
        Self::start(&tcp(false), limits, None)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address.unwrap()).await.unwrap()
    }

    async fn began(&mut self) -> String {
        match self.saw.recv().await.unwrap() {
            Saw::Began(path) => path,
            other => panic!("{other:?} before it began"),
        }
    }

    /// Waits in real time, whatever the clock of the test does.
    async fn finish(self) -> Drained {
        self.drain.begin(Duration::ZERO);
        self.served.await.unwrap()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// Sends `request` and reads one answer, by its content-length.
async fn ask<I: AsyncReadExt + AsyncWriteExt + Unpin>(io: &mut I, request: &str) -> (u16, String) {
    io.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            if read.len() >= end + 4 + length || head.contains("transfer-encoding") {
                let status = head[9..12].parse().unwrap();
                return (status, String::from_utf8_lossy(&read[end + 4..]).into_owned());
            }
        }
        assert_ne!(io.read_buf(&mut read).await.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(&read));
    }
}

/// Reads until the server closes; a reset counts as closed.
async fn until_closed<I: AsyncReadExt + Unpin>(io: &mut I) -> Vec<u8> {
    let mut read = Vec::new();
    match io.read_to_end(&mut read).await {
        Ok(_) => read,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => read,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn head_bytes_at_the_limit() {
    let max = usize::try_from(limits().header_bytes_max).unwrap();
    let server = Running::plain(limits());
    for split in [0, 9000] {
        for (length, status) in [(max - 1, 200), (max, 200), (max + 1, 431)] {
            let bare = "GET / HTTP/1.1\r\nhost: x\r\nx: \r\n\r\n".len();
            let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(length - bare));
            assert_eq!(request.len(), length);
            let mut io = server.connect().await;
            io.write_all(&request.as_bytes()[..split]).await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(ask(&mut io, &request[split..]).await.0, status, "{length} bytes, cut at {split}");
            if status == 431 {
                assert!(until_closed(&mut io).await.is_empty());
            } else {
                assert_eq!(ask(&mut io, &get("/")).await.0, 200, "the connection goes on");
            }
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn head_count_at_the_limit() {
    for max in [100, 10] {
        let server = Running::plain(ServerLimits { header_count_max: max, ..limits() });
        for (count, status) in [(max - 1, 200), (max, 200), (max + 1, 431)] {
            let fields: String = (1..count).map(|n| format!("x-{n}: y\r\n")).collect();
            let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
            assert_eq!(ask(&mut server.connect().await, &request).await.0, status, "{count} of {max}");
        }
        server.finish().await;
    }
}

#[tokio::test]
async fn broken_heads_close_the_connection() {
    let server = Running::plain(limits());
    for (head, status) in [
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), "400"),
        ("\x16\x03\x01\x02\r\n\r\n".to_owned(), "400"),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(17000)), "431"),
    ] {
        let mut io = server.connect().await;
        io.write_all(head.as_bytes()).await.unwrap();
        let answer = String::from_utf8(until_closed(&mut io).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn slow_openings_are_closed_at_the_deadline() {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let files = TlsFiles { cert_pem: pair.cert.pem().into(), key_pem: Secret::new(pair.signing_key.serialize_pem()) };
    let plain = Running::plain(limits());
    let tls = Running::start(&tcp(true), limits(), Some(server_config(&files).unwrap()));
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (server, sent) in [
        (&plain, ""),
        (&plain, "P"),
        (&plain, "PRI * HTTP/2.0\r\n"),
        (&plain, "GET / HTTP/1.1\r\nhost: x\r\n"),
        (&plain, preface),
        (&tls, ""),
        (&tls, "\x16\x03\x01"),
    ] {
        let mut io = server.connect().await;
        let start = Instant::now();
        io.write_all(sent.as_bytes()).await.unwrap();
        until_closed(&mut io).await;
        let took = start.elapsed();
        assert!(took >= HEADER_TIMEOUT && took < HEADER_TIMEOUT + Duration::from_secs(1), "{sent:?}: {took:?}");
    }
    plain.finish().await;
    tls.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_head_has_its_own_deadline_and_idling_another() {
    let server = Running::plain(limits());
    let mut io = server.connect().await;
    assert_eq!(ask(&mut io, &get("/")).await.0, 200);
    tokio::time::sleep(HEADER_TIMEOUT * 3).await;
    assert_eq!(ask(&mut io, &get("/")).await.0, 200, "idling is not a slow head");
    tokio::time::sleep(HEADER_TIMEOUT / 2).await;
    let start = Instant::now();
    io.write_all(b"GET /").await.unwrap();
    until_closed(&mut io).await;
    let took = start.elapsed();
    assert!(took >= HEADER_TIMEOUT && took < HEADER_TIMEOUT + Duration::from_secs(1), "{took:?}");

    let mut io = server.connect().await;
    assert_eq!(ask(&mut io, &get("/slow")).await.1, "slow", "a long thought is not idling");
    let start = Instant::now();
    until_closed(&mut io).await;
    let took = start.elapsed();
    assert!(took >= CALLER_IDLE_TIMEOUT && took <= CALLER_IDLE_TIMEOUT + HEADER_TIMEOUT * 2, "{took:?}");
    server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_takes_nothing_is_cut() {
    let mut server = Running::plain(limits());
    let mut io = server.connect().await;
    let start = Instant::now();
    io.write_all(get("/flood").as_bytes()).await.unwrap();
    assert_eq!(server.began().await, "/flood");
    assert_eq!(server.saw.recv().await.unwrap(), Saw::Dropped);
    let took = start.elapsed();
    assert!(took >= CALLER_STALL_MAX && took <= CALLER_STALL_MAX + HEADER_TIMEOUT * 2, "{took:?}");
    server.finish().await;
}

#[tokio::test]
async fn both_protocols_on_one_port() {
    let server = Running::plain(limits());
    assert_eq!(ask(&mut server.connect().await, &get("/")).await, (200, "HTTP/1.1".into()));
    let io = TokioIo::new(server.connect().await);
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(driver);
    for path in ["/", "/info"] {
        let request = Request::get(format!("http://x{path}")).body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, if path == "/" { "HTTP/2.0" } else { "Loopback false false" });
    }
    let mut many = Request::get("http://x/").body(Empty::<Bytes>::new()).unwrap();
    for n in 0..101 {
        many.headers_mut().insert(http::HeaderName::try_from(format!("x-{n}")).unwrap(), "y".parse().unwrap());
    }
    assert_eq!(sender.send_request(many).await.unwrap().status(), 431);
    drop(sender);
    driver.await.unwrap().unwrap();
    server.finish().await;
}

#[tokio::test]
async fn tls_speaks_what_was_agreed() {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let files = TlsFiles { cert_pem: pair.cert.pem().into(), key_pem: Secret::new(pair.signing_key.serialize_pem()) };
    let server = Running::start(&tcp(true), limits(), Some(server_config(&files).unwrap()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    for offered in ["http/1.1", "h2", ""] {
        client.alpn_protocols = if offered.is_empty() { vec![] } else { vec![offered.into()] };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client.clone()));
        let name = "localhost".try_into().unwrap();
        let mut io = connector.connect(name, server.connect().await).await.unwrap();
        if offered == "h2" {
            let (mut sender, driver) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
            let driver = tokio::spawn(driver);
            let request = Request::get("https://localhost/info").body(Empty::<Bytes>::new()).unwrap();
            let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            assert_eq!(answer, "Loopback true false");
            driver.abort();
        } else {
            assert_eq!(ask(&mut io, &get("/info")).await, (200, "Loopback true false".into()));
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn unix_sockets_tell_who_calls() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = Running::start(&ListenSpec::Unix { path: path.clone(), mode: 0o600 }, limits(), None);
    let mut io = UnixStream::connect(&path).await.unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(ask(&mut io, &get("/info")).await, (200, format!("Unix {{ uid: {uid} }} false false")));
    server.finish().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn bodies_pass_at_once() {
    let server = Running::plain(limits());
    let mut io = server.connect().await;
    for (length, says) in [(0, "0"), (999, "999"), (1000, "1000"), (1001, "the request body is too large")] {
        let body = "b".repeat(length);
        let request = format!("POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
        assert_eq!(ask(&mut io, &request).await, (200, says.into()));
    }
    server.finish().await;
}

/// A follow-up write waits for the caller's delayed acknowledgement (40 ms) where Nagle is on.
#[tokio::test]
async fn head_and_first_event_are_not_held_back() {
    let server = Running::plain(limits());
    let mut io = server.connect().await;
    let mut slow = 0;
    for _ in 0..20 {
        ask(&mut io, &get("/late")).await;
        let start = std::time::Instant::now();
        let mut read = [0; 64];
        while !read.starts_with(b"5\r\nevent") {
            assert!(io.read(&mut read).await.unwrap() > 0);
        }
        slow += usize::from(start.elapsed() > Duration::from_millis(30));
        let mut end = [0; 5];
        if !read.windows(5).any(|window| window == b"0\r\n\r\n") {
            io.read_exact(&mut end).await.unwrap();
        }
    }
    assert!(slow <= 5, "{slow} of 20 events came late");
    server.finish().await;
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_work() {
    let mut server = Running::plain(limits());
    for path in ["/hang", "/stream"] {
        for leave in ["close", "half-close", "reset"] {
            let address = server.address.unwrap();
            let mut io = TcpStream::connect(address).await.unwrap();
            io.write_all(get(path).as_bytes()).await.unwrap();
            assert_eq!(server.began().await, path);
            if path == "/stream" {
                assert!(io.read(&mut [0; 512]).await.unwrap() > 0);
            }
            let left = std::time::Instant::now();
            let mut io = Some(io);
            if leave == "half-close" {
                io.as_mut().unwrap().shutdown().await.unwrap();
            } else if leave == "reset" {
                socket2::SockRef::from(io.as_ref().unwrap()).set_linger(Some(Duration::ZERO)).unwrap();
                io = None;
            } else {
                io = None;
            }
            assert_eq!(server.saw.recv().await.unwrap(), Saw::Dropped);
            assert!(left.elapsed() < Duration::from_secs(1), "{path} {leave}: {:?}", left.elapsed());
            drop(io);
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn a_reset_stream_ends_the_work_and_not_the_connection() {
    let mut server = Running::plain(limits());
    let io = TokioIo::new(server.connect().await);
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(driver);
    let request = Request::get("http://x/hang").body(Empty::<Bytes>::new()).unwrap();
    let waiting = tokio::spawn(sender.send_request(request));
    assert_eq!(server.began().await, "/hang");
    waiting.abort();
    assert_eq!(server.saw.recv().await.unwrap(), Saw::Dropped);
    let request = Request::get("http://x/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    driver.abort();
    server.finish().await;
}

#[tokio::test]
async fn connections_over_the_bound_are_closed() {
    let server = Running::plain(ServerLimits { connections_max: 2, ..limits() });
    let mut one = server.connect().await;
    let mut two = server.connect().await;
    assert_eq!(ask(&mut one, &get("/")).await.0, 200);
    assert_eq!(ask(&mut two, &get("/")).await.0, 200);
    assert!(until_closed(&mut server.connect().await).await.is_empty());
    drop(one);
    loop {
        // The permit comes back when the server has noticed.
        let mut io = server.connect().await;
        let _ = io.write_all(get("/").as_bytes()).await;
        if io.read(&mut [0; 16]).await.is_ok_and(|read| read > 0) {
            break;
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn listeners_come_and_go() {
    let server = Running::plain(limits());
    let mut bound = Bound::bind(&tcp(false)).unwrap();
    let second = bound.address().unwrap();
    let port = second.port();
    bound.spec = ListenSpec::Tcp { host: "127.0.0.1".into(), port, tls: false };
    let spec = bound.spec.clone();
    let listener = WorkerListener { bound, tls: None, management: true };
    server.commands.send(ListenerCommand::Add(listener)).await.unwrap();
    let mut io = TcpStream::connect(second).await.unwrap();
    assert_eq!(ask(&mut io, &get("/info")).await, (200, "Loopback false true".into()));
    server.commands.send(ListenerCommand::Remove(spec)).await.unwrap();
    assert_eq!(ask(&mut server.connect().await, &get("/")).await.0, 200);
    assert!(TcpStream::connect(second).await.is_err());
    assert_eq!(ask(&mut io, &get("/")).await.0, 200, "open connections go on");
    server.finish().await;
}
