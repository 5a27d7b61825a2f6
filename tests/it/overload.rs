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
    let (gate, count) = (Gate::new(), if is_long() { 3000 } else { 300 });
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
