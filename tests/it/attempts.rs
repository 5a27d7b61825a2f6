//! Who is asked, how often and in which order when upstreams fail, and what the caller is told at
//! last. The rules have their tables and property tests beside the code; here the real binary meets
//! real failing upstreams.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::support::client::{self, Reply};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Seen, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
/// What an origin may be tried again beyond a fifth of its requests.
const RETRY_FLOOR: usize = 10;
/// Nothing listens there.
const DEAD: [&str; 3] = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"];

fn long() -> bool {
    std::env::var_os("KEYWAY_LONG").is_some()
}

/// `providers` is the inside of the object; `@` in it stands for the upstream's base URL.
fn gateway(upstream: &Upstream, providers: &[String]) -> Gateway {
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{{}}}}}"#,
        providers.join(",").replace('@', &upstream.base())
    ))
}

/// A custom provider with these keys, asked one after the other; `network` are more members.
fn provider(name: &str, network: &str, keys: &[&str]) -> String {
    let keys = keys.iter().enumerate().map(|(n, key)| {
        let is_dead = key.starts_with("sk-dead");
        let base = if is_dead { format!(r#", "base_url": "{}""#, DEAD[0]) } else { String::new() };
        format!(r#"{{"name": "{key}", "value": "{key}-000000", "priority": {n}{base}}}"#)
    });
    custom(name, network, &keys.collect::<Vec<_>>().join(","))
}

fn custom(name: &str, network: &str, keys: &str) -> String {
    format!(
        r#""{name}": {{"custom_provider_config": {{"base_provider_type": "openai"}},
            "network_config": {{"base_url": "@"{network}}}, "keys": [{keys}]}}"#
    )
}

async fn chat(gateway: &Gateway, model: &str) -> Reply {
    client::post_json(&gateway.url(CHAT), format!(r#"{{"model":"{model}","messages":[]}}"#)).await
}

/// Each key says in its value what it answers: `sk-503-x` with 503.
fn by_key(seen: &Seen) -> Answer {
    let word = seen.bearer().split('-').nth(1).unwrap_or("");
    match word {
        "good" => Answer::json(200, r#"{"good":true}"#),
        "close" => Answer::close(),
        "hang" => Answer::hang(),
        status => {
            let status = status.parse().unwrap_or_else(|_| panic!("a key named {}", seen.bearer()));
            Answer::json(status, format!(r#"{{"error":{{"message":"{}"}}}}"#, seen.bearer()))
        }
    }
}

fn asked(upstream: &Upstream) -> Vec<String> {
    upstream.seen().iter().map(|seen| seen.bearer().trim_end_matches("-000000").to_owned()).collect()
}

/// Numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[tokio::test]
async fn where_a_key_works_the_request_succeeds() {
    let upstream = Upstream::start(by_key);
    let mut random = Random(7);
    let (pools, rounds) = (if long() { 400 } else { 40 }, 3);
    let mut providers = Vec::new();
    let mut count = 0;
    for pool in 0..pools {
        let size = 1 + random.below(24);
        let good = random.below(size);
        let mut keys = String::new();
        for n in 0..size {
            let (word, base) = match random.below(5) {
                _ if n == good => ("good", String::new()),
                4 => ("dead", format!(r#", "base_url": "{}""#, DEAD[random.below(3)])),
                kind => (["401", "402", "403", "429"][kind], String::new()),
            };
            let comma = if n > 0 { "," } else { "" };
            let (weight, priority) = (random.below(4), random.below(3));
            let _ = write!(
                keys,
                r#"{comma}{{"name": "k{n}", "value": "sk-{word}-{n}-000000", "weight": {weight}, "priority": {priority}{base}}}"#
            );
        }
        count += size;
        providers.push(custom(&format!("p{pool}"), "", &keys));
    }
    let gateway = gateway(&upstream, &providers);
    let mut attempts = 0;
    for round in 0..rounds {
        for (pool, written) in providers.iter().enumerate() {
            let reply = chat(&gateway, &format!("p{pool}/m{pool}")).await;
            assert_eq!(reply.status, 200, "pool {pool}, round {round}: {}\n{}", reply.text(), written);
            attempts += reply.header("x-keyway-attempts").parse::<usize>().unwrap();
        }
    }
    // A refused key is not asked again: the model's name tells the pool.
    let mut refused = HashSet::new();
    for seen in upstream.seen().iter().filter(|seen| !seen.bearer().starts_with("sk-good")) {
        assert!(refused.insert((seen.bearer().to_owned(), seen.json()["model"].to_string())), "{seen:?}");
    }
    println!("{pools} pools of {count} keys, {} requests, {attempts} attempts", pools * rounds);
}

/// What an upstream that fails at everything gets to see.
async fn storm(keys: usize, network: &str, answer: fn(&Seen) -> Answer) {
    let requests = if long() { 20_000 } else { 600 };
    let upstream = Upstream::start(answer);
    let keys: Vec<String> = (0..keys).map(|n| format!(r#"{{"name": "k{n}", "value": "sk-{n}-000000"}}"#)).collect();
    let gateway = gateway(&upstream, &[custom("up", network, &keys.join(","))]);
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..requests {
        if running.len() >= 8 {
            running.join_next().await.unwrap().unwrap();
        }
        let url = gateway.url(CHAT);
        running.spawn(async move {
            let reply = client::post_json(&url, r#"{"model":"up/m","messages":[]}"#).await;
            assert!(reply.status.is_server_error(), "{}", reply.text());
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    let seen = upstream.seen().len();
    let floor = RETRY_FLOOR + 1 + started.elapsed().as_secs() as usize / 10;
    println!("{} keys: {seen} attempts for {requests} requests, floor {floor}", keys.len());
    assert!(seen * 10 <= requests * 12 + floor * 10, "{seen} attempts for {requests} requests");
    assert!(seen > requests / 2, "the test must reach the upstream: {seen}");
}

#[tokio::test]
async fn an_upstream_that_answers_500_is_not_stormed() {
    storm(if long() { 20_000 } else { 1_000 }, "", |_| Answer::json(500, "{}")).await;
}

#[tokio::test]
async fn nor_with_retries_configured() {
    let network = r#", "max_retries": 3, "retry_backoff_initial": 1, "retry_backoff_max": 5"#;
    storm(if long() { 20_000 } else { 1_000 }, network, |_| Answer::json(503, "{}")).await;
}

#[tokio::test]
async fn nor_when_it_closes_without_an_answer() {
    let network = r#", "max_retries": 3, "retry_backoff_initial": 1, "retry_backoff_max": 5"#;
    storm(if long() { 20_000 } else { 1_000 }, network, |_| Answer::close()).await;
}

#[tokio::test]
async fn the_same_key_again_after_a_growing_wait() {
    let upstream = Upstream::scripted([Answer::json(503, "{}"), Answer::json(502, "{}"), Answer::json(200, "{}")]);
    let network = r#", "max_retries": 2, "retry_backoff_initial": 100, "retry_backoff_max": 1000"#;
    let gateway = gateway(&upstream, &[provider("up", network, &["sk-a"])]);
    let reply = chat(&gateway, "up/m").await;
    assert_eq!((reply.status.as_u16(), reply.header("x-keyway-attempts")), (200, "3"), "{}", reply.text());
    let seen = upstream.seen();
    let waits: Vec<Duration> = seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    // 100 and 200 ms, a fifth less at the least.
    assert!(waits[0] >= Duration::from_millis(79) && waits[1] >= Duration::from_millis(159), "{waits:?}");
}

#[tokio::test]
async fn a_named_wait_is_kept_or_not_waited_for() {
    let network = r#", "max_retries": 1, "retry_backoff_initial": 10, "retry_backoff_max": 1500"#;
    for status in [429, 503] {
        let busy = Answer::json(status, "{}").header("retry-after", "1");
        let upstream = Upstream::scripted([busy, Answer::json(200, "{}")]);
        let near = gateway(&upstream, &[provider("up", network, &["sk-a"])]);
        assert_eq!(chat(&near, "up/m").await.status, 200, "{status}");
        let seen = upstream.seen();
        assert!(seen[1].at - seen[0].at >= Duration::from_millis(990), "{status}");

        let upstream = Upstream::start(move |_| Answer::json(status, "{}").header("retry-after", "20"));
        let far = gateway(&upstream, &[provider("up", network, &["sk-a"])]);
        let first = chat(&far, "up/m").await;
        assert_eq!((first.status.as_u16(), first.header("retry-after")), (status, "20"));
        let second = chat(&far, "up/m").await;
        assert_eq!((second.status.as_u16(), upstream.seen().len()), (429, 1), "the key cools: {}", second.text());
    }
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again() {
    let deadline = r#", "default_request_timeout_in_seconds": "400ms""#;
    let once = |network: &str| format!(r#"{network}, "max_retries": 1, "retry_backoff_initial": 1"#);
    let upstream = Upstream::start(by_key);
    let providers = [
        provider("close", "", &["sk-close-a", "sk-good-a"]),
        provider("hang", deadline, &["sk-hang-a", "sk-good-a"]),
        provider("close-once", &once(""), &["sk-close-b", "sk-good-b"]),
        provider("hang-once", &once(deadline), &["sk-hang-b", "sk-hang-c", "sk-good-b"]),
        provider("next", "", &["sk-good-next"]),
    ];
    let gateway = gateway(&upstream, &providers);
    for (model, status, code, expected) in [
        ("close", 502, "upstream_broken", &["sk-close-a"][..]),
        ("hang", 504, "upstream_first_byte_timeout", &["sk-hang-a"]),
        ("close-once", 200, "", &["sk-close-b", "sk-good-b"]),
        ("hang-once", 504, "upstream_first_byte_timeout", &["sk-hang-b", "sk-hang-c"]),
    ] {
        upstream.forget();
        let reply = chat(&gateway, &format!("{model}/m")).await;
        assert_eq!(
            (reply.status.as_u16(), asked(&upstream)),
            (status, expected.iter().map(|s| (*s).to_owned()).collect()),
            "{model}: {}",
            reply.text()
        );
        if !code.is_empty() {
            assert_eq!((reply.json()["error"]["code"].as_str(), reply.header("x-should-retry")), (Some(code), "false"));
        }
    }
    // The author of a chain chose to go on.
    for model in ["close", "hang"] {
        let body = format!(r#"{{"model":"{model}/m","fallbacks":["next/m"]}}"#);
        let reply = client::post_json(&gateway.url(CHAT), body).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-keyway-provider")), (200, "next"), "{}", reply.text());
    }
}

/// After all attempts: which of several faults the caller is told of.
#[tokio::test]
async fn the_last_word() {
    let upstream = Upstream::start(by_key);
    let table: &[(&[&str], u16, &str, usize)] = &[
        // Keys in order; status, a part of the body, attempts.
        (&["sk-500-a", "sk-503-b"], 503, "sk-503-b", 2),
        (&["sk-500-a", "sk-401-b"], 500, "sk-500-a", 2),
        (&["sk-429-a", "sk-401-b", "sk-402-c"], 429, "sk-429-a", 3),
        (&["sk-401-a", "sk-403-b"], 403, "sk-403-b", 2),
        (&["sk-401-a", "sk-402-b"], 502, "upstream_credentials_exhausted", 2),
        (&["sk-500-a", "sk-dead-b"], 500, "sk-500-a", 2),
        (&["sk-401-a", "sk-dead-b"], 502, "upstream_connect_failed", 2),
        (&["sk-dead-a", "sk-401-b"], 502, "upstream_connect_failed", 2),
        // The caller's own, and what nobody will ever do for him: at once.
        (&["sk-400-a", "sk-good-b"], 400, "sk-400-a", 1),
        (&["sk-404-a", "sk-good-b"], 404, "sk-404-a", 1),
        (&["sk-413-a", "sk-good-b"], 413, "sk-413-a", 1),
        (&["sk-422-a", "sk-good-b"], 422, "sk-422-a", 1),
        (&["sk-501-a", "sk-good-b"], 501, "sk-501-a", 1),
        (&["sk-401-a", "sk-422-b", "sk-good-c"], 422, "sk-422-b", 2),
        (&["sk-500-a", "sk-529-b", "sk-good-c"], 200, "good", 3),
    ];
    let providers: Vec<String> =
        table.iter().enumerate().map(|(n, (keys, ..))| provider(&format!("p{n}"), "", keys)).collect();
    let gateway = gateway(&upstream, &providers);
    for (n, (keys, status, part, attempts)) in table.iter().enumerate() {
        let reply = chat(&gateway, &format!("p{n}/m")).await;
        assert_eq!(reply.status, *status, "{keys:?}: {}", reply.text());
        assert!(reply.text().contains(part), "{keys:?}: {}", reply.text());
        assert_eq!(reply.header("x-keyway-attempts"), attempts.to_string(), "{keys:?}");
        let told = if *status == 429 || *status >= 500 { "false" } else { "" };
        assert_eq!(reply.header("x-should-retry"), told, "{keys:?}");
        if let Some(key) = keys.iter().find(|key| reply.text().contains(&format!("{key}-000000"))) {
            assert!(!key.contains("401") && !key.contains("402"), "{}", reply.text());
        }
    }
    println!("{} pools", table.len());
}

/// 400, 404, 413 and 422 say nothing of the key, however many there are.
#[tokio::test]
async fn a_callers_mistakes_never_touch_a_key() {
    let upstream = Upstream::start(|seen| match seen.json()["model"].as_str().and_then(|model| model.parse().ok()) {
        Some(status) => Answer::json(status, "{}"),
        None => Answer::json(200, "{}"),
    });
    let gateway = gateway(&upstream, &[provider("up", "", &["sk-a"])]);
    let (rounds, statuses) = (20, [400, 404, 413, 422]);
    for _ in 0..rounds {
        for status in statuses {
            assert_eq!(chat(&gateway, &format!("up/{status}")).await.status, status);
        }
    }
    assert_eq!(chat(&gateway, "up/m").await.status, 200);
    println!("{} mistakes", rounds * statuses.len());
}

/// Five failures in a row open the breaker of one key; its neighbour at the same origin serves on,
/// also where the key did not answer at all.
#[tokio::test]
async fn a_failing_key_does_not_hide_its_neighbour() {
    let upstream = Upstream::start(by_key);
    for bad in ["sk-500-a", "sk-close-a"] {
        let gateway = gateway(&upstream, &[provider("up", "", &[bad, "sk-good-b"])]);
        upstream.forget();
        for _ in 0..8 {
            chat(&gateway, "up/m").await;
        }
        let asked = asked(&upstream);
        assert_eq!(asked.iter().filter(|key| *key == bad).count(), 5, "{asked:?}");
        assert_eq!(asked[asked.len() - 3..], ["sk-good-b", "sk-good-b", "sk-good-b"], "{asked:?}");
    }
}

/// A caller who leaves during a back-off is gone: nothing is sent for him any more.
#[tokio::test]
async fn nobody_is_asked_for_a_caller_who_left() {
    let upstream = Upstream::start(|seen| match seen.json()["model"].as_str() {
        Some("leave") => Answer::json(503, "{}"),
        _ => Answer::json(200, "{}").first(Step::Pause(Duration::from_millis(900))),
    });
    let network = r#", "max_retries": 1, "retry_backoff_initial": 400"#;
    let gateway = gateway(&upstream, &[provider("up", network, &["sk-a"])]);
    let mut caller = client::Raw::connect(gateway.base()).await;
    let body = r#"{"model":"up/leave"}"#;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    caller.send(head).await.unwrap();
    upstream.wait_seen(1).await;
    drop(caller);
    // Longer than the longest back-off, on the other side of the same gateway.
    assert_eq!(chat(&gateway, "up/stay").await.status, 200);
    let models: Vec<_> = upstream.seen().iter().map(|seen| seen.json()["model"].to_string()).collect();
    assert_eq!(models, ["\"leave\"", "\"stay\""]);
}
