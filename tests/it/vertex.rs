//! Vertex from outside: where tokens of Google come from, against the mock that checks the signature of
//! a service account, and the paths of its OpenAI-compatible endpoint.

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{self, Reply, request, send};
use crate::support::gateway::{Gateway, Launch, Mock, launch};
use crate::support::upstream::{Answer, Upstream};

fn config(base: &str, key: &Value) -> String {
    json!({
        "server": {"listen": ["127.0.0.1:0"]},
        "observability": {"access_log": false},
        "providers": {"vertex": {"keys": [key], "network_config": {"base_url": base}}},
    })
    .to_string()
}

fn key(credentials: Option<Value>) -> Value {
    let mut key = json!({"name": "one", "vertex_key_config": {"region": "europe-west4", "project_id": "acme"}});
    if let Some(credentials) = credentials {
        key["vertex_key_config"]["auth_credentials"] = credentials;
    }
    key
}

async fn account(mock: &Mock) -> Value {
    client::get(&format!("{}/__mock/google-service-account.json", mock.base())).await.json()
}

fn at(mock: &Mock, key: &Value) -> Launch {
    launch(config(mock.base(), key)).env("CLOUDSDK_AUTH_TOKEN_HOST", &format!("{}/token", mock.base()))
}

async fn chat(gateway: &Gateway) -> Reply {
    let body = r#"{"model":"vertex/gemini-3-flash","messages":[{"role":"user","content":"hi"}]}"#;
    let headers = [("content-type", "application/json"), ("authorization", "Bearer sk-of-the-caller")];
    send(request(Method::POST, &gateway.url("/v1/chat/completions"), &headers, body)).await
}

/// Token of the last request for a model that the mock saw.
async fn shown(mock: &Mock) -> String {
    let all = client::get(&format!("{}/__mock/requests", mock.base())).await.json();
    let seen = all["requests"].as_array().unwrap().iter();
    let mut calls = seen
        .filter(|seen| seen["path"] == "/v1/projects/acme/locations/europe-west4/endpoints/openapi/chat/completions");
    calls.next_back().unwrap()["key"].as_str().unwrap().to_owned()
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let byte = |at: usize| group.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        (0..=group.len()).for_each(|place| out.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize])));
    }
    out
}

#[tokio::test]
async fn a_service_account_in_all_its_spellings() {
    let mock = Mock::start();
    let text = account(&mock).await.to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    for credentials in [json!(text), json!(base64(&text)), json!("env.GOOGLE_ACCOUNT"), json!({"file": file.path()})] {
        let gateway = at(&mock, &key(Some(credentials))).env("GOOGLE_ACCOUNT", &text).start();
        for _ in 0..2 {
            let reply = chat(&gateway).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert!(shown(&mock).await.starts_with("ya29.account."));
    }
    let all = client::get(&format!("{}/__mock/requests", mock.base())).await.json();
    let exchanged = all["requests"].as_array().unwrap().iter().filter(|seen| seen["path"] == "/token").count();
    assert_eq!(exchanged, 4, "one for each gateway");
}

#[tokio::test]
async fn what_the_machine_has() {
    let mock = Mock::start();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let user = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "secret-of-c", "refresh_token": "refresh-of-c",
    });
    file("application_default_credentials.json", &user.to_string());
    let named = file("account.json", &account(&mock).await.to_string());
    let host = mock.base().strip_prefix("http://").unwrap();
    let plain = || at(&mock, &key(None)).env("GCE_METADATA_HOST", host);
    let folder = dir.path().to_str().unwrap();
    for (launch, token) in [
        (plain(), "ya29.machine."),
        (plain().env("CLOUDSDK_CONFIG", folder), "ya29.user."),
        (plain().env("CLOUDSDK_CONFIG", folder).env("GOOGLE_APPLICATION_CREDENTIALS", &named), "ya29.account."),
    ] {
        let gateway = launch.start();
        let reply = chat(&gateway).await;
        assert_eq!(reply.status, 200, "{token}: {}", reply.text());
        assert!(shown(&mock).await.starts_with(token), "{}", shown(&mock).await);
    }
}

#[tokio::test]
async fn an_account_that_is_not_known_is_a_credential_fault_and_says_nothing() {
    let (mock, other) = (Mock::start(), Mock::start());
    // Signed with the key of another.
    let stranger = account(&other).await;
    let gateway = at(&mock, &key(Some(json!(stranger.to_string())))).start();
    let reply = chat(&gateway).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "upstream_credentials_exhausted");
    let told = async || gateway.output().contains("invalid_grant").then_some(());
    client::poll(client::PATIENCE, "a log line with the issuer's code", told).await;
    assert!(!gateway.output().contains("PRIVATE KEY"));
}

/// A token that the upstream does not take may have been withdrawn: the request goes out again with a new
/// one. If that is refused too, the key is at fault.
#[tokio::test]
async fn a_refused_token_is_fetched_anew_once() {
    let mock = Mock::start();
    let refusal = || Answer::json(401, r#"{"error":{"code":401,"status":"UNAUTHENTICATED","message":"no"}}"#);
    let account = account(&mock).await.to_string();
    for (answers, status) in
        [(vec![refusal(), Answer::json(200, "{}")], 200), (vec![refusal(), refusal(), Answer::json(200, "{}")], 502)]
    {
        let upstream = Upstream::scripted(answers);
        let mut key = key(None);
        key["vertex_key_config"]["auth_credentials"] = json!("env.GOOGLE_ACCOUNT");
        let gateway = launch(config(&upstream.base(), &key))
            .env("CLOUDSDK_AUTH_TOKEN_HOST", &format!("{}/token", mock.base()))
            .env("GOOGLE_ACCOUNT", &account)
            .start();
        let reply = chat(&gateway).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-keyway-attempts")), (status, "2"), "{}", reply.text());
        let tokens: Vec<String> = upstream.seen().iter().map(|seen| seen.bearer().to_owned()).collect();
        assert_eq!(tokens.len(), 2);
        assert!(tokens[0] != tokens[1] && tokens.iter().all(|token| token.starts_with("ya29.account.")), "{tokens:?}");
    }
}

#[tokio::test]
async fn the_model_and_the_project_that_pays() {
    let mock = Mock::start();
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let user = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "secret-of-c", "refresh_token": "refresh-of-c",
        "quota_project_id": "payer",
    });
    let gateway = launch(config(&upstream.base(), &key(Some(json!(user.to_string())))))
        .env("CLOUDSDK_AUTH_TOKEN_HOST", &format!("{}/token", mock.base()))
        .start();
    for (asked, told) in [("vertex/gemini-3-flash", "google/gemini-3-flash"), ("vertex/meta/llama-4", "meta/llama-4")] {
        upstream.forget();
        let body = json!({"model": asked, "messages": []}).to_string();
        let reply = client::post_json(&gateway.url("/v1/chat/completions"), body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = upstream.only();
        assert_eq!(seen.json()["model"], told);
        assert_eq!(seen.header("x-goog-user-project"), "payer");
    }
}

/// Claude and Gemini in their own dialects: the model in the path, the rest of the body as it came.
#[tokio::test]
async fn other_dialects_at_their_publishers() {
    let mock = Mock::start();
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let account = account(&mock).await;
    let mut key = key(Some(json!(account.to_string())));
    key["aliases"] = json!({"claude": "claude-x-20260101"});
    let gateway = launch(config(&upstream.base(), &key))
        .env("CLOUDSDK_AUTH_TOKEN_HOST", &format!("{}/token", mock.base()))
        .start();
    let below = "/v1/projects/acme/locations/europe-west4/publishers";
    for (path, version, body, line, sent) in [
        (
            "/anthropic/v1/messages",
            "2023-06-01",
            r#"{"fallbacks":["vertex/y"], "model" : "vertex/claude","max_tokens":1}"#,
            format!("{below}/anthropic/models/claude-x@20260101:rawPredict"),
            r#"{ "anthropic_version":"vertex-2023-10-16","max_tokens":1}"#,
        ),
        (
            "/anthropic/v1/messages?beta=true",
            "2026-10-21",
            r#"{"stream":true,"model":"vertex/claude"}"#,
            format!("{below}/anthropic/models/claude-x@20260101:streamRawPredict"),
            r#"{"stream":true,"anthropic_version":"2026-10-21"}"#,
        ),
        (
            "/anthropic/v1/messages/count_tokens",
            "2023-06-01",
            r#"{"model":"vertex/claude"}"#,
            format!("{below}/anthropic/models/count-tokens:rawPredict"),
            r#"{"model":"claude-x-20260101"}"#,
        ),
        (
            "/v1beta/models/vertex%2Fgemini-x:streamGenerateContent?alt=sse",
            "",
            r#"{"contents":[]}"#,
            format!("{below}/google/models/gemini-x:streamGenerateContent?alt=sse"),
            r#"{"contents":[]}"#,
        ),
    ] {
        upstream.forget();
        let headers =
            [("content-type", "application/json"), ("x-api-key", "of-the-caller"), ("anthropic-version", version)];
        let reply = send(request(Method::POST, &gateway.url(path), &headers, body)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let seen = upstream.only();
        assert_eq!((seen.path.as_str(), std::str::from_utf8(&seen.body).unwrap()), (line.as_str(), sent));
        assert!(seen.bearer().starts_with("ya29.account.") && seen.header("x-api-key").is_empty());
    }
    upstream.forget();
    let headers = [("content-type", "application/json")];
    let batches = request(Method::POST, &gateway.url("/anthropic/v1/messages/batches?provider=vertex"), &headers, "{}");
    let reply = send(batches).await;
    assert_eq!((reply.status.as_u16(), upstream.seen().len()), (400, 0), "{}", reply.text());
}

/// Each with the word that its problem holds.
#[test]
fn what_is_refused() {
    let external = json!({"type": "external_account", "credential_source": {"executable": {"command": "/bin/false"}}});
    let account = |member: &str, value: &str| {
        let mut account = json!({
            "type": "service_account", "client_email": "a@b", "project_id": "p",
            "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        });
        account[member] = json!(value);
        account.to_string()
    };
    for (member, value, word) in [
        ("auth_credentials", json!(external.to_string()), "external account"),
        ("auth_credentials", json!(account("token_uri", "https://evil.example/token")), "token_uri"),
        ("auth_credentials", json!(account("universe_domain", "evil.example")), "universe"),
        ("auth_credentials", json!("!"), "neither JSON nor base64"),
        ("region", json!("evil.example/#"), "region"),
        ("region", json!(""), "region"),
        ("project_id", json!("a/../b"), "project"),
        ("project_id", json!(""), "project_id"),
        ("project_number", json!("x"), "project"),
    ] {
        let mut key = key(None);
        key["vertex_key_config"][member] = value;
        let (code, output) = launch(config("http://127.0.0.1:1", &key)).refused();
        assert_eq!(code, 1, "{word}: {output}");
        assert!(output.contains(word), "{word}: {output}");
    }
    let (code, output) = launch(config("https://evil.example", &key(None))).refused();
    assert!(code == 1 && output.contains("identity of this machine"), "{output}");
}
