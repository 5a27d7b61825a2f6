//! Callers: one over hyper that shows everything of an answer, one over a bare socket that sends
//! what hyper would refuse to send.
//!
//! No pool and no retry: each request is a connection of its own unless a test keeps one, so that
//! what a test sees is what the gateway did.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Longer than anything that is meant to end.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }
}

pub async fn get(url: &str) -> Reply {
    send(Request::get(url).body(Full::default()).unwrap()).await
}

pub async fn post_json(url: &str, body: impl Into<Bytes>) -> Reply {
    send(json_request(url, body)).await
}

pub fn json_request(url: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request(Method::POST, url, &[("content-type", "application/json")], body)
}

pub fn request(method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into())).unwrap()
}

/// Sends and reads to the end.
pub async fn send(request: Request<Full<Bytes>>) -> Reply {
    try_send(request).await.unwrap_or_else(|why| panic!("{why}"))
}

/// The same where the other side may be killed meanwhile: then there is no reply, or none that is whole.
pub async fn try_send(request: Request<Full<Bytes>>) -> Result<Reply, String> {
    let mut open = try_open(request).await?;
    let mut body = Vec::new();
    while let Some(chunk) = open.chunk().await.map_err(|error| format!("the answer broke off: {error}"))? {
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status: open.status, headers: std::mem::take(&mut open.headers), body: body.into() })
}

/// An answer whose body is read as it comes. Dropped: the connection closes, as when a caller leaves.
pub struct Open {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Open {
    /// The next piece of the body, `None` at its proper end, an error where it was cut off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        loop {
            let frame = within(PATIENCE, "a piece of the answer", self.body.frame()).await;
            match frame.transpose()? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads until `needle` has come; returns all that came.
    pub async fn until(&mut self, needle: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(needle) {
            match self.chunk().await {
                Ok(Some(chunk)) => seen.push_str(&String::from_utf8_lossy(&chunk)),
                ended => panic!("{ended:?} before {needle:?}, after {seen:?}"),
            }
        }
        seen
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Sends, returns when the head of the answer is there.
pub async fn open(request: Request<Full<Bytes>>) -> Open {
    try_open(request).await.unwrap_or_else(|why| panic!("{why}"))
}

/// As [`open`], where the gateway may close the connection instead.
pub async fn try_open(request: Request<Full<Bytes>>) -> Result<Open, String> {
    let authority = request.uri().authority().expect("an absolute URL").clone();
    let socket = TcpStream::connect(authority.as_str()).await.map_err(|error| format!("{authority}: {error}"))?;
    let _ = socket.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let (mut parts, body) = request.into_parts();
    parts.headers.entry(http::header::HOST).or_insert_with(|| authority.as_str().parse().unwrap());
    parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse().unwrap();
    let answer = sender.send_request(Request::from_parts(parts, body));
    let answer =
        within(PATIENCE, "the head of an answer", answer).await.map_err(|error| format!("no answer: {error}"))?;
    let (head, body) = answer.into_parts();
    Ok(Open { status: head.status, headers: head.headers, body, connection })
}

/// A socket and nothing else.
pub struct Raw {
    socket: TcpStream,
    seen: Vec<u8>,
}

impl Raw {
    /// `address` is `host:port`; an `http://` before it is taken off.
    pub async fn connect(address: &str) -> Self {
        let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let socket = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.set_nodelay(true).unwrap();
        Self { socket, seen: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.socket.write_all(bytes.as_ref()).await
    }

    /// Sends RST: the connection is gone in both directions.
    pub fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends FIN; the other direction stays open.
    pub async fn half_close(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// Reads until `needle` has come; returns all that came since the last call.
    pub async fn until(&mut self, needle: &str) -> String {
        within(PATIENCE, needle, async {
            while !contains(&self.seen, needle.as_bytes()) {
                let more = self.socket.read_buf(&mut self.seen).await;
                assert!(
                    matches!(more, Ok(n) if n > 0),
                    "{more:?} before {needle:?}, after {:?}",
                    String::from_utf8_lossy(&self.seen)
                );
            }
        })
        .await;
        String::from_utf8_lossy(&std::mem::take(&mut self.seen)).into_owned()
    }

    /// Reads until a head has come or the other side closes; returns what came.
    pub async fn head_or_end(&mut self) -> String {
        within(PATIENCE, "a head or the end", async {
            while !contains(&self.seen, b"\r\n\r\n")
                && matches!(self.socket.read_buf(&mut self.seen).await, Ok(n) if n > 0)
            {}
        })
        .await;
        String::from_utf8_lossy(&std::mem::take(&mut self.seen)).into_owned()
    }

    /// Reads until the other side closes; returns what came and how long it took.
    pub async fn until_closed(&mut self, at_most: Duration) -> (String, Duration) {
        let started = Instant::now();
        within(at_most, "the other side to close", async {
            while let Ok(n) = self.socket.read_buf(&mut self.seen).await
                && n > 0
            {}
        })
        .await;
        (String::from_utf8_lossy(&std::mem::take(&mut self.seen)).into_owned(), started.elapsed())
    }
}

/// One exchange over a bare socket: sends, reads to the close of the connection.
pub async fn raw(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address).await;
    // The gateway may have answered and closed before it took everything.
    let _ = raw.send(bytes).await;
    raw.until_closed(PATIENCE).await.0
}

/// The status of an answer as it stands on the wire, 0 when there is none.
pub fn status_of(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Panics with `what` when `future` takes longer.
pub async fn within<T>(at_most: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(at_most, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {at_most:?} for {what}"),
    }
}

/// Looks every few milliseconds until `look` finds something: for what can only be polled.
pub async fn poll<T>(at_most: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < at_most, "waited {at_most:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len().max(1)).any(|window| window == needle)
}
