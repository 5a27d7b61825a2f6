//! The load generator: closed loop, open loop with due times, and readers of paced streams.
//!
//! Counts whole answers with status 200 and nothing else; all that differs from that is a failure of
//! the window. Latency is taken from when a request was due, not from when it could be sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cases::{Case, Pace};

/// Long enough for pools to fill and caches to warm.
const WARM_UP: Duration = Duration::from_secs(1);

/// Load that runs until it is dropped.
pub struct Load {
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<String>,
    begun: AtomicU64,
    /// In microseconds, from the due time.
    latencies: Mutex<Vec<u32>>,
}

/// What a window saw.
pub struct Window {
    pub length: Duration,
    pub done: u64,
    pub failed: u64,
    pub first_failure: String,
    /// In microseconds, sorted.
    pub latencies: Vec<u32>,
}

impl Window {
    pub fn latency(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
        let at = ((self.latencies.len() as f64) * share) as usize;
        self.latencies.get(at).or(self.latencies.last()).map_or(0.0, |us| f64::from(*us))
    }
}

impl Load {
    pub async fn start(case: &Case, gateway: SocketAddr) -> Self {
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        let request: Arc<[u8]> = case.request.clone().into();
        let start = Instant::now();
        let connections = match case.pace {
            Pace::Closed { connections } | Pace::Open { connections, .. } => connections,
            Pace::Streams { count, .. } => count,
        };
        for number in 0..connections {
            let socket = TcpStream::connect(gateway).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let connection = Connection { socket, buffer: Vec::with_capacity(64 * 1024) };
            let (counts, request) = (Arc::clone(&counts), Arc::clone(&request));
            match case.pace {
                Pace::Closed { .. } => tasks.spawn(closed(connection, request, counts)),
                Pace::Open { per_second, .. } => {
                    let gap = Duration::from_secs(1) / u32::try_from(per_second).unwrap();
                    let first = start + Duration::from_millis(100) + gap * u32::try_from(number).unwrap();
                    let every = gap * u32::try_from(connections).unwrap();
                    tasks.spawn(open(connection, request, counts, first, every))
                }
                Pace::Streams { .. } => tasks.spawn(read_stream(connection, request, counts)),
            };
        }
        Self { counts, _tasks: tasks }
    }

    /// Returns when every connection has been used and the first second is over.
    pub async fn warm_up(&self, case: &Case) {
        tokio::time::sleep(WARM_UP).await;
        if let Pace::Streams { count, .. } = case.pace {
            for _ in 0..500 {
                if self.counts.begun.load(Ordering::Relaxed) >= u64::try_from(count).unwrap() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.counts.fail(format!("{} of {count} streams began", self.counts.begun.load(Ordering::Relaxed)));
        }
    }

    /// Counts for `length`; failures since the start count too.
    pub async fn window(&self, length: Duration) -> Window {
        self.counts.latencies.lock().unwrap().clear();
        let (started, before) = (Instant::now(), self.counts.done.load(Ordering::Relaxed));
        tokio::time::sleep(length).await;
        let (length, after) = (started.elapsed(), self.counts.done.load(Ordering::Relaxed));
        let mut latencies = std::mem::take(&mut *self.counts.latencies.lock().unwrap());
        latencies.sort_unstable();
        Window {
            length,
            done: after - before,
            failed: self.counts.failed.load(Ordering::Relaxed),
            first_failure: self.counts.first_failure.lock().unwrap().clone(),
            latencies,
        }
    }
}

impl Counts {
    fn fail(&self, why: String) {
        if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
            *self.first_failure.lock().unwrap() = why;
        }
    }

    /// One answer, due at `due`.
    fn answered(&self, due: Instant) {
        self.done.fetch_add(1, Ordering::Relaxed);
        let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.latencies.lock().unwrap().push(micros);
    }
}

async fn closed(mut connection: Connection, request: Arc<[u8]>, counts: Arc<Counts>) {
    loop {
        let due = Instant::now();
        match connection.exchange(&request).await {
            Ok(()) => counts.answered(due),
            Err(why) => return counts.fail(why),
        }
    }
}

async fn open(mut connection: Connection, request: Arc<[u8]>, counts: Arc<Counts>, mut due: Instant, every: Duration) {
    loop {
        // The timer is good to a millisecond; the rest is spent asking, which also polls the sockets.
        tokio::time::sleep_until((due - Duration::from_millis(2)).into()).await;
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        match connection.exchange(&request).await {
            Ok(()) => counts.answered(due),
            Err(why) => return counts.fail(why),
        }
        due += every;
    }
}

async fn read_stream(mut connection: Connection, request: Arc<[u8]>, counts: Arc<Counts>) {
    if let Err(error) = connection.socket.write_all(&request).await {
        return counts.fail(error.to_string());
    }
    let (mut begun, mut last) = (false, 0);
    loop {
        connection.buffer.clear();
        match connection.socket.read_buf(&mut connection.buffer).await {
            Ok(n) if n > 0 => {}
            ended => return counts.fail(format!("a stream ended: {ended:?}")),
        }
        if !begun {
            if !connection.buffer.starts_with(b"HTTP/1.1 200") {
                return counts.fail(String::from_utf8_lossy(&connection.buffer).into_owned());
            }
            begun = true;
            counts.begun.fetch_add(1, Ordering::Relaxed);
        }
        // An event ends in an empty line; transfer framing ends its lines with CR LF.
        let mut events = 0;
        for byte in &connection.buffer {
            events += u64::from(*byte == b'\n' && last == b'\n');
            last = *byte;
        }
        counts.done.fetch_add(events, Ordering::Relaxed);
    }
}

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends, reads the whole answer; an error is any answer but 200.
    async fn exchange(&mut self, request: &[u8]) -> Result<(), String> {
        self.socket.write_all(request).await.map_err(|error| format!("sending: {error}"))?;
        self.buffer.clear();
        let mut need = None;
        loop {
            let read = self.socket.read_buf(&mut self.buffer).await.map_err(|error| format!("reading: {error}"))?;
            if read == 0 {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&self.buffer)));
            }
            if need.is_none()
                && let Some(head) = head_of(&self.buffer)
            {
                if !self.buffer.starts_with(b"HTTP/1.1 200") {
                    return Err(String::from_utf8_lossy(&self.buffer).into_owned());
                }
                let length = head.length.ok_or("an answer without content-length")?;
                need = Some(head.bytes + length);
            }
            match need {
                Some(whole) if self.buffer.len() == whole => return Ok(()),
                Some(whole) if self.buffer.len() > whole => return Err("more bytes than announced".to_owned()),
                _ => {}
            }
        }
    }
}

/// What is needed of a message's head.
pub struct Head {
    /// Length of the head, its empty line included.
    pub bytes: usize,
    pub length: Option<usize>,
}

/// `None` until the head is complete.
pub fn head_of(buffer: &[u8]) -> Option<Head> {
    let end = memchr::memmem::find(buffer, b"\r\n\r\n")?;
    let head = &buffer[..end + 2];
    let length = memchr::memchr_iter(b'\n', head).find_map(|at| {
        let name = b"content-length:";
        let line = head.get(at + 1..)?;
        let value = line.get(..name.len())?.eq_ignore_ascii_case(name).then(|| &line[name.len()..])?;
        let value = std::str::from_utf8(value).ok()?.split('\r').next()?;
        value.trim().parse().ok()
    });
    Some(Head { bytes: end + 4, length })
}
