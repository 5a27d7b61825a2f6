//! `/passthrough/{provider}/…`: bodies of any size flow both ways in constant memory, with what belongs to
//! them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::support::gateway::Gateway;
use crate::support::is_long;
use crate::support::upstream::Upstream;

const PIECE: usize = 64 * 1024;

fn config(base: &str) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"], "limits": {{"request_body_mb_max": 1}}}}, "providers": {{"up": {{
            "custom_provider_config": {{"base_provider_type": "openai"}}, "keys": [{{"value": "sk-0123456789abcdef"}}], "network_config": {{"base_url": "{base}"}}}}}}}}"#
    )
}

fn piece() -> Vec<u8> {
    (0..PIECE).map(|at| (at % 251) as u8).collect()
}

/// Head and body length; the head in lower case.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head.to_ascii_lowercase())
}

fn length(head: &str) -> Option<u64> {
    head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|digits| digits.parse().unwrap())
}

async fn connect(gateway: &Gateway) -> BufReader<TcpStream> {
    let address = gateway.base().trim_start_matches("http://").to_owned();
    BufReader::new(TcpStream::connect(address).await.unwrap())
}

/// Takes what is sent, gives what is asked for.
fn upstream(taken: Arc<AtomicU64>, heads: Arc<Mutex<Vec<String>>>, size: u64) -> Upstream {
    Upstream::raw(move |socket, _| {
        let (taken, heads) = (Arc::clone(&taken), Arc::clone(&heads));
        async move {
            let mut stream = BufReader::new(socket);
            while let Some(head) = head(&mut stream).await {
                heads.lock().unwrap().push(head.clone());
                if head.starts_with("get ") {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let piece = piece();
                    for _ in 0..size / PIECE as u64 {
                        if stream.write_all(&piece).await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
                match length(&head) {
                    Some(mut left) => {
                        let mut buffer = vec![0; PIECE];
                        while left > 0 {
                            let most = buffer.len().min(usize::try_from(left).unwrap());
                            let read = stream.read(&mut buffer[..most]).await.unwrap();
                            assert!(read > 0, "the body ends {left} bytes early");
                            left -= read as u64;
                            taken.fetch_add(read as u64, Ordering::SeqCst);
                        }
                    }
                    None => {
                        let mut line = String::new();
                        loop {
                            line.clear();
                            stream.read_line(&mut line).await.unwrap();
                            let size = u64::from_str_radix(line.trim().split(';').next().unwrap(), 16).unwrap();
                            let mut data = vec![0; usize::try_from(size).unwrap() + 2];
                            if size == 0 {
                                break;
                            }
                            stream.read_exact(&mut data).await.unwrap();
                            taken.fetch_add(size, Ordering::SeqCst);
                        }
                        // Trailers, if any, and the last empty line.
                        while line != "\r\n" {
                            line.clear();
                            stream.read_line(&mut line).await.unwrap();
                        }
                    }
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
}

#[tokio::test]
async fn bodies_of_any_size_in_constant_memory() {
    let size: u64 = if is_long() { 4 << 30 } else { 300 << 20 };
    let (taken, heads) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let upstream = upstream(Arc::clone(&taken), Arc::clone(&heads), size);
    let gateway = Gateway::start(config(&upstream.base()));
    let before = gateway.rss_kib();
    let mut most = before;

    let mut stream = connect(&gateway).await;
    let request = format!(
        "PUT /passthrough/up/v9/upload%2Fbig?part=1 HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: x-none\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let piece = piece();
    for at in 0..size / PIECE as u64 {
        stream.write_all(&piece).await.unwrap();
        if at % 256 == 0 {
            most = most.max(gateway.rss_kib());
        }
    }
    let answer = head(&mut stream).await.unwrap();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert_eq!(taken.load(Ordering::SeqCst), size);
    let sent = heads.lock().unwrap().remove(0);
    assert!(sent.starts_with("put /v9/upload%2fbig?part=1 http/1.1\r\n"), "{sent}");
    assert!(sent.contains("\r\nauthorization: bearer sk-0123456789abcdef\r\n"), "{sent}");
    assert!(sent.contains("\r\ncontent-encoding: x-none\r\n") && length(&sent) == Some(size), "{sent}");

    let mut stream = connect(&gateway).await;
    stream.write_all(b"GET /passthrough/up/v9/big HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = head(&mut stream).await.unwrap();
    assert_eq!(length(&answer), Some(size), "{answer}");
    let (mut left, mut buffer, mut rounds) = (size, vec![0; PIECE], 0u64);
    while left > 0 {
        let most_now = buffer.len().min(usize::try_from(left).unwrap_or(PIECE));
        let read = stream.read(&mut buffer[..most_now]).await.unwrap();
        assert!(read > 0, "the answer ends {left} bytes early");
        let offset = usize::try_from((size - left) % PIECE as u64).unwrap();
        assert_eq!(buffer[0], piece[offset], "at {}", size - left);
        left -= read as u64;
        rounds += 1;
        if rounds % 256 == 0 {
            most = most.max(gateway.rss_kib());
        }
    }
    let grown = most.saturating_sub(before);
    println!("{} MiB up and down; memory grew by {grown} KiB at most", size >> 20);
    assert!(grown < 16 * 1024, "{grown} KiB more than the {before} KiB before");
}

/// A caller who waits for leave to send gets it, and trailers break nothing.
#[tokio::test]
async fn leave_to_send_and_trailers() {
    let (taken, heads) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let upstream = upstream(Arc::clone(&taken), Arc::clone(&heads), 0);
    let gateway = Gateway::start(config(&upstream.base()));
    let mut stream = connect(&gateway).await;
    for round in 1..=3u64 {
        let request = "POST /passthrough/up/x HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let leave = head(&mut stream).await.unwrap();
        assert!(leave.starts_with("http/1.1 100"), "{leave}");
        stream.write_all(b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n").await.unwrap();
        let answer = head(&mut stream).await.unwrap();
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        let mut body = [0; 2];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!((&body, taken.load(Ordering::SeqCst)), (b"ok", 5 * round));
    }
    assert!(heads.lock().unwrap().iter().all(|head| !head.contains("expect:")), "it was answered here");
}
