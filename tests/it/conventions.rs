//! What holds for every route of the management APIs: the limit of a key, `Idempotency-Key`, the
//! audit log.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{PATIENCE, Reply, open, poll, request, send};
use crate::support::gateway::{Gateway, launch, run};

const OPS: &str = "mlx_mk_22222222222222222222222222222222222224AToLi";

fn config(limit: u64) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}},
        "management": {{"keys": [{{"name": "ops", "value": "env.OPS"}}], "rate_limit_per_minute": {limit}}},
        "providers": {{"openai": {{"keys": [{{"name": "main", "value": "env.MAIN_KEY"}}]}}}}}}"#
    )
}

fn start(limit: u64) -> Gateway {
    launch(config(limit)).env("OPS", OPS).env("MAIN_KEY", "sk-main-0123456789").start()
}

fn asked(
    gateway: &Gateway,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: &str,
) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let bearer = format!("Bearer {OPS}");
    let mut head = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    head.extend(key.map(|key| ("idempotency-key", key)));
    request(method, &gateway.url(path), &head, body.to_owned())
}

async fn call(gateway: &Gateway, method: Method, path: &str, key: Option<&str>, body: &str) -> Reply {
    send(asked(gateway, method, path, key, body)).await
}

const KEYS: &str = "/api/providers/openai/keys";

fn code(reply: &Reply) -> Value {
    reply.json()["error"]["code"].clone()
}

#[tokio::test]
async fn one_more_than_the_limit_is_refused_and_the_status_is_not_counted() {
    let gateway = start(5);
    for left in (0..5).rev() {
        let reply = call(&gateway, Method::GET, KEYS, None, "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            (reply.header("x-ratelimit-limit"), reply.header("x-ratelimit-remaining")),
            ("5", &*left.to_string())
        );
    }
    let refused = call(&gateway, Method::POST, KEYS, None, r#"{"name": "b", "value": "env.MAIN_KEY"}"#).await;
    assert_eq!((refused.status.as_u16(), code(&refused)), (429, json!("rate_limit_exceeded")));
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=120).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-reset"), wait.to_string());
    for _ in 0..10 {
        let status = call(&gateway, Method::GET, "/api/config/status", None, "").await;
        assert_eq!((status.status.as_u16(), status.header("x-ratelimit-limit")), (200, ""));
    }
    // What is refused before it is known whose it is counts for nobody.
    let stranger = send(request(Method::GET, &gateway.url(KEYS), &[], "")).await;
    assert_eq!(stranger.status, 401);
    // A reload does not give the minute back.
    gateway.write_config(&config(4));
    poll(PATIENCE, "the reload", async || {
        let status = call(&gateway, Method::GET, "/api/config/status", None, "").await.json();
        (status["running"]["generation"] == 2).then_some(())
    })
    .await;
    let refused = call(&gateway, Method::GET, KEYS, None, "").await;
    assert_eq!((refused.status.as_u16(), refused.header("x-ratelimit-limit")), (429, "4"));
}

#[tokio::test]
async fn sixty_unless_set() {
    let text = config(5).replace(r#", "rate_limit_per_minute": 5"#, "");
    let gateway = launch(text).env("OPS", OPS).env("MAIN_KEY", "sk-main-0123456789").start();
    assert_eq!(call(&gateway, Method::GET, KEYS, None, "").await.header("x-ratelimit-limit"), "60");
    // Without keys there is nobody to count.
    let open = launch(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#).start();
    assert_eq!(send(request(Method::GET, &open.url("/api/providers"), &[], "")).await.header("x-ratelimit-limit"), "");
}

#[tokio::test]
async fn the_same_request_is_carried_out_once() {
    let mut gateway = start(1_000);
    let body = r#"{"name": "new", "value": "env.MAIN_KEY", "weight": 2}"#;
    let first = call(&gateway, Method::POST, KEYS, Some("a-1"), body).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (200, ""));
    let text = gateway.config();
    for _ in 0..2 {
        let again = call(&gateway, Method::POST, KEYS, Some("a-1"), body).await;
        assert_eq!((again.status, again.text()), (first.status, first.text()));
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.header("etag"), first.header("etag"));
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
        gateway.kill();
        gateway.restart();
    }
    assert_eq!(gateway.config(), text, "written once");

    let other = call(&gateway, Method::POST, KEYS, Some("a-1"), &body.replace('2', "3")).await;
    assert_eq!((other.status.as_u16(), code(&other)), (422, json!("idempotency_key_reused")));
    // Another path or method is another scope; a refusal is an answer like any other.
    let absent = "/api/providers/openai/keys/absent";
    let refused = call(&gateway, Method::DELETE, absent, Some("a-1"), "").await;
    assert_eq!(refused.status, 404);
    let again = call(&gateway, Method::DELETE, absent, Some("a-1"), "").await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (404, "true"));
    let bad = call(&gateway, Method::DELETE, absent, Some(""), "").await;
    assert_eq!((bad.status.as_u16(), code(&bad)), (400, json!("invalid_idempotency_key")));
    assert_eq!(gateway.config(), text);
    // Digests alone are kept of what was asked.
    let state = std::fs::read(gateway.dir().join(".keyway/state.sqlite")).unwrap();
    assert!(memchr::memmem::find(&state, b"a-1").is_none());
}

#[tokio::test]
async fn twenty_at_once_are_one() {
    let gateway = start(1_000);
    let body = r#"{"name": "new", "value": "env.MAIN_KEY"}"#;
    let calls = (0..20).map(|_| call(&gateway, Method::POST, KEYS, Some("same"), body));
    let replies = futures_util::future::join_all(calls).await;
    let made: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert!(!made.is_empty());
    assert!(made.iter().all(|reply| reply.text() == made[0].text()));
    assert_eq!(made.iter().filter(|reply| reply.header("idempotency-replayed").is_empty()).count(), 1);
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((reply.status.as_u16(), code(reply)), (409, json!("idempotency_key_in_use")));
    }
    assert_eq!(gateway.config().matches("\"new\"").count(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_is_told_when_he_is_back() {
    let gateway = start(1_000);
    let body = r#"{"name": "new", "value": "env.MAIN_KEY"}"#;
    {
        let leaving = open(asked(&gateway, Method::POST, KEYS, Some("left"), body));
        // Sent, perhaps carried out, not waited for.
        let _ = tokio::time::timeout(Duration::from_millis(1), leaving).await;
    }
    let reply = poll(PATIENCE, "an answer", async || {
        let reply = call(&gateway, Method::POST, KEYS, Some("left"), body).await;
        (reply.status != 409).then_some(reply)
    })
    .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(gateway.config().matches("\"new\"").count(), 1);
}

#[tokio::test]
async fn every_write_is_on_record() {
    let gateway = start(1_000);
    let secret = "sk-canary-that-stands-in-no-log";
    let body = json!({"id": "made", "name": "new", "value": secret}).to_string();
    let made = call(&gateway, Method::POST, KEYS, None, &body).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let refused = call(&gateway, Method::PUT, "/api/providers/openai/keys/absent", None, &body).await;
    assert_eq!(refused.status, 404);
    call(&gateway, Method::GET, KEYS, None, "").await;
    call(&gateway, Method::POST, "/api/config/check", None, "{}").await;
    let path = gateway.config_path().to_str().unwrap().to_owned();
    let env = [("OPS", OPS), ("MAIN_KEY", "sk-main-0123456789")];
    let log = poll(PATIENCE, "two outcomes", async || {
        let (code, out, err) = run(&["audit", "--config", &path, "--format", "json"], &env, gateway.dir());
        assert_eq!(code, 0, "{err}");
        let log: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (log.len() == 2 && log.iter().all(|entry| entry["status"].is_u64())).then_some(log)
    })
    .await;
    assert_eq!(log[0]["who"], "ops");
    assert_eq!(log[0]["action"], "POST /api/providers/{provider}/keys");
    assert_eq!(
        (&log[0]["target"], &log[0]["status"], &log[0]["generation"]),
        (&json!("openai/made"), &json!(200), &json!(2))
    );
    assert_eq!(log[0]["request_id"], made.header("x-request-id"));
    assert_eq!(log[1]["action"], "PUT /api/providers/{provider}/keys/{key_id}");
    assert_eq!((&log[1]["target"], &log[1]["status"]), (&json!("openai/absent"), &json!(404)));
    assert_eq!(log[1]["code"], "key_not_found");
    let (code, out, _) = run(&["audit", "--config", &path, "--count", "1"], &env, gateway.dir());
    assert!(code == 0 && out.lines().count() == 1 && out.contains("404 key_not_found"), "{out}");
    for name in ["state.sqlite", "state.sqlite-wal"] {
        let bytes = std::fs::read(gateway.dir().join(".keyway").join(name)).unwrap_or_default();
        assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{name}");
    }
}
