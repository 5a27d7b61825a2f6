//! A process that runs out of descriptors: no spinning, no harm to what was begun, the operator gets in,
//! a reload is taken, and it heals by itself.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::client::{self, open};
use crate::support::gateway::{Gateway, launch};
use crate::support::is_long;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";

fn config(upstream: &Upstream, comment: u32) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "management": {{"listen": ["127.0.0.2:0"]}},
           // {comment}
           "observability": {{"access_log": false}}, "providers": {{"up": {{
           "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}", "stream_idle_timeout_in_seconds": 3600}}}}}}}}"#,
        upstream.base()
    )
}

/// Of the callers' listener and of the operator's.
fn urls(gateway: &Gateway) -> [String; 2] {
    ["127.0.0.1", "127.0.0.2"].map(|host| gateway.addresses().iter().find(|url| url.contains(host)).unwrap().clone())
}

#[tokio::test]
async fn held_connections_shut_nobody_out_for_good() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |seen| match seen.json()["stream"].as_bool() {
        Some(true) => {
            Answer::events([EVENT]).step(Step::Wait(behind.clone())).step(Step::Send("data: [DONE]\n\n".into()))
        }
        _ => Answer::json(200, "{}"),
    });
    let cycles = if is_long() { 50 } else { 2 };
    for descriptors in [64, 256] {
        let gateway = launch(config(&upstream, 0)).listeners(2).under(&format!("ulimit -n {descriptors}")).start();
        let [data, admin] = urls(&gateway);
        let status = async || client::get(&format!("{admin}/api/config/status")).await.json();
        let url = format!("{data}{CHAT}");
        let mut stream = open(client::json_request(&url, r#"{"model":"up/m","stream":true}"#)).await;
        stream.until(EVENT).await;
        for cycle in 1..=cycles {
            let address = data.strip_prefix("http://").unwrap();
            let mut held = Vec::new();
            for _ in 0..descriptors {
                held.push(TcpStream::connect(address).await.unwrap());
            }
            let (cpu, began) = (gateway.cpu(), Instant::now());
            // Behind the back of the held ones the operator asks, and the file changes.
            gateway.write_config(&config(&upstream, cycle));
            client::poll(client::PATIENCE, "the reload to be taken", async || {
                tokio::time::sleep(Duration::from_millis(50)).await;
                (status().await["running"]["generation"].as_u64() == Some(u64::from(cycle) + 1)).then_some(())
            })
            .await;
            tokio::time::sleep(Duration::from_millis(1500).saturating_sub(began.elapsed())).await;
            let busy = (gateway.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
            assert!(busy < 0.2, "{busy:.2} of a processor with {descriptors} descriptors");
            drop(held);
            let served = client::poll(client::PATIENCE, "callers to be served again", async || {
                let answer = client::try_open(client::json_request(&url, r#"{"model":"up/m"}"#)).await.ok()?;
                (answer.status == 200).then_some(())
            });
            served.await;
            println!("{descriptors} descriptors, cycle {cycle}: {:.0} % of a processor", busy * 100.0);
        }
        // The stream that was there first has seen all of it.
        gate.open();
        stream.until("[DONE]\n\n").await;
        assert_eq!(stream.chunk().await.unwrap(), None);
    }
}

/// Callers who are let in and upstreams who are slow: each needs a descriptor on both sides.
#[tokio::test]
async fn every_caller_let_in_gets_an_upstream() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |_| Answer::json(200, "{}").first(Step::Wait(behind.clone())));
    let gateway = launch(config(&upstream, 0)).listeners(2).under("ulimit -n 128").start();
    let mut tasks = tokio::task::JoinSet::new();
    let [data, _] = urls(&gateway);
    for _ in 0..100 {
        let request = client::json_request(&format!("{data}{CHAT}"), r#"{"model":"up/m"}"#);
        tasks.spawn(async move { client::try_open(request).await.ok().map(|answer| answer.status.as_u16()) });
    }
    client::poll(client::PATIENCE, "those who fit to be at the upstream", async || {
        (upstream.seen().len() >= 30).then_some(())
    })
    .await;
    gate.open();
    let mut by_status = std::collections::BTreeMap::<u16, usize>::new();
    while let Some(status) = tasks.join_next().await {
        *by_status.entry(status.unwrap().unwrap_or(0)).or_default() += 1;
    }
    // Closed unserved, or served: nobody meets a fault.
    assert!(by_status.keys().all(|status| [0, 200].contains(status)), "{by_status:?}");
    assert!(by_status[&200] >= 30, "{by_status:?}");
    println!("of 100 callers with 128 descriptors: {by_status:?}");
}
