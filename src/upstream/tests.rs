//! The pool over real sockets: a hyper server that counts its connections, and scripted ones that
//! misbehave. Deadlines run on a paused clock, which jumps ahead when nothing moves on any socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::chunks::Chunks;
use crate::id::TransportId;
use crate::limits::CONNECTION_AGE_MAX;

struct Nowhere;

impl InProcess for Nowhere {
    fn connect(&self) -> DuplexStream {
        tokio::io::duplex(64).0
    }
}

fn upstream() -> Upstream {
    Upstream::new(Tls::new(), Arc::new(Nowhere), Caps::default())
}

fn transport(address: SocketAddr) -> Transport {
    Transport {
        id: TransportId(u64::from(address.port())),
        scheme: http::uri::Scheme::HTTP,
        authority: address.to_string().parse().unwrap(),
        host: address.ip().to_string().into(),
        port: address.port(),
        ca_pem: None,
        skip_verify: false,
        keep_alive: Duration::from_secs(30),
        in_process: false,
        wire: crate::snapshot::Wire::default(),
    }
}

fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        first_byte: Duration::from_secs(600),
        idle_gap: Duration::from_secs(60),
    }
}

fn get(path: &str) -> Request<UpstreamBody> {
    Request::get(path).body(UpstreamBody::Empty).unwrap()
}

fn post(path: &str, body: UpstreamBody) -> Request<UpstreamBody> {
    Request::post(path).body(body).unwrap()
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

type Reply = BoxBody<Bytes, hyper::Error>;

fn whole(bytes: impl Into<Bytes>) -> Reply {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// Answers by path; the body says which connection it came on.
async fn reply(request: Request<Incoming>, connection: usize) -> Result<Response<Reply>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let mut response = Response::new(whole(connection.to_string()));
    match path.as_str() {
        "/echo" => *response.body_mut() = request.into_body().boxed(),
        "/host" => *response.body_mut() = whole(request.headers()[header::HOST].as_bytes().to_vec()),
        "/length" => {
            let length = request.headers().get(header::CONTENT_LENGTH).map(|v| v.to_str().unwrap().to_owned());
            let read = request.into_body().collect().await?.to_bytes();
            *response.body_mut() = whole(format!("{length:?} {}", String::from_utf8_lossy(&read)));
        }
        "/chunked" => {
            let (sender, receiver) = mpsc::unbounded_channel();
            for piece in ["a", "b", "c"] {
                sender.send(Bytes::from(piece)).unwrap();
            }
            *response.body_mut() = Piped(receiver).map_err(|never| match never {}).boxed();
        }
        "/empty" => *response.body_mut() = whole(""),
        "/early" => {}
        "/close" => {
            response.headers_mut().insert(header::CONNECTION, "close".parse().unwrap());
        }
        _ => drop(request.into_body().collect().await?),
    }
    Ok(response)
}

/// A hyper server; gives its address and the count of connections that it accepted.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let accepted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = accepted.fetch_add(1, SeqCst) + 1;
            let service = service_fn(move |request| reply(request, connection));
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    });
    (address, count)
}

/// A server that reads a head and then does what `script` says with each connection.
async fn scripted<F, Fut>(script: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for connection in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            script(stream, connection).await;
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await.unwrap() == 0 {
            return;
        }
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn connections_are_used_again() {
    let (address, count) = server().await;
    let (upstream, transport) = (upstream(), transport(address));
    for (turn, path) in ["/", "/chunked", "/empty", "/", "/chunked", "/host"].iter().enumerate() {
        let answer = upstream.send(&transport, &timeouts(), get(path)).await.unwrap();
        assert_eq!((answer.reused, answer.parts.status.as_u16()), (turn > 0, 200), "{path}");
        let expected = match *path {
            "/chunked" => "abc".to_owned(),
            "/empty" => String::new(),
            "/host" => address.to_string(),
            _ => "1".to_owned(),
        };
        assert_eq!(text(answer).await, expected);
        assert_eq!(upstream.idle_connections(), 1, "{path}");
    }
    let head = Request::builder().method(Method::HEAD).uri("/").body(UpstreamBody::Empty).unwrap();
    drop(upstream.send(&transport, &timeouts(), head).await.unwrap());
    assert_eq!((count.load(SeqCst), upstream.idle_connections()), (1, 1));

    let spans = timeouts();
    let both = [upstream.send(&transport, &spans, get("/")), upstream.send(&transport, &spans, get("/"))];
    let [one, two] = both;
    let (one, two) = tokio::join!(one, two);
    assert_eq!(count.load(SeqCst), 2);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.reused, two.reused), (true, false));
    assert_eq!((text(one).await.as_str(), text(two).await.as_str()), ("1", "2"));
    assert_eq!(upstream.idle_connections(), 2);
    let answer = upstream.send(&transport, &timeouts(), get("/close")).await.unwrap();
    assert_eq!(text(answer).await, "2", "last in, first out");
    assert_eq!(upstream.idle_connections(), 1, "a closing connection is not kept");
}

#[tokio::test]
async fn bodies_arrive_as_they_were() {
    let (address, count) = server().await;
    let (upstream, transport) = (upstream(), transport(address));
    let mut chunks = Chunks::new();
    for piece in ["{\"model\":", "\"x\"", "}"] {
        chunks.push(Bytes::from_static(piece.as_bytes()));
    }
    let held = UpstreamBody::held(chunks.clone());
    let answer = upstream.send(&transport, &timeouts(), post("/length", held)).await.unwrap();
    assert_eq!(text(answer).await, "Some(\"13\") {\"model\":\"x\"}");
    let flowing = UpstreamBody::flowing(chunks, Full::new(Bytes::from_static(b" and more")));
    let answer = upstream.send(&transport, &timeouts(), post("/length", flowing)).await.unwrap();
    assert_eq!(text(answer).await, "Some(\"22\") {\"model\":\"x\"} and more");

    // Both directions at once, far beyond any buffer.
    let big: Bytes = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let held = UpstreamBody::held(Chunks::from(big.clone()));
    let answer = upstream.send(&transport, &timeouts(), post("/echo", held)).await.unwrap();
    assert_eq!(answer.body.collect().await.unwrap().to_bytes(), big);
    assert_eq!((count.load(SeqCst), upstream.idle_connections()), (1, 1));
}

#[tokio::test]
async fn a_body_may_be_read_by_another_task() {
    let (address, count) = server().await;
    let (upstream, transport) = (upstream(), Arc::new(transport(address)));
    for _ in 0..20 {
        let (upstream, transport) = (upstream.clone(), Arc::clone(&transport));
        let sent = tokio::spawn(async move { upstream.send(&transport, &timeouts(), get("/chunked")).await.unwrap() });
        let answer = sent.await.unwrap();
        assert_eq!(tokio::spawn(text(answer)).await.unwrap(), "abc");
    }
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_unseen() {
    let (served, mut closed) = mpsc::unbounded_channel();
    let address = scripted(move |mut stream, _| {
        let served = served.clone();
        async move {
            stream.write_all(OK).await.unwrap();
            drop(stream);
            served.send(()).unwrap();
        }
    })
    .await;
    let (upstream, transport) = (upstream(), transport(address));
    for _ in 0..5 {
        let answer = upstream.send(&transport, &timeouts(), get("/")).await.unwrap();
        assert!(!answer.reused);
        assert_eq!(text(answer).await, "ok");
        closed.recv().await.unwrap();
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = upstream().send(&transport(address), &timeouts(), get("/")).await.unwrap_err();
    assert_eq!((error.what, error.sent), (SendFault::Connect, Sent::Never));

    let link_local = transport("169.254.169.254:80".parse().unwrap());
    let error = upstream().send(&link_local, &timeouts(), get("/")).await.unwrap_err();
    assert_eq!((error.what, error.sent), (SendFault::Connect, Sent::Never));
    assert!(error.source.unwrap().to_string().contains("link-local"));
}

#[tokio::test]
async fn closed_after_it_was_sent() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let address = scripted(move |mut stream, connection| {
        counter.fetch_add(1, SeqCst);
        async move {
            if connection == 1 {
                stream.write_all(OK).await.unwrap();
                read_head(&mut stream).await;
            }
        }
    })
    .await;
    let (upstream, transport) = (upstream(), transport(address));
    text(upstream.send(&transport, &timeouts(), get("/")).await.unwrap()).await;
    for (turn, connections) in [("a pooled one", 1), ("a fresh one", 2)] {
        let error = upstream.send(&transport, &timeouts(), get("/")).await.unwrap_err();
        assert_eq!((error.what, error.sent), (SendFault::Broken, Sent::Maybe), "{turn}");
        assert_eq!(seen.load(SeqCst), connections, "{turn}: not tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn each_deadline_is_told_apart() {
    // The script ends when the upstream's end is closed, which shows that a timeout closes it.
    let (closed, mut closes) = mpsc::unbounded_channel();
    let address = scripted(move |mut stream, connection| {
        let closed = closed.clone();
        async move {
            let begin: &[u8] = match connection {
                1 => b"",
                2 => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            };
            stream.write_all(begin).await.unwrap();
            assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
            closed.send(()).unwrap();
        }
    })
    .await;
    let (upstream, transport, timeouts) = (upstream(), transport(address), timeouts());
    let start = Instant::now();
    let error = upstream.send(&transport, &timeouts, get("/")).await.unwrap_err();
    assert_eq!((error.what, error.sent), (SendFault::FirstByteTimeout, Sent::Maybe));
    assert_eq!(start.elapsed().as_secs(), 600);
    closes.recv().await.unwrap();

    let start = Instant::now();
    let answer = upstream.send(&transport, &timeouts, get("/")).await.unwrap();
    let error = answer.body.collect().await.unwrap_err();
    assert!(matches!(error, AnswerFault::FirstByteTimeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), 600);
    closes.recv().await.unwrap();

    let start = Instant::now();
    let mut answer = upstream.send(&transport, &timeouts, get("/")).await.unwrap();
    assert_eq!(answer.body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    let error = answer.body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, AnswerFault::IdleTimeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), 60);
    closes.recv().await.unwrap();
    assert_eq!(upstream.idle_connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_timer_serves_many_requests() {
    // Head at once, the answer 50 s later, again and again on one connection: the timer of the
    // first request goes off under a later one, which must not mind.
    let address = scripted(|mut stream, _| async move {
        loop {
            tokio::time::sleep(Duration::from_secs(50)).await;
            if stream.write_all(OK).await.is_err() {
                return;
            }
            read_head(&mut stream).await;
        }
    })
    .await;
    let (upstream, transport) = (upstream(), transport(address));
    let timeouts = Timeouts { first_byte: Duration::from_secs(60), ..timeouts() };
    for turn in 0..5 {
        let answer = upstream.send(&transport, &timeouts, get("/")).await.unwrap();
        assert_eq!(answer.reused, turn > 0);
        assert_eq!(text(answer).await, "ok");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_handshake_counts_as_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut transport = transport(listener.local_addr().unwrap());
    transport.scheme = http::uri::Scheme::HTTPS;
    transport.skip_verify = true;
    let start = Instant::now();
    let error = upstream().send(&transport, &timeouts(), get("/")).await.unwrap_err();
    assert_eq!((error.what, error.sent), (SendFault::ConnectTimeout, Sent::Never));
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn leaving_closes_the_connection_at_once() {
    let (closed, mut closes) = mpsc::unbounded_channel();
    let address = scripted(move |mut stream, connection| {
        let closed = closed.clone();
        async move {
            if connection > 1 {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await.unwrap();
            }
            assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
            closed.send(()).unwrap();
        }
    })
    .await;
    let (upstream, transport, timeouts) = (upstream(), transport(address), timeouts());
    let waiting = tokio::time::timeout(Duration::from_millis(50), upstream.send(&transport, &timeouts, get("/"))).await;
    assert!(waiting.is_err());
    closes.recv().await.unwrap();
    let mut answer = upstream.send(&transport, &timeouts, get("/")).await.unwrap();
    answer.body.frame().await.unwrap().unwrap();
    drop(answer);
    closes.recv().await.unwrap();
    assert_eq!(upstream.idle_connections(), 0);
}

#[tokio::test]
async fn an_answer_before_the_body_was_taken_spends_the_connection() {
    let (address, _) = server().await;
    let (upstream, transport) = (upstream(), transport(address));
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    sender.send(Bytes::from_static(b"begun")).unwrap();
    let body = UpstreamBody::flowing(Chunks::new(), Piped(receiver));
    let answer = upstream.send(&transport, &timeouts(), post("/early", body)).await.unwrap();
    assert_eq!(text(answer).await, "1");
    assert_eq!(upstream.idle_connections(), 0);
    drop(sender);
}

struct Piped(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Piped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|next| next.map(|chunk| Ok(http_body::Frame::data(chunk))))
    }
}

struct Torn;

impl http_body::Body for Torn {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        std::task::Poll::Ready(Some(Err("the caller left")))
    }
}

#[tokio::test]
async fn a_torn_request_body_is_not_the_upstreams_fault() {
    let (address, _) = server().await;
    let body = UpstreamBody::flowing(Chunks::new(), Torn);
    let error = upstream().send(&transport(address), &timeouts(), post("/echo", body)).await.unwrap_err();
    assert_eq!((error.what, error.sent), (SendFault::RequestBody, Sent::Maybe));
}

#[tokio::test]
async fn truncated_answers_are_errors() {
    for answer in ["content-length: 9\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let address = scripted(move |mut stream, _| async move {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
        })
        .await;
        let answer = upstream().send(&transport(address), &timeouts(), get("/")).await.unwrap();
        assert!(matches!(answer.body.collect().await, Err(AnswerFault::Broken(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_expire() {
    let (address, count) = server().await;
    let (upstream, transport) = (upstream(), transport(address));
    let ask = async || text(upstream.send(&transport, &timeouts(), get("/")).await.unwrap()).await;
    assert_eq!(ask().await, "1");
    tokio::time::sleep(transport.keep_alive - Duration::from_secs(1)).await;
    assert_eq!((ask().await.as_str(), upstream.idle_connections()), ("1", 1));
    tokio::time::sleep(transport.keep_alive + POOL_SWEEP_INTERVAL * 2).await;
    assert_eq!(upstream.idle_connections(), 0, "swept without a request");
    let rounds = CONNECTION_AGE_MAX.as_secs() / 20 + 1;
    for _ in 0..rounds {
        assert_eq!(ask().await, "2");
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(ask().await, "3", "an old connection is not used for ever");
    assert_eq!(count.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn the_sweep_finds_closed_connections() {
    let address = scripted(|mut stream, _| async move {
        stream.write_all(OK).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    })
    .await;
    let (upstream, transport) = (upstream(), transport(address));
    text(upstream.send(&transport, &timeouts(), get("/")).await.unwrap()).await;
    assert_eq!(upstream.idle_connections(), 1);
    tokio::time::sleep(POOL_SWEEP_INTERVAL * 2).await;
    assert_eq!(upstream.idle_connections(), 0);
}

#[tokio::test]
async fn trust() {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
    let config = config.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(OK).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    for (host, ca, skip, trusted) in [
        ("localhost", Some(pair.cert.pem()), false, true),
        ("127.0.0.1", Some(pair.cert.pem()), false, false),
        ("localhost", Some(stranger.cert.pem()), false, false),
        ("localhost", None, false, false),
        ("localhost", None, true, true),
        ("127.0.0.1", None, true, true),
    ] {
        let mut transport = transport(address);
        transport.scheme = http::uri::Scheme::HTTPS;
        transport.host = host.into();
        transport.ca_pem = ca.map(Into::into);
        transport.skip_verify = skip;
        let outcome = upstream().send(&transport, &timeouts(), get("/")).await;
        match outcome {
            Ok(answer) => assert!(trusted && text(answer).await == "ok"),
            Err(error) => assert_eq!((error.what, error.sent, trusted), (SendFault::Connect, Sent::Never, false)),
        }
    }
}

struct Inside(mpsc::UnboundedSender<DuplexStream>);

impl InProcess for Inside {
    fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1024);
        self.0.send(far).unwrap();
        near
    }
}

#[tokio::test]
async fn upstreams_inside_the_process() {
    let (sender, mut streams) = mpsc::unbounded_channel();
    let upstream = Upstream::new(Tls::new(), Arc::new(Inside(sender)), Caps::default());
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            let service = service_fn(|request| reply(request, 7));
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    });
    let mut transport = transport("127.0.0.1:1".parse().unwrap());
    transport.in_process = true;
    for turn in 0..3 {
        let answer = upstream.send(&transport, &timeouts(), get("/")).await.unwrap();
        assert_eq!(answer.reused, turn > 0);
        assert_eq!(text(answer).await, "7");
    }
}
