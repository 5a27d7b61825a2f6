//! The upstream: reads a request by its content-length and writes canned bytes.
//!
//! Knows as little HTTP as it can, because it shares a core with the load generator and must leave
//! the gateway the slowest of the three.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, interval_at};

use crate::cases::Answer;
use crate::load::head_of;

pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Mutex<Arc<Answer>>,
    streams: AtomicUsize,
    /// Spreads the events of the streams over their interval.
    phase: AtomicUsize,
    /// Streams tick in step with it, so that every window meets the same pattern of events: how many
    /// fall into one wake-up of a gateway must not be a matter of when its streams happened to begin.
    epoch: Instant,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Mutex::new(Arc::new(Answer::Whole(Vec::new()))),
            streams: AtomicUsize::new(0),
            phase: AtomicUsize::new(0),
            epoch: Instant::now(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                tokio::spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn answer_with(&self, answer: &Answer) {
        *self.state.answer.lock().unwrap() = Arc::new(answer.clone());
    }

    /// Waits until the streams of the last window are gone.
    pub async fn quiet(&self) {
        for _ in 0..500 {
            if self.state.streams.load(Ordering::Relaxed) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("  the gateway keeps {} streams open whose callers left", self.state.streams.load(Ordering::Relaxed));
    }
}

async fn serve(mut socket: TcpStream, state: Arc<State>) {
    let mut buffer = Vec::with_capacity(128 * 1024);
    while take_request(&mut socket, &mut buffer).await.is_some() {
        let answer = Arc::clone(&state.answer.lock().unwrap());
        match &*answer {
            Answer::Whole(bytes) => {
                if socket.write_all(bytes).await.is_err() {
                    return;
                }
            }
            Answer::Events { head, event, every } => {
                state.streams.fetch_add(1, Ordering::Relaxed);
                let _ = stream(&mut socket, head, event, *every, &state).await;
                state.streams.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// Reads one request whole; `None` when the connection ended. The gateway never pipelines.
async fn take_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.clear();
    let mut need = None;
    loop {
        if let Some(whole) = need
            && buffer.len() >= whole
        {
            return Some(());
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        if need.is_none() {
            need = head_of(buffer).map(|head| head.bytes + head.length.expect("a request with content-length"));
        }
    }
}

/// Sends events until the caller is gone, which shows by a read as well as by a failed write.
async fn stream(
    socket: &mut TcpStream,
    head: &[u8],
    event: &[u8],
    every: Duration,
    state: &State,
) -> std::io::Result<()> {
    let phase = u32::try_from(state.phase.fetch_add(1, Ordering::Relaxed) % 20).unwrap();
    socket.write_all(head).await?;
    let passed = u32::try_from(state.epoch.elapsed().as_micros() / every.as_micros()).unwrap();
    let mut ticks = interval_at(state.epoch + every * (passed + 1) + every * phase / 20, every);
    let mut nothing = [0; 16];
    loop {
        tokio::select! {
            _ = ticks.tick() => socket.write_all(event).await?,
            _ = socket.read(&mut nothing) => return Ok(()),
        }
    }
}
