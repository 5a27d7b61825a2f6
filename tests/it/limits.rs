//! What a project may ask for and spend: requests a minute, tokens, dollars; after a kill too.

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{PATIENCE, Reply, get, open, poll, request, send};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Seen, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const APP: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const OTHER: &str = "mlx_sk_99999999999999999999999999999999999994LDCO9";
const BODY: &str = r#"{"model":"up/m","messages":[{"role":"user","content":"hi"}]}"#;

/// `app` is the project with limits, `free` the one without.
fn start(upstream: &Upstream, app: &str) -> Gateway {
    let config = format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}},
        "projects": [{{"id": "app", "keys": [{{"name": "k", "value": "env.APP"}}], {app}}},
                     {{"id": "free", "keys": [{{"name": "k", "value": "env.OTHER"}}]}}],
        "prices": {{"m": {{"input_usd_per_mtok": 100, "cached_input_usd_per_mtok": 10, "output_usd_per_mtok": 200, "reasoning_usd_per_mtok": 1000}}}},
        "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}},
                               "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    );
    launch(config).env("APP", APP).env("OTHER", OTHER).start()
}

async fn ask(gateway: &Gateway, key: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {key}");
    let head = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    send(request(Method::POST, &gateway.url(CHAT), &head, body.to_owned())).await
}

fn code(reply: &Reply) -> Value {
    reply.json()["error"]["code"].clone()
}

/// Ten tokens: seven in, of which five cached, and three out, of which two reasoning.
fn counted(_: &Seen) -> Answer {
    let usage = json!({
        "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 2},
    });
    Answer::json(200, json!({"id": "x", "choices": [], "usage": usage}).to_string())
}

/// In nano-dollars: 2 x 100 000 + 5 x 10 000 + 1 x 200 000 + 2 x 1 000 000.
const COST: f64 = 0.002_45;

/// Tokens of `app` in the state's file.
fn booked(gateway: &Gateway) -> i64 {
    let path = gateway.dir().join(".keyway/state.sqlite");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(file) = rusqlite::Connection::open_with_flags(path, flags) else { return 0 };
    let sum = "SELECT coalesce(sum(tokens), 0) FROM spend WHERE project = 'app'";
    file.query_row(sum, [], |row| row.get(0)).unwrap_or_default()
}

#[tokio::test]
async fn requests_a_minute() {
    let upstream = Upstream::start(counted);
    let gateway = start(&upstream, r#""models": ["*"]"#);
    let text = gateway.config();
    assert_eq!(ask(&gateway, APP, BODY).await.header("x-ratelimit-limit"), "600");
    gateway.write_config(&text.replace(r#""value": "env.APP"}"#, r#""value": "env.APP", "rate_limit_per_minute": 4}"#));
    let reply = poll(PATIENCE, "the new limit", async || {
        let reply = get_models(&gateway, APP).await;
        (reply.header("x-ratelimit-limit") == "4").then_some(reply)
    })
    .await;
    // What was counted before the reload counts.
    let mut left: u64 = reply.header("x-ratelimit-remaining").parse().unwrap();
    while left > 0 {
        let reply = ask(&gateway, APP, BODY).await;
        left -= 1;
        assert_eq!((reply.status.as_u16(), reply.header("x-ratelimit-remaining")), (200, &*left.to_string()));
    }
    let refused = ask(&gateway, APP, BODY).await;
    assert_eq!((refused.status.as_u16(), code(&refused)), (429, json!("rate_limit_exceeded")), "{}", refused.text());
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=120).contains(&wait), "{wait}");
    assert_eq!((refused.header("x-ratelimit-limit"), refused.header("x-ratelimit-remaining")), ("4", "0"));
    assert_eq!(ask(&gateway, OTHER, BODY).await.status, 200, "another key has its own");
}

async fn get_models(gateway: &Gateway, key: &str) -> Reply {
    send(request(Method::GET, &gateway.url("/v1/models"), &[("x-api-key", key)], "")).await
}

#[tokio::test]
async fn tokens_of_a_day() {
    let upstream = Upstream::start(counted);
    let gateway = start(&upstream, r#""budgets": [{"id": "daily", "limit_tokens": 25, "period": "day"}]"#);
    for _ in 0..3 {
        assert_eq!(ask(&gateway, APP, BODY).await.status, 200);
    }
    let refused = ask(&gateway, APP, BODY).await;
    assert_eq!((refused.status.as_u16(), code(&refused)), (402, json!("budget_exceeded")), "{}", refused.text());
    assert_eq!(refused.json()["error"]["type"], "insufficient_quota");
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("'daily'") && message.contains("T00:00:00Z"), "{message}");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    assert_eq!(upstream.seen().len(), 3);
    // To look costs nothing, and nobody else is held back.
    assert_eq!(get_models(&gateway, APP).await.status, 200);
    assert_eq!(ask(&gateway, OTHER, BODY).await.status, 200);
}

#[tokio::test]
async fn dollars_by_the_price_of_each_kind_of_token() {
    let upstream = Upstream::start(counted);
    for (limit, calls) in [(COST * 2.0, 2), (COST * 2.0 + 0.000_001, 3), (0.0, 0)] {
        let budget =
            format!(r#""budgets": [{{"id": "b", "limit_usd": {limit:.6}, "period": "month", "window": "rolling"}}]"#);
        let gateway = start(&upstream, &budget);
        for _ in 0..calls {
            assert_eq!(ask(&gateway, APP, BODY).await.status, 200, "{limit}");
        }
        assert_eq!(ask(&gateway, APP, BODY).await.status, 402, "{limit} after {calls}");
    }
}

#[tokio::test]
async fn under_dollars_a_model_needs_a_price() {
    let upstream = Upstream::start(counted);
    let gateway =
        start(&upstream, r#""passthrough": true, "budgets": [{"id": "b", "limit_usd": 5, "period": "week"}]"#);
    let unpriced = BODY.replace("up/m", "up/dear");
    let refused = ask(&gateway, APP, &unpriced).await;
    assert_eq!((refused.status.as_u16(), code(&refused)), (403, json!("model_without_price")));
    assert!(refused.text().contains("prices") && refused.text().contains("dear"), "{}", refused.text());
    assert_eq!(upstream.seen().len(), 0);
    // A chain goes on where it can be charged.
    let chain = unpriced.replacen('{', r#"{"fallbacks": ["up/m"], "#, 1);
    assert_eq!(ask(&gateway, APP, &chain).await.header("x-keyway-model"), "m");
    assert_eq!(ask(&gateway, OTHER, &unpriced).await.status, 200, "without a budget no price is needed");
    let through = send(request(Method::POST, &gateway.url("/passthrough/up/v1/x"), &[("x-api-key", APP)], "{}")).await;
    assert_eq!((through.status.as_u16(), code(&through)), (403, json!("passthrough_not_counted")));
    let text = gateway.config().replace(r#""prices": {"#, r#""prices": {"up/*": {"input_usd_per_mtok": 1}, "#);
    gateway.write_config(&text);
    poll(PATIENCE, "a price", async || (ask(&gateway, APP, &unpriced).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn spend_outlives_a_kill_and_counts_once() {
    let upstream = Upstream::start(counted);
    let mut gateway = start(&upstream, r#""budgets": [{"id": "b", "limit_tokens": 100, "period": "week"}]"#);
    for round in 1..=3 {
        for _ in 0..3 {
            assert_eq!(ask(&gateway, APP, BODY).await.status, 200, "round {round}");
        }
        // It is in the file within the interval of the sweeps.
        let booked = poll(PATIENCE, "the books", async || {
            let booked = booked(&gateway);
            (booked >= round * 30).then_some(booked)
        })
        .await;
        assert_eq!(booked, round * 30);
        gateway.kill();
        gateway.restart();
    }
    assert_eq!(ask(&gateway, APP, BODY).await.status, 200);
    assert_eq!(ask(&gateway, APP, BODY).await.status, 402);
    assert_eq!(upstream.seen().len(), 10);
}

const CHUNK: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]";
const LAST: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]";
const COUNT: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Says what it has cost iff it is asked, as OpenAI does.
fn streamed(seen: &Seen) -> Answer {
    let asked = seen.json()["stream_options"]["include_usage"] == true;
    let usage = if asked { ",\"usage\":null" } else { "" };
    let text = format!("{CHUNK}{usage}}}\n\n{LAST}{usage}}}\n\n{}{DONE}", if asked { COUNT } else { "" });
    let answer = Answer::new(200).header("content-type", "text/event-stream");
    // In odd pieces.
    text.as_bytes().chunks(37).fold(answer, |answer, piece| answer.step(Step::Send(piece.to_vec().into())))
}

#[tokio::test]
async fn a_stream_is_asked_for_what_it_costs_and_the_caller_does_not_see_it() {
    let upstream = Upstream::start(streamed);
    let gateway = start(&upstream, r#""budgets": [{"id": "b", "limit_tokens": 25, "period": "day"}]"#);
    let body = BODY.replacen('{', r#"{"stream": true, "#, 1);
    let plain = ask(&gateway, OTHER, &body).await;
    assert_eq!(plain.text(), format!("{CHUNK}}}\n\n{LAST}}}\n\n{DONE}"));
    let upstream_body = |seen: &Seen| String::from_utf8(seen.body.to_vec()).unwrap();
    assert_eq!(upstream_body(&upstream.only()), body.replace("up/m", "m"), "not asked without a budget");
    upstream.forget();

    let limited = ask(&gateway, APP, &body).await;
    assert_eq!(limited.text(), plain.text());
    let seen = upstream_body(&upstream.only());
    assert_eq!(seen, body.replace("up/m", "m").replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1));

    // Who asks gets it.
    let asking = body.replacen('{', r#"{"stream_options": {"include_usage": true}, "#, 1);
    let told = ask(&gateway, APP, &asking).await;
    assert!(told.text().contains("\"usage\":null") && told.text().contains("\"prompt_tokens\":7"), "{}", told.text());
    assert_eq!(ask(&gateway, APP, &body).await.status, 200);
    assert_eq!(ask(&gateway, APP, &body).await.status, 402, "three streams of ten tokens");
}

#[tokio::test]
async fn who_leaves_early_does_not_read_for_nothing() {
    let upstream = Upstream::start(|_| {
        let answer = Answer::new(200).header("content-type", "text/event-stream");
        (0..50).fold(answer, |answer, _| answer.step(Step::Send(format!("{CHUNK}}}\n\n").into()))).step(Step::Hang)
    });
    let gateway = start(&upstream, r#""budgets": [{"id": "b", "limit_tokens": 40, "period": "day"}]"#);
    let body = BODY.replacen('{', r#"{"stream": true, "#, 1);
    let bearer = format!("Bearer {APP}");
    let head = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut stream = open(request(Method::POST, &gateway.url(CHAT), &head, body.clone())).await;
    for _ in 0..45 {
        stream.until("\n\n").await;
    }
    drop(stream);
    poll(PATIENCE, "the charge", async || (booked(&gateway) >= 40).then_some(())).await;
    assert_eq!(ask(&gateway, APP, &body).await.status, 402);
}

#[tokio::test]
async fn one_that_has_spent_before_has_spent_when_a_budget_comes() {
    let upstream = Upstream::start(counted);
    let gateway = start(&upstream, r#""models": ["*"]"#);
    for _ in 0..3 {
        assert_eq!(ask(&gateway, APP, BODY).await.status, 200);
    }
    let budget = r#""budgets": [{"id": "b", "limit_tokens": 30, "period": "day"}]"#;
    gateway.write_config(&gateway.config().replace(r#""models": ["*"]"#, budget));
    poll(PATIENCE, "the budget", async || (ask(&gateway, APP, BODY).await.status == 402).then_some(())).await;
    assert!(get(&gateway.url("/livez")).await.status == 200);
}
