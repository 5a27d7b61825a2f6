//! An upstream that plays recorded answers and breaks them: cut or reset after any byte, stalled,
//! dripped in pieces of any size, through the middle of characters, line ends and chunk heads.
//!
//! Which recording, how it is framed and where it breaks stands in the request's `user` member, so
//! that any number of them run side by side. Listens on every loopback address: with one address per
//! key, each try has a key and an origin of its own, and no breaker of one spoils the next. Judges
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// An answer as a provider gave it, its body without framing.
#[derive(Clone, Debug)]
pub struct Recording {
    pub name: &'static str,
    /// With `{model}` where the model stands in it.
    pub path: &'static str,
    /// `base_provider_type` of those who answer so.
    pub speaks: &'static str,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// In the body, where its first event ends.
    pub first_event: usize,
    /// In the body, from where on nothing is missing.
    pub whole: usize,
}

/// How an answer says where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Length,
    /// In chunks of this many bytes.
    Chunked(usize),
    Close,
}

/// What is done to an answer; positions count the bytes on the wire, head included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Nothing,
    Cut(usize),
    Reset(usize),
    Stall(usize),
    /// So many bytes at a time.
    Drip(usize),
}

impl Recording {
    pub fn events(name: &'static str, path: &'static str, body: &str, whole: usize) -> Self {
        // A CR ends a line, whether an LF follows or not.
        let ends = ["\n\n", "\r\n\r"].map(|end| body.find(end).map(|at| at + end.len()));
        let first_event = ends.into_iter().flatten().min().unwrap();
        let content_type = "text/event-stream";
        Self { name, path, speaks: "openai", content_type, body: body.into(), first_event, whole }
    }

    pub fn of(self, speaks: &'static str) -> Self {
        Self { speaks, ..self }
    }

    pub fn json(name: &'static str, path: &'static str, body: &str) -> Self {
        let whole = body.trim_end().len();
        let content_type = "application/json";
        Self { name, path, speaks: "openai", content_type, body: body.into(), first_event: 1, whole }
    }

    /// An AWS event stream.
    pub fn frames(name: &'static str, path: &'static str, frames: &[Vec<u8>]) -> Self {
        let content_type = "application/vnd.amazon.eventstream";
        let (body, first_event) = (frames.concat(), frames[0].len());
        Self { name, path, speaks: "bedrock", content_type, whole: body.len(), body, first_event }
    }

    /// Whether it is made of server-sent events.
    pub fn is_events(&self) -> bool {
        self.content_type == "text/event-stream"
    }

    /// Its path asks for a stream, or its caller has to.
    pub fn is_stream(&self) -> bool {
        self.content_type != "application/json"
    }

    /// The bytes of the answer.
    pub fn wire(&self, framing: Framing) -> Vec<u8> {
        let head = |framing: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\n{framing}\r\n", self.content_type);
        match framing {
            Framing::Length => {
                [head(&format!("content-length: {}\r\n", self.body.len())).as_bytes(), &self.body].concat()
            }
            Framing::Close => [head("connection: close\r\n").as_bytes(), &self.body].concat(),
            Framing::Chunked(size) => {
                let mut wire = head("transfer-encoding: chunked\r\n").into_bytes();
                for piece in self.body.chunks(size) {
                    wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    wire.extend_from_slice(piece);
                    wire.extend_from_slice(b"\r\n");
                }
                wire.extend_from_slice(b"0\r\n\r\n");
                wire
            }
        }
    }

    /// How much of the body the first `at` bytes of the wire hold.
    pub fn body_within(&self, framing: Framing, at: usize) -> usize {
        let wire = self.wire(framing);
        let head = wire.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let Some(mut left) = at.checked_sub(head) else { return 0 };
        let Framing::Chunked(size) = framing else { return left.min(self.body.len()) };
        let mut held = 0;
        for piece in self.body.chunks(size) {
            let line = format!("{:x}\r\n", piece.len()).len();
            let Some(inside) = left.checked_sub(line) else { break };
            held += inside.min(piece.len());
            left = inside.saturating_sub(piece.len() + 2);
        }
        held
    }
}

impl Framing {
    fn written(self) -> String {
        match self {
            Self::Length => "length".to_owned(),
            Self::Chunked(size) => format!("chunked.{size}"),
            Self::Close => "close".to_owned(),
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once('.') {
            Some(("chunked", size)) => Some(Self::Chunked(size.parse().ok()?)),
            None if text == "length" => Some(Self::Length),
            None if text == "close" => Some(Self::Close),
            _ => None,
        }
    }
}

impl Fault {
    fn written(self) -> String {
        match self {
            Self::Nothing => "nothing.0".to_owned(),
            Self::Cut(at) => format!("cut.{at}"),
            Self::Reset(at) => format!("reset.{at}"),
            Self::Stall(at) => format!("stall.{at}"),
            Self::Drip(size) => format!("drip.{size}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (name, number) = text.split_once('.')?;
        let number = number.parse().ok()?;
        Some(match name {
            "cut" => Self::Cut(number),
            "reset" => Self::Reset(number),
            "stall" => Self::Stall(number),
            "drip" => Self::Drip(number),
            _ => Self::Nothing,
        })
    }
}

/// Gone when it is dropped.
pub struct Impair {
    port: u16,
    asked: Arc<AtomicUsize>,
    recordings: Arc<Vec<Recording>>,
    // Dropped: the thread ends.
    _stop: oneshot::Sender<()>,
}

impl Impair {
    pub fn start(recordings: Vec<Recording>) -> Self {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let (asked, recordings) = (Arc::new(AtomicUsize::new(0)), Arc::new(recordings));
        let (counted, played) = (Arc::clone(&asked), Arc::clone(&recordings));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut connections = JoinSet::new();
                let accept = async {
                    loop {
                        let Ok((socket, _)) = listener.accept().await else { continue };
                        while connections.try_join_next().is_some() {}
                        connections.spawn(serve(socket, Arc::clone(&played), Arc::clone(&counted)));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
        });
        Self { port, asked, recordings, _stop: stop }
    }

    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The origin of lane `number`, of which there are 62 500.
    pub fn base(&self, number: usize) -> String {
        format!("http://127.0.{}.{}:{}", number / 250, number % 250 + 1, self.port)
    }

    /// Keys of a provider, one per lane; lane `n` serves the model `m<n>` alone.
    pub fn keys(&self, lanes: usize) -> String {
        let key = |n: usize| {
            format!(
                r#"{{"name": "k{n}", "value": "sk-impair-{n:06}", "base_url": "{}", "models": ["m{n}"]}}"#,
                self.base(n)
            )
        };
        (0..lanes).map(key).collect::<Vec<_>>().join(",")
    }

    /// What a request's `user` member says to get this.
    pub fn asks(recording: usize, framing: Framing, fault: Fault) -> String {
        format!("impair {recording} {} {} ", framing.written(), fault.written())
    }
}

async fn serve(mut socket: TcpStream, recordings: Arc<Vec<Recording>>, asked: Arc<AtomicUsize>) {
    let _ = socket.set_nodelay(true);
    while let Some(request) = request(&mut socket).await {
        asked.fetch_add(1, Ordering::SeqCst);
        let words: Vec<&str> = request.split("impair ").nth(1).unwrap_or("0 length nothing.0").split(' ').collect();
        let recording = &recordings[words[0].parse::<usize>().unwrap()];
        let (framing, fault) = (Framing::read(words[1]).unwrap(), Fault::read(words[2]).unwrap());
        let wire = recording.wire(framing);
        if play(&mut socket, &wire, fault).await.is_err() || fault_closes(fault) || framing == Framing::Close {
            break;
        }
    }
}

fn fault_closes(fault: Fault) -> bool {
    matches!(fault, Fault::Cut(_) | Fault::Reset(_))
}

async fn play(socket: &mut TcpStream, wire: &[u8], fault: Fault) -> std::io::Result<()> {
    match fault {
        Fault::Nothing => socket.write_all(wire).await,
        Fault::Cut(at) => socket.write_all(&wire[..at]).await,
        Fault::Reset(at) => {
            socket.write_all(&wire[..at]).await?;
            socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO))
        }
        Fault::Stall(at) => {
            socket.write_all(&wire[..at]).await?;
            // Until the gateway has had enough.
            while matches!(socket.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        Fault::Drip(size) => {
            for piece in wire.chunks(size) {
                socket.write_all(piece).await?;
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            Ok(())
        }
    }
}

/// One request, head and body as text; `None` when the connection is closed.
async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length =
                head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
            if read.len() >= end + 4 + length.unwrap_or(0) {
                return Some(String::from_utf8_lossy(&read).into_owned());
            }
        }
        match socket.read_buf(&mut read).await {
            Ok(n) if n > 0 => {}
            _ => return None,
        }
    }
}

mod tests {
    use super::{Fault, Framing, Recording};

    #[test]
    fn what_of_a_body_is_on_the_wire() {
        let recording = Recording::json("r", "/x", "{\"a\":12345}");
        for framing in [Framing::Length, Framing::Chunked(1), Framing::Chunked(4), Framing::Chunked(99), Framing::Close]
        {
            let wire = recording.wire(framing);
            let mut last = 0;
            for at in 0..=wire.len() {
                let held = recording.body_within(framing, at);
                assert!(held == last || held == last + 1, "{framing:?} {at}");
                last = held;
            }
            assert_eq!(last, recording.body.len(), "{framing:?}");
            assert_eq!(Framing::read(&framing.written()), Some(framing));
        }
        for fault in [Fault::Nothing, Fault::Cut(1), Fault::Reset(2), Fault::Stall(3), Fault::Drip(4)] {
            assert_eq!(Fault::read(&fault.written()), Some(fault));
        }
    }
}
