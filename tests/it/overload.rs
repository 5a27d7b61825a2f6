//! More than fits: of bodies, connections, descriptors, patience. What is refused is refused at once,
//! what was begun lives, and afterwards everything is as before.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::client::{self, Raw, open};
use crate::support::gateway::{Gateway, launch};
use crate::support::is_long;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn config(upstream: &Upstream, server: &str) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]{server}}}, "observability": {{"access_log": false}}, "providers": {{"up": {{
           "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    )
}

fn body_of(bytes: usize) -> String {
    let (head, tail) = (r#"{"model":"up/m","messages":[],"x":""#, r#""}"#);
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

/// 120 KiB is a long prompt; hundreds of them are held at once.
#[tokio::test]
async fn memory_comes_back_after_a_burst() {
    let (gate, count) = (Gate::new(), if is_long() { 1000 } else { 300 });
    let behind = gate.clone();
    let upstream = Upstream::start(move |seen| match seen.body.len() {
        0..10_000 => Answer::json(200, "{}"),
        _ => Answer::json(200, "{}").first(Step::Wait(behind.clone())),
    });
    let network = r#""network_config": {"keep_alive_timeout_in_seconds": 1, "#;
    let gateway = Gateway::start(config(&upstream, "").replace(r#""network_config": {"#, network));
    // What is made for the first requests is not the burst's.
    let mut kept = Vec::new();
    for _ in 0..50 {
        let mut answer = open(client::json_request(&gateway.url(CHAT), body_of(2000))).await;
        while answer.chunk().await.unwrap().is_some() {}
        kept.push(answer);
    }
    kept.clear();
    let idle = gateway.rss_kib();
    let (body, mut tasks) = (body_of(120 * 1024), JoinSet::new());
    for _ in 0..count {
        let request = client::json_request(&gateway.url(CHAT), body.clone());
        tasks.spawn(async move {
            let mut answer = open(request).await;
            while answer.chunk().await.unwrap().is_some() {}
            answer
        });
    }
    upstream.wait_seen(50 + count).await;
    let full = gateway.rss_kib();
    assert!(full - idle > count as u64 * 100, "they are held: {idle} KiB, then {full} KiB");
    gate.open();
    drop(tasks.join_all().await);
    let since = Instant::now();
    let now = client::poll(Duration::from_secs(60), "the memory to come back", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Some(gateway.rss_kib()).filter(|now| *now * 2 <= idle * 3)
    })
    .await;
    println!("{count} bodies: {idle} KiB idle, {full} KiB full, {now} KiB after {:?}", since.elapsed());
}

/// Bodies share a part of the memory limit. Beyond it they are refused at once, those that were taken
/// and the streams are served on, and afterwards there is room again.
#[tokio::test]
async fn bodies_share_a_part_of_the_memory() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |seen| match seen.json()["stream"].as_bool() {
        Some(true) => Answer::events([EVENT]).step(Step::Wait(behind.clone())).step(Step::Send(DONE.into())),
        _ => Answer::json(200, "{}").first(Step::Wait(behind.clone())),
    });
    // 256 MiB of data: 64 MiB of bodies.
    let gateway = launch(config(&upstream, "")).under("ulimit -d 262144").start();
    let url = gateway.url(CHAT);
    let max = metric(&gateway, "keyway_held_body_bytes_max ").await;
    assert_eq!(max, 64 << 20);
    let mut stream = open(client::json_request(&url, r#"{"model":"up/m","stream":true}"#)).await;
    stream.until(EVENT).await;
    let body = body_of(16 << 20);
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let request = client::json_request(&url, body.clone());
        tasks.spawn(async move { answer_or_cut(request).await });
    }
    let mut refused = 0;
    while refused < 5 {
        let (status, retry_after) = tasks.join_next().await.unwrap().unwrap();
        // The caller may find the connection closed before he has read why: he was still sending.
        assert!(status == 0 || (status == 503 && retry_after == "1"), "{status} {retry_after}");
        refused += 1;
        if metric(&gateway, "keyway_held_body_bytes ").await > 48 << 20 && tasks.len() <= 4 {
            break;
        }
    }
    let held = metric(&gateway, "keyway_held_body_bytes ").await;
    assert!(held > 0 && held <= max, "{held}");
    // What is small needs no room.
    let small = tokio::spawn(client::send(client::json_request(&url, body_of(2000))));
    // More than there can ever be room for is the caller's mistake, not a matter of time.
    let reply = answer_or_cut(client::json_request(&url, body_of(80 << 20))).await;
    assert!(matches!(reply.0, 0 | 413), "{}", reply.0);
    gate.open();
    assert_eq!(small.await.unwrap().status, 200);
    assert!(stream.until(DONE).await.ends_with(DONE), "a stream in flight is not killed to shed load");
    let mut served = 0;
    while let Some(outcome) = tasks.join_next().await {
        served += usize::from(outcome.unwrap().0 == 200);
    }
    assert!(served >= 3, "{served} served, {refused} refused");
    client::poll(client::PATIENCE, "all room to be given back", async || {
        (metric(&gateway, "keyway_held_body_bytes ").await == 0).then_some(())
    })
    .await;
    assert_eq!(client::post_json(&url, body).await.status, 200);
    println!("of 8 bodies of 16 MiB {served} were served and {refused} refused");
}

/// Status and `retry-after`; 0 where the connection was closed before the answer was read.
async fn answer_or_cut(request: http::Request<http_body_util::Full<bytes::Bytes>>) -> (u16, String) {
    match client::try_open(request).await {
        Ok(answer) => {
            let wait = answer.headers.get("retry-after").map_or("", |value| value.to_str().unwrap()).to_owned();
            (answer.status.as_u16(), wait)
        }
        Err(_) => (0, String::new()),
    }
}

async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = client::get(&gateway.url("/metrics")).await.text();
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {page}"));
    line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
}

/// Callers who hold connections and say nothing, or little, or never read. All are closed by the
/// deadlines of the config; those who behave do not notice.
#[tokio::test]
async fn those_who_take_their_time_do_not_take_ours() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let limits = r#", "limits": {"header_timeout_seconds": 1, "body_timeout_seconds": 1}"#;
    let gateway = Gateway::start(config(&upstream, limits));
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
    let half_body = format!("{head}content-length: 1000\r\n\r\n{{\"model\"");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n5\r\n{{\"mod\r\n");
    // A SETTINGS frame and half a HEADERS frame, whose CONTINUATION never comes.
    let settings = "\0\0\0\x04\0\0\0\0\0";
    let half_headers = format!("{preface}{settings}\0\0\x04\x01\0\0\0\0\x01\x02\x06\x01\x02");
    let ways = ["", "P", "GET /livez HT", &head[..40], preface, &half_body, &chunked, &half_headers];
    let each = if is_long() { 400 } else { 25 };
    let mut tasks = JoinSet::new();
    for way in ways {
        for _ in 0..each {
            let (address, way) = (gateway.base().to_owned(), way.to_owned());
            tasks.spawn(async move {
                let mut raw = Raw::connect(&address).await;
                raw.send(&way).await.unwrap();
                // Some drip on; one byte now and then is not progress.
                let dripping = async {
                    loop {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        if way.len() > 30 && !way.starts_with("PRI") {
                            let _ = raw.send("x").await;
                        }
                    }
                };
                let _ = tokio::time::timeout(Duration::from_millis(900), dripping).await;
                let (answer, took) = raw.until_closed(client::PATIENCE).await;
                (way, answer, took)
            });
        }
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..40 {
        let began = Instant::now();
        assert_eq!(client::post_json(&gateway.url(CHAT), body_of(100)).await.status, 200);
        slowest = slowest.max(began.elapsed());
    }
    let mut count = 0;
    while let Some(outcome) = tasks.join_next().await {
        let (way, answer, took) = outcome.unwrap();
        // Deadline, a second, and what a busy machine adds.
        assert!(took < Duration::from_secs(4), "{way:?}: {took:?}");
        assert!(answer.is_empty() || way.starts_with("PRI") || client::status_of(&answer) >= 400, "{way:?}: {answer}");
        count += 1;
    }
    client::poll(client::PATIENCE, "their connections to be gone", async || {
        (metric(&gateway, "keyway_connections ").await <= 1).then_some(())
    })
    .await;
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    println!("{count} slow callers closed; the slowest of 40 good ones took {slowest:?}");
}

/// A caller who does not read holds up his own stream and nothing else, and not much memory.
#[tokio::test]
async fn those_who_do_not_read_hold_little() {
    let upstream = Upstream::start(|seen| match seen.json()["stream"].as_bool() {
        Some(true) => {
            let piece: &'static str =
                Box::leak(format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(8000)).into_boxed_str());
            let mut answer = Answer::events([piece; 64]);
            for _ in 0..450 {
                answer = answer.step(Step::Send(piece.into()));
            }
            // It never ends: the kernel may take in all 4 MiB, and an answer that has ended is not left.
            answer.step(Step::Hang)
        }
        _ => Answer::json(200, "{}"),
    });
    let gateway = Gateway::start(config(&upstream, ""));
    assert_eq!(client::post_json(&gateway.url(CHAT), body_of(100)).await.status, 200);
    let idle = gateway.rss_kib();
    let count = if is_long() { 400 } else { 60 };
    let mut deaf = Vec::new();
    let body = r#"{"model":"up/m","stream":true}"#;
    for _ in 0..count {
        let mut raw = Raw::connect(gateway.base()).await;
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        raw.send(head).await.unwrap();
        deaf.push(raw);
    }
    upstream.wait_seen(count + 1).await;
    // 4 MiB wait for each of them; what is not read is not fetched.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    assert_eq!(client::post_json(&gateway.url(CHAT), body_of(100)).await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let each = (gateway.rss_kib() - idle) / count as u64;
    assert!(each < 1024, "{each} KiB each");
    drop(deaf);
    upstream.wait_left(count, client::PATIENCE).await;
    println!("{count} callers who do not read: {each} KiB each");
}
