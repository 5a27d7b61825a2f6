//! Several gateways behind one balancer: limits and budgets that they share by way of a Redis, and
//! what they do without it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{PATIENCE, Reply, poll, request, send};
use crate::support::gateway::{Gateway, launch};
use crate::support::redis::Redis;
use crate::support::upstream::{Answer, Upstream};

const APP: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const OTHER: &str = "mlx_sk_99999999999999999999999999999999999994LDCO9";

fn upstream() -> Upstream {
    Upstream::start(|_| {
        let usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
        Answer::json(200, json!({"choices": [], "usage": usage}).to_string())
    })
}

/// `app` has a budget, `free` is open when Redis is not there.
fn start(upstream: &Upstream, url: &str, tokens: u64, requests: u64) -> Gateway {
    let config = format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}},
        "state": {{"redis": {{"url": "env.REDIS_URL"}}}},
        "projects": [{{"id": "app", "keys": [{{"name": "k", "value": "env.APP", "rate_limit_per_minute": {requests}}}],
                      "budgets": [{{"id": "b", "limit_tokens": {tokens}, "period": "month"}}]}},
                     {{"id": "free", "keys": [{{"name": "k", "value": "env.OTHER"}}], "on_state_outage": "open"}}],
        "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}},
                               "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    );
    launch(config).env("APP", APP).env("OTHER", OTHER).env("REDIS_URL", url).start()
}

async fn ask(gateway: &Gateway, key: &str) -> Reply {
    let bearer = format!("Bearer {key}");
    let head = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    send(request(Method::POST, &gateway.url("/v1/chat/completions"), &head, r#"{"model":"up/m","messages":[]}"#)).await
}

fn code(reply: &Reply) -> Value {
    reply.json()["error"]["code"].clone()
}

async fn in_reach(gateway: &Gateway, wanted: bool) {
    gateway.wait_status("redis", |status| status["state"]["redis"]["in_reach"] == wanted).await;
}

/// Until so many tokens are in Redis, and then for longer than an exchange and its round trip: what is
/// tested is that the others know by then.
async fn exchanged(redis: &Redis, tokens: u64) {
    poll(PATIENCE, "what was spent", async || (redis.tokens("app") >= tokens).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
}

#[tokio::test]
async fn a_budget_holds_across_two_gateways_and_their_ends() {
    let Some(redis) = Redis::start("a budget of two gateways", "") else { return };
    let upstream = upstream();
    let (a, mut b) = (start(&upstream, &redis.url(), 100, 1_000), start(&upstream, &redis.url(), 100, 1_000));
    in_reach(&a, true).await;
    in_reach(&b, true).await;
    let mut served = 0u32;
    for round in 0..3 {
        for gateway in [&a, &b] {
            assert_eq!(ask(gateway, APP).await.status, 200, "round {round}");
            served += 1;
            exchanged(&redis, u64::from(served) * 10).await;
        }
        // What was exchanged is not lost with a process, and counts once.
        b.kill();
        b.restart();
        in_reach(&b, true).await;
    }
    for gateway in [&a, &b, &a, &b, &a, &b] {
        served += u32::from(ask(gateway, APP).await.status == 200);
        exchanged(&redis, u64::from(served) * 10).await;
    }
    assert_eq!(served, 10, "ten of ten tokens each");
    for gateway in [&a, &b] {
        let refused = ask(gateway, APP).await;
        assert_eq!((refused.status.as_u16(), code(&refused)), (402, json!("budget_exceeded")));
    }
    // All at once the error is what the others do within an exchange, and no more than they are asked.
    assert_eq!(upstream.seen().len(), 10);
}

#[tokio::test]
async fn a_limit_holds_across_two_gateways() {
    let Some(redis) = Redis::start("a limit of two gateways", "a-password") else { return };
    let upstream = upstream();
    let (a, b) = (start(&upstream, &redis.url(), 1_000_000, 20), start(&upstream, &redis.url(), 1_000_000, 20));
    in_reach(&a, true).await;
    in_reach(&b, true).await;
    for _ in 0..12 {
        assert_eq!(ask(&a, APP).await.status, 200);
    }
    let heard = poll(PATIENCE, "what the other has used", async || {
        let reply = ask(&b, APP).await;
        let left: u64 = reply.header("x-ratelimit-remaining").parse().unwrap();
        (left < 8).then_some(left)
    })
    .await;
    // From now on both know: not one more than what is left in all.
    for _ in 0..heard {
        assert_eq!(ask(&b, APP).await.status, 200);
    }
    assert_eq!(ask(&b, APP).await.status, 429);
    poll(PATIENCE, "the other is refused", async || (ask(&a, APP).await.status == 429).then_some(())).await;
    // The error that is stated: what is admitted here within an exchange, while the other does its own.
    let served = upstream.seen().len();
    assert!((20..=40).contains(&served), "{served}");
    for output in [a.output(), b.output()] {
        assert!(!output.contains("a-password"), "{output}");
    }
    assert!(!a.status().await.to_string().contains("a-password"));
}

#[tokio::test]
async fn without_redis_each_project_follows_its_policy() {
    let Some(mut redis) = Redis::start("a redis that goes", "") else { return };
    let upstream = upstream();
    let gateway = start(&upstream, &redis.url(), 1_000, 1_000);
    in_reach(&gateway, true).await;
    assert_eq!(ask(&gateway, APP).await.status, 200);
    exchanged(&redis, 10).await;
    redis.kill();
    in_reach(&gateway, false).await;
    let closed = ask(&gateway, APP).await;
    assert_eq!((closed.status.as_u16(), code(&closed)), (503, json!("state_unavailable")));
    assert!(!closed.header("retry-after").is_empty());
    assert_eq!(ask(&gateway, OTHER).await.status, 200, "open");

    // One that comes back empty is told again what was spent.
    redis.resume();
    in_reach(&gateway, true).await;
    assert_eq!(ask(&gateway, APP).await.status, 200);
    exchanged(&redis, 20).await;
    let keys = redis.ask("KEYS keyway/spend/*");
    assert!(keys.contains("keyway/spend/app/") && keys.contains("keyway/spend/free/"), "{keys}");
    let late = start(&upstream, &redis.url(), 20, 1_000);
    in_reach(&late, true).await;
    assert_eq!(ask(&late, APP).await.status, 402, "twenty were spent by the other");
}

#[tokio::test]
async fn a_redis_that_was_never_there() {
    let upstream = upstream();
    let gateway = start(&upstream, "redis://127.0.0.1:1", 1_000, 1_000);
    in_reach(&gateway, false).await;
    assert_eq!(ask(&gateway, APP).await.status, 503);
    assert_eq!(ask(&gateway, OTHER).await.status, 200);
    assert!(gateway.status().await["restart_pending"].as_array().unwrap().is_empty());
}
