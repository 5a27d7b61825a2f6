//! The management routes from outside: who may call them, and what the Bifrost face does to the
//! file (bifrost.md 11.6).

use http::Method;
use keyway::project::Scope;
use serde_json::{Value, json};

use crate::support::client::{self, PATIENCE, Reply, poll, request, send};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Upstream};

const PROJECT: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const MANAGER: &str = "mlx_mk_22222222222222222222222222222222222224AToLi";
const WRONG: &str = "mlx_sk_99999999999999999999999999999999999994LDCO9";

/// Every row of the table that asks for a key, as a request that finds nothing to change.
fn walk(gateway: &Gateway) -> Vec<(Method, String)> {
    let guarded = keyway::router::ADMIN.iter().filter(|row| row.scope == Scope::Management);
    let rows = guarded.map(|row| {
        let path = row.path.replace("{provider}", "absent").replace("{key_id}", "absent");
        (row.method.parse().unwrap(), gateway.url(&path))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() >= 22, "{} rows", rows.len());
    rows
}

async fn call(method: &Method, url: &str, headers: &[(&str, &str)]) -> Reply {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    send(request(method.clone(), url, &all, "{}")).await
}

/// The envelope of a refusal, filled: Bifrost's, or the one of the other faces.
#[track_caller]
fn envelope(reply: &Reply) -> Value {
    let body = reply.json();
    if body.get("event_id").is_none() {
        let plain =
            ["type", "code", "message"].iter().all(|it| body["error"][it].as_str().is_some_and(|t| !t.is_empty()));
        assert!(plain && body.as_object().is_some_and(|body| body.len() == 1), "{body}");
        return body;
    }
    let id = reply.header("x-request-id");
    assert!(!id.is_empty() && body["event_id"] == id && body["error"]["event_id"] == id, "{body}");
    assert_eq!(body["status_code"], reply.status.as_u16(), "{body}");
    assert_eq!(body["is_bifrost_error"], false, "{body}");
    for member in ["type", "code", "message"] {
        assert!(body["error"][member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {body}");
    }
    assert!(body["extra_fields"].is_object() && body["type"].is_string(), "{body}");
    body
}

#[tokio::test]
async fn nobody_but_a_management_key_walks_the_table() {
    let config = r#"{"server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false},
        "management": {"keys": [{"name": "ops", "value": "env.KW_MANAGER"}]},
        "projects": [{"id": "app", "keys": [{"name": "ci", "value": "env.KW_PROJECT"}], "models": ["*"]}],
        "providers": {"mock": {}}}"#;
    let gateway = launch(config).env("KW_MANAGER", MANAGER).env("KW_PROJECT", PROJECT).start();
    let before = std::fs::read_to_string(gateway.config_path()).unwrap();
    let bearer = |token: &str| format!("Bearer {token}");
    let (manager, project, wrong) = (bearer(MANAGER), bearer(PROJECT), bearer(WRONG));
    let cookie = format!("token={MANAGER}; session={MANAGER}");
    let (lower, digest) = (format!("bearer{MANAGER}"), format!("Digest {MANAGER}"));
    for (method, url) in walk(&gateway) {
        for (headers, expected) in [
            (vec![], 401),
            (vec![("authorization", wrong.as_str())], 401),
            (vec![("authorization", "Bearer 5f2b7c1e-session")], 401),
            (vec![("authorization", "Bearer ")], 401),
            (vec![("authorization", "Basic YWRtaW46cGFzc3dvcmQ=")], 401),
            (vec![("authorization", digest.as_str())], 401),
            (vec![("authorization", lower.as_str())], 401),
            (vec![("authorization", MANAGER)], 401),
            (vec![("x-api-key", MANAGER)], 401),
            (vec![("api-key", MANAGER)], 401),
            (vec![("x-goog-api-key", MANAGER)], 401),
            (vec![("cookie", cookie.as_str())], 401),
            (vec![("authorization", manager.as_str()), ("x-api-key", WRONG)], 401),
            (vec![("authorization", project.as_str())], 403),
        ] {
            let reply = call(&method, &url, &headers).await;
            assert_eq!(reply.status.as_u16(), expected, "{method} {url} {headers:?}: {}", reply.text());
            envelope(&reply);
            assert_eq!(reply.header("www-authenticate") == "Bearer", expected == 401);
        }
        let reply = call(&method, &format!("{url}?key={MANAGER}"), &[]).await;
        assert_eq!(reply.status, 401, "{method} {url}");
        let reply = call(&method, &url, &[("authorization", manager.as_str())]).await;
        assert!(!matches!(reply.status.as_u16(), 401 | 403 | 405 | 500..), "{method} {url}: {}", reply.text());
    }
    // Unknown paths and wrong methods ask for the same credentials.
    for (method, path) in [(Method::GET, "/api"), (Method::GET, "/api/nothing"), (Method::PATCH, "/api/providers")] {
        assert_eq!(call(&method, &gateway.url(path), &[]).await.status, 401, "{path}");
    }
    let chat = gateway.url("/v1/chat/completions");
    assert_eq!(call(&Method::POST, &chat, &[("authorization", manager.as_str())]).await.status, 403);
    assert_eq!(std::fs::read_to_string(gateway.config_path()).unwrap(), before);
    assert!(!gateway.output().contains(MANAGER) && !gateway.output().contains(WRONG), "{}", gateway.output());
}

#[tokio::test]
async fn a_key_that_is_not_resolved_closes_the_table() {
    let config = r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}},
        "management": {"keys": [{"name": "ops", "value": "env.KW_UNSET"}]}}"#;
    let gateway = launch(config).start();
    for (method, url) in walk(&gateway) {
        for headers in [vec![], vec![("authorization", "Bearer "), ("x", "y")]] {
            assert_eq!(call(&method, &url, &headers).await.status, 401, "{method} {url}");
        }
        let any = format!("Bearer {WRONG}");
        assert_eq!(call(&method, &url, &[("authorization", any.as_str())]).await.status, 401, "{method} {url}");
    }
}

#[tokio::test]
async fn without_keys_this_machine_walks_the_table_and_no_web_page_does() {
    let gateway = Gateway::start(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#);
    for (method, url) in walk(&gateway) {
        for (name, value) in [
            ("host", "evil.example"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:3000"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
        ] {
            let reply = call(&method, &url, &[(name, value)]).await;
            assert_eq!(reply.status, 403, "{method} {url} {name}: {value}");
            envelope(&reply);
        }
        let reply = call(&method, &url, &[]).await;
        // Agents are asked for a key everywhere.
        assert_eq!(reply.status == 401, url.ends_with("/mcp"), "{method} {url}: {}", reply.text());
        assert!(!matches!(reply.status.as_u16(), 403 | 405 | 500..), "{method} {url}: {}", reply.text());
    }
}

#[tokio::test]
async fn methods_and_paths() {
    let gateway = Gateway::start(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#);
    for (method, path, allow) in [
        (Method::PATCH, "/api/providers", "GET, HEAD, POST"),
        (Method::POST, "/api/providers/mock", "GET, HEAD, PUT, DELETE"),
        (Method::DELETE, "/api/providers/mock/keys", "GET, HEAD, POST"),
        (Method::PATCH, "/api/providers/mock/keys/k", "GET, HEAD, PUT, DELETE"),
        (Method::GET, "/api/config/reload", "POST"),
    ] {
        let reply = call(&method, &gateway.url(path), &[]).await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, allow), "{method} {path}");
        envelope(&reply);
    }
    for path in ["/api", "/api/", "/api/nothing", "/api/providers/mock/nothing"] {
        let reply = call(&Method::GET, &gateway.url(path), &[]).await;
        assert!(matches!(reply.status.as_u16(), 404 | 400), "{path}");
        envelope(&reply);
    }
    let head = call(&Method::HEAD, &gateway.url("/api/providers"), &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let url = gateway.url("/api/providers");
    for (content_type, body, expected) in [
        ("text/plain", "{}", 415),
        ("application/x-www-form-urlencoded", "provider=groq", 415),
        ("application/json", "provider", 400),
        ("application/json", "{\"provider\": \"groq\", \"provider\": \"xai\"}", 400),
        ("application/json; charset=utf-8", "{}", 400),
    ] {
        let reply = send(request(Method::POST, &url, &[("content-type", content_type)], body)).await;
        assert_eq!(reply.status.as_u16(), expected, "{content_type} {body}");
        envelope(&reply);
    }
    // By its own word too large: refused before a byte of it is read.
    let large = "POST /api/providers HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 connection: close\r\ncontent-length: 2097152\r\n\r\n";
    let answer = client::raw(gateway.base(), large).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

const FILE: &str = r#"{
  // The gateway of the tests.
  "server": {"listen": ["127.0.0.1:0"]},
  "providers": {
    "openai": {
      "keys": [
        {"name": "main", "value": "env.OPENAI_API_KEY", "weight": 2.0}, // the first
        {"name": "spare", "value": "env.SPARE_KEY", "models": ["gpt-4o"]}
      ],
      "network_config": {"base_url": "http://127.0.0.1:1"}
    },
    "ollama": {"keys": [{"name": "box", "ollama_key_config": {"url": "http://127.0.0.1:1"}}]},
    "nokey": {"custom_provider_config": {"base_provider_type": "openai", "is_key_less": true},
              "network_config": {"base_url": "http://127.0.0.1:1"}}
  },
  "routes": {"@fast": {"strategy": "fallback", "targets": ["openai/gpt-4o", "ollama/llama"]}}
}
"#;

const SECRET: &str = "sk-canary-0123456789abcdef";

fn start() -> Gateway {
    let names = ["OPENAI_API_KEY", "SPARE_KEY", "NEW_KEY", "OTHER_KEY"];
    names.into_iter().fold(launch(FILE), |launch, name| launch.env(name, SECRET)).start()
}

/// A client of the face that looks at every answer.
struct Face<'g> {
    gateway: &'g Gateway,
}

impl Face<'_> {
    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let url = self.gateway.url(&format!("/api/providers{path}"));
        let reply = send(request(method, &url, &all, body.to_owned())).await;
        assert!(!reply.text().contains("canary"), "{}", reply.text());
        assert!(!reply.header("x-request-id").is_empty());
        if reply.status.is_client_error() || reply.status.is_server_error() {
            envelope(&reply);
        }
        reply
    }

    async fn get(&self, path: &str) -> Value {
        let reply = self.call(Method::GET, path, &[], "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    /// The member `name` of the list, by its name.
    async fn key(&self, name: &str) -> Value {
        let list = self.get("/openai/keys").await;
        let found = list["keys"].as_array().unwrap().iter().find(|key| key["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no {name} in {list}"))
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.gateway.config_path()).unwrap()
    }
}

#[tokio::test]
async fn keys_are_made_changed_and_deleted_as_a_careful_person_would() {
    let gateway = start();
    let face = Face { gateway: &gateway };
    let made = face.call(Method::POST, "/openai/keys", &[], r#"{"name": "new", "value": "env.NEW_KEY"}"#).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let made_etag = made.header("etag").to_owned();
    let made = made.json();
    let id = made["id"].as_str().unwrap().to_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok_and(|id| id.get_version_num() == 4), "{id}");
    assert_eq!(made["value"], json!({"value": "", "env_var": "env.NEW_KEY", "from_env": true}));
    assert_eq!((&made["enabled"], &made["weight"], &made["status"]), (&json!(true), &json!(1), &json!("unknown")));
    assert_eq!(made_etag, format!("\"{}\"", made["config_hash"].as_str().unwrap()));
    // Seen at once, and one line more in the file.
    assert_eq!(face.key("new").await["id"], made["id"]);
    let text = face.file();
    let added: Vec<&str> = text.lines().filter(|line| !FILE.contains(line.trim_end_matches(','))).collect();
    assert!(added.len() == 1 && added[0].contains(&id), "{text}");

    let path = format!("/openai/keys/{id}");
    // A new key is tried once, beside what goes on here: what it says of itself stays put after that.
    let mut read = face.call(Method::GET, &path, &[], "").await;
    while read.json()["status"] == "unknown" {
        read = face.call(Method::GET, &path, &[], "").await;
    }
    let etag = read.header("etag").to_owned();
    let known = face.call(Method::GET, &path, &[("if-none-match", &etag)], "").await;
    assert_eq!((known.status.as_u16(), known.body.len(), known.header("etag")), (304, 0, etag.as_str()));
    // What was read and is sent back changes nothing.
    let same = face.call(Method::PUT, &path, &[("if-match", &etag)], &read.text()).await;
    assert_eq!((same.status.as_u16(), same.json()), (200, read.json()), "{}", same.text());
    assert_eq!(face.file(), text);

    let mut body = read.json();
    body["weight"] = json!(3);
    body["config_hash"] = json!("made up");
    body["status"] = json!("success");
    let changed = face.call(Method::PUT, &path, &[("if-match", &etag)], &body.to_string()).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["weight"]), (200, &json!(3)), "{}", changed.text());
    assert_eq!(changed.json()["status"], "unknown");
    assert_ne!(changed.header("etag"), etag);
    let stale = face.call(Method::PUT, &path, &[("if-match", &etag)], &body.to_string()).await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    assert_eq!(face.call(Method::DELETE, &path, &[("if-match", &etag)], "").await.status, 412);

    let gone = face.call(Method::DELETE, &path, &[], "").await;
    assert_eq!((gone.status.as_u16(), &gone.json()["id"], &gone.json()["weight"]), (200, &json!(id), &json!(3)));
    assert_eq!(face.call(Method::DELETE, &path, &[], "").await.status, 404);
    assert_eq!(face.call(Method::GET, &path, &[], "").await.status, 404);
    assert_eq!(face.file(), FILE, "as it was before");
    assert!(!gateway.output().contains("canary"), "{}", gateway.output());
}

/// A literal is sealed before it touches the disk, masked wherever it is shown, and stays where a
/// client sends back what it got.
#[tokio::test]
async fn a_literal_is_sealed_masked_and_kept() {
    let gateway = start();
    let face = Face { gateway: &gateway };
    let mask = format!("sk-c{}cdef", "*".repeat(24));
    let made = face.call(Method::POST, "/openai/keys", &[], &json!({"name": "new", "value": SECRET}).to_string()).await;
    assert_eq!((made.status.as_u16(), &made.json()["value"]["value"]), (200, &json!(mask)), "{}", made.text());
    let text = face.file();
    assert!(text.contains("sealed:v1:") && !text.contains("canary"), "{text}");
    assert_eq!(made.json()["status"], "unknown", "it can be opened");

    let path = format!("/openai/keys/{}", made.json()["id"].as_str().unwrap());
    let same = face.call(Method::PUT, &path, &[], &face.get(&path).await.to_string()).await;
    assert_eq!((same.status.as_u16(), face.file() == text), (200, true), "{}", same.text());
    for (value, status, code) in [
        (json!(format!("sk-c{}xxxx", "*".repeat(24))), 400, "mask_mismatch"),
        (json!("********"), 400, "mask_mismatch"),
        (json!({"value": mask, "base_url": "x"}), 400, "invalid_value"),
        (json!("sealed:v1:k:AAAA"), 400, "invalid_value"),
    ] {
        let body = json!({"value": value}).to_string();
        let reply = face.call(Method::PUT, &path, &[], &body).await;
        let got = (reply.status.as_u16(), reply.json()["error"]["code"].clone());
        assert_eq!(got, (status, json!(code)), "{body}: {}", reply.text());
        assert_eq!(face.file(), text);
    }
    // A stored secret goes nowhere new; one that comes along may.
    let away = json!({"value": mask, "base_url": "https://elsewhere.example"}).to_string();
    let reply = face.call(Method::PUT, &path, &[], &away).await;
    assert_eq!(reply.json()["error"]["code"], "secret_required_for_new_destination", "{}", reply.text());
    let anew = json!({"value": "sk-canary-anew-0123456789", "base_url": "https://elsewhere.example"}).to_string();
    let reply = face.call(Method::PUT, &path, &[], &anew).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["base_url"]["value"]), (200, &json!("https://elsewhere.example")));
    assert!(!face.file().contains("canary"), "{}", face.file());
    let reference = face.call(Method::PUT, &path, &[], r#"{"name": "new", "value": "env.OTHER_KEY"}"#).await;
    assert_eq!(reference.json()["value"]["env_var"], "env.OTHER_KEY", "{}", reference.text());
    assert!(!face.file().contains("sealed:"), "{}", face.file());
    assert!(!gateway.output().contains("canary"), "{}", gateway.output());
}

#[tokio::test]
async fn a_rename_keeps_the_id_and_a_hand_edit_wins() {
    let gateway = start();
    let face = Face { gateway: &gateway };
    let mut body = face.key("main").await;
    let path = format!("/openai/keys/{}", body["id"].as_str().unwrap());
    let etag = format!("\"{}\"", body["config_hash"].as_str().unwrap());
    body["name"] = json!("first");
    let renamed = face.call(Method::PUT, &path, &[("if-match", &etag)], &body.to_string()).await;
    assert_eq!((renamed.status.as_u16(), &renamed.json()["name"]), (200, &json!("first")), "{}", renamed.text());
    assert_eq!(face.get(&path).await["id"], body["id"]);

    // Changed by hand after it was read: the old state is refused, and the edit survives a write.
    let etag = renamed.header("etag").to_owned();
    gateway.write_config(&face.file().replace("\"weight\": 2.0", "\"weight\": 7"));
    let stale = face.call(Method::PUT, &path, &[("if-match", &etag)], &renamed.text()).await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    let body = face.key("spare").await;
    let other = format!("/openai/keys/{}", body["id"].as_str().unwrap());
    let disabled = json!({"value": "env.SPARE_KEY", "models": ["gpt-4o"], "enabled": false});
    assert_eq!(face.call(Method::PUT, &other, &[], &disabled.to_string()).await.json()["status"], "disabled");
    let text = face.file();
    assert!(text.contains("\"weight\": 7") && text.contains("\"enabled\": false"), "{text}");
    assert_eq!(face.key("first").await["weight"], 7);
}

/// bifrost.md 11.6, and the refusals of 3.3 to 3.6 that only the whole gateway can show.
#[tokio::test]
async fn refusals_leave_the_file_alone() {
    let gateway = start();
    let face = Face { gateway: &gateway };
    let main = format!("/openai/keys/{}", face.key("main").await["id"].as_str().unwrap());
    let box_id = face.get("/ollama/keys").await["keys"][0]["id"].as_str().unwrap().to_owned();
    let mask = "*".repeat(8);
    for (method, path, body, status, code) in [
        (Method::POST, "/openai/keys", r#"{"name": "main", "value": "env.NEW_KEY"}"#, 409, "duplicate_key_name"),
        (Method::POST, "/openai/keys", r#"{"name": "x", "value": ""}"#, 400, "value_required"),
        (Method::POST, "/openai/keys", r#"{"name": "x", "value": "env.UNSET_KEY"}"#, 400, "unresolved_reference"),
        (Method::POST, "/openai/keys", r#"{"name": "x", "value": "env.HOME"}"#, 400, "reference_not_allowed"),
        (Method::POST, "/openai/keys", r#"{"name": "x", "value": "env.NEW_KEY", "extra": 1}"#, 400, "unknown_member"),
        (Method::POST, "/openai/keys", r#"{"name": " x", "value": "env.NEW_KEY"}"#, 400, "bad_value"),
        (Method::POST, "/openai/keys", "not json", 400, "invalid_json"),
        (Method::POST, "/ollama/keys", r#"{"name": "x"}"#, 400, "url_required"),
        (Method::POST, "/nokey/keys", r#"{"name": "x", "value": "env.NEW_KEY"}"#, 400, "provider_is_keyless"),
        (Method::POST, "/groq/keys", r#"{"name": "x", "value": "env.NEW_KEY"}"#, 404, "provider_not_found"),
        (Method::PUT, &main, &format!(r#"{{"value": "{mask}"}}"#), 400, "mask_mismatch"),
        (Method::PUT, &main, r#"{"name": "spare"}"#, 409, "duplicate_key_name"),
        (
            Method::PUT,
            &main,
            r#"{"base_url": "https://elsewhere.example"}"#,
            400,
            "secret_required_for_new_destination",
        ),
        (Method::PUT, &main, r#"{"base_url": "http://127.1:8080"}"#, 400, "address_not_allowed"),
        (Method::PUT, "/openai/keys/absent", "{}", 404, "key_not_found"),
        (Method::GET, "/openai/keys/absent", "", 404, "key_not_found"),
        (Method::GET, "/groq/keys", "", 404, "provider_not_found"),
        (Method::DELETE, "/nokey/keys/x", "", 400, "provider_is_keyless"),
        (Method::DELETE, &format!("/ollama/keys/{box_id}"), "", 409, "route_needs_key"),
        (Method::POST, "", r#"{"provider": "openai"}"#, 409, "duplicate_provider"),
        (Method::POST, "", "{}", 400, "missing_member"),
        (Method::POST, "", r#"{"provider": "opnai"}"#, 400, "invalid_config"),
        (Method::PUT, "/openai", r#"{"keys": []}"#, 400, "unknown_member"),
        (
            Method::PUT,
            "/openai",
            r#"{"network_config": {"base_url": "https://elsewhere.example"}}"#,
            400,
            "secret_required_for_new_destination",
        ),
        (
            Method::PUT,
            "/openai",
            r#"{"custom_provider_config": {"base_provider_type": "openai"}, "network_config": {"base_url": "http://127.0.0.1:1"}}"#,
            400,
            "invalid_config",
        ),
        (Method::DELETE, "/groq", "", 404, "provider_not_found"),
        (Method::DELETE, "/ollama", "", 409, "route_needs_key"),
    ] {
        let reply = face.call(method.clone(), path, &[], body).await;
        let got = (reply.status.as_u16(), reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned());
        assert_eq!(got, (status, code.to_owned()), "{method} {path} {body}: {}", reply.text());
        assert_eq!(face.file(), FILE, "{method} {path} {body}");
    }
    assert_eq!(gateway.generation().await, 1);
}

#[tokio::test]
async fn providers_from_first_to_last() {
    let gateway = start();
    let face = Face { gateway: &gateway };
    let list = face.get("").await;
    let names: Vec<_> = list["providers"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!((names, &list["total"]), (vec![json!("nokey"), json!("ollama"), json!("openai")], &json!(3)));
    let made = face
        .call(Method::POST, "", &[], r#"{"provider": "groq", "keys": [{"name": "a", "value": "env.NEW_KEY"}]}"#)
        .await;
    assert_eq!((made.status.as_u16(), &made.json()["provider_status"]), (200, &json!("active")), "{}", made.text());
    assert_eq!(face.get("/groq/keys").await["total"], 1);
    let etag = face.call(Method::GET, "/groq", &[], "").await.header("etag").to_owned();
    let body = r#"{"network_config": {"connect_timeout_in_seconds": 3}}"#;
    let put = face.call(Method::PUT, "/groq", &[("if-match", &etag)], body).await;
    assert_eq!((put.status.as_u16(), &put.json()["network_config"]["connect_timeout_in_seconds"]), (200, &json!(3)));
    assert_eq!(face.get("/groq/keys").await["total"], 1, "the keys stay");
    assert_eq!(face.call(Method::PUT, "/groq", &[("if-match", &etag)], body).await.status, 412);
    let back = face.get("/groq").await;
    let text = face.file();
    assert_eq!(face.call(Method::PUT, "/groq", &[], &back.to_string()).await.status, 200);
    assert_eq!(face.file(), text);
    let gone = face.call(Method::DELETE, "/groq", &[], "").await;
    assert_eq!((gone.status.as_u16(), gone.json()), (200, json!({"name": "groq"})));
    assert_eq!(face.file(), FILE);

    let keys = client::get(&gateway.url("/api/keys")).await.json();
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key["key_id"].is_string() && key["provider"].is_string()), "{keys:?}");
}

#[tokio::test]
async fn the_config_is_checked_reloaded_and_explained() {
    let gateway = start();
    let check = async |text: &str| client::post_json(&gateway.url("/api/config/check"), text.to_owned()).await.json();
    let good =
        check("{\n  // fine\n  \"providers\": {\"openai\": {\"keys\": [{\"value\": \"env.NOBODY_SET\"},]}},\n}").await;
    assert_eq!((&good["valid"], good["problems"].as_array().map(Vec::len)), (&json!(true), Some(0)), "{good}");
    let bad =
        check("{\"providers\": {\"opnai\": {\"keys\": [{\"value\": {\"file\": \"/etc/passwd\"}}]}}, \"x\": 1}").await;
    assert_eq!(bad["valid"], false);
    assert!(
        bad["problems"].as_array().unwrap().iter().any(|it| it["pointer"] == "/providers/opnai" && it["line"] == 1),
        "{bad}"
    );
    assert_eq!(check("{").await["problems"][0]["code"], "syntax");
    let long = format!("{{\"providers\": {{}}}}{}", " ".repeat(200_000));
    assert_eq!(check(&long).await["valid"], true);

    let reload = async || client::post_json(&gateway.url("/api/config/reload"), "").await;
    let same = reload().await;
    assert_eq!((same.status.as_u16(), &same.json()["result"]), (200, &json!("unchanged")), "{}", same.text());
    gateway.write_config(&FILE.replace("2.0", "3"));
    let applied = reload().await.json();
    assert!(matches!(applied["result"].as_str(), Some("applied" | "unchanged")), "{applied}");
    assert_eq!(applied["generation"], 2, "{applied}");
    gateway.write_config(&FILE.replace("2.0", "-3"));
    let refused = reload().await.json();
    assert_eq!((&refused["result"], &refused["generation"]), (&json!("refused"), &json!(2)), "{refused}");
    assert_eq!(refused["problems"][0]["pointer"], "/providers/openai/keys/0/weight", "{refused}");
    let face = Face { gateway: &gateway };
    let stuck = face.call(Method::DELETE, "/nokey", &[], "").await;
    assert_eq!((stuck.status.as_u16(), &stuck.json()["error"]["code"]), (409, &json!("config_on_disk_invalid")));
    assert!(stuck.json()["extra_fields"]["problems"][0]["line"].is_u64(), "{}", stuck.text());

    let explain = async |query: &str| client::get(&gateway.url(&format!("/api/explain{query}"))).await;
    let told = explain("?model=openai/gpt-4o").await.json();
    let shares: Vec<f64> = told["keys"].as_array().unwrap().iter().map(|key| key["share"].as_f64().unwrap()).collect();
    assert_eq!(shares, [0.75, 0.25], "{told}");
    let told = explain("?model=openai/o3").await.json();
    let reasons: Vec<_> = told["keys"].as_array().unwrap().iter().map(|key| key["reason"].clone()).collect();
    assert_eq!(reasons, [json!("first"), json!("model_not_allowed")]);
    for (query, status) in
        [("", 400), ("?model=", 400), ("?model=a&model=b", 400), ("?model=%40none", 404), ("?model=x&project=y", 404)]
    {
        let reply = explain(query).await;
        assert_eq!(reply.status.as_u16(), status, "{query}");
        envelope(&reply);
    }
    let document = client::get(&gateway.url("/api/openapi.json")).await.json();
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn models_are_asked_for_and_a_failure_says_one_word() {
    let upstream =
        Upstream::start(|request| match request.headers.get("authorization").and_then(|v| v.to_str().ok()) {
            Some("Bearer good-key-0123456789") => Answer::json(200, r#"{"data": [{"id": "m1"}, {"id": "m2"}]}"#),
            Some("Bearer odd-key-0123456789") => Answer::json(200, "<html>"),
            _ => Answer::json(401, r#"{"error": {"message": "no such key sk-canary-1"}}"#),
        });
    let gateway = launch(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"openai": {{
            "network_config": {{"base_url": "{}"}},
            "keys": [{{"id": "good", "name": "a", "value": "env.GOOD_KEY"}}, {{"id": "bad", "name": "b", "value": "env.BAD_KEY"}},
                     {{"id": "odd", "name": "c", "value": "env.ODD_KEY"}}, {{"id": "off", "name": "d", "value": "env.BAD_KEY", "enabled": false}},
                     {{"id": "far", "name": "e", "value": "env.BAD_KEY", "base_url": "http://127.0.0.1:1"}}]}}}}}}"#,
        upstream.base()
    ))
    .env("GOOD_KEY", "good-key-0123456789")
    .env("BAD_KEY", "bad-key-0123456789")
    .env("ODD_KEY", "odd-key-0123456789")
    .start();
    let face = Face { gateway: &gateway };
    for (id, error, status) in [
        ("good", Value::Null, "success"),
        ("bad", json!("unauthorized"), "list_models_failed"),
        ("odd", json!("unexpected"), "list_models_failed"),
        ("far", json!("unreachable"), "list_models_failed"),
        ("off", Value::Null, "disabled"),
    ] {
        let reply = face.call(Method::POST, &format!("/openai/keys/{id}/refresh-models"), &[], "").await;
        let body = reply.json();
        assert_eq!((reply.status.as_u16(), &body["error"], &body["status"]), (200, &error, &json!(status)), "{body}");
        assert_eq!(face.get(&format!("/openai/keys/{id}")).await["status"], status);
        assert_eq!(body["total"], if id == "good" { 2 } else { 0 });
    }
    let all = face.call(Method::POST, "/openai/refresh-models", &[], "").await.json();
    assert_eq!((&all["total"], &all["keys"][0]["models"]), (&json!(5), &json!(["m1", "m2"])));
    assert_eq!(face.call(Method::POST, "/openai/keys/absent/refresh-models", &[], "").await.status, 404);
    assert_eq!(face.call(Method::POST, "/absent/refresh-models", &[], "").await.status, 404);

    // A key that is written is tried once, with nobody asking.
    let tried = async |path: &str, status: &str| {
        poll(PATIENCE, status, async || (face.get(path).await["status"] == status).then_some(())).await;
    };
    let made = face.call(Method::POST, "/openai/keys", &[], r#"{"id":"new","name":"f","value":"env.GOOD_KEY"}"#).await;
    assert_eq!(made.status, 200, "{}", made.text());
    tried("/openai/keys/new", "success").await;
    let body = r#"{"name":"f","value":"env.BAD_KEY"}"#;
    assert_eq!(face.call(Method::PUT, "/openai/keys/new", &[], body).await.status, 200);
    tried("/openai/keys/new", "list_models_failed").await;
}
