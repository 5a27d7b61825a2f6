//! The Modelux face: its documented examples as they stand there, its conventions, and a rotation while
//! requests are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::{PATIENCE, Reply, poll, post_json, request, send};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Step, Upstream};

const MANAGER: &str = "mlx_mk_00000000000000000000000000000000000002woz6J";
const PROJECT: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const OLD: &str = "sk-canary-old-0123456789";
const NEW: &str = "sk-canary-new-0123456789";

/// A client of the face that looks at every answer.
struct Face {
    gateway: Gateway,
    bearer: String,
}

impl Face {
    fn start(providers: &str) -> Self {
        let config = format!(
            r#"{{
  // Kept by every write.
  "server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}},
  "management": {{"keys": [{{"name": "ops", "value": "env.OPS"}}], "rate_limit_per_minute": 100000}},
  "projects": [{{"id": "app", "keys": [{{"name": "ci", "value": "env.CI", "rate_limit_per_minute": 1000000}}], "models": ["*"]}}],
  "providers": {{{providers}}}
}}
"#
        );
        let launch = launch(config).env("OPS", MANAGER).env("CI", PROJECT).env("OLD_KEY", OLD).env("NEW_KEY", NEW);
        Self { gateway: launch.start(), bearer: format!("Bearer {MANAGER}") }
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> Reply {
        let headers = [("authorization", &*self.bearer), ("content-type", "application/json")];
        let url = self.gateway.url(&format!("/manage/v1/providers{path}"));
        let reply = send(request(method, &url, &headers, body.to_owned())).await;
        assert!(!reply.text().contains("canary"), "{}", reply.text());
        reply
    }

    async fn good(&self, method: Method, path: &str, body: Value) -> Value {
        let reply = self.call(method.clone(), path, &body.to_string()).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
        reply.json()
    }

    async fn get(&self, path: &str) -> Value {
        self.good(Method::GET, path, Value::Null).await
    }

    /// A request of a caller's, which is served.
    async fn chat(&self) {
        let bearer = format!("Bearer {PROJECT}");
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        let url = self.gateway.url("/v1/chat/completions");
        let reply = send(request(Method::POST, &url, &headers, r#"{"model": "openai/gpt-4o", "messages": []}"#)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// Of the first credential.
    async fn first(&self) -> String {
        format!("/{}", self.get("").await["data"][0]["id"].as_str().unwrap())
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.gateway.config_path()).unwrap()
    }
}

#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) -> Value {
    let error = reply.json()["error"].clone();
    assert_eq!((reply.status.as_u16(), error["code"].as_str()), (status, Some(code)), "{}", reply.text());
    assert!(!error["message"].as_str().unwrap().is_empty() && !error["type"].as_str().unwrap().is_empty(), "{error}");
    error
}

/// One provider whose keys go to an upstream of the test.
fn at(name: &str, upstream: &Upstream, keys: &str, more: &str) -> String {
    format!(r#""{name}": {{"network_config": {{"base_url": "{}"{more}}}, "keys": [{keys}]}}"#, upstream.base())
}

/// Every example of the documentation, host and key changed.
#[tokio::test]
async fn the_documented_examples() {
    let upstream = Upstream::start(|_| Answer::json(200, r#"{"data": [{"id": "gpt-4o"}]}"#));
    let face = Face::start(&at("openai", &upstream, "", ""));
    let empty = face.get("").await;
    assert_eq!(empty, json!({"data": [], "next_cursor": null, "has_more": false}));
    let body = format!(
        r#"{{
"vendor": "openai",
"name": "OpenAI Production",
"api_key": "{OLD}",
"base_url": null
}}"#
    );
    let made = face.call(Method::POST, "", &body).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    let id = made["id"].as_str().unwrap().to_owned();
    let created_at = made["created_at"].as_str().unwrap().to_owned();
    assert!(id.starts_with("prov_") && id.len() == 31, "{id}");
    assert!(time::OffsetDateTime::parse(&created_at, &time::format_description::well_known::Rfc3339).is_ok());
    let mut expected = json!({
    "id": id,
    "vendor": "openai",
    "name": "OpenAI Production",
    "base_url": null,
    "status": "active",
    "health": {
    "state": "unknown",
    "p50_latency_ms": null,
    "last_check_at": null
    },
    "created_at": created_at
    });
    assert_eq!(made, expected);
    assert_eq!(face.get("").await["data"], json!([expected]));
    assert_eq!(face.get(&format!("/{id}")).await, expected);
    // Traffic makes its health.
    face.chat().await;
    let path = format!("/{id}");
    let shown = poll(PATIENCE, "the attempt is counted", async || {
        Some(face.get(&path).await).filter(|shown| shown["health"]["state"] != "unknown")
    })
    .await;
    assert_eq!(shown["health"]["state"], "healthy");
    assert!(shown["health"]["p50_latency_ms"].is_u64() && shown["health"]["last_check_at"].is_string(), "{shown}");
    let health = face.get(&format!("/{id}/health")).await;
    for window in ["1m", "5m", "1h"] {
        let window = &health["windows"][window];
        assert_eq!(
            (&window["requests"], &window["errors"], &window["success_rate"]),
            (&json!(1), &json!(0), &json!(1.0))
        );
        assert!(["p50", "p90", "p95", "p99"].iter().all(|it| window["latency_ms"][it].is_u64()), "{health}");
    }

    // "Update a provider (rotate key)"
    let rotated = face.good(Method::PATCH, &path, json!({"api_key": NEW})).await;
    expected["verification"] = json!("verified");
    assert_eq!(rotated, expected, "a new key has seen no traffic");
    assert_eq!(upstream.seen().last().unwrap().bearer(), NEW);
    assert!(!face.file().contains("canary") && face.file().contains("// Kept by every write."), "{}", face.file());

    let gone = face.good(Method::DELETE, &path, Value::Null).await;
    assert_eq!(gone, json!({"id": id, "deleted": true}));
    assert!(!face.gateway.output().contains("canary"), "{}", face.gateway.output());
}

/// The documented shape of an error, on every route that names a provider.
#[tokio::test]
async fn what_is_not_there() {
    let face = Face::start("");
    let (id, path) = ("prov_01HXY", "/prov_01HXY".to_owned());
    let error = refused(&face.call(Method::GET, &path, "").await, 404, "provider_not_found");
    assert_eq!(
        error,
        json!({"type": "not_found", "message": format!("provider {id} not found"), "code": "provider_not_found",
            "resource": "provider", "id": id})
    );
    for (method, path) in
        [(Method::PATCH, path.clone()), (Method::DELETE, path.clone()), (Method::GET, format!("{path}/health"))]
    {
        assert_eq!(refused(&face.call(method, &path, "{}").await, 404, "provider_not_found"), error);
    }
}

/// "Valid vendors", with what each calls a key.
#[tokio::test]
async fn vendors_and_their_keys() {
    let face = Face::start("");
    let bedrock = json!({
    "vendor": "bedrock",
    "name": "Bedrock US-West",
    "api_key": "AKIAIOSFODNN7EXAMPLE::wJalrXUtnFEMI-canary::us-west-2",
    "base_url": null
    });
    let made = face.good(Method::POST, "", bedrock).await;
    assert_eq!((&made["vendor"], &made["name"]), (&json!("bedrock"), &json!("Bedrock US-West")));
    let session = json!({"api_key": "AKIAIOSFODNN7EXAMPLE::wJalrXUtnFEMI-canary::eu-west-1::session-canary"});
    let patched = face.good(Method::PATCH, &format!("/{}", made["id"].as_str().unwrap()), session).await;
    assert_eq!(patched["verification"], "unsupported", "no call of Bedrock's is free of cost");
    assert!(
        face.file().contains("\"region\": \"eu-west-1\"") && face.file().contains("session_token"),
        "{}",
        face.file()
    );
    let azure = json!({"vendor": "azure", "name": "west", "api_key": OLD, "base_url": "https://west.openai.azure.com"});
    let made = face.good(Method::POST, "", azure).await;
    assert_eq!(made["base_url"], "https://west.openai.azure.com");
    assert!(face.file().contains("azure_key_config"), "{}", face.file());
    for (vendor, more) in [("anthropic", "a"), ("google", "b"), ("groq", "c"), ("fireworks", "d"), ("mistral", "e")] {
        let made = face.good(Method::POST, "", json!({"vendor": vendor, "name": more, "api_key": "env.OLD_KEY"})).await;
        assert_eq!(made["vendor"], vendor);
    }
}

#[tokio::test]
async fn pages_while_the_list_changes() {
    let keys: Vec<String> = (0..7).map(|n| format!(r#"{{"name": "k{n}", "value": "env.OLD_KEY"}}"#)).collect();
    let upstream = Upstream::scripted([Answer::json(200, "{}")]);
    let face = Face::start(&at("openai", &upstream, &keys.join(", "), ""));
    let mut seen = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = face.get(&query).await;
        let data = page["data"].as_array().unwrap();
        seen.extend(data.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        assert_eq!(page["has_more"], json!(!page["next_cursor"].is_null()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=3&cursor={cursor}");
        // What was shown goes, and another comes.
        face.good(Method::DELETE, &format!("/{}", data[2]["id"].as_str().unwrap()), Value::Null).await;
    }
    seen.sort();
    assert_eq!(seen, ["k0", "k1", "k2", "k3", "k4", "k5", "k6"]);
    for query in ["?limit=0", "?limit=201", "?limit=many", "?cursor=nothing"] {
        assert_eq!(face.call(Method::GET, query, "").await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let upstream = Upstream::start(|seen| match seen.bearer() {
        OLD => Answer::json(200, r#"{"data": []}"#),
        "sk-canary-slow-0123456789" => Answer::hang(),
        "sk-canary-odd-0123456789" => Answer::json(500, r#"{"error": "canary"}"#),
        _ => Answer::json(401, r#"{"error": {"message": "bad key canary"}}"#),
    });
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let slow = r#", "default_request_timeout_in_seconds": 1"#;
    let face = Face::start(&format!(
        r#"{}, "groq": {{"network_config": {{"base_url": "http://{nowhere}"}}, "keys": [{{"name": "g", "value": "env.OLD_KEY"}}]}}
  }}, "routes": {{"@fast": {{"targets": ["openai/gpt-4o"]}}"#,
        at("openai", &upstream, r#"{"name": "main", "value": "env.OLD_KEY"}"#, slow)
    ));
    let before = face.file();
    let list = face.get("").await;
    let id_of = |vendor: &str| {
        let found = list["data"].as_array().unwrap().iter().find(|it| it["vendor"] == vendor).unwrap().clone();
        format!("/{}", found["id"].as_str().unwrap())
    };
    let (openai, groq) = (id_of("openai"), id_of("groq"));
    let create = |body: Value| (Method::POST, String::new(), body);
    let patch = |path: &str, body: Value| (Method::PATCH, path.to_owned(), body);
    for ((method, path, body), status, code) in [
        (create(json!([])), 400, "invalid_json"),
        (create(json!({"vendor": "openai", "api_key": OLD})), 422, "missing_field"),
        (create(json!({"name": "x", "api_key": OLD})), 422, "missing_field"),
        (create(json!({"vendor": "openai", "name": "x"})), 422, "missing_field"),
        (create(json!({"vendor": "openai", "name": 7, "api_key": OLD})), 400, "wrong_type"),
        (create(json!({"vendor": "nobody", "name": "x", "api_key": OLD})), 422, "unknown_vendor"),
        (create(json!({"vendor": "mock", "name": "x", "api_key": OLD})), 422, "unknown_vendor"),
        (create(json!({"vendor": "openai", "name": "x", "api_key": OLD, "status": "active"})), 422, "unknown_member"),
        (create(json!({"vendor": "openai", "name": "x", "api_key": "env.UNSET_KEY"})), 422, "unresolved_reference"),
        (
            create(json!({"vendor": "openai", "name": "x", "api_key": OLD, "base_url": "http://10.0.0.1"})),
            422,
            "address_not_allowed",
        ),
        (create(json!({"vendor": "azure", "name": "x", "api_key": OLD})), 422, "missing_field"),
        (create(json!({"vendor": "bedrock", "name": "x", "api_key": "AKIA::only"})), 422, "invalid_value"),
        (create(json!({"vendor": "openai", "name": "main", "api_key": OLD})), 409, "duplicate_key_name"),
        (patch(&openai, json!({"vendor": "groq"})), 422, "unknown_member"),
        (patch(&openai, json!({"status": "error"})), 422, "invalid_value"),
        (patch(&openai, json!({"base_url": 7})), 400, "wrong_type"),
        (patch(&openai, json!({"base_url": "https://elsewhere.example"})), 422, "secret_required_for_new_destination"),
        (patch(&openai, json!({"api_key": "********"})), 422, "mask_mismatch"),
        (patch(&openai, json!({"api_key": "sk-canary-wrong-0123456789"})), 422, "verification_failed"),
        (patch(&openai, json!({"api_key": "sk-canary-odd-0123456789"})), 422, "verification_failed"),
        (patch(&openai, json!({"api_key": "sk-canary-slow-0123456789"})), 504, "verification_failed"),
        (patch(&groq, json!({"api_key": NEW})), 502, "verification_failed"),
        ((Method::DELETE, openai.clone(), Value::Null), 409, "route_target"),
    ] {
        let reply = face.call(method.clone(), &path, &body.to_string()).await;
        if code == "route_target" {
            assert!(reply.status == 409 && reply.text().contains("@fast"), "{}", reply.text());
        } else {
            refused(&reply, status, code);
        }
        assert!(face.file() == before, "{method} {path} {body}");
        if !path.is_empty() {
            assert_eq!(reply.json()["error"]["resource"], "provider", "{}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_credential_is_switched_off_and_on() {
    let face = Face::start(r#""openai": {"keys": [{"name": "main", "value": "env.OLD_KEY"}]}"#);
    let path = face.first().await;
    let off = face.good(Method::PATCH, &path, json!({"status": "disabled", "name": "renamed"})).await;
    assert_eq!((&off["status"], &off["name"]), (&json!("disabled"), &json!("renamed")));
    assert_eq!(format!("/{}", off["id"].as_str().unwrap()), path, "a rename leaves the id");
    assert_eq!(face.good(Method::PATCH, &path, json!({"status": "active"})).await["status"], "active");
    // Authentication as on every face.
    let url = face.gateway.url("/manage/v1/providers");
    let project = format!("Bearer {PROJECT}");
    assert_eq!(send(request(Method::GET, &url, &[], "")).await.status, 401);
    assert_eq!(send(request(Method::GET, &url, &[("authorization", &project)], "")).await.status, 403);
}

/// Failures and rests are seen in the state.
#[tokio::test]
async fn health_follows_the_traffic() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let upstream = Upstream::start(move |_| match fails.load(Ordering::SeqCst) {
        true => Answer::json(500, "{}"),
        false => Answer::json(200, "{}"),
    });
    let config = format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{{}}}}}"#,
        at("openai", &upstream, r#"{"name": "main", "value": "env.OLD_KEY"}"#, "")
    );
    let gateway = launch(config).env("OLD_KEY", OLD).start();
    let get = async |path: &str| crate::support::client::get(&gateway.url(path)).await.json();
    let id = get("/manage/v1/providers").await["data"][0]["id"].as_str().unwrap().to_owned();
    let health = format!("/manage/v1/providers/{id}/health");
    let state = async |wanted: &str, requests: u64| {
        poll(PATIENCE, wanted, async || {
            let health = get(&health).await;
            (health["state"] == wanted && health["windows"]["1m"]["requests"] == requests).then_some(health)
        })
        .await
    };
    assert_eq!(get(&health).await["windows"]["1m"]["success_rate"], Value::Null);
    let chat = gateway.url("/v1/chat/completions");
    let ask = || post_json(&chat, r#"{"model": "openai/m", "messages": []}"#);
    for _ in 0..4 {
        assert_eq!(ask().await.status, 200);
    }
    state("healthy", 4).await;
    failing.store(true, Ordering::SeqCst);
    assert_eq!(ask().await.status, 500);
    let degraded = state("degraded", 5).await;
    assert_eq!(
        (&degraded["windows"]["1h"]["errors"], &degraded["windows"]["5m"]["success_rate"]),
        (&json!(1), &json!(0.8))
    );
    for _ in 0..10 {
        ask().await;
    }
    let down = poll(PATIENCE, "down", async || Some(get(&health).await).filter(|it| it["state"] == "down")).await;
    assert!(down["last_check_at"].is_string(), "{down}");
}

/// Requests come all the time while the key is rotated: none fails, and after an answer no attempt
/// begins with a key from before it.
#[tokio::test]
async fn a_rotation_under_load() {
    let upstream = Upstream::start(|seen| match seen.method {
        Method::GET => Answer::json(200, r#"{"data": []}"#),
        // Long enough that each rotation meets requests under way.
        _ => Answer::json(200, "{}").first(Step::Pause(Duration::from_millis(30))),
    });
    let face = Face::start(&at("openai", &upstream, r#"{"name": "main", "value": "env.OLD_KEY"}"#, ""));
    let path = face.first().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (stop, url) = (Arc::clone(&stop), face.gateway.url("/v1/chat/completions"));
        callers.spawn(async move {
            let bearer = format!("Bearer {PROJECT}");
            let headers = [("authorization", &*bearer), ("content-type", "application/json")];
            let mut served = 0;
            while !stop.load(Ordering::SeqCst) {
                let body = r#"{"model": "openai/m", "messages": []}"#;
                let reply = send(request(Method::POST, &url, &headers, body)).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                served += 1;
            }
            served
        });
    }
    let key = |turn: usize| format!("sk-canary-turn-{turn}-0123456789");
    let mut answered: Vec<Instant> = Vec::new();
    upstream.wait_seen(16).await;
    // The last turn goes back to the secret of the first.
    let turns = [0, 1, 2, 3, 0];
    for turn in turns {
        let rotated = face.good(Method::PATCH, &path, json!({"api_key": key(turn)})).await;
        assert_eq!(rotated["verification"], "verified");
        answered.push(Instant::now());
        let count = upstream.seen().len();
        upstream.wait_seen(count + 16).await;
    }
    stop.store(true, Ordering::SeqCst);
    let served: usize = callers.join_all().await.into_iter().sum();
    let attempts: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.method == Method::POST).collect();
    assert_eq!(attempts.len(), served, "no attempt was made twice, none was lost");
    for attempt in &attempts {
        let past = answered.iter().filter(|answer| **answer < attempt.at).count();
        let allowed: Vec<String> = match past {
            0 => vec![OLD.to_owned(), key(turns[0])],
            // The next may serve before its answer has come.
            past => turns[past - 1..].iter().take(2).map(|turn| key(*turn)).collect(),
        };
        assert!(allowed.iter().any(|key| key == attempt.bearer()), "{} after {past} answers", attempt.bearer());
    }
    println!("{served} requests over {} rotations", turns.len());
}
