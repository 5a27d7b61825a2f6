//! The Redeo face: its documented examples as they stand there, what it refuses, and its order of
//! connections as the data plane follows it.

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{PATIENCE, Reply, get, poll, post_json, request, send};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Upstream};

const MANAGER: &str = "mlx_mk_00000000000000000000000000000000000002woz6J";
const PROJECT: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const SECRET: &str = "sk-proj-abc1canary0123456789-canary-0123456789abcd";

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
  "server": {{"listen": ["127.0.0.1:0"]}},
  "management": {{"keys": [{{"name": "ops", "value": "env.OPS"}}], "rate_limit_per_minute": 100000}},
  "projects": [{{"id": "app", "keys": [{{"name": "ci", "value": "env.CI"}}], "models": ["*"]}}],
  "providers": {{{providers}}}
}}
"#
        );
        let launch = launch(config).env("OPS", MANAGER).env("CI", PROJECT).env("A_KEY", SECRET);
        Self { gateway: launch.start(), bearer: format!("Bearer {MANAGER}") }
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> Reply {
        let headers = [("authorization", &*self.bearer), ("content-type", "application/json")];
        let reply =
            send(request(method, &self.gateway.url(&format!("/v1/providers{path}")), &headers, body.to_owned())).await;
        assert!(!reply.text().contains("canary"), "{}", reply.text());
        reply
    }

    async fn post(&self, body: Value) -> Reply {
        self.call(Method::POST, "", &body.to_string()).await
    }

    async fn list(&self) -> Vec<Value> {
        let reply = self.call(Method::GET, "", "").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["data"].as_array().unwrap().clone()
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.gateway.config_path()).unwrap()
    }
}

#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) {
    let error = &reply.json()["error"];
    assert_eq!((reply.status.as_u16(), error["code"].as_str()), (status, Some(code)), "{}", reply.text());
    assert!(!error["message"].as_str().unwrap().is_empty() && !error["type"].as_str().unwrap().is_empty(), "{error}");
}

/// Every example of the documentation, host and key changed.
#[tokio::test]
async fn the_documented_examples() {
    let face = Face::start(r#""mock": {}"#);
    // "No authentication required."
    let catalogue = get(&face.gateway.url("/v1/providers/catalog")).await;
    assert_eq!((catalogue.status.as_u16(), catalogue.header("content-type")), (200, "application/json"));
    let catalogue = catalogue.json();
    let first = json!({ "id": "openai", "label": "OpenAI", "credentialKind": "api_key", "supportsEndpoint": false });
    assert_eq!(catalogue["data"][0], first);
    let named = |id: &str| catalogue["data"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned();
    assert_eq!(named("azure").unwrap()["supportsEndpoint"], true);
    assert_eq!(named("bedrock").unwrap()["credentialKind"], "aws_credentials");
    assert!(named("anthropic").is_some() && named("mock").is_none(), "{catalogue}");
    // "All provider endpoints require authentication."
    let list = face.gateway.url("/v1/providers");
    assert_eq!(get(&list).await.status, 401);
    let project = format!("Bearer {PROJECT}");
    assert_eq!(send(request(Method::GET, &list, &[("authorization", &project)], "")).await.status, 403);
    assert_eq!(face.list().await, Vec::<Value>::new(), "a keyless provider is no connection");

    let body = format!(
        r#"{{
    "provider": "openai",
    "api_key": "{SECRET}",
    "priority": 500,
    "label": "My OpenAI Key"
  }}"#
    );
    let made = face.call(Method::POST, "", &body).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let listed = face.list().await;
    assert_eq!(listed, [made.json()]);
    let updated_at = made.json()["updated_at"].as_str().unwrap().to_owned();
    assert!(time::OffsetDateTime::parse(&updated_at, &time::format_description::well_known::Rfc3339).is_ok());
    assert_eq!(
        listed[0],
        json!({
          "provider": "openai",
          "label": "My OpenAI Key",
          "priority": 500,
          "key_prefix": "sk-proj-abc1",
          "updated_at": updated_at
        })
    );
    let text = face.file();
    assert!(
        text.contains("// Kept by every write.") && text.contains("sealed:v1:") && !text.contains("canary"),
        "{text}"
    );

    let patched = face
        .call(
            Method::PATCH,
            "/openai",
            r#"{
    "api_key": "sk-proj-new-key-0123456789-0123456789-0123456789",
    "priority": 100
  }"#,
        )
        .await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    let expected = ("My OpenAI Key", 100, "sk-proj-new-");
    let item = patched.json();
    assert_eq!(
        (item["label"].as_str().unwrap(), item["priority"].as_i64().unwrap(), item["key_prefix"].as_str().unwrap()),
        expected
    );
    assert_eq!(face.list().await, [item]);

    let gone = face.call(Method::DELETE, "/openai", "").await;
    assert_eq!((gone.status.as_u16(), gone.json()), (200, json!({ "ok": true })));
    assert_eq!(face.list().await, Vec::<Value>::new());
    refused(&face.call(Method::DELETE, "/openai", "").await, 404, "not_found");
    assert!(!face.gateway.output().contains("canary"), "{}", face.gateway.output());
}

#[tokio::test]
async fn one_connection_is_updated_and_of_several_the_label_says_which() {
    let face = Face::start(r#""groq": {"keys": []}"#);
    let made = face.post(json!({"provider": "groq", "api_key": "env.A_KEY", "label": "one"})).await.json();
    assert_eq!((&made["priority"], &made["key_prefix"]), (&json!(500), &json!("")), "a reference shows nothing");
    let id = |text: &str| text.split("\"id\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let first = id(&face.file());
    // Another content and another label for the one that there is.
    let again = face.post(json!({"provider": "groq", "api_key": SECRET, "label": "uno"})).await.json();
    assert_eq!(
        (&again["label"], &again["priority"], &again["key_prefix"]),
        (&json!("uno"), &json!(500), &json!("sk-proj-abc1"))
    );
    assert_eq!((face.list().await.len(), id(&face.file())), (1, first));
    // The next provider stands behind; nothing stands behind 1000.
    let next = |provider: &'static str| {
        let face = &face;
        async move { face.post(json!({"provider": provider, "api_key": "env.A_KEY"})).await.json()["priority"].clone() }
    };
    assert_eq!(next("cerebras").await, 510);
    assert_eq!(face.call(Method::PATCH, "/cerebras", r#"{"priority": 995}"#).await.json()["priority"], 995);
    assert_eq!((next("together").await, next("nebius").await), (json!(1000), json!(1000)));
    let order: Vec<_> = face.list().await.iter().map(|it| it["provider"].as_str().unwrap().to_owned()).collect();
    assert_eq!(order, ["groq", "cerebras", "together", "nebius"]);

    // A second key, made through another face, is seen here at once.
    let url = face.gateway.url("/api/providers/groq/keys");
    let headers = [("authorization", &*face.bearer), ("content-type", "application/json")];
    let body = r#"{"name": "due", "value": "env.A_KEY", "priority": 3}"#;
    assert_eq!(send(request(Method::POST, &url, &headers, body)).await.status, 200);
    assert_eq!(face.list().await[0]["label"], "due");
    for (method, path, body) in [
        (Method::POST, "", json!({"provider": "groq", "api_key": "env.A_KEY"})),
        (Method::POST, "", json!({"provider": "groq", "api_key": "env.A_KEY", "label": "tre"})),
        (Method::PATCH, "/groq", json!({"priority": 1})),
        (Method::DELETE, "/groq", json!({})),
    ] {
        let reply = face.call(method.clone(), path, &body.to_string()).await;
        refused(&reply, 409, "several_connections");
        assert!(reply.text().contains("uno, due"), "{method}: {}", reply.text());
    }
    let by_label = face.post(json!({"provider": "groq", "api_key": "env.A_KEY", "label": "due", "priority": 4})).await;
    assert_eq!((&by_label.json()["label"], &by_label.json()["priority"]), (&json!("due"), &json!(4)));
    let renamed = face.call(Method::PATCH, "/groq?label=uno", r#"{"label": "My Key"}"#).await;
    assert_eq!((&renamed.json()["label"], &renamed.json()["priority"]), (&json!("My Key"), &json!(500)));
    refused(&face.call(Method::PATCH, "/groq?label=uno", r#"{"priority": 1}"#).await, 404, "not_found");
    refused(&face.call(Method::PATCH, "/groq?label=due", r#"{"label": "My Key"}"#).await, 409, "duplicate_key_name");
    assert_eq!(face.call(Method::DELETE, "/groq?label=My%20Key", "").await.json(), json!({"ok": true}));
    assert_eq!(face.list().await.iter().filter(|it| it["provider"] == "groq").count(), 1);
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let face = Face::start(
        r#""openai": {"keys": [{"name": "main", "value": "env.A_KEY"}]},
    "azure": {"keys": [{"name": "west", "value": "env.A_KEY", "azure_key_config": {"endpoint": "https://west.openai.azure.com"}}]},
    "mock": {}}, "routes": {"@fast": {"targets": ["openai/gpt-4o"]}"#,
    );
    let before = face.file();
    let long = "x".repeat(65);
    let api_key = "sk-0123456789";
    for (body, status, code) in [
        ("".to_owned(), 400, "invalid_json"),
        ("{".to_owned(), 400, "invalid_json"),
        ("[]".to_owned(), 400, "invalid_json"),
        (json!({"provider": "groq"}).to_string(), 422, "missing_field"),
        (json!({"api_key": api_key}).to_string(), 422, "missing_field"),
        (json!({"provider": 7, "api_key": api_key}).to_string(), 400, "wrong_type"),
        (json!({"provider": "groq", "api_key": {"value": "x"}}).to_string(), 400, "wrong_type"),
        (json!({"provider": "groq", "api_key": ""}).to_string(), 422, "invalid_value"),
        (json!({"provider": "groq", "api_key": "********"}).to_string(), 422, "invalid_value"),
        (json!({"provider": "groq", "api_key": "env.KEYWAY_SECRET"}).to_string(), 422, "reference_not_allowed"),
        (json!({"provider": "groq", "api_key": "env.UNSET_KEY"}).to_string(), 422, "unresolved_reference"),
        (json!({"provider": "nobody", "api_key": api_key}).to_string(), 422, "unknown_provider"),
        (json!({"provider": "mock", "api_key": api_key}).to_string(), 422, "provider_is_keyless"),
        (json!({"provider": "groq", "api_key": api_key, "priority": 1001}).to_string(), 422, "invalid_value"),
        (json!({"provider": "groq", "api_key": api_key, "priority": -1}).to_string(), 422, "invalid_value"),
        (json!({"provider": "groq", "api_key": api_key, "priority": 1.5}).to_string(), 422, "invalid_value"),
        (json!({"provider": "groq", "api_key": api_key, "priority": "500"}).to_string(), 400, "wrong_type"),
        (json!({"provider": "groq", "api_key": api_key, "label": long}).to_string(), 422, "invalid_value"),
        (
            json!({"provider": "groq", "api_key": api_key, "endpoint": "https://x.example"}).to_string(),
            422,
            "invalid_value",
        ),
        (json!({"provider": "groq", "api_key": api_key, "weight": 1}).to_string(), 422, "unknown_member"),
        (
            json!({"provider": "vllm", "api_key": api_key, "endpoint": "http://127.0.0.1:1"}).to_string(),
            422,
            "address_not_allowed",
        ),
        (json!({"provider": "bedrock", "api_key": "AKIA::secret"}).to_string(), 422, "invalid_value"),
    ] {
        refused(&face.call(Method::POST, "", &body).await, status, code);
        assert!(face.file() == before, "{body}");
    }
    let move_it = json!({"endpoint": "https://east.openai.azure.com"}).to_string();
    let moved = face.call(Method::PATCH, "/azure", &move_it).await;
    refused(&moved, 422, "secret_required_for_new_destination");
    let last = face.call(Method::DELETE, "/openai", "").await;
    assert!(last.status == 409 && last.text().contains("@fast"), "{}", last.text());
    refused(&face.call(Method::PATCH, "/absent", "{}").await, 404, "not_found");
    refused(&face.call(Method::PUT, "/openai", "{}").await, 405, "method_not_allowed");
    assert!(face.file() == before, "{}", face.file());
    // With the secret it may go.
    let anew = json!({"endpoint": "https://east.openai.azure.com", "api_key": SECRET}).to_string();
    let moved = face.call(Method::PATCH, "/azure", &anew).await.json();
    assert_eq!(
        (&moved["endpoint"], &moved["key_prefix"]),
        (&json!("https://east.openai.azure.com"), &json!("sk-proj-abc1"))
    );
    let bedrock =
        json!({"provider": "bedrock", "api_key": "AKIAIOSFODNN7EXAMPLE::canary/canary+0123456789::us-west-2"});
    let made = face.post(bedrock).await;
    assert_eq!((made.status.as_u16(), &made.json()["key_prefix"]), (200, &json!("AKIAI")), "{}", made.text());
    assert!(face.file().contains("\"region\": \"us-west-2\"") && !face.file().contains("canary"), "{}", face.file());
}

/// An upstream that lists one model, and answers to a call with the status of the moment.
fn upstream(name: &'static str, status: std::sync::Arc<std::sync::atomic::AtomicU16>) -> Upstream {
    Upstream::start(move |seen| match seen.method {
        Method::GET => Answer::json(200, r#"{"data": [{"id": "shared-1"}]}"#),
        _ => match status.load(std::sync::atomic::Ordering::SeqCst) {
            200 => Answer::json(200, format!(r#"{{"served_by": "{name}"}}"#)),
            status => Answer::json(status, r#"{"error": {"message": "no", "code": "no"}}"#),
        },
    })
}

/// "It routes through your connections in priority order with automatic fallback."
#[tokio::test]
async fn three_connections_fail_in_turn() {
    let statuses: [std::sync::Arc<std::sync::atomic::AtomicU16>; 3] =
        std::array::from_fn(|_| std::sync::Arc::new(std::sync::atomic::AtomicU16::new(200)));
    let names = ["groq", "cerebras", "together"];
    let upstreams: Vec<Upstream> =
        names.iter().zip(&statuses).map(|(name, status)| upstream(name, status.clone())).collect();
    let providers: Vec<String> = names
        .iter()
        .zip(&upstreams)
        .map(|(name, up)| format!(r#""{name}": {{"network_config": {{"base_url": "{}"}}}}"#, up.base()))
        .collect();
    let config = format!(r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{{}}}}}"#, providers.join(", "));
    let gateway = launch(config).start();
    // Against the order of the file: the last is tried first.
    for (name, priority) in [("groq", 30), ("cerebras", 20), ("together", 10)] {
        let body = json!({"provider": name, "api_key": format!("sk-{name}-0123456789"), "priority": priority});
        let made = post_json(&gateway.url("/v1/providers"), body.to_string()).await;
        assert_eq!(made.status, 200, "{}", made.text());
    }
    // Each was asked for its models when it was connected: the bare name leads to all three.
    let url = gateway.url("/api/explain?model=shared-1");
    poll(PATIENCE, "three lists", async || {
        let explained = get(&url).await.json();
        (explained["keys"].as_array().is_some_and(|keys| keys.len() == 3)).then_some(())
    })
    .await;
    let chat = gateway.url("/v1/chat/completions");
    let ask = || post_json(&chat, r#"{"model": "shared-1", "messages": []}"#);
    let set = |at: usize, status: u16| statuses[at].store(status, std::sync::atomic::Ordering::SeqCst);
    for (failing, status, expected) in [(None, 200, "together"), (Some(2), 401, "cerebras"), (Some(1), 429, "groq")] {
        if let Some(at) = failing {
            set(at, status);
        }
        let reply = ask().await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["served_by"].as_str()),
            (200, Some(expected)),
            "{}",
            reply.text()
        );
        assert_eq!(reply.header("x-keyway-provider"), expected);
    }
    set(0, 500);
    let reply = ask().await;
    assert!(reply.status.is_server_error(), "{}", reply.text());
    let calls = |at: usize| upstreams[at].seen().iter().filter(|seen| seen.method == Method::POST).count();
    assert!(calls(2) >= 2 && calls(1) >= 2 && calls(0) >= 2, "each was tried in its turn");
}

/// Where management has listeners of its own, these paths are nobody's: no upstream sees them.
#[tokio::test]
async fn nothing_here_is_relayed() {
    let upstream = Upstream::scripted([Answer::json(200, "{}")]);
    let config = format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "management": {{"listen": ["127.0.0.2:0"]}},
        "providers": {{"openai": {{"network_config": {{"base_url": "{}"}}, "keys": [{{"name": "a", "value": "env.A_KEY"}}]}}}}}}"#,
        upstream.base()
    );
    let gateway = launch(config).env("A_KEY", SECRET).listeners(2).start();
    let (data, management) = (gateway.addresses()[0].clone(), gateway.addresses()[1].clone());
    for (base, expected) in [(&data, 404), (&management, 200)] {
        for path in ["/v1/providers", "/v1/providers/catalog"] {
            assert_eq!(get(&format!("{base}{path}")).await.status, expected, "{base}{path}");
        }
    }
    for path in ["/v1/providers/openai", "/v1/Providers", "/v1/providersx", "/v1/providers/openai/keys"] {
        for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
            let headers = [("content-type", "application/json"), ("anthropic-version", "2023-06-01")];
            let reply = send(request(method.clone(), &format!("{data}{path}"), &headers, "{}")).await;
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text());
        }
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}
