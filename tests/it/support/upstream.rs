//! An upstream that records what it is sent and answers by a script.
//!
//! On a thread and a runtime of its own, so that a test that blocks does not stop it. Speaks
//! HTTP/1.1 through hyper; where an answer must be one that hyper would not write, `Upstream::raw`
//! hands each connection to the test. Refuses nothing: what the gateway sends is for the test to judge.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::client;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Counts connections from 0.
    pub connection: usize,
    pub at: Instant,
}

impl Seen {
    /// A header's text, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }

    /// The bearer token, empty when there is none.
    pub fn bearer(&self) -> &str {
        self.header("authorization").strip_prefix("Bearer ").unwrap_or("")
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// What an answer does after its head, in order.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Bytes),
    /// Nothing more until the gate is opened.
    Wait(Gate),
    Pause(Duration),
    /// The connection breaks off without a proper end.
    Cut,
    /// Nothing more, ever.
    Hang,
}

/// A door that a test opens once.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn opened(&self) {
        // The sender is alive in `self`, so this ends by the value alone.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// Before the head.
    before: Vec<Step>,
    after: Vec<Step>,
    /// Announced as content-length; otherwise chunked.
    sized: bool,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), before: Vec::new(), after: Vec::new(), sized: true }
    }

    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status).header("content-type", "application/json").step(Step::Send(body.into()))
    }

    /// A stream of server-sent events, each piece as written.
    pub fn events(pieces: impl IntoIterator<Item = &'static str>) -> Self {
        let mut answer = Self::new(200).header("content-type", "text/event-stream");
        answer.sized = false;
        answer.after = pieces.into_iter().map(|piece| Step::Send(Bytes::from_static(piece.as_bytes()))).collect();
        answer
    }

    /// Takes the request and never answers.
    pub fn hang() -> Self {
        Self::new(200).first(Step::Hang)
    }

    /// Takes the request and closes.
    pub fn close() -> Self {
        Self::new(200).first(Step::Cut)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds to what happens after the head.
    pub fn step(mut self, step: Step) -> Self {
        self.sized &= matches!(step, Step::Send(_));
        self.after.push(step);
        self
    }

    /// Adds to what happens before the head.
    pub fn first(mut self, step: Step) -> Self {
        self.before.push(step);
        self
    }
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;
type RawScript = Arc<dyn Fn(TcpStream, usize) -> BoxFuture<()> + Send + Sync>;

/// A running upstream; gone when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    log: Arc<Log>,
    // Dropped: the thread ends.
    _stop: oneshot::Sender<()>,
}

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    connections_closed: AtomicUsize,
    /// Answers under way, and when those that never reached their end were given up.
    answering: AtomicUsize,
    left: Mutex<Vec<Instant>>,
}

impl Upstream {
    /// Answers each request as `script` says.
    pub fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        Self::run(move |log, socket, connection| {
            let script = Arc::clone(&script);
            Box::pin(async move {
                let service = service_fn(|request| handle(Arc::clone(&log), Arc::clone(&script), request, connection));
                let _ = hyper::server::conn::http1::Builder::new()
                    .half_close(false)
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            })
        })
    }

    /// Gives the answers in turn; the last one again and again.
    pub fn scripted(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Vec<Answer> = answers.into_iter().collect();
        let next = AtomicUsize::new(0);
        Self::start(move |_| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            answers[at.min(answers.len() - 1)].clone()
        })
    }

    /// Hands each connection, numbered from 0, to `script`; nothing but connections is recorded.
    pub fn raw<F>(script: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let script: RawScript = Arc::new(move |socket, connection| Box::pin(script(socket, connection)));
        Self::run(move |_, socket, connection| script(socket, connection))
    }

    fn run(serve: impl Fn(Arc<Log>, TcpStream, usize) -> BoxFuture<()> + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&log);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, served, serve) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, log, _stop: stop }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, for a `base_url`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// The one request so far.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }

    pub fn forget(&self) {
        self.log.seen.lock().unwrap().clear();
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    pub fn connections_open(&self) -> usize {
        self.connections() - self.log.connections_closed.load(Ordering::SeqCst)
    }

    /// Answers that have begun and not ended.
    pub fn answering(&self) -> usize {
        self.log.answering.load(Ordering::SeqCst)
    }

    /// How many answers the gateway did not wait for.
    pub fn left(&self) -> usize {
        self.log.left.lock().unwrap().len()
    }

    pub async fn wait_seen(&self, count: usize) -> Vec<Seen> {
        let what = format!("{count} requests at the upstream");
        client::poll(client::PATIENCE, &what, async || Some(self.seen()).filter(|seen| seen.len() >= count)).await
    }

    /// Waits until the gateway has given up `count` answers; returns when it did so last.
    pub async fn wait_left(&self, count: usize, at_most: Duration) -> Instant {
        let what = format!("the gateway to leave {count} answers");
        client::poll(at_most, &what, async || {
            let left = self.log.left.lock().unwrap();
            (left.len() >= count).then(|| left[left.len() - 1])
        })
        .await
    }
}

async fn accept(
    listener: std::net::TcpListener,
    log: Arc<Log>,
    serve: impl Fn(Arc<Log>, TcpStream, usize) -> BoxFuture<()>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((socket, _)) = listener.accept() => {
                socket.set_nodelay(true).unwrap();
                let number = log.connections.fetch_add(1, Ordering::SeqCst);
                let served = serve(Arc::clone(&log), socket, number);
                let log = Arc::clone(&log);
                connections.spawn(async move {
                    served.await;
                    log.connections_closed.fetch_add(1, Ordering::SeqCst);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn handle(
    log: Arc<Log>,
    script: Script,
    request: Request<Incoming>,
    connection: usize,
) -> Result<Response<Scripted>, Cut> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let seen = Seen {
        method: parts.method,
        path: parts.uri.to_string(),
        headers: parts.headers,
        body,
        connection,
        at: Instant::now(),
    };
    let answer = script(&seen);
    log.seen.lock().unwrap().push(seen);
    let mut under_way = UnderWay::begin(log);
    for step in answer.before {
        match step {
            Step::Send(_) => panic!("bytes cannot precede the head: use Upstream::raw"),
            Step::Wait(gate) => gate.opened().await,
            Step::Pause(duration) => tokio::time::sleep(duration).await,
            Step::Hang => std::future::pending::<()>().await,
            Step::Cut => {
                under_way.done();
                return Err(Cut);
            }
        }
    }
    let length = answer.after.iter().map(|step| if let Step::Send(bytes) = step { bytes.len() } else { 0 }).sum();
    let mut head = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        head = head.header(name, value);
    }
    let length = answer.sized.then_some(length);
    // hyper does not ask an empty body for its frames.
    if answer.after.is_empty() {
        under_way.done();
    }
    Ok(head.body(Scripted { steps: answer.after.into(), waiting: None, length, under_way }).unwrap())
}

/// The connection is to break off.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by the script")
    }
}

impl std::error::Error for Cut {}

/// An answer that has begun. Dropped before `done`: the gateway left.
struct UnderWay {
    log: Arc<Log>,
    done: bool,
}

impl UnderWay {
    fn begin(log: Arc<Log>) -> Self {
        log.answering.fetch_add(1, Ordering::SeqCst);
        Self { log, done: false }
    }

    fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.done {
            self.log.left.lock().unwrap().push(Instant::now());
        }
        self.log.answering.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The body of an answer, step by step.
struct Scripted {
    steps: VecDeque<Step>,
    waiting: Option<BoxFuture<()>>,
    length: Option<usize>,
    under_way: UnderWay,
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match self.steps.pop_front() {
                None => {
                    self.under_way.done();
                    return Poll::Ready(None);
                }
                Some(Step::Send(bytes)) => {
                    // hyper does not ask again after the last byte of a body of known length.
                    if self.steps.is_empty() {
                        self.under_way.done();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Wait(gate)) => self.waiting = Some(Box::pin(async move { gate.opened().await })),
                Some(Step::Pause(duration)) => self.waiting = Some(Box::pin(tokio::time::sleep(duration))),
                Some(Step::Hang) => self.waiting = Some(Box::pin(std::future::pending())),
                Some(Step::Cut) => {
                    self.under_way.done();
                    return Poll::Ready(Some(Err(Cut)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length.map_or_else(http_body::SizeHint::default, |length| {
            http_body::SizeHint::with_exact(u64::try_from(length).unwrap())
        })
    }
}

mod tests {
    use std::time::Duration;

    use super::{Answer, Gate, Step, Upstream};
    use crate::support::client;

    #[tokio::test]
    async fn it_records_and_answers_in_turn() {
        let upstream = Upstream::scripted([Answer::json(200, "{\"a\":1}"), Answer::new(404)]);
        let first = client::post_json(&format!("{}/x?y=1", upstream.base()), "{\"model\":\"m\"}").await;
        assert_eq!((first.status.as_u16(), first.text().as_str()), (200, "{\"a\":1}"));
        assert_eq!(first.header("content-length"), "7");
        assert_eq!(client::get(&format!("{}/z", upstream.base())).await.status, 404);
        let seen = upstream.seen();
        assert_eq!((seen[0].path.as_str(), seen[0].json()["model"].as_str()), ("/x?y=1", Some("m")));
        assert_eq!((seen[1].path.as_str(), seen[1].connection), ("/z", 1));
        assert_eq!((upstream.answering(), upstream.left()), (0, 0));
    }

    #[tokio::test]
    async fn it_waits_cuts_and_notices_who_leaves() {
        let gate = Gate::new();
        let stream =
            Answer::events(["data: 1\n\n"]).step(Step::Wait(gate.clone())).step(Step::Send("data: 2\n\n".into()));
        let cut = Answer::events(["data: 1\n\n"]).step(Step::Pause(Duration::from_millis(20))).step(Step::Cut);
        let hangs = Answer::events(["data: 1\n\n"]).step(Step::Hang);
        let upstream = Upstream::scripted([stream, cut, hangs]);
        let request = || client::json_request(&upstream.base(), "{}");

        let mut open = client::open(request()).await;
        open.until("data: 1\n\n").await;
        gate.open();
        open.until("data: 2\n\n").await;
        assert!(matches!(open.chunk().await, Ok(None)));

        let mut open = client::open(request()).await;
        open.until("data: 1\n\n").await;
        assert!(open.chunk().await.is_err());
        assert_eq!(upstream.left(), 0);

        let mut open = client::open(request()).await;
        open.until("data: 1\n\n").await;
        drop(open);
        upstream.wait_left(1, Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn a_raw_one_writes_what_it_likes() {
        use tokio::io::AsyncWriteExt as _;
        let upstream = Upstream::raw(|mut socket, number| async move {
            let _ = socket.write_all(format!("HTTP/9.9 {number}\r\n").as_bytes()).await;
        });
        let answer = client::raw(&upstream.base(), "GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(answer, "HTTP/9.9 0\r\n");
        assert_eq!(upstream.connections(), 1);
    }
}
