//! Azure from outside: the paths and headers of both of its APIs, and the tokens of Entra, against the
//! mock that checks what it is sent.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::support::client::{self, Reply, request, send};
use crate::support::gateway::{Gateway, Mock, launch};
use crate::support::upstream::{Answer, Upstream};

fn config(keys: &[Value]) -> String {
    json!({
        "server": {"listen": ["127.0.0.1:0"]},
        "observability": {"access_log": false},
        "providers": {"azure": {"keys": keys}},
    })
    .to_string()
}

fn key(config: Value) -> Value {
    json!({"name": "one", "azure_key_config": config})
}

async fn ask(gateway: &Gateway, path: &str, body: Value) -> Reply {
    let headers = [("content-type", "application/json"), ("authorization", "Bearer sk-of-the-caller")];
    send(request(Method::POST, &gateway.url(path), &headers, body.to_string())).await
}

async fn chat(gateway: &Gateway) -> Reply {
    ask(gateway, "/v1/chat/completions", json!({"model": "azure/m", "messages": [{"role": "user", "content": "hi"}]}))
        .await
}

/// Requests that the mock saw at a path that ends so.
async fn seen(mock: &Mock, tail: &str) -> Vec<Value> {
    let all = client::get(&format!("{}/__mock/requests", mock.base())).await.json();
    let all = all["requests"].as_array().unwrap().clone();
    all.into_iter().filter(|seen| seen["path"].as_str().unwrap().ends_with(tail)).collect()
}

#[tokio::test]
async fn both_apis_by_key() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let base = upstream.base();
    let dated = Some("2024-10-21");
    for (endpoint, version, path, body, line) in [
        (base.clone(), None, "/v1/chat/completions", json!({"model": "azure/a"}), "/openai/v1/chat/completions"),
        (
            format!("{base}/openai/v1/"),
            Some("v1"),
            "/v1/embeddings",
            json!({"model": "azure/a"}),
            "/openai/v1/embeddings",
        ),
        (
            format!("{base}/openai"),
            Some("preview"),
            "/v1/responses",
            json!({"model": "azure/a"}),
            "/openai/v1/responses?api-version=preview",
        ),
        (
            base.clone(),
            dated,
            "/v1/chat/completions",
            json!({"model": "azure/a"}),
            "/openai/deployments/dep%2F1/chat/completions?api-version=2024-10-21",
        ),
        (format!("{base}/openai"), dated, "/v1/responses", json!({"model": "azure/b"}), "/openai/v1/responses"),
        (
            base.clone(),
            dated,
            "/openai/deployments/a/embeddings?api-version=2023-05-15",
            json!({"input": "x"}),
            "/openai/deployments/dep%2F1/embeddings?api-version=2024-10-21",
        ),
    ] {
        upstream.forget();
        let mut key = key(json!({"endpoint": endpoint, "api_version": version}));
        key["value"] = json!("azure-key-0123456789abcdef");
        key["aliases"] = json!({"a": "dep/1"});
        if version.is_none() {
            key["azure_key_config"].as_object_mut().unwrap().remove("api_version");
        }
        let gateway = Gateway::start(config(&[key]));
        let reply = ask(&gateway, path, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = upstream.only();
        assert_eq!(seen.path, line);
        assert_eq!(seen.header("api-key"), "azure-key-0123456789abcdef");
        assert_eq!(seen.header("authorization"), "", "the caller's stays here");
        assert_eq!(reply.header("x-keyway-provider"), "azure");
    }
}

/// Claude of a resource: below the endpoint, whichever API its deployments speak, by a header of its own.
#[tokio::test]
async fn claude_of_a_resource() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    for version in ["v1", "preview", "2024-10-21"] {
        upstream.forget();
        let mut key = key(json!({"endpoint": upstream.base(), "api_version": version}));
        key["value"] = json!("azure-key-0123456789abcdef");
        let gateway = Gateway::start(config(&[key]));
        let body = json!({"model": "azure/claude", "max_tokens": 1, "messages": []});
        let reply = ask(&gateway, "/anthropic/v1/messages", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = upstream.only();
        assert_eq!(seen.path, "/anthropic/v1/messages");
        assert_eq!((seen.header("x-api-key"), seen.header("api-key")), ("azure-key-0123456789abcdef", ""));
        assert_eq!((seen.header("anthropic-version"), &seen.json()["model"]), ("2023-06-01", &json!("claude")));
    }
}

#[tokio::test]
async fn a_token_of_entra_is_fetched_once_and_survives_a_reload() {
    let mock = Mock::start();
    let with = |version: &str, weight: u32| {
        let mut key = key(json!({
            "endpoint": mock.base(), "api_version": version, "tenant_id": "acme.onmicrosoft.com",
            "client_id": "app-1", "client_secret": "env.SECRET",
        }));
        key["weight"] = json!(weight);
        config(&[key])
    };
    let gateway =
        launch(with("2024-10-21", 1)).env("AZURE_AUTHORITY_HOST", mock.base()).env("SECRET", "secret-of-app-1").start();
    for reply in join_all((0..20).map(|_| chat(&gateway))).await {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(seen(&mock, "/acme.onmicrosoft.com/oauth2/v2.0/token").await.len(), 1, "one flight at a time");
    let shown = seen(&mock, "/chat/completions").await;
    assert_eq!(shown.len(), 20);
    assert!(shown.iter().all(|seen| seen["key"] == "entra.app-1.1"), "{shown:?}");

    gateway.write_config(&with("2024-10-21", 2));
    gateway.wait_generation(2).await;
    assert_eq!(chat(&gateway).await.status, 200);
    assert_eq!(seen(&mock, "/oauth2/v2.0/token").await.len(), 1, "the credential is the same");
}

#[tokio::test]
async fn tokens_that_end_are_fetched_ahead() {
    let mock = Mock::start();
    let key = key(json!({
        "endpoint": mock.base(), "api_version": "2024-10-21", "tenant_id": "t", "client_id": "app-lives-2",
        "client_secret": "secret-of-app-lives-2",
    }));
    let gateway = launch(config(&[key])).env("AZURE_AUTHORITY_HOST", mock.base()).start();
    let tokens = client::poll(client::PATIENCE, "a second token", async || {
        assert_eq!(chat(&gateway).await.status, 200);
        Some(seen(&mock, "/oauth2/v2.0/token").await.len()).filter(|count| *count >= 3)
    })
    .await;
    let asked = seen(&mock, "/chat/completions").await.len();
    assert!(tokens < asked, "{tokens} tokens for {asked} requests");
}

#[tokio::test]
async fn a_refused_application_is_a_credential_fault_and_says_nothing() {
    let mock = Mock::start();
    let good = json!({"name": "two", "value": "k-0123456789", "priority": 900,
        "azure_key_config": {"endpoint": mock.base(), "api_version": "2024-10-21"}});
    let bad = key(json!({
        "endpoint": mock.base(), "api_version": "2024-10-21", "tenant_id": "t", "client_id": "app-1",
        "client_secret": "canary-0123456789",
    }));
    let authority = |keys: &[Value], host: &str| launch(config(keys)).env("AZURE_AUTHORITY_HOST", host).start();

    let gateway = authority(&[bad.clone(), good], mock.base());
    let reply = chat(&gateway).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-keyway-attempts")), (200, "2"), "{}", reply.text());

    let gateway = authority(std::slice::from_ref(&bad), mock.base());
    let reply = chat(&gateway).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "upstream_credentials_exhausted");
    let told = async || gateway.output().contains("invalid_client").then_some(());
    client::poll(client::PATIENCE, "a log line with the issuer's code", told).await;
    assert!(!reply.text().contains("canary") && !gateway.output().contains("canary"));

    // Nobody listens there: not the key's fault.
    let gateway = authority(&[bad], "http://127.0.0.1:1");
    let reply = chat(&gateway).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "upstream_token_unavailable");
}

/// A passthrough that gets no token has tried the key, which is told.
#[tokio::test]
async fn a_refused_application_benches_its_key_on_passthrough_too() {
    let mock = Mock::start();
    let bad = key(json!({
        "endpoint": mock.base(), "api_version": "2024-10-21", "tenant_id": "t", "client_id": "app-1",
        "client_secret": "canary-0123456789",
    }));
    let gateway = launch(config(&[bad])).env("AZURE_AUTHORITY_HOST", mock.base()).start();
    let through = async || ask(&gateway, "/passthrough/azure/openai/v1/files", json!({})).await;
    let first = through().await;
    assert_eq!(first.status, 502, "{}", first.text());
    assert_eq!(first.json()["error"]["code"], "upstream_credentials_exhausted");
    let second = through().await;
    assert_eq!(second.status, 503, "{}", second.text());
    assert!(seen(&mock, "/files").await.is_empty());
    assert_eq!(seen(&mock, "/oauth2/v2.0/token").await.len(), 1);
}

#[tokio::test]
async fn what_the_machine_has() {
    let mock = Mock::start();
    let key = key(json!({"endpoint": mock.base(), "api_version": "2024-10-21"}));
    let plain = || launch(config(std::slice::from_ref(&key))).env("AZURE_AUTHORITY_HOST", mock.base());
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "assertion-of-pod\n").unwrap();
    for (launch, expected) in [
        (plain().env("AZURE_POD_IDENTITY_AUTHORITY_HOST", mock.base()), "entra.machine."),
        (
            plain()
                .env("AZURE_TENANT_ID", "t")
                .env("AZURE_CLIENT_ID", "pod")
                .env("AZURE_FEDERATED_TOKEN_FILE", token.path().to_str().unwrap()),
            "entra.pod.",
        ),
        (
            plain()
                .env("AZURE_TENANT_ID", "t")
                .env("AZURE_CLIENT_ID", "env")
                .env("AZURE_CLIENT_SECRET", "secret-of-env"),
            "entra.env.",
        ),
    ] {
        let gateway = launch.start();
        let reply = chat(&gateway).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = seen(&mock, "/chat/completions").await;
        let shown = seen.last().unwrap()["key"].as_str().unwrap().to_owned();
        assert!(shown.starts_with(expected), "{shown}");
    }
}

/// The machine's own identity goes to its cloud; an address that somebody chose does not collect it.
#[test]
fn an_ambient_identity_is_not_shown_to_strangers() {
    for endpoint in ["https://evil.example", "https://openai.azure.com.evil.example", "https://acme.azure-api.net"] {
        let (code, output) = launch(config(&[key(json!({"endpoint": endpoint}))])).refused();
        assert_eq!(code, 1, "{output}");
        assert!(output.contains("identity of this machine"), "{output}");
    }
}

/// Each with the field that its problem names.
#[test]
fn what_is_refused() {
    let whole =
        json!({"endpoint": "https://acme.openai.azure.com", "tenant_id": "t", "client_id": "c", "client_secret": "s"});
    for (member, value, field) in [
        ("tenant_id", json!("a/../b"), "tenant_id"),
        ("tenant_id", Value::Null, "tenant_id"),
        ("client_id", Value::Null, "client_id"),
        ("api_version", json!("2024&x=1"), "api_version"),
        ("endpoint", json!("https://u:p@h"), "endpoint"),
        ("endpoint", Value::Null, "base_url"),
        ("scopes", json!(["a b"]), "scopes"),
    ] {
        let mut changed = whole.clone();
        changed[member] = value;
        changed.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let (code, output) = launch(config(&[key(changed)])).refused();
        assert_eq!(code, 1, "{output}");
        assert!(output.contains(field), "{member}: {output}");
    }
}
